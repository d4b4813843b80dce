"""The four guidelines of ShuffleNetV2 for networks that are fast, not only small in MACs (arXiv 1807.11164, section 2),
held against the rows of an architecture: findings as data.

Memory access is in elements, as in the paper: feature maps read and written, and the weights of the convolution (norms
apart). Activations are fused into the operator before them and cost nothing here; the paper's G4 counts them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from nas.arch.arch import Arch
from nas.arch.block import PlacedBlock
from nas.arch.layers import Layer, layers_of

# Large maps of widths 1:2 are 6 % above the bound, 1:3 15 %, 1:4 25 %, 1:6 43 %: flags what is wider than about 1:3.5.
MAX_UNEQUAL = 0.2
# Two groups cost 33 % on large maps of equal widths: on those every grouped convolution is flagged. Where weights
# dominate, groups are nearly free, and are not.
MAX_GROUPED = 0.2
# A bottleneck, a plain inverted residual or a unit of ShuffleNetV2 has three; NASNet-A's cells have thirteen.
MAX_FRAGMENTS = 3
# A quarter of all that a row moves is moved without a MAC.
MAX_ELEMENTWISE = 0.25

GUIDELINES = {
    "G1": f"1x1 convolution of unequal widths: memory access more than {MAX_UNEQUAL:.0%} above that of equal widths "
    "with as many MACs",
    "G2": f"group convolution: memory access more than {MAX_GROUPED:.0%} above that of an ungrouped one with the same "
    "input and as many MACs (depthwise convolutions apart)",
    "G3": f"fragmentation: more than {MAX_FRAGMENTS} convolutions and poolings in one row, each too small to fill a "
    "parallel machine",
    "G4": f"element-wise operators (add, scale of SE, concatenation, shuffle): more than {MAX_ELEMENTWISE:.0%} of the "
    "row's memory access",
}

_CONVOLUTIONS = {"conv": 1, "spatial": 1, "depthwise": 1, "pointwise": 1, "grouped": 1, "se": 2}
_POOLINGS = {"pool": 1, "max_pool": 1, "avg_pool": 1}
_ELEMENTWISE = frozenset({"add", "scale", "concat", "shuffle"})


@dataclass(frozen=True, slots=True)
class Finding:
    """A row that breaks a guideline.

    Args:
        guideline: key of `GUIDELINES`.
        row: its number, from 0.
        text: what was found, e.g. ``1x1 of 24 to 72 at 56x56``.
        excess: G1 and G2: memory access above the best of as many MACs, relative to it (0.43 is 43 % more). G3:
            operators beyond `MAX_FRAGMENTS`. G4: the share of the row's memory access.
    """

    guideline: str
    row: int
    text: str
    excess: float

    def __str__(self) -> str:
        """For a table, e.g. ``G1 +43%``, ``G3 +2``, ``G4 31%``."""
        form = {"G3": f"+{self.excess:g}", "G4": f"{self.excess:.0%}"}
        return f"{self.guideline} {form.get(self.guideline, f'+{self.excess:.0%}')}"


def pointwise_access(in_channels: int, out_channels: int, pixels: int, groups: int = 1) -> int:
    """Elements a 1x1 convolution reads and writes: equation 1, with the groups of equation 3."""
    return pixels * (in_channels + out_channels) + in_channels * out_channels // groups


def least_access(macs: float, pixels: int) -> float:
    """The lower bound of `pointwise_access` for that many MACs, reached by equal widths: equation 2."""
    return 2 * math.sqrt(pixels * macs) + macs / pixels


def unequal_excess(in_channels: int, out_channels: int, pixels: int) -> float:
    """How much more a 1x1 convolution moves than the same MACs at equal widths would; 0 for equal widths.

    >>> round(unequal_excess(128, 128, 56 * 56), 6), round(unequal_excess(52, 312, 56 * 56), 2)
    (0.0, 0.42)
    """
    bound = least_access(pixels * in_channels * out_channels, pixels)
    return pointwise_access(in_channels, out_channels, pixels) / bound - 1


def grouped_excess(layer: Layer) -> float:
    """How much more a group convolution moves than one without groups, of the same input and MACs: an ungrouped one of
    as many MACs has as many weights, and writes ``1 / groups`` of the channels (equation 3)."""
    weights = layer.kernel**2 * layer.in_channels * layer.out_channels // layer.groups
    read = layer.in_channels * layer.in_size**2
    written = layer.out_channels * layer.out_size**2
    return (read + written + weights) / (read + written / layer.groups + weights) - 1


def findings(arch: Arch) -> list[Finding]:
    """Where the rows of `arch` break the guidelines, in order of rows. The classifier is not looked at."""
    return [found for at, placed in enumerate(arch.places()) for found in row_findings(placed, at)]


def row_findings(placed: PlacedBlock, row: int = 0) -> list[Finding]:
    """What one row in its place breaks; `row` is its number."""
    layers = list(layers_of(placed))
    found = [*_unequal(layers, row), *_grouped(layers, row)]
    parts = [layer.kind for layer in layers if layer.kind in _CONVOLUTIONS or layer.kind in _POOLINGS]
    fragments = sum(_CONVOLUTIONS.get(kind, 1) for kind in parts)
    if fragments > MAX_FRAGMENTS:
        text = f"{fragments} convolutions and poolings: {', '.join(parts)}"
        found.append(Finding("G3", row, text, fragments - MAX_FRAGMENTS))
    everything = sum(layer.params + layer.elements for layer in layers)
    moved = [layer for layer in layers if layer.kind in _ELEMENTWISE]
    share = sum(layer.elements for layer in moved) / everything
    if share > MAX_ELEMENTWISE:
        found.append(Finding("G4", row, f"{', '.join(layer.kind for layer in moved)} among {len(layers)}", share))
    return found


def _unequal(layers: list[Layer], row: int) -> Iterator[Finding]:
    for layer in layers:
        if layer.kind == "pointwise":
            excess = unequal_excess(layer.in_channels, layer.out_channels, layer.out_size**2)
            if excess > MAX_UNEQUAL:
                yield Finding("G1", row, f"1x1 of {_shape(layer)}", excess)


def _grouped(layers: list[Layer], row: int) -> Iterator[Finding]:
    for layer in layers:
        if layer.groups > 1 and layer.kind != "depthwise":
            excess = grouped_excess(layer)
            if excess > MAX_GROUPED:
                kernel = f"{layer.kernel}x{layer.kernel}"
                yield Finding("G2", row, f"{kernel} of {_shape(layer)} in {layer.groups} groups", excess)


def _shape(layer: Layer) -> str:
    return f"{layer.in_channels} to {layer.out_channels} at {layer.out_size}x{layer.out_size}"
