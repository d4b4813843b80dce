"""Reads folders of images, one folder per class, in any size, mode and format that Pillow reads."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from nas.data.dataset import MAX_VAL, ImageData, cached, content_key
from nas.system.errors import InputError
from nas.system.machine import usable_cores
from nas.system.progress import Step
from nas.system.text import one_line

MIN_TRAIN, MIN_VAL = 8, 2  # images per class
VAL_SHARE = 0.2
MAX_BAD_SHARE = 0.01
MAX_FILE_BYTES = 64 << 20
SMALL_FILE_BYTES = 16 << 10
MAX_PIXELS = 80_000_000
MAX_FILES = 5_000_000
MAX_CLASSES = 10_000
TRAIN_NAMES = ("train", "training")
VAL_NAMES = ("val", "valid", "validation", "test")
# Formats whose Pillow plug-in starts another program or needs one to be registered.
_REFUSED = frozenset({"EPS", "WMF", "BUFR", "GRIB", "HDF5", "MPEG", "FITS"})

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class _File:
    path: Path
    label: int
    name: str  # relative to the data folder, with forward slashes: the same on every machine


def load(root: Path, size: int, progress: Step, limit: int) -> ImageData:
    """Read a folder of images; see `nas.data.load.load_data`.

    Without ``val/`` a fifth of every class, chosen by file name, is held out. Hidden files and files without the suffix
    of an image format are ignored. Of an animation the first frame is used.

    Raises:
        InputError: too few classes or images, or more than 1 % of the files cannot be read.
    """
    classes, train, val, notes = _listing(root, limit)
    files = train + val
    hashes = list(_parallel(_hash, [file.path for file in files], files, progress, "reading images"))
    parts = [f"{file.name} {file.label} {digest}" for file, digest in zip(files, hashes, strict=True)]
    key = content_key("folder", str(size), str(len(train)), str(limit), *classes, *parts)
    return cached(key, lambda: _decoded(root, classes, train, val, notes, size, key, progress))


def _listing(root: Path, limit: int) -> tuple[tuple[str, ...], list[_File], list[_File], list[str]]:
    """Class names, training files, held-out files, and notes on what was held out or left out."""
    train_root = _first_folder(root, TRAIN_NAMES)
    val_root = _first_folder(root, VAL_NAMES) if train_root else None
    classes, files = _classes(train_root or root, root)
    notes: list[str] = []
    if val_root:
        val_classes, val_files = _classes(val_root, root)
        if unknown := sorted(set(val_classes) - set(classes)):
            raise InputError(
                f"{val_root} has the class {unknown[0]!r}, but {train_root} does not; both need the same classes"
            )
        train = files
        val = [_File(file.path, classes.index(val_classes[file.label]), file.name) for file in val_files]
    else:
        train, val = _held_out(files, len(classes))
        notes.append(f"{len(val)} of {len(files)} images held out, an even share of every class, chosen by file name")
    _check_counts(root, classes, train, val, split=val_root is None)
    for what, part, most in (("training", train, limit), ("held-out", val, min(MAX_VAL, limit))):
        if len(part) > most:
            notes.append(f"{most} of {len(part)} {what} images used, an even share of every class")
    return classes, _thinned(train, limit), _thinned(val, min(MAX_VAL, limit)), notes


def _first_folder(root: Path, names: Iterable[str]) -> Path | None:
    return next((root / name for name in names if (root / name).is_dir()), None)


def _classes(folder: Path, root: Path) -> tuple[tuple[str, ...], list[_File]]:
    """The names of the subfolders that hold images, and those images, both sorted by name."""
    suffixes = _suffixes()
    images: dict[str, list[Path]] = {}
    seen = 0
    for sub in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
        paths: list[Path] = []
        for here, folders, names in os.walk(sub):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            paths += [Path(here, name) for name in names if _is_image(name, suffixes)]
            seen += len(names)
            if seen > MAX_FILES:
                raise InputError(f"{folder} holds more than {MAX_FILES:,} files; give a smaller folder")
        if paths:
            images[sub.name] = sorted(paths)
    if not 2 <= len(images) <= MAX_CLASSES:
        raise InputError(
            f"{folder} has {len(images)} subfolder{'s' if len(images) != 1 else ''} with images; 2 to {MAX_CLASSES} "
            f"are required, one per class, each with at least {MIN_TRAIN + MIN_VAL} images"
        )
    files = [
        _File(path, label, path.relative_to(root).as_posix())
        for label, paths in enumerate(images.values())
        for path in paths
    ]
    return tuple(images), files


@cache
def _suffixes() -> frozenset[str]:
    return frozenset(end for end, kind in Image.registered_extensions().items() if kind in _formats())


@cache
def _formats() -> tuple[str, ...]:
    Image.init()
    kinds = [kind for kind in Image.OPEN if kind not in _REFUSED]
    return tuple(sorted(kinds, key=lambda kind: kind not in ("JPEG", "PNG")))  # tried in this order


def _is_image(name: str, suffixes: frozenset[str]) -> bool:
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in suffixes


def _by_class(files: Sequence[_File]) -> list[list[_File]]:
    """The files of each class, shuffled in an order that depends on their names alone."""
    classes: dict[int, list[_File]] = {}
    for file in files:
        classes.setdefault(file.label, []).append(file)
    return [sorted(part, key=lambda file: hashlib.blake2b(file.name.encode()).digest()) for part in classes.values()]


def _held_out(files: list[_File], classes: int) -> tuple[list[_File], list[_File]]:
    """Training and held-out files: the same share of every class is held out, at most `MAX_VAL` in all."""
    share = min(VAL_SHARE, MAX_VAL / len(files))
    train: list[_File] = []
    val: list[_File] = []
    for part in _by_class(files):
        count = min(len(part), max(MIN_VAL, round(len(part) * share)))
        val += part[:count]
        train += part[count:]
    return train, val


def _thinned(files: list[_File], limit: int) -> list[_File]:
    """At most `limit` files, an even share of every class, sorted by name."""
    if len(files) > limit:
        classes = _by_class(files)
        kept = [part[: max(1, limit * len(part) // len(files))] for part in classes]
        files = [file for part in kept for file in part]
    return sorted(files, key=lambda file: file.name)


def _check_counts(root: Path, classes: tuple[str, ...], train: list[_File], val: list[_File], split: bool) -> None:
    for what, files, least in (("training", train, MIN_TRAIN), ("held-out", val, MIN_VAL)):
        counts = np.bincount([file.label for file in files], minlength=len(classes))
        if counts.min() < least:
            label, total, kind = int(counts.argmin()), int(counts.min()), f"{what} images"
            if split:  # the reader divided the class; report it whole
                total = sum(file.label == label for file in train + val)
                kind, least = "images", MIN_TRAIN + MIN_VAL
            raise InputError(
                f"class {classes[label]!r} in {root} has {total} {kind}; at least {least} per class are required"
            )


def _parallel(
    function: Callable[[T], R], items: Sequence[T], files: Sequence[_File], progress: Step, text: str
) -> Iterator[R]:
    """`function` of every item, in order; large files are decoded in parallel threads.

    For small files the Python code around the decoder is most of the work, and threads block each other: on two cores
    50,000 JPEG files of 32 px took 12 s in one thread and 25 s in two.
    """
    sample = files[:: max(1, len(files) // 64)]
    large = sum(file.path.stat().st_size for file in sample if file.path.is_file()) > SMALL_FILE_BYTES * len(sample)
    with ThreadPoolExecutor(usable_cores() if large else 1) as threads:
        results = threads.map(function, items) if large else map(function, items)
        for done, result in enumerate(results, start=1):
            if done % 100 == 0 or done == len(items):
                progress(done, len(items), text)
            yield result


def _hash(path: Path) -> str:
    """Hash of a file's content, or, if it cannot be read, the kind of fault, so that equal faults give equal keys."""
    try:
        return hashlib.blake2b(_bytes(path), digest_size=16).hexdigest()
    except (OSError, ValueError) as error:
        return type(error).__name__


def _bytes(path: Path) -> bytes:
    if not path.is_file() and path.exists():  # opening a FIFO would wait for a writer
        raise ValueError("not a regular file")
    with path.open("rb") as file:
        data = file.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise ValueError(f"larger than {MAX_FILE_BYTES >> 20} MiB")
    return data


def _decoded(
    root: Path, classes: tuple[str, ...], train: list[_File], val: list[_File], notes: list[str], size: int, key: str,
    progress: Step,
) -> ImageData:  # fmt: skip
    files = train + val
    images = np.empty((len(files), size, size, 3), np.uint8)

    def decode_into(at: int) -> str | None:
        try:
            images[at] = decode(_bytes(files[at].path), size)
        except Exception as error:  # Pillow's plug-ins raise anything on broken files
            reason = "not an image" if isinstance(error, UnidentifiedImageError) else one_line(error, 80)
            return f"{one_line(files[at].name)} ({reason})"
        return None

    faults = list(_parallel(decode_into, range(len(files)), files, progress, "decoding images"))
    good = np.array([fault is None for fault in faults])
    notes = notes + _unreadable([fault for fault in faults if fault], len(files), root)
    labels = np.array([file.label for file in files], np.int64)
    is_train = np.arange(len(files)) < len(train)
    train_at, val_at = good & is_train, good & ~is_train
    return ImageData(
        name=_title(root.resolve()),
        classes=classes,
        train_images=images[train_at],
        train_labels=labels[train_at],
        val_images=images[val_at],
        val_labels=labels[val_at],
        key=key,
        notes=tuple(notes),
    )


def _unreadable(faults: list[str], count: int, root: Path) -> list[str]:
    if not faults:
        return []
    named = "; ".join(faults[:3]) + ("; …" if len(faults) > 3 else "")
    text = f"{len(faults)} of {count} files cannot be read: {named}"
    if len(faults) > MAX_BAD_SHARE * count:
        raise InputError(f"{root}: {text}; at most {MAX_BAD_SHARE:.0%} may be unreadable: repair or remove them")
    return [f"{text}; they are left out"]


def decode(data: bytes, size: int) -> NDArray[np.uint8]:
    """Decode an image file, turn it upright, and resize its middle square.

    Args:
        data: content of the file.
        size: side of the result in pixels.

    Returns:
        uint8 (size, size, 3), RGB.

    Raises:
        ValueError, OSError, and whatever a plug-in of Pillow raises: broken, truncated, or too many pixels.
    """
    with Image.open(io.BytesIO(data), formats=_formats()) as image:
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise ValueError(f"{width} x {height} is more than {MAX_PIXELS:,} pixels")
        image.draft("RGB", (2 * size, 2 * size))  # JPEG decodes at a half, quarter or eighth where that suffices
        return as_square(ImageOps.exif_transpose(image), size)


def as_square(image: Image.Image, size: int) -> NDArray[np.uint8]:
    """The middle square of an image of any mode, resized; uint8 (size, size, 3), RGB."""
    side, (width, height) = min(image.size), image.size
    left, top = (width - side) / 2, (height - side) / 2
    rgb = as_rgb(image)
    if rgb.size != (size, size):
        box = (left, top, left + side, top + side)
        rgb = rgb.resize((size, size), Image.Resampling.BILINEAR, box, reducing_gap=2.0)
    return np.asarray(rgb, np.uint8)


def as_rgb(image: Image.Image) -> Image.Image:
    """Convert any mode to RGB: 16 and 32 bits are scaled to 8, transparency shows mid-grey."""
    if image.mode.startswith(("I", "F")):
        values = np.asarray(image, np.float64)
        if not np.isfinite(values).all():
            raise ValueError("some pixels are not finite numbers")
        high = 65535.0 if image.mode.startswith("I;16") or values.max() > 255 else 255.0
        if image.mode == "F" and values.max() <= 1:
            high = 1.0
        return Image.fromarray((values.clip(0, high) * (255 / high)).round().astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        layer = image.convert("RGBA")
        ground = Image.new("RGBA", layer.size, (128, 128, 128, 255))
        return Image.alpha_composite(ground, layer).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _title(root: Path) -> str:
    """The folder's name, preceded by its parent's where it says little by itself."""
    return f"{root.parent.name}/{root.name}" if root.name in ("train", "images", "data") else root.name
