"""Peak activation memory of an `Arch`: the most bytes of feature maps that are alive at once, without torch.

Operators run one after another, in the order of `nas.arch.layers`, for one image. Each reads its inputs and writes a
new map; norms, biases and activations work in place. A map is freed after its last use: the input of a shortcut when it
is added, the map that a squeeze-and-excitation gates when it is scaled. Half a map (ShuffleNetV2) keeps all of it
alive. A runtime needs weights and work space besides, and less where it adds or scales in place.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nas.arch.arch import Arch
from nas.arch.batch import Batch
from nas.arch.block import PlacedBlock
from nas.arch.layers import Layer, layers_of

BYTES = {"float32": 4, "int8": 1}  # of one activation


def peak_memory(arch: Arch, dtype: str = "float32", num_classes: int = 1000) -> int:
    """Peak activation memory of one forward pass of one image, in bytes.

    Args:
        arch: network; its own resolution is the side of the image.
        dtype: type of the activations, ``float32`` or ``int8``; the image has it, too.
        num_classes: outputs of the classifier.

    >>> from nas.references.table import reference
    >>> peak_memory(reference("mobilenet_v2")) / 4 == (96 * 112**2 + 96 * 56**2)  # before and after a depthwise
    True
    """
    places = list(arch.places())
    return BYTES[dtype] * max(*map(row_peak, places), places[-1].out_channels + num_classes)


def peaks(archs: Sequence[Arch], num_classes: int = 1000) -> NDArray[np.float64]:
    """`peak_memory` of many networks in activations, each of four bytes, or of one in int8; shape (n,)."""
    batch = Batch.of(archs)
    if not len(batch):
        return np.zeros(0)
    found: NDArray[np.float64] = (batch.out_channels + num_classes).astype(float)
    for position in range(batch.ids.shape[1]):
        found = np.maximum(found, batch.values_at(position, _numbers)[:, 0])
    return found


def _numbers(placed: PlacedBlock) -> Sequence[float]:
    return (row_peak(placed),)


def row_peak(placed: PlacedBlock) -> int:
    """The most activations alive at once while a row runs, its input and its output included."""
    layers = list(layers_of(placed))
    if placed.row.op == "shuffle_v2":
        held = _held_by_halves(placed, layers)
    else:
        held = [0] * len(layers)
        whole = placed.in_channels * placed.in_size**2
        for at, layer in enumerate(layers):
            if (placed.residual or placed.bypassed) and at and layer.kind not in ("add", "avg_pool", "concat"):
                held[at] += whole  # for the shortcut
            if layer.kind == "se":  # computes the gate of the map that is scaled next
                held[at] += _written(layers[at - 2])
            if layer.kind == "avg_pool":  # of the shortcut, after the main branch
                held[at] += _written(layers[at - 1])
    return max(_alive(layer) + other for layer, other in zip(layers, held, strict=True))


def _written(layer: Layer) -> int:
    return layer.out_channels * layer.out_size**2


def _alive(layer: Layer) -> int:
    """What an operator reads and writes itself. The two layers of a gate do so one after the other."""
    return layer.elements // 2 if layer.kind == "se" else layer.elements


def _held_by_halves(placed: PlacedBlock, layers: Sequence[Layer]) -> list[int]:
    whole, half = placed.in_channels * placed.in_size**2, placed.bypassed * placed.out_size**2
    if placed.splits:  # the first reads half of the input; the other half is read at the end
        return [whole - half, whole, whole, whole - half, 0]
    # the left branch runs first, and the right one reads the input again
    return [0, whole, half, half, half, 0, 0]
