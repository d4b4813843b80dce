"""Augmentation of whole batches: one gather per batch from the uint8 images, without a loop over images.

Images are NumPy arrays, or tensors on the device where a network is trained. NumPy draws the shifts and flips of both,
so a device sees the same pixels as the CPU.
"""

from __future__ import annotations

from functools import cache
from typing import Any, overload

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

MEAN, STD = 0.47, 0.25  # natural images, the same for all channels


@overload
def shifted_and_flipped(
    images: NDArray[np.uint8], indices: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.uint8]: ...
@overload
def shifted_and_flipped(images: Tensor, indices: NDArray[np.int64], rng: np.random.Generator) -> Tensor: ...
def shifted_and_flipped(
    images: NDArray[np.uint8] | Tensor, indices: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.uint8] | Tensor:
    """A batch of images, each shifted by up to an eighth of its side with a mirrored border; half of them are flipped
    left to right.

    Args:
        images: uint8 (N, S, S, 3); an array, which may be mapped from a file, or a tensor on any device.
        indices: int64 (B,), which images form the batch.
        rng: source of the shifts and flips.

    Returns:
        uint8 (B, S, S, 3), of the type of `images` and on its device.
    """
    count, size = len(indices), images.shape[1]
    rows = _shifts(rng, count, size)
    columns = _shifts(rng, count, size)
    flips = rng.random(count) < 0.5
    columns[flips] = columns[flips, ::-1]
    if isinstance(images, Tensor):  # one copy to the device
        which = to_device(np.hstack([indices[:, None], rows, columns]), images.device)
        at, y, x = torch.split(which, [1, size, size], 1)
        return images[at[:, :, None], y[:, :, None], x[:, None, :]]
    batch: NDArray[np.uint8] = images[indices[:, None, None], rows[:, :, None], columns[:, None, :]]
    return batch


def _shifts(rng: np.random.Generator, count: int, size: int) -> NDArray[np.int64]:
    """For each image, the source row (or column) of every output row; those outside are mirrored at the border."""
    most = size // 8
    source = np.arange(size) + rng.integers(-most, most + 1, (count, 1))
    return np.asarray((size - 1) - np.abs((size - 1) - np.abs(source)))


def to_device(array: NDArray[Any], device: torch.device) -> Tensor:
    """The array as a tensor on `device`. A copy to a CUDA GPU does not wait for the work queued there."""
    return torch.from_numpy(array).to(device, non_blocking=device.type == "cuda")


def to_input(images: NDArray[np.uint8] | Tensor, resolution: int) -> Tensor:
    """Resize and normalise a batch to about zero mean and unit variance.

    Args:
        images: uint8 (B, S, S, 3); an array, or a tensor on any device.
        resolution: side of the output in pixels.

    Returns:
        float32 (B, 3, resolution, resolution), channels-last, on the device of `images`.

    >>> to_input(np.zeros((2, 8, 8, 3), np.uint8), 16).shape
    torch.Size([2, 3, 16, 16])
    """
    batch = images if isinstance(images, Tensor) else torch.from_numpy(np.ascontiguousarray(images))
    x = batch.permute(0, 3, 1, 2).float()
    if x.shape[-1] != resolution:
        x = _resized(x, resolution)
    return x.sub_(255 * MEAN).mul_(1 / (255 * STD)).contiguous(memory_format=torch.channels_last)


def _resized(x: Tensor, side: int) -> Tensor:
    if x.device.type == "cpu":
        return F.interpolate(x, (side, side), mode="bilinear", align_corners=False, antialias=True)
    weights = to_device(_resizing(x.shape[-1], side), x.device)  # MPS has no antialiased interpolation
    return weights @ x @ weights.T


@cache
def _resizing(size: int, side: int) -> NDArray[np.float32]:
    """Antialiased bilinear interpolation along one axis as a matrix (side, size)."""
    rows = F.interpolate(torch.eye(size)[None, None], (side, size), mode="bilinear", antialias=True)
    return np.asarray(rows[0, 0].numpy())
