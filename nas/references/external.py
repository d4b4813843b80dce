"""Networks of torchvision and timm, such as ``torchvision:vgg16``, built by their library with untrained weights. They
can be counted and timed. They have no rows, so they cannot be searched, exported or checked against guidelines."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

from nas.arch.analysis.breakdown import Line, check_by, lines
from nas.arch.arch import IMAGE_CHANNELS, MAX_RESOLUTION, Arch, check_classes
from nas.arch.cost import BYTES, Cost, cost_of
from nas.network.count import traced_cost
from nas.network.trace import trace
from nas.system.errors import InputError, NasError, known, nearest
from nas.system.extras import require
from nas.system.text import one_line
from nas.system.validate import whole_number

if TYPE_CHECKING:
    from torch import nn

LIBRARIES = ("torchvision", "timm")
REST = "(between)"


@dataclass(frozen=True, eq=False)
class LibraryNetwork:
    """A network of a library.

    Args:
        name: name as the user gave it, e.g. ``torchvision:vgg16@resolution=192``.
        network: module in evaluation mode with untrained weights, from images (N, 3, H, W) to logits (N, classes).
        resolution: side of the square input in pixels.
    """

    name: str
    network: nn.Module
    resolution: int


@dataclass(frozen=True, slots=True)
class LibraryPart:
    """A direct child of a library's network and its cost. Sequences and lists are replaced by their children."""

    name: str
    kind: str
    cost: Cost


def is_library(name: str) -> bool:
    """Whether `name` is the name of a library's network.

    >>> is_library("timm:legacy_xception"), is_library("mobilenet_v2")
    (True, False)
    """
    return name.partition(":")[0] in LIBRARIES and ":" in name


def library_network(name: str, num_classes: int = 1000) -> LibraryNetwork:
    """Build a classification network of a library, without auxiliary classifiers. Nothing is downloaded.

    Args:
        name: ``torchvision:NAME`` or ``timm:NAME``; ``@resolution=192`` may follow. The default is the resolution of
            the library's first weights for this network.
        num_classes: outputs of the classifier.

    Raises:
        InputError: the library is not installed or has no such network, or a number is out of bounds.
    """
    library, _, rest = name.partition(":")
    plain, _, multipliers = rest.partition("@")
    if library not in LIBRARIES:
        raise InputError(f"unknown library {library!r:.60}; {known(LIBRARIES)}")
    check_classes(num_classes)
    resolution = _resolution(multipliers) if multipliers else None
    make = _of_torchvision if library == "torchvision" else _of_timm
    from nas.network.seeding import cpu_seed

    with cpu_seed(0):  # constructors draw their weights from the global state
        try:
            network, side = make(plain, resolution, num_classes)
        except InputError:
            raise
        except (AssertionError, RuntimeError, TypeError, ValueError) as error:
            raise InputError(f"{library} cannot build {rest!r:.80}: {one_line(error)}") from None
    return LibraryNetwork(name, network.eval(), side)


def total(network: Arch | LibraryNetwork, num_classes: int = 1000) -> Cost:
    """The cost of a whole network. `num_classes` is for an `Arch`; a library's network is built with its classes."""
    return cost_of(network, num_classes) if isinstance(network, Arch) else library_cost(network)


def parts(network: Arch | LibraryNetwork, by: str = "block", num_classes: int = 1000) -> list[Line]:
    """The parts of a network, in order. Their costs add up to `total`.

    Args:
        network: network to break down.
        by: ``block``: rows, or children of a library's network; ``layer``: layers of rows, or modules without children.
        num_classes: outputs of the classifier of an `Arch`.

    Raises:
        InputError: `by` is neither, or a library's network does not accept images of its resolution.
    """
    if isinstance(network, Arch):
        return lines(network, by, num_classes)
    check_by(by)
    return [Line(None, part.name, part.kind, part.cost) for part in library_parts(network, leaves=by == "layer")]


def library_cost(net: LibraryNetwork) -> Cost:
    """Parameters, MACs and memory access of one image, counted in a trace (`nas.network.trace`).

    Raises:
        InputError: the network does not accept images of its resolution.
        NasError: an operator has no rule. The text names it.
    """
    with takes_its_images(net):
        return traced_cost(net.network, net.resolution)


def library_parts(net: LibraryNetwork, leaves: bool = False) -> list[LibraryPart]:
    """The cost part by part, in the order of their definition. What runs between parts comes last. The costs add up to
    `library_cost`.

    Args:
        net: network to break down.
        leaves: whether the parts are its modules without children, instead of its direct children.

    Raises:
        InputError, NasError: as `library_cost`.
    """
    with takes_its_images(net):
        traced = trace(net.network, net.resolution)
    parts: list[LibraryPart] = []
    for name, child in _leaves(net.network) if leaves else _children(net.network):
        macs, elements = traced.modules.get(name, (0, 0))
        params = sum(parameter.numel() for parameter in child.parameters())
        if params or elements:
            parts.append(LibraryPart(name, type(child).__name__, Cost(params, macs, BYTES * elements)))
    rest = Cost(
        sum(parameter.numel() for parameter in net.network.parameters()) - sum(part.cost.params for part in parts),
        traced.macs - sum(part.cost.macs for part in parts),
        BYTES * traced.elements - sum(part.cost.memory_bytes for part in parts),
    )
    return parts if rest == Cost(0, 0, 0) else [*parts, LibraryPart(REST, "", rest)]


def at_resolution(arch: Arch | LibraryNetwork, resolution: int | None) -> Arch | LibraryNetwork:
    """The same layers for another input size.

    Args:
        arch: network to change.
        resolution: side of the square input in pixels; None for the network's own.

    Raises:
        InputError: `resolution` is out of bounds.
    """
    if resolution is None:
        return arch
    return replace(arch, resolution=whole_number("resolution", resolution, 8, MAX_RESOLUTION))


@contextmanager
def takes_its_images(net: LibraryNetwork) -> Iterator[None]:
    """Turn an error of a forward pass into an `InputError`: the network does not accept images of its resolution."""
    try:
        yield
    except NasError:
        raise
    except (AssertionError, RuntimeError, ValueError) as error:
        raise InputError(f"{net.name} does not accept images of {net.resolution} px: {one_line(error)}") from None


def _children(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    from torch import nn

    for name, child in network.named_children():
        if isinstance(child, (nn.Sequential, nn.ModuleList)) and len(child):
            yield from ((f"{name}.{inner}", grandchild) for inner, grandchild in child.named_children())
        else:
            yield name, child


def _leaves(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    return ((name, module) for name, module in network.named_modules() if next(module.children(), None) is None)


def _resolution(multipliers: str) -> int:
    key, _, value = multipliers.partition("=")
    if key != "resolution":
        raise InputError(f"a library's network has no multiplier {key!r:.60}; {known(('resolution',))}")
    return whole_number("resolution", int(value[:9]) if value.isdecimal() else value, 8, MAX_RESOLUTION)


def _of_torchvision(name: str, resolution: int | None, num_classes: int) -> tuple[nn.Module, int]:
    from nas.system.compat import torchvision

    models = torchvision().models
    names = models.list_models(module=models)
    if name not in names:
        raise InputError(f"torchvision has no classification network {name!r:.80}; {nearest(name, names)}")
    side = resolution or int(next(iter(models.get_model_weights(name))).transforms().crop_size[0])
    options: dict[str, Any] = {}
    if name in ("googlenet", "inception_v3"):
        options = {"aux_logits": False, "init_weights": False}
    elif name.startswith("vit_"):
        options = {"image_size": side}
    elif name.startswith("maxvit"):
        options = {"input_size": (side, side)}
    return models.get_model(name, weights=None, num_classes=num_classes, **options), side


def _of_timm(name: str, resolution: int | None, num_classes: int) -> tuple[nn.Module, int]:
    from nas.system.compat import torchvision

    require("timm", f"timm:{name}")
    torchvision()  # timm imports it, and it may need help with that
    timm: Any = import_module("timm")
    names = timm.list_models()
    if name.partition(".")[0] not in names:  # a tag of weights may follow the dot; timm would download other names
        raise InputError(f"timm has no network {name!r:.80}; {nearest(name, names)}")
    settings = timm.get_pretrained_cfg(name) or timm.get_pretrained_cfg(name.partition(".")[0])
    channels, height, width = settings.input_size if settings else (IMAGE_CHANNELS, 224, 224)
    if channels != IMAGE_CHANNELS or height != width:
        raise InputError(f"images must be square and have 3 channels; {name} takes {channels} x {height} x {width}")
    options = {"img_size": resolution} if resolution and settings and settings.fixed_input_size else {}
    return timm.create_model(name, pretrained=False, num_classes=num_classes, **options), resolution or height
