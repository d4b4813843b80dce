"""Images as one array, which every candidate is trained on, and the cache that keeps it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.system.errors import InputError
from nas.system.files import cache_folder

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]

MAX_IMAGES = 60_000
VERSION = 1
_ARRAYS = ("train_images", "train_labels", "val_images", "val_labels")


@dataclass(frozen=True, eq=False)
class ImageData:
    """Square colour images with labels, split in two.

    Pickling sends only the path of the cached arrays, which the other process maps into memory: cheap for workers on
    one machine. For other machines send ``data.in_memory()``, which pickles by value.

    Args:
        name: for people: the folder's name, a data set's name, or ``embedded``.
        classes: class names; labels index them.
        train_images: uint8 (N, S, S, 3), RGB.
        train_labels: int64 (N,).
        val_images: uint8 (M, S, S, 3); held out.
        val_labels: int64 (M,).
        key: hash of the content.
        notes: what a reader of the results must know: what was left out, held out or cut.
        generated: drawn by a program; ranks networks only roughly.
        folder: where the arrays lie; None when they live in memory alone.
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
    def size(self) -> int:
        """S, the side of the images in pixels."""
        return int(self.train_images.shape[1])

    def in_memory(self) -> ImageData:
        """The same data held by value: it can travel to machines that do not see the cache."""
        arrays: dict[str, Any] = {name: np.array(getattr(self, name)) for name in _ARRAYS}
        return replace(self, folder=None, **arrays)

    def __reduce__(self) -> Any:
        if self.folder is not None:
            return open_cached, (self.folder,)
        return ImageData, tuple(getattr(self, name) for name in self.__dataclass_fields__)

    def __str__(self) -> str:
        kind = "generated, " if self.generated else ""
        return (
            f"{self.name} ({kind}{len(self.classes)} classes, {len(self.train_images)} training and "
            f"{len(self.val_images)} held-out images, {self.size} px)"
        )


def content_key(*parts: str) -> str:
    """16 hexadecimal digits that stand for these parts and for the version of this program's way to read images."""
    return hashlib.blake2b(json.dumps([VERSION, *parts]).encode(), digest_size=8).hexdigest()


def cached(key: str, make: Callable[[], ImageData]) -> ImageData:
    """The data cached under `key`, made first if absent. A cache entry is whole or absent; a broken one is made
    again.
    """
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
        if not target.is_dir():  # else another process was first
            raise
    return open_cached(target)


def open_cached(folder: Path) -> ImageData:
    """Map a cache entry into memory.

    Raises:
        InputError: it is damaged.
        OSError: it is absent.
    """
    about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
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
