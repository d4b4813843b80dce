"""Parameters, MACs and memory access of an `Arch`, by closed forms over its rows, without torch.

fvcore counts exactly the same in the built network (`nas.network.count`), as ``tests/network/test_count.py`` checks.

A MAC is one multiply-accumulate of a convolution or a linear layer, squeeze-and-excitation included. Batch norm, bias,
activation, pooling and the scaling of SE are not counted (the papers' "MAdds").
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas.arch.arch import Arch
from nas.arch.batch import Batch
from nas.arch.block import PlacedBlock
from nas.arch.layers import Layer, layers_of, linear

BYTES = 4  # float32


@dataclass(frozen=True, slots=True)
class Cost:
    """What one forward pass of one image takes.

    Args:
        params: number of trainable parameters, with the scale and shift of batch norm but not its running statistics.
        macs: number of multiply-accumulates.
        memory_bytes: bytes of float32 weights and feature maps that the operators read and write, each on its own, with
            norms and activations fused.
    """

    params: int
    macs: int
    memory_bytes: int

    @property
    def intensity(self) -> float | None:
        """Arithmetic intensity: MACs per byte read or written; None if nothing is moved. A layer waits for memory if
        its intensity is below the MACs that the machine computes in the time it takes to move a byte."""
        return self.macs / self.memory_bytes if self.memory_bytes else None


def _sum(layers: Iterable[Layer]) -> Cost:
    params = macs = memory = 0
    for layer in layers:
        params, macs = params + layer.params, macs + layer.macs
        memory += BYTES * (layer.params + layer.elements)
    return Cost(params, macs, memory)


def row_cost(placed: PlacedBlock) -> Cost:
    """The cost of one row at its position."""
    return _sum(layers_of(placed))


def head_cost(arch: Arch, num_classes: int = 1000) -> Cost:
    """The cost of the classifier after the rows. With the costs of all rows it adds up to `cost_of`."""
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


def costs(archs: Sequence[Arch], num_classes: int = 1000) -> NDArray[np.float64]:
    """`cost_of` of many networks: params, MACs and bytes of memory access, float64 of shape ``(len(archs), 3)``.

    >>> from nas.references.table import reference
    >>> costs([reference("mobilenet_v2")])[0, 0]
    np.float64(3504872.0)
    """
    batch = Batch.of(archs)
    if not len(batch):
        return np.zeros((0, 3))
    channels, which = np.unique(batch.out_channels, return_inverse=True)
    heads = np.array([_numbers(_sum([linear(int(width), num_classes, "none", num_classes)])) for width in channels])
    found: NDArray[np.float64] = batch.sums(_row_numbers) + heads[which]
    return found


def _row_numbers(placed: PlacedBlock) -> tuple[float, ...]:
    return _numbers(row_cost(placed))


def _numbers(cost: Cost) -> tuple[float, ...]:
    return cost.params, cost.macs, cost.memory_bytes
