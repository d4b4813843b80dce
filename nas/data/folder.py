"""Images in folders, one per class, of any size, mode and format Pillow reads, to one uint8 array."""

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

from nas.data.dataset import ImageData, cached, content_key
from nas.system.errors import InputError
from nas.system.machine import usable_cores
from nas.system.progress import Step

MIN_TRAIN, MIN_VAL = 8, 2  # images per class
VAL_SHARE = 0.2
MAX_VAL = 10_000
MAX_BAD_SHARE = 0.01
MAX_FILE_BYTES = 64 << 20
SMALL_FILE_BYTES = 16 << 10
MAX_PIXELS = 80_000_000
MAX_FILES = 5_000_000
MAX_CLASSES = 10_000
TRAIN_NAMES = ("train", "training")
VAL_NAMES = ("val", "valid", "validation", "test")
# Formats whose Pillow plug-in starts another program or only hands the file on.
_REFUSED = frozenset({"EPS", "WMF", "BUFR", "GRIB", "HDF5", "MPEG", "FITS"})

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class _File:
    path: Path
    label: int
    name: str  # relative to the data folder, with forward slashes: the same on every machine


def load(root: Path, size: int, progress: Step | None, limit: int) -> ImageData:
    """Read a folder with one subfolder per class, or ``train/`` and ``val/`` of those; see `nas.data.load.load_data`.

    Without ``val/`` a fifth of every class, chosen by file name, is held out. Hidden files and files that are no
    images by their ending are passed over; the first image of an animation counts.

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
    """Class names, the files to train on, the files to hold out, and what was cut."""
    train_root = _first_folder(root, TRAIN_NAMES)
    val_root = _first_folder(root, VAL_NAMES) if train_root else None
    classes, files = _classes(train_root or root, root)
    notes: list[str] = []
    if val_root:
        names, found = _classes(val_root, root)
        if unknown := sorted(set(names) - set(classes)):
            raise InputError(f"{val_root} has the class {unknown[0]!r}, which {train_root} has not; both need the same")
        val = [_File(file.path, classes.index(names[file.label]), file.name) for file in found]
        train = files
    else:
        train, val = _held_out(files, len(classes))
        notes.append(f"{len(val)} of {len(files)} images held out, a share of every class, by file name")
    _check_counts(root, classes, train, val, split=val_root is None)
    for what, part, most in (("training", train, limit), ("held-out", val, min(MAX_VAL, limit))):
        if len(part) > most:
            notes.append(f"{most} of {len(part)} {what} images used, an even share of every class")
    return classes, _thinned(train, limit), _thinned(val, min(MAX_VAL, limit)), notes


def _first_folder(root: Path, names: Iterable[str]) -> Path | None:
    return next((root / name for name in names if (root / name).is_dir()), None)


def _classes(folder: Path, root: Path) -> tuple[tuple[str, ...], list[_File]]:
    """The subfolders that hold images, and those images; sorted by name."""
    suffixes = _suffixes()
    found: dict[str, list[Path]] = {}
    seen = 0
    for sub in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
        paths: list[Path] = []
        for here, folders, names in os.walk(sub):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            paths += [Path(here, name) for name in names if _is_image(name, suffixes)]
            seen += len(names)
            if seen > MAX_FILES:
                raise InputError(f"{folder} holds more than {MAX_FILES} files; give a smaller folder")
        if paths:
            found[sub.name] = sorted(paths)
    if not 2 <= len(found) <= MAX_CLASSES:
        raise InputError(
            f"{folder} has {len(found)} subfolder{'s' if len(found) != 1 else ''} with images; "
            f"needed are 2 to {MAX_CLASSES}, one per class, with at least {MIN_TRAIN + MIN_VAL} images each"
        )
    files = [
        _File(path, label, path.relative_to(root).as_posix())
        for label, paths in enumerate(found.values())
        for path in paths
    ]
    return tuple(found), files


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
    """The files of each class in an order that depends on their names alone and follows no pattern in them."""
    classes: dict[int, list[_File]] = {}
    for file in files:
        classes.setdefault(file.label, []).append(file)
    return [sorted(part, key=lambda file: hashlib.blake2b(file.name.encode()).digest()) for part in classes.values()]


def _held_out(files: list[_File], classes: int) -> tuple[list[_File], list[_File]]:
    """Training and held-out files: the same share of every class, at most `MAX_VAL` in all."""
    share = min(VAL_SHARE, MAX_VAL / len(files))
    train: list[_File] = []
    val: list[_File] = []
    for part in _by_class(files):
        count = min(len(part), max(MIN_VAL, round(len(part) * share)))
        val += part[:count]
        train += part[count:]
    return train, val


def _thinned(files: list[_File], limit: int) -> list[_File]:
    """At most `limit` files, an even share of every class; in the order of their names."""
    if len(files) > limit:
        classes = _by_class(files)
        kept = [part[: max(1, limit * len(part) // len(files))] for part in classes]
        files = [file for part in kept for file in part]
    return sorted(files, key=lambda file: file.name)


def _check_counts(root: Path, classes: tuple[str, ...], train: list[_File], val: list[_File], split: bool) -> None:
    for what, files, least in (("training", train, MIN_TRAIN), ("held-out", val, MIN_VAL)):
        counts = np.bincount([file.label for file in files], minlength=len(classes))
        if counts.min() < least:
            name, total = classes[int(counts.argmin())], int(counts.min())
            if split:
                total = sum(1 for file in train + val if file.label == int(counts.argmin()))
                raise InputError(
                    f"class {name!r} of {root} has {total} images; needed are at least {MIN_TRAIN + MIN_VAL} per class"
                )
            raise InputError(f"class {name!r} of {root} has {total} {what} images; needed are at least {least}")


def _parallel(
    function: Callable[[T], R], items: Sequence[T], files: Sequence[_File], progress: Step | None, text: str
) -> Iterator[R]:
    """`function` of every item, in order, in threads, which decode side by side where files are large. Of small files
    the Python around the decoder is most of the work, and threads get in each other's way: on two cores 50,000 JPEG
    files of 32 px took 12 s in one thread and 25 s in two.
    """
    sample = files[:: max(1, len(files) // 64)]
    large = sum(file.path.stat().st_size for file in sample if file.path.is_file()) > SMALL_FILE_BYTES * len(sample)
    with ThreadPoolExecutor(usable_cores() if large else 1) as threads:
        results = threads.map(function, items) if large else map(function, items)
        for done, result in enumerate(results, start=1):
            if progress and (done % 100 == 0 or done == len(items)):
                progress(done, len(items), text)
            yield result


def _hash(path: Path) -> str:
    """Of the content; of a file that cannot be read, the kind of fault: the same fault gives the same key."""
    try:
        return hashlib.blake2b(_bytes(path), digest_size=16).hexdigest()
    except (OSError, ValueError) as error:
        return type(error).__name__


def _bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        if not path.is_file():
            raise ValueError("not a plain file")
        data = file.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise ValueError(f"larger than {MAX_FILE_BYTES >> 20} MiB")
    return data


def _decoded(
    root: Path, classes: tuple[str, ...], train: list[_File], val: list[_File], notes: list[str], size: int, key: str,
    progress: Step | None,
) -> ImageData:  # fmt: skip
    files = train + val
    images = np.empty((len(files), size, size, 3), np.uint8)

    def decode_into(at: int) -> str | None:
        try:
            images[at] = decode(_bytes(files[at].path), size)
        except Exception as error:  # Pillow's plug-ins raise anything on broken files
            reason = "not an image" if isinstance(error, UnidentifiedImageError) else f"{error}" or type(error).__name__
            return f"{files[at].name} ({reason:.80})"
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
        raise InputError(f"{root}: {text}; more than {MAX_BAD_SHARE:.0%} is too many: repair or remove them")
    return [f"{text}; left out"]


def decode(data: bytes, size: int) -> NDArray[np.uint8]:
    """One image file to RGB: turned upright, the middle square, resized; uint8 (size, size, 3).

    Raises:
        ValueError, OSError, and whatever a plug-in raises: broken, truncated or too many pixels.
    """
    with Image.open(io.BytesIO(data), formats=_formats()) as image:
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise ValueError(f"{width} x {height} pixels are more than {MAX_PIXELS:,}")
        image.draft("RGB", (2 * size, 2 * size))  # JPEG decodes at a half, quarter or eighth where that suffices
        return as_square(ImageOps.exif_transpose(image), size)


def as_square(image: Image.Image, size: int) -> NDArray[np.uint8]:
    """The middle square of an image of any mode, resized, as RGB; uint8 (size, size, 3)."""
    side, (width, height) = min(image.size), image.size
    left, top = (width - side) / 2, (height - side) / 2
    rgb = as_rgb(image)
    if rgb.size != (size, size):
        box = (left, top, left + side, top + side)
        rgb = rgb.resize((size, size), Image.Resampling.BILINEAR, box, reducing_gap=2.0)
    return np.asarray(rgb, np.uint8)


def as_rgb(image: Image.Image) -> Image.Image:
    """Any mode to RGB: 16 and 32 bit scaled to 8, transparency over mid-grey."""
    if image.mode.startswith(("I", "F")):
        values = np.asarray(image, np.float64)
        if not np.isfinite(values).all():
            raise ValueError("pixels that are no numbers")
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
    """The folder's name, with its parent's where it says little by itself."""
    return f"{root.parent.name}/{root.name}" if root.name in ("train", "images", "data") else root.name
