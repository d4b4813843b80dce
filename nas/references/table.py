"""Published networks by name: spaces that hold exactly one network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from nas.arch.arch import MAX_RESOLUTION, Arch
from nas.arch.block import check_number
from nas.arch.genes import Gene, Scalar
from nas.arch.space_yaml import REFERENCES, SUFFIXES, load_space, names
from nas.system.errors import InputError, known


def reference_names() -> list[str]:
    """Names of all references.

    >>> "mobilenet_v2" in reference_names()
    True
    """
    return names(REFERENCES)


def reference(name: str, width: float | None = None, resolution: int | None = None) -> Arch:
    """A published network, or your own network in the same format (``docs/add-a-reference.md``).

    Args:
        name: one of `reference_names`, or a path to a ``.yaml`` file; ``@width=0.75,resolution=192`` may follow.
        width: multiplier of the channels, rounded by the rule of the network's family; None for the network's own (1.0,
            except for scaled networks such as EfficientNet-B3).
        resolution: side of the input in pixels; None for the paper's.

    Raises:
        InputError: the name is unknown, or a multiplier is out of bounds.

    >>> import nas
    >>> arch = nas.reference("mobilenet_v3_large", width=0.75, resolution=192)
    >>> arch.resolution, str(arch.rows[1])
    (192, 'mb3 e1 re >16')
    >>> arch == nas.reference("mobilenet_v3_large@width=0.75,resolution=192")
    True
    """
    name, width_in_name, resolution_in_name = split_name(name)
    width = width_in_name if width is None else width
    resolution = resolution_in_name if resolution is None else resolution
    space = load_space(name, REFERENCES)
    if width is not None:
        space = replace(space, width=(check_number("width", width, 0.05, 16),))
    if resolution is not None:
        space = replace(space, resolution=(int(check_number("resolution", resolution, 8, MAX_RESOLUTION, whole=True)),))
    return space.realise(_no_choice)


def split_name(text: str) -> tuple[str, float | None, int | None]:
    """Name, width and resolution of ``name@width=0.75,resolution=192``; None for a multiplier that is not given.

    Raises:
        InputError: a multiplier is unknown, given twice, or not a number.

    >>> split_name("mobilenet_v2@width=0.75")
    ('mobilenet_v2', 0.75, None)
    """
    name, at, multipliers = text.rpartition("@")
    if not at or ("=" not in multipliers and Path(text).suffix in SUFFIXES):  # a path may contain an @
        return text, None, None
    given: dict[str, float] = {}
    for item in multipliers.split(","):
        key, _, value = item.partition("=")
        if key not in ("width", "resolution"):
            raise InputError(f"a reference has no multiplier {key!r:.60}; {known(('width', 'resolution'))}")
        if key in given:
            raise InputError(f"{key} may be given only once, got {text!r:.80}")
        try:
            given[key] = float(value) if key == "width" else int(value)
        except ValueError:
            raise InputError(f"write a multiplier as width=0.75 or resolution=192, got {item!r:.60}") from None
    return name, given.get("width"), int(given["resolution"]) if "resolution" in given else None


def _no_choice(gene: Gene) -> Scalar:
    raise InputError(f"a reference must be one network, but {gene.name} has the options {list(gene.options)}")
