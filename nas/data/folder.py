"""Reads folders of images, one folder per class, into arrays."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from nas.data.dataset import MAX_VAL, ImageData, cached, content_key
from nas.data.images import Unscaled, decode, fault, needs_scale, quiet_pillow
from nas.data.layout import TEST_NAMES, TRAIN_NAMES, VAL_NAMES, File, read_layout, too_many
from nas.data.names import name_of, shown
from nas.data.scale import scaled
from nas.data.split import check_counts, held_out, held_out_whole, lacking, thinned, without_copies
from nas.system.errors import InputError
from nas.system.machine import usable_cores
from nas.system.progress import Step

MAX_FILE_BYTES = 64 << 20
SMALL_FILE_BYTES = 16 << 10
SCALE_VERSION = "2"  # of the rule that scales 16- and 32-bit images

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class _Set:
    """The files of a data set."""

    root: Path
    classes: tuple[str, ...]
    train: list[File]
    val: list[File]
    split: bool  # whether `nas` chose the held-out files
    contents: Mapping[str, str]  # hash of a file by its name, if it can be compared

    @property
    def files(self) -> list[File]:
        return self.train + self.val


def load(root: Path, size: int, progress: Step, limit: int) -> ImageData:
    """Read a folder of images; see `nas.data.load.load_data`.

    Without a held-out split a fifth of every class, chosen by file name, is held out. Hidden files and files without
    the suffix of an image format are ignored. Of an animation the first frame is used.

    Raises:
        InputError: too few classes or images, or more than 10 files and 10 % of all cannot be read.
    """
    with quiet_pillow():
        layout = read_layout(root)
        val_limit = min(MAX_VAL, limit)
        train, val = held_out(layout.train) if layout.val is None else (layout.train, layout.val)
        split = layout.val is None
        check_counts(root, layout.classes, train, val, split=split)
        notes = list(layout.notes)
        if split:
            total = len(layout.train)
            notes.append(f"{len(val)} of {total} images held out, an even share of every class, chosen by file name")
        for what, part, most in (("training", train, limit), ("held-out", val, val_limit)):
            if len(part) > most:
                notes.append(f"{most} of {len(part)} {what} images used, an even share of every class")
        train, val = thinned(train, limit), thinned(val, val_limit)
        hashes = list(_parallel(_hash, [file.path for file in train + val], train + val, progress, "reading images"))
        found = {file.name: known for file, known in zip(train + val, hashes, strict=True)}
        contents = {name: known.digest for name, known in found.items() if known.comparable}
        train, val, copies = without_copies(train, val, contents, layout.classes, split=split)
        check_counts(
            root, layout.classes, train, val, split=split, why=f"that can be used ({copies[0]})" if copies else ""
        )
        images = _Set(root, layout.classes, train, val, split, contents)
        parts = [f"{file.name} {file.label} {found[file.name].digest}" for file in images.files]
        # Only where it matters, so that runs on 8-bit images made by earlier versions can be resumed.
        version = ["scale", SCALE_VERSION] if any(found[file.name].scaled for file in images.files) else []
        counts = (str(size), str(len(train)), str(limit))
        key = content_key("folder", *counts, *layout.classes, *parts, *version)
        data = cached(key, lambda: _decoded(images, size, key, progress))
    # The cache entry may be of a copy of this folder: its name and its other files are not part of the content.
    return replace(data, name=_title(root), notes=(*notes, *copies, *data.notes))


def _parallel(
    function: Callable[[T], R], items: Sequence[T], files: Sequence[File], progress: Step, text: str
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


@dataclass(frozen=True, slots=True)
class _Content:
    digest: str
    comparable: bool  # whether an equal digest means an equal image
    scaled: bool = False  # whether its pixels need the scale of the set


def _hash(path: Path) -> _Content:
    """Hash of a file's content, or, if it cannot be read, the kind of fault, so that equal faults give equal keys."""
    try:
        data = _bytes(path)
    except (OSError, ValueError) as error:
        return _Content(type(error).__name__, comparable=False)
    return _Content(hashlib.blake2b(data, digest_size=16).hexdigest(), bool(data), needs_scale(data))


def _bytes(path: Path) -> bytes:
    if not path.is_file() and path.exists():  # opening a FIFO would wait for a writer
        raise ValueError("not a regular file")
    with path.open("rb") as file:
        data = file.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise ValueError(f"larger than {MAX_FILE_BYTES >> 20} MiB")
    return data


def _decoded(known: _Set, size: int, key: str, progress: Step) -> ImageData:
    files = known.files
    images = np.empty((len(files), size, size, 3), np.uint8)
    unscaled: dict[int, Unscaled] = {}

    def decode_into(at: int) -> str | None:
        data = b""
        try:
            data = _bytes(files[at].path)
            image = decode(data, size)
        except OSError as error:
            return fault(error, data) if data or error.strerror is None else error.strerror
        except Exception as error:  # Pillow's plug-ins raise anything on broken files
            return fault(error, data or b"?")
        if isinstance(image, Unscaled):
            unscaled[at] = image
        else:
            images[at] = image
        return None

    faults = list(_parallel(decode_into, range(len(files)), files, progress, "decoding images"))
    eight_bit, notes = scaled(unscaled, [file.name for file in files])
    for at, image in eight_bit.items():
        images[at] = image
    bad = {file.name: reason for file, reason in zip(files, faults, strict=True) if reason is not None}
    notes = _unreadable(bad, known) + notes
    train, val = _places(known, bad)
    labels = np.array([file.label for file in files], np.int64)
    return ImageData(
        name=_title(known.root),
        classes=known.classes,
        train_images=images[train],
        train_labels=labels[train],
        val_images=images[val],
        val_labels=labels[val],
        key=key,
        notes=tuple(notes),
    )


def _unreadable(bad: Mapping[str, str], known: _Set) -> list[str]:
    """Notes on the files that cannot be read, by name with the reason."""
    if not bad:
        return []
    text = f"{len(bad)} of {len(known.files)} files cannot be read: {_named(bad)}"
    if too_many(len(bad), len(known.files)):
        raise InputError(
            f"{shown(str(known.root))}: {text}; at most 10 files or 10 % may be unreadable: repair or remove them"
        )
    return [f"{text}; they are left out"]


def _named(bad: Mapping[str, str], most: int = 3) -> str:
    named = [f"{shown(name)} ({reason})" for name, reason in list(bad.items())[:most]]
    return "; ".join([*named, "…"] if len(bad) > most else named)


def _places(known: _Set, bad: Mapping[str, str]) -> tuple[list[int], list[int]]:
    """Where the readable training and held-out files are in `known.files`. Where unreadable files leave too few held
    out of a class, training images take their place.

    Raises:
        InputError: a class has too few readable images.
    """
    train, val = ([file for file in files if file.name not in bad] for files in (known.train, known.val))
    if bad:
        if known.split and lacking(val, len(known.classes)):
            train, val = held_out_whole(train, val, known.contents)
        why = f"cannot be read: {_named(bad)}"
        check_counts(known.root, known.classes, train, val, split=known.split, why=why)
    places = {file.name: at for at, file in enumerate(known.files)}
    return sorted(places[file.name] for file in train), sorted(places[file.name] for file in val)


def _title(root: Path) -> str:
    """The name of the folder that was given, preceded by its parent's where it says little by itself."""
    given = Path(os.path.abspath(root))
    plain = "".join(filter(str.isalnum, given.name.casefold()))
    alone = plain in (*TRAIN_NAMES, *VAL_NAMES, *TEST_NAMES, "images", "data")
    return shown(name_of(f"{given.parent.name}/{given.name}" if alone else given.name or str(given)))
