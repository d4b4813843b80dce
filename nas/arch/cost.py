"""Parameters, MACs and memory access of an `Arch`, by closed forms over its rows, without torch.

They equal exactly what fvcore counts in the built network (`nas.network.count`), which ``tests/network/test_count.py``
asserts.

A MAC is one multiply-accumulate of a convolution or a linear layer, squeeze-and-excitation included; batch norm, bias,
activation, pooling and the scaling of SE are not counted (the papers' "MAdds").
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from nas.arch.arch import Arch
from nas.arch.block import PlacedBlock
from nas.arch.layers import Layer, layers_of, linear

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


def row_cost(placed: PlacedBlock) -> Cost:
    """The cost of one row in its place, by closed forms."""
    return _sum(layers_of(placed))


def head_cost(arch: Arch, num_classes: int = 1000) -> Cost:
    """The cost of the classifier after the rows; with those of all rows it adds up to `cost_of`."""
    return _sum([_head(list(arch.places()), num_classes)])


def _head(places: Sequence[PlacedBlock], num_classes: int) -> Layer:
    return linear(places[-1].out_channels, num_classes, "none", num_classes)


def cost_of(arch: Arch, num_classes: int = 1000) -> Cost:
    """The cost of a whole network.

    Args:
        arch: network to count; its own resolution is the side of the image.
        num_classes: outputs of the classifier.

    >>> from nas.references.table import reference
    >>> cost_of(reference("mobilenet_v2")).params
    3504872
    """
    places = list(arch.places())
    layers = [layer for placed in places for layer in layers_of(placed)]
    return _sum([*layers, _head(places, num_classes)])
