"""Networks by the libraries that keep them, ``torchvision:vgg16`` or ``timm:legacy_xception``: built, counted and timed
as they are, with fresh weights. They have no rows of ours, so they are not searched, exported or flagged."""

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
        name: as it was asked for, e.g. ``torchvision:vgg16@resolution=192``.
        network: in evaluation mode, with fresh weights: (N, 3, H, W) images to (N, classes) logits.
        resolution: side of the square input in pixels.
    """

    name: str
    network: nn.Module
    resolution: int


@dataclass(frozen=True, slots=True)
class LibraryPart:
    """A direct child of a library's network, or, where one is a plain sequence, a child of that; with its cost."""

    name: str
    kind: str
    cost: Cost


def is_library(name: str) -> bool:
    """Whether `name` asks for a library's network.

    >>> is_library("timm:legacy_xception"), is_library("mobilenet_v2")
    (True, False)
    """
    return name.partition(":")[0] in LIBRARIES and ":" in name


def library_network(name: str, num_classes: int = 1000) -> LibraryNetwork:
    """Build a classification network of a library, without its auxiliary classifiers; nothing is downloaded.

    Args:
        name: ``torchvision:NAME`` or ``timm:NAME``; ``@resolution=192`` may follow. Without it the input is as large as
            the library's first weights of that network expect.
        num_classes: outputs of the classifier.

    Raises:
        InputError: the library is not installed, has no such network, or a number is out of bounds.
    """
    library, _, rest = name.partition(":")
    plain, _, multipliers = rest.partition("@")
    if library not in LIBRARIES:
        raise InputError(f"no library is called {library!r}; {known(LIBRARIES)}")
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
            raise InputError(f"{library} does not build {rest!r}: {one_line(error)}") from None
    return LibraryNetwork(name, network.eval(), side)


def total(network: Arch | LibraryNetwork, num_classes: int = 1000) -> Cost:
    """The cost of a whole network; a library's has been built with its own number of classes."""
    return cost_of(network, num_classes) if isinstance(network, Arch) else library_cost(network)


def parts(network: Arch | LibraryNetwork, by: str = "block", num_classes: int = 1000) -> list[Line]:
    """The parts of a network, in order; their costs add up to `total`.

    Args:
        network: an `Arch`, by rows or their layers; or a library's, by children or modules without children.
        by: ``block`` or ``layer``.
        num_classes: outputs of the classifier of an `Arch`.

    Raises:
        InputError: `by` is neither, or a library's network does not take images of its resolution.
    """
    if isinstance(network, Arch):
        return lines(network, by, num_classes)
    check_by(by)
    return [Line(None, part.name, part.kind, part.cost) for part in library_parts(network, leaves=by == "layer")]


def library_cost(net: LibraryNetwork) -> Cost:
    """Parameters, MACs and memory access of one image, by fvcore's trace (`nas.network.trace`).

    Raises:
        InputError: the network does not take images of its resolution.
        NasError: an operator has no rule; it is named.
    """
    with takes_its_images(net):
        return traced_cost(net.network, net.resolution)


def library_parts(net: LibraryNetwork, leaves: bool = False) -> list[LibraryPart]:
    """The cost part by part, in the order in which they are defined; what runs between them comes last. Parameters,
    MACs and bytes add up to `library_cost`.

    Args:
        net: the network.
        leaves: take its layers, the modules without children, instead of its parts.

    Raises:
        InputError, NasError: as `library_cost`.
    """
    with takes_its_images(net):
        traced = trace(net.network, net.resolution)
    found: list[LibraryPart] = []
    for name, child in _leaves(net.network) if leaves else _children(net.network):
        macs, elements = traced.modules.get(name, (0, 0))
        params = sum(parameter.numel() for parameter in child.parameters())
        if params or elements:
            found.append(LibraryPart(name, type(child).__name__, Cost(params, macs, BYTES * elements)))
    rest = Cost(
        sum(parameter.numel() for parameter in net.network.parameters()) - sum(part.cost.params for part in found),
        traced.macs - sum(part.cost.macs for part in found),
        BYTES * traced.elements - sum(part.cost.memory_bytes for part in found),
    )
    return found if rest == Cost(0, 0, 0) else [*found, LibraryPart(REST, "", rest)]


def at_resolution(arch: Arch | LibraryNetwork, resolution: int | None) -> Arch | LibraryNetwork:
    """The same layers for square images of that side in pixels; None leaves it as it is.

    Raises:
        InputError: it is out of bounds.
    """
    if resolution is None:
        return arch
    return replace(arch, resolution=whole_number("resolution", resolution, 8, MAX_RESOLUTION))


@contextmanager
def takes_its_images(net: LibraryNetwork) -> Iterator[None]:
    """Tells a forward pass that fails as what it is: a network that does not take images of this size."""
    try:
        yield
    except NasError:
        raise
    except (AssertionError, RuntimeError, ValueError) as error:
        raise InputError(f"{net.name} does not run on images of {net.resolution} px: {one_line(error)}") from None


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
        raise InputError(f"a library's network has no multiplier {key!r}; {known(('resolution',))}")
    return whole_number("resolution", int(value[:9]) if value.isdecimal() else value, 8, MAX_RESOLUTION)


def _of_torchvision(name: str, resolution: int | None, num_classes: int) -> tuple[nn.Module, int]:
    from nas.system.compat import torchvision

    models = torchvision().models
    names = models.list_models(module=models)
    if name not in names:
        raise InputError(f"torchvision has no classification network {name!r}; {nearest(name, names)}")
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
    if name.partition(".")[0] not in names:  # a tag of weights may follow the dot; other prefixes would download
        raise InputError(f"timm has no network {name!r}; {nearest(name, names)}")
    settings = timm.get_pretrained_cfg(name) or timm.get_pretrained_cfg(name.partition(".")[0])
    channels, height, width = settings.input_size if settings else (IMAGE_CHANNELS, 224, 224)
    if channels != IMAGE_CHANNELS or height != width:
        raise InputError(f"{name} takes ({channels}, {height}, {width}) images; only square ones of 3 channels are run")
    options = {"img_size": resolution} if resolution and settings and settings.fixed_input_size else {}
    return timm.create_model(name, pretrained=False, num_classes=num_classes, **options), resolution or height
