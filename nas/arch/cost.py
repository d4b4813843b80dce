"""Parameters, MACs and memory access of an `Arch`.

`count` traces the built network with fvcore. `estimate` sums closed forms over the rows without torch, thousands of
times faster, for the paths where every candidate needs its figures; they agree exactly on parameters, MACs and memory
access (``tests/test_cost.py``).

A MAC is one multiply-accumulate of a convolution or a linear layer, squeeze-and-excitation included; batch norm, bias,
activation, pooling and the scaling of SE are not counted (the papers' "MAdds").
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nas.arch.arch import Arch
from nas.arch.layers import Layer, layers_of, linear
from nas.arch.block import Placed
from nas.network.trace import trace

if TYPE_CHECKING:
    from torch import nn

BYTES = 4  # float32


@dataclass(frozen=True, slots=True)
class Cost:
    """What one forward pass of one image takes.

    Args:
        params: trainable parameters (batch norm's scale and shift included, running statistics not).
        macs: multiply-accumulates.
        memory_bytes: float32 weights and activations read and written, each operator on its own, activations fused.
    """

    params: int
    macs: int
    memory_bytes: int

    @property
    def intensity(self) -> float | None:
        """Arithmetic intensity in MACs per byte read or written: below what a machine computes in the time it takes to
        move a byte, memory is what the layer waits for. None where nothing is moved."""
        return self.macs / self.memory_bytes if self.memory_bytes else None


def _sum(layers: Iterable[Layer]) -> Cost:
    params = macs = memory = 0
    for layer in layers:
        params, macs = params + layer.params, macs + layer.macs
        memory += BYTES * (layer.params + layer.elements)
    return Cost(params, macs, memory)


def row_cost(placed: Placed) -> Cost:
    """The cost of one row in its place, by closed forms."""
    return _sum(layers_of(placed))


def head_cost(arch: Arch, num_classes: int = 1000) -> Cost:
    """The cost of the classifier after the rows; with those of all rows it adds up to `estimate`."""
    return _sum([_head(arch, num_classes)])


def _head(arch: Arch, num_classes: int) -> Layer:
    return linear(list(arch.places())[-1].out_channels, num_classes, "none", num_classes)


def estimate(arch: Arch, num_classes: int = 1000) -> Cost:
    """The cost by closed forms: equal to `count`, without building anything."""
    layers = [layer for placed in arch.places() for layer in layers_of(placed)]
    return _sum([*layers, _head(arch, num_classes)])


def count(arch: Arch, num_classes: int = 1000) -> Cost:
    """The cost by building the network and tracing one image through it.

    >>> from nas.references.table import reference
    >>> count(reference("mobilenet_v2")).params
    3504872
    """
    from nas.network.build import build

    return traced_cost(build(arch, num_classes), arch.resolution)


def traced_cost(network: nn.Module, resolution: int) -> Cost:
    """The cost of any image network, by fvcore; see `nas.network.trace.trace`."""
    traced = trace(network, resolution)
    params = sum(parameter.numel() for parameter in network.parameters())
    return Cost(params, traced.macs, BYTES * traced.elements)


def traced_macs(network: nn.Module, resolution: int) -> int:
    """MACs of any image network, by fvcore.

    Raises:
        NasError: the trace holds an operator fvcore cannot count; it is named, never taken for zero.
    """
    return trace(network, resolution).macs
