"""Augmentation of whole batches: one gather from the uint8 array per batch, no loop over images."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

MEAN, STD = 0.47, 0.25  # of natural images, all channels alike


def shifted_and_flipped(
    images: NDArray[np.uint8], chosen: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.uint8]:
    """A batch, each image shifted by up to an eighth of its side, the border mirrored, and mirrored left to right or
    not.

    Args:
        images: uint8 (N, S, S, 3); may be mapped from a file.
        chosen: indices of the batch's B images.
        rng: source of the shifts and flips.

    Returns:
        uint8 (B, S, S, 3).
    """
    count, size = len(chosen), images.shape[1]
    reach = size // 8
    rows = _shifts(rng, count, size, reach)
    columns = _shifts(rng, count, size, reach)
    flips = rng.random(count) < 0.5
    columns[flips] = columns[flips, ::-1]
    batch: NDArray[np.uint8] = images[chosen[:, None, None], rows[:, :, None], columns[:, None, :]]
    return batch


def _shifts(rng: np.random.Generator, count: int, size: int, reach: int) -> NDArray[np.int64]:
    at = np.arange(size) + rng.integers(-reach, reach + 1, (count, 1))
    return np.asarray((size - 1) - np.abs((size - 1) - np.abs(at)))


def to_input(images: NDArray[np.uint8], resolution: int) -> Tensor:
    """uint8 (B, S, S, 3) to float32 (B, 3, resolution, resolution), channels-last, about zero mean and unit
    variance.
    """
    x = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float()
    if x.shape[-1] != resolution:
        x = F.interpolate(x, (resolution, resolution), mode="bilinear", align_corners=False, antialias=True)
    return x.sub_(255 * MEAN).mul_(1 / (255 * STD)).contiguous(memory_format=torch.channels_last)
