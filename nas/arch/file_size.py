"""Size of the ONNX files that `nas export` writes, in closed form, without torch: weights, and about half a kilobyte an
operator.

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

TOLERANCE = 0.03  # of the size; what operators take depends on their names and on the exporter
CHANNEL_BYTES = 17  # of an output channel in int8
OPERATOR_BYTES = (550, 1250)  # in float32, in int8
ACT_BYTES = {"h_swish": (0, 1900), "swish": (300, 1900), "gelu": (1900, 5000), "relu6": (300, 0)}


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
        biases += round((layer.params - layer.macs) - layer.out_channels)  # of the squeezing layer
    weights = layer.params - biases * (2 if norm == "batch" and layer.kind != "se" else 1)
    act = ACT_BYTES.get(layer.act, (0, 0))
    own = 4 * (weights + biases), weights + CHANNEL_BYTES * biases
    return own[0] + OPERATOR_BYTES[0] + act[0], own[1] + OPERATOR_BYTES[1] + act[1]
