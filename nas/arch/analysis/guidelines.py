"""Rows that break the four guidelines of ShuffleNetV2 (arXiv 1807.11164, section 2) for networks that are fast, not
only small in MACs.

Memory access is in elements, as in the paper: feature maps read and written, and weights of convolutions, not of norms.
Activations are fused into the operator before them and cost nothing here; the paper's G4 counts them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from nas.arch.arch import Arch
from nas.arch.block import PlacedBlock
from nas.arch.layers import Layer, layers_of

# On large maps, widths of 1:2 are 6 % above the bound, 1:3 15 %, 1:4 25 %, 1:6 43 %. This flags more than about 1:3.5.
MAX_UNEQUAL = 0.2
# Two groups cost 33 % on large maps of equal widths, where this flags every grouped convolution. Where weights
# dominate, groups are nearly free and are not flagged.
MAX_GROUPED = 0.2
# A bottleneck, a plain inverted residual and a unit of ShuffleNetV2 have three each; NASNet-A's cells have thirteen.
MAX_FRAGMENTS = 3
# Share of a row's memory access that belongs to operators without MACs.
MAX_ELEMENTWISE = 0.25

GUIDELINES = {
    "G1": f"1x1 convolution of unequal widths: memory access more than {MAX_UNEQUAL:.0%} above that of equal widths "
    "with the same MACs",
    "G2": f"group convolution: memory access more than {MAX_GROUPED:.0%} above that of an ungrouped one with the same "
    "input and the same MACs (depthwise convolutions are exempt)",
    "G3": f"fragmentation: more than {MAX_FRAGMENTS} convolutions and poolings in one row, each too small to use a "
    "parallel machine fully",
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
        row: number of the row, from 0.
        text: description of the part, e.g. ``1x1 of 24 to 72 at 56x56``.
        excess: for G1 and G2, how far the memory access is above the lowest for the same MACs (0.43 is 43 % more); for
            G3, the number of operators beyond `MAX_FRAGMENTS`; for G4, the share of the row's memory access.
    """

    guideline: str
    row: int
    text: str
    excess: float

    def __str__(self) -> str:
        """Short text, e.g. ``G1 +43%``, ``G3 +2``, ``G4 31%``."""
        form = {"G3": f"+{self.excess:g}", "G4": f"{self.excess:.0%}"}
        return f"{self.guideline} {form.get(self.guideline, f'+{self.excess:.0%}')}"


def pointwise_access(in_channels: int, out_channels: int, pixels: int, groups: int = 1) -> int:
    """Elements that a 1x1 convolution reads and writes: equation 1, with the groups of equation 3."""
    return pixels * (in_channels + out_channels) + in_channels * out_channels // groups


def least_access(macs: float, pixels: int) -> float:
    """The lower bound of `pointwise_access` for these MACs, which equal widths reach: equation 2."""
    return 2 * math.sqrt(pixels * macs) + macs / pixels


def unequal_excess(in_channels: int, out_channels: int, pixels: int) -> float:
    """The relative excess in memory access of a 1x1 convolution over one of equal widths with the same MACs.

    >>> round(unequal_excess(128, 128, 56 * 56), 6), round(unequal_excess(52, 312, 56 * 56), 2)
    (0.0, 0.42)
    """
    bound = least_access(pixels * in_channels * out_channels, pixels)
    return pointwise_access(in_channels, out_channels, pixels) / bound - 1


def grouped_excess(layer: Layer) -> float:
    """The relative excess in memory access of a group convolution over an ungrouped one with the same input and MACs,
    which has as many weights and writes ``1 / groups`` of the channels (equation 3)."""
    weights = layer.kernel**2 * layer.in_channels * layer.out_channels // layer.groups
    read = layer.in_channels * layer.in_size**2
    written = layer.out_channels * layer.out_size**2
    return (read + written + weights) / (read + written / layer.groups + weights) - 1


def findings(arch: Arch) -> list[Finding]:
    """The guidelines that the rows of `arch` break, in order of rows. The classifier is not checked."""
    return [finding for at, placed in enumerate(arch.places()) for finding in row_findings(placed, at)]


def row_findings(placed: PlacedBlock, row: int = 0) -> list[Finding]:
    """The guidelines that one row breaks; `row` is its number."""
    layers = list(layers_of(placed))
    findings = [*_unequal(layers, row), *_grouped(layers, row)]
    parts = [layer.kind for layer in layers if layer.kind in _CONVOLUTIONS or layer.kind in _POOLINGS]
    fragments = sum(_CONVOLUTIONS.get(kind, 1) for kind in parts)
    if fragments > MAX_FRAGMENTS:
        text = f"{fragments} convolutions and poolings: {', '.join(parts)}"
        findings.append(Finding("G3", row, text, fragments - MAX_FRAGMENTS))
    everything = sum(layer.params + layer.elements for layer in layers)
    moved = [layer for layer in layers if layer.kind in _ELEMENTWISE]
    share = sum(layer.elements for layer in moved) / everything
    if share > MAX_ELEMENTWISE:
        findings.append(Finding("G4", row, f"{', '.join(layer.kind for layer in moved)} among {len(layers)}", share))
    return findings


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
