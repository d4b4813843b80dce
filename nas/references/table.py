"""The fixed builds: published networks as spaces with exactly one point, by name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from nas.arch.arch import MAX_RESOLUTION, Arch
from nas.arch.block import check_number
from nas.arch.genes import Gene, Scalar
from nas.arch.space_yaml import REFERENCES, SUFFIXES, load_space, names
from nas.system.errors import InputError, known


def reference_names() -> list[str]:
    """All names `reference` knows."""
    return names(REFERENCES)


def reference(name: str, width: float | None = None, resolution: int | None = None) -> Arch:
    """A published network, or one's own written in the same way (``docs/add-a-reference.md``).

    Args:
        name: as `reference_names` lists them, or a path to a ``.yaml`` file of one; ``@width=0.75,resolution=192`` may
            follow.
        width: multiplier of the table's channels, by the family's own rule of rounding; None is the network's own (1.0,
            but for scaled ones such as EfficientNet-B3).
        resolution: input side in pixels; None is the paper's.

    Raises:
        InputError: the name is unknown, or a multiplier is out of bounds.

    >>> reference("mobilenet_v3_large", width=0.75) == reference("mobilenet_v3_large@width=0.75")
    True
    """
    name, told_width, told_resolution = split_name(name)
    width = told_width if width is None else width
    resolution = told_resolution if resolution is None else resolution
    space = load_space(name, REFERENCES)
    if width is not None:
        space = replace(space, width=(check_number("width", width, 0.05, 16),))
    if resolution is not None:
        space = replace(space, resolution=(int(check_number("resolution", resolution, 8, MAX_RESOLUTION, whole=True)),))
    return space.realise(_no_choice)


def split_name(text: str) -> tuple[str, float | None, int | None]:
    """Name, width and resolution of ``name@width=0.75,resolution=192``; None for what it does not say.

    Raises:
        InputError: another multiplier, or one that is no number.
    """
    name, at, multipliers = text.rpartition("@")
    if not at or ("=" not in multipliers and Path(text).suffix in SUFFIXES):  # an @ may stand in a path
        return text, None, None
    told: dict[str, float] = {}
    for item in multipliers.split(","):
        key, _, value = item.partition("=")
        if key not in ("width", "resolution"):
            raise InputError(f"a reference has no multiplier {key!r}; {known(('width', 'resolution'))}")
        if key in told:
            raise InputError(f"{key} stands twice in {text!r:.80}")
        try:
            told[key] = float(value) if key == "width" else int(value)
        except ValueError:
            raise InputError(f"a multiplier reads width=0.75 or resolution=192, got {item!r}") from None
    return name, told.get("width"), int(told["resolution"]) if "resolution" in told else None


def _no_choice(gene: Gene) -> Scalar:
    raise InputError(f"a reference has one point, but {gene.name} may be any of {list(gene.options)}")
