"""`ImageData`, the arrays of images that every candidate is trained on, and the cache that keeps them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.data.names import shown
from nas.system.errors import InputError
from nas.system.files import cache_folder

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]

MAX_IMAGES = 60_000
MAX_VAL = 10_000  # held-out images at most
VERSION = 1  # part of every key; a new one would keep earlier runs from being resumed
READER = 2  # of cache entries; those of another version are read again, under the same key
_ARRAYS = ("train_images", "train_labels", "val_images", "val_labels")


@dataclass(frozen=True, eq=False)
class ImageData:
    """Square colour images with labels, split into training and held-out images.

    Pickling cached data sends only the path of the arrays, which the other process maps into memory: cheap for workers
    on one machine. Send ``data.in_memory()`` to other machines; it pickles by value.

    Args:
        name: name to show: that of the folder or of the data set; ``generated`` for the generated set.
        classes: class names; labels are indices into them.
        train_images: uint8 (N, S, S, 3), RGB.
        train_labels: int64 (N,).
        val_images: uint8 (M, S, S, 3); held out.
        val_labels: int64 (M,).
        key: hash of the content.
        notes: what a reader of the results must know: images that were held out or left out.
        generated: whether a program drew the images; such images rank networks only roughly.
        folder: cache entry that holds the arrays; None if they are only in memory.
    """

    name: str
    classes: tuple[str, ...]
    train_images: Images
    train_labels: Labels
    val_images: Images
    val_labels: Labels
    key: str
    notes: tuple[str, ...] = ()
    generated: bool = False
    folder: Path | None = None

    @property
    def counts(self) -> tuple[int, ...]:
        """Images of each class, training and held-out together."""
        both = np.concatenate([self.train_labels, self.val_labels])
        return tuple(np.bincount(both, minlength=len(self.classes)).tolist())

    @property
    def size(self) -> int:
        """S, the side of the images in pixels."""
        return int(self.train_images.shape[1])

    def in_memory(self) -> ImageData:
        """The same data held by value, for machines that cannot see the cache."""
        arrays: dict[str, Any] = {name: np.array(getattr(self, name)) for name in _ARRAYS}
        return replace(self, folder=None, **arrays)

    def __reduce__(self) -> Any:
        if self.folder is not None:
            return _reopened, (self.folder, self.name, self.notes)
        return ImageData, tuple(getattr(self, name) for name in self.__dataclass_fields__)

    def __str__(self) -> str:
        return (
            f"{self.name} ({len(self.classes)} classes, {len(self.train_images)} training and "
            f"{len(self.val_images)} held-out images, {self.size} px)"
        )


def _reopened(folder: Path, name: str, notes: tuple[str, ...]) -> ImageData:
    return replace(open_cached(folder), name=name, notes=notes)


def content_key(*parts: str) -> str:
    """16 hexadecimal digits: a hash of the parts and of the version of the image reader.

    >>> len(content_key("folder", "a.png")), content_key("a") == content_key("b")
    (16, False)
    """
    return hashlib.blake2b(json.dumps([VERSION, *parts]).encode(), digest_size=8).hexdigest()


def class_counts(classes: Sequence[str], counts: Sequence[int], most: int = 12) -> str:
    """The classes and how many images each has, on one line.

    Args:
        classes: class names.
        counts: images of each class; empty if unknown.
        most: largest number of classes that are all named.

    >>> class_counts(("cat", "dog"), (40, 38))
    'cat 40, dog 38'
    >>> class_counts([f"c{at}" for at in range(100)], [*range(20, 120)], 3)
    'c0 20, c1 21, c2 22, … (100 classes with 20 to 119 images each)'
    """
    named = [shown(name) for name in classes[:most]]
    if counts:
        named = [f"{name} {count:,}" for name, count in zip(named, counts, strict=False)]
    if len(classes) <= most:
        return ", ".join(named)
    each = f" with {min(counts):,} to {max(counts):,} images each" if counts else ""
    return f"{', '.join(named)}, … ({len(classes)} classes{each})"


def cached(key: str, make: Callable[[], ImageData]) -> ImageData:
    """The data cached under `key`; `make` makes them if they are absent or damaged. Entries are written atomically."""
    root = cache_folder("data")
    target = root / key
    if target.is_dir():
        try:
            return open_cached(target)
        except (InputError, OSError, ValueError, KeyError, TypeError):
            shutil.rmtree(target, ignore_errors=True)
    data = make()
    part = Path(tempfile.mkdtemp(dir=root, prefix=f".{key}."))
    try:
        for name in _ARRAYS:
            np.save(part / f"{name}.npy", getattr(data, name))
        about = {
            "reader": READER,
            "name": data.name,
            "classes": data.classes,
            "key": key,
            "notes": data.notes,
            "generated": data.generated,
        }
        (part / "about.json").write_text(json.dumps(about), encoding="utf-8")
        os.replace(part, target)
    except OSError:
        shutil.rmtree(part, ignore_errors=True)
        if not target.is_dir():  # otherwise another process was faster
            raise
    return open_cached(target)


def open_cached(folder: Path) -> ImageData:
    """Map a cache entry into memory.

    Raises:
        InputError: the entry is damaged.
        OSError: there is no such entry.
    """
    about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
    if about.get("reader") != READER:
        raise InputError(f"the cached images in {folder} are of another version; delete that folder")
    arrays = [np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in _ARRAYS]
    for images, labels in (arrays[:2], arrays[2:]):
        good = (
            images.dtype == np.uint8
            and images.ndim == 4
            and images.shape[3] == 3
            and images.shape[1] == images.shape[2]
        )
        if not good or labels.dtype != np.int64 or labels.shape != images.shape[:1]:
            raise InputError(f"the cached images in {folder} are damaged; delete that folder")
    return ImageData(
        name=about["name"],
        classes=tuple(about["classes"]),
        train_images=arrays[0],
        train_labels=arrays[1],
        val_images=arrays[2],
        val_labels=arrays[3],
        key=about["key"],
        notes=tuple(about["notes"]),
        generated=about["generated"],
        folder=folder,
    )
