"""Downloadable data sets by name, through torchvision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nas.data.dataset import MAX_VAL, ImageData, Images, Labels, cached, content_key
from nas.system.compat import torchvision
from nas.system.errors import NasError
from nas.system.files import cache_folder
from nas.system.progress import Step
from nas.system.text import one_line

# name -> (torchvision class, its arguments for training images, its arguments for held-out images)
SETS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "cifar10": ("CIFAR10", {"train": True}, {"train": False}),
    "cifar100": ("CIFAR100", {"train": True}, {"train": False}),
    "mnist": ("MNIST", {"train": True}, {"train": False}),
    "fashion_mnist": ("FashionMNIST", {"train": True}, {"train": False}),
    "kmnist": ("KMNIST", {"train": True}, {"train": False}),
    "svhn": ("SVHN", {"split": "train"}, {"split": "test"}),
    "stl10": ("STL10", {"split": "train"}, {"split": "test"}),
    "gtsrb": ("GTSRB", {"split": "train"}, {"split": "test"}),
    "dtd": ("DTD", {"split": "train"}, {"split": "val"}),
    "flowers102": ("Flowers102", {"split": "train"}, {"split": "val"}),
    "food101": ("Food101", {"split": "train"}, {"split": "test"}),
    "oxford_pets": ("OxfordIIITPet", {"split": "trainval"}, {"split": "test"}),
    "imagenette": ("Imagenette", {"split": "train", "size": "160px"}, {"split": "val", "size": "160px"}),
}


def load(name: str, size: int, progress: Step, limit: int) -> ImageData:
    """Download a data set unless it is already there, and keep it as arrays; see `nas.data.load.load_data`.

    torchvision checks the checksum of every download before reading it.

    Raises:
        NasError: the data set could not be downloaded or read.
    """
    key = content_key("torchvision", name, str(size), str(limit))
    return cached(key, lambda: _make(name, size, progress, limit, key))


def _make(name: str, size: int, progress: Step, limit: int, key: str) -> ImageData:
    kind, *splits = SETS[name]
    progress(0, 1, f"downloading {name}")
    opened = [_open(name, kind, split) for split in splits]
    notes: list[str] = []
    parts: list[tuple[Images, Labels]] = []
    for what, dataset, most in zip(("training", "held-out"), opened, (limit, min(MAX_VAL, limit)), strict=True):
        if len(dataset) > most:
            notes.append(f"{most} of {len(dataset)} {what} images used")
        parts.append(_arrays(dataset, most, size, progress))
    classes = getattr(opened[0], "classes", None) or sorted({int(label) for label in parts[0][1]})
    names = tuple(" / ".join(c) if isinstance(c, tuple) else str(c) for c in classes)
    return ImageData(name, names, *parts[0], *parts[1], key, tuple(notes))


def _open(name: str, kind: str, split: dict[str, Any]) -> Any:
    dataset = getattr(torchvision_datasets(), kind)
    root = cache_folder("downloads") / name
    try:
        try:
            return dataset(str(root), download=False, **split)
        except (RuntimeError, FileNotFoundError):
            return dataset(str(root), download=True, **split)
    except Exception as error:  # urllib, http, ssl, tarfile, missing scipy: the remedy is the same
        reason = one_line(f"{type(error).__name__}: {error}")
        raise NasError(
            f"the data set {name} could not be downloaded ({reason}); check the network, or give a folder of images"
        ) from None


def _arrays(dataset: Sequence[Any], most: int, size: int, progress: Step) -> tuple[Images, Labels]:
    """`most` images drawn by a fixed shuffle, so that a set sorted by class keeps all of its classes."""
    from nas.data.images import as_square  # loads Pillow: the names of the sets are read without it

    order = np.random.Generator(np.random.PCG64(0)).permutation(len(dataset))[:most]
    images = np.empty((len(order), size, size, 3), np.uint8)
    labels = np.empty(len(order), np.int64)
    for at, index in enumerate(sorted(order.tolist())):
        image, label = dataset[index]
        images[at], labels[at] = as_square(image, size), int(label)
        if (at + 1) % 500 == 0 or at + 1 == len(order):
            progress(at + 1, len(order), "decoding images")
    return images, labels


def torchvision_datasets() -> Any:
    """``torchvision.datasets``; also works with a CPU-only PyTorch."""
    return torchvision().datasets
