"""The images of a search where its candidates are trained: on the CPU as they lie in the cache, else on the device."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nas.data.augment import shifted_and_flipped, to_device, to_input
from nas.data.dataset import ImageData

_held: dict[tuple[object, ...], DeviceImages] = {}  # the last set of this process that was moved to a device


@dataclass(frozen=True, eq=False)
class DeviceImages:
    """Images and labels on one device. Get them with `of`.

    Args:
        train_images: uint8 (N, S, S, 3); arrays on the CPU, tensors elsewhere.
        train_labels: int64 (N,).
        val_images: uint8 (M, S, S, 3).
        val_labels: int64 (M,).
    """

    train_images: NDArray[np.uint8] | Tensor
    train_labels: Tensor
    val_images: NDArray[np.uint8] | Tensor
    val_labels: Tensor

    @staticmethod
    def of(data: ImageData, device: torch.device) -> DeviceImages:
        """The images of `data` on `device`. They are moved once and stay for the next candidates of this process, until
        another set is moved."""
        if device.type == "cpu":
            labels = (torch.from_numpy(np.array(part)) for part in (data.train_labels, data.val_labels))
            return DeviceImages(data.train_images, next(labels), data.val_images, next(labels))
        key = (data.key, device, data.train_images.shape, data.val_images.shape)
        if key not in _held:
            _held.clear()
            arrays = (data.train_images, data.train_labels, data.val_images, data.val_labels)
            _held[key] = DeviceImages(*(to_device(np.array(array), device) for array in arrays))
        return _held[key]

    @property
    def train_count(self) -> int:
        """N."""
        return len(self.train_labels)

    @property
    def val_count(self) -> int:
        """M."""
        return len(self.val_labels)

    def augmented(self, batch: NDArray[np.int64], resolution: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Training images at these indices, shifted and flipped at random, and their labels.

        Returns:
            float32 (B, 3, resolution, resolution) and int64 (B,).
        """
        x = to_input(shifted_and_flipped(self.train_images, batch, rng), resolution)
        return x, self.train_labels[self._index(batch)]

    def held_out(self, batch: NDArray[np.int64], resolution: int) -> tuple[Tensor, Tensor]:
        """Held-out images at these indices, and their labels, in the form of `augmented`."""
        index = self._index(batch)
        images = self.val_images[index] if isinstance(self.val_images, Tensor) else self.val_images[batch]
        return to_input(images, resolution), self.val_labels[index]

    def _index(self, batch: NDArray[np.int64]) -> Tensor:
        return to_device(batch, self.train_labels.device)
