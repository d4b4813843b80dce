"""Augmentation of whole batches: one gather from the uint8 array per batch, without a loop over images."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

MEAN, STD = 0.47, 0.25  # natural images, the same for all channels


def shifted_and_flipped(
    images: NDArray[np.uint8], indices: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.uint8]:
    """A batch of images, each shifted by up to an eighth of its side with a mirrored border; half of them are flipped
    left to right.

    Args:
        images: uint8 (N, S, S, 3); may be mapped from a file.
        indices: int64 (B,), which images form the batch.
        rng: source of the shifts and flips.

    Returns:
        uint8 (B, S, S, 3).
    """
    count, size = len(indices), images.shape[1]
    rows = _shifts(rng, count, size)
    columns = _shifts(rng, count, size)
    flips = rng.random(count) < 0.5
    columns[flips] = columns[flips, ::-1]
    batch: NDArray[np.uint8] = images[indices[:, None, None], rows[:, :, None], columns[:, None, :]]
    return batch


def _shifts(rng: np.random.Generator, count: int, size: int) -> NDArray[np.int64]:
    """For each image, the source row (or column) of every output row; those outside are mirrored at the border."""
    most = size // 8
    source = np.arange(size) + rng.integers(-most, most + 1, (count, 1))
    return np.asarray((size - 1) - np.abs((size - 1) - np.abs(source)))


def to_input(images: NDArray[np.uint8], resolution: int) -> Tensor:
    """Resize and normalise a batch to about zero mean and unit variance.

    Args:
        images: uint8 (B, S, S, 3).
        resolution: side of the output in pixels.

    Returns:
        float32 (B, 3, resolution, resolution), channels-last.

    >>> to_input(np.zeros((2, 8, 8, 3), np.uint8), 16).shape
    torch.Size([2, 3, 16, 16])
    """
    x = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float()
    if x.shape[-1] != resolution:
        x = F.interpolate(x, (resolution, resolution), mode="bilinear", align_corners=False, antialias=True)
    return x.sub_(255 * MEAN).mul_(1 / (255 * STD)).contiguous(memory_format=torch.channels_last)
