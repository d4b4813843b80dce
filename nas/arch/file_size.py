"""Size of the ONNX files that `nas export` writes, in closed form, without torch: weights, and half a kilobyte an
operator in float32, two or more in int8.

In float32, batch norms are folded into the convolutions before them, which leaves one bias a channel. In int8, a weight
takes one byte, and an output channel 17 more: its bias, and the scale and zero point of its weights and of its bias.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nas.arch.arch import Arch
from nas.arch.batch import Batch
from nas.arch.block import PlacedBlock
from nas.arch.layers import Layer, layers_of, linear

CHANNEL_BYTES = 17  # of an output channel in int8
# Rounded up: of 31 files none is larger than computed; they are up to 0.6 % smaller in float32, 2.3 % in int8.
OPERATOR_BYTES = (710, 2320)
MORE_BYTES = {  # of what is exported as several operators, by activation or kind
    **{"h_swish": (300, 2200), "swish": (200, 3400), "gelu": (1500, 6000), "relu6": (600, 300)},
    **{"se": (0, 3500), "concat": (1700, 2600), "shuffle": (0, 300)},
}


def file_sizes(archs: Sequence[Arch], num_classes: int = 1000) -> NDArray[np.float64]:
    """Bytes of the float32 and of the int8 file of many networks, shape ``(len(archs), 2)``.

    >>> from nas.references.table import reference
    >>> (file_sizes([reference("mobilenet_v2")]) / 1e6).round(1)
    array([[14. ,  3.9]])
    """
    batch = Batch.of(archs)
    if not len(batch):
        return np.zeros((0, 2))
    channels, which = np.unique(batch.out_channels, return_inverse=True)
    heads = np.array([_bytes(linear(int(width), num_classes, "none", num_classes), "none") for width in channels])
    found: NDArray[np.float64] = batch.sums(_row_bytes) + heads[which]
    return found


def _row_bytes(placed: PlacedBlock) -> Sequence[float]:
    each = np.array([_bytes(layer, str(placed.row.norm)) for layer in layers_of(placed)])
    return tuple(each.sum(axis=0).tolist())


def _bytes(layer: Layer, norm: str) -> tuple[float, float]:
    """Bytes of one operator in the float32 and in the int8 file."""
    biases = layer.out_channels if layer.params else 0
    if layer.kind == "se":
        biases = layer.params - layer.macs  # of the squeezing layer
    weights = layer.params - biases * (2 if norm == "batch" and layer.kind != "se" else 1)
    bytes_of = np.array((4 * (weights + biases), weights + CHANNEL_BYTES * biases)) + OPERATOR_BYTES
    for name in (layer.act, layer.kind):
        bytes_of += MORE_BYTES.get(name, (0, 0))
    return float(bytes_of[0]), float(bytes_of[1])
