"""The cost of a network block by block or layer by layer, with the guidelines that blocks break."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from nas.arch.analysis.conv_variants import Convolution
from nas.arch.analysis.guidelines import Finding, row_findings
from nas.arch.arch import Arch
from nas.arch.block import PlacedBlock
from nas.arch.cost import BYTES, Cost, head_cost, row_cost
from nas.arch.layers import Layer, layers_of
from nas.system.errors import InputError, known

BY = ("block", "layer")
CLASSIFIER = "classifier"


@dataclass(frozen=True, slots=True)
class Line:
    """One part of a network and its cost.

    Args:
        at: number of the part's row, from 0; None for classifiers and networks of libraries, which have no rows.
        name: short text of the row, kind of the layer, or name of a library's module.
        shape: channels and sides in and out, e.g. ``16 > 24, 112 > 56``; empty if unknown.
        cost: cost of the part.
        findings: guidelines that the part breaks.
    """

    at: int | None
    name: str
    shape: str
    cost: Cost
    findings: tuple[Finding, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The line as plain values, for JSON."""
        return {
            **{"row": self.at, "name": self.name, "shape": self.shape},
            **figures(self.cost),
            "findings": [
                {"guideline": finding.guideline, "excess": finding.excess, "text": finding.text}
                for finding in self.findings
            ],
        }


def figures(cost: Cost) -> dict[str, float | None]:
    """A cost and its intensity as plain values, for JSON."""
    return {
        "params": cost.params,
        "macs": cost.macs,
        "memory_bytes": cost.memory_bytes,
        "macs_per_byte": cost.intensity,
    }


def lines(arch: Arch, by: str = "block", num_classes: int = 1000) -> list[Line]:
    """The parts of a network, in order. Their costs add up to `nas.arch.cost.cost_of`.

    Args:
        arch: network to break down.
        by: ``block`` (rows) or ``layer``.
        num_classes: outputs of the classifier.

    Raises:
        InputError: `by` is neither.
    """
    check_by(by)
    rows = [line for at, placed in enumerate(arch.places()) for line in _of_row(at, placed, by)]
    return [*rows, Line(None, CLASSIFIER, f"{_width(arch)} > {num_classes}", head_cost(arch, num_classes))]


def check_by(by: str) -> None:
    """Raises `InputError` unless a cost can be broken down by this."""
    if by not in BY:
        raise InputError(f"a cost cannot be broken down by {by!r:.40}; {known(BY)}")


def stem(arch: Arch) -> Convolution | None:
    """The shape of the first convolution that is not 1x1; None if there is none."""
    for placed in arch.places():
        row, side = placed.row, placed.in_size
        if row.op == "conv" and row.kernel > 1:
            return Convolution(side, side, placed.in_channels, row.kernel, row.channels, row.stride)
    return None


def _width(arch: Arch) -> int:
    return list(arch.places())[-1].out_channels


def _of_row(at: int, placed: PlacedBlock, by: str) -> Iterator[Line]:
    if by == "block":
        channels = f"{placed.in_channels} > {placed.out_channels}"
        shape = f"{channels}, {placed.in_size} > {placed.out_size}"
        yield Line(at, str(placed.row), shape, row_cost(placed), tuple(row_findings(placed, at)))
        return
    for layer in layers_of(placed):
        yield Line(
            at,
            _name(layer),
            f"{layer.in_channels} > {layer.out_channels}, {layer.in_size} > {layer.out_size}",
            (Cost(layer.params, layer.macs, BYTES * (layer.params + layer.elements))),
        )


def _name(layer: Layer) -> str:
    window = f" {layer.kernel}x{layer.kernel}" if layer.kernel > 1 and layer.kind != "spatial" else ""
    strip = f" {layer.kernel}" if layer.kind == "spatial" else ""
    groups = f" g{layer.groups}" if layer.kind == "grouped" else ""
    return f"{layer.kind}{window}{strip}{groups}"
