"""Divides files into training and held-out ones, with the copies of an image on one side."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from nas.data.dataset import MAX_VAL
from nas.data.layout import MIN_TRAIN, MIN_VAL, File
from nas.data.names import shown, some
from nas.system.errors import InputError

VAL_SHARE = 0.2


def by_class(files: Sequence[File]) -> list[list[File]]:
    """The files of each class, shuffled in an order that depends on their names alone."""
    classes: dict[int, list[File]] = {}
    for file in files:
        classes.setdefault(file.label, []).append(file)
    return [sorted(part, key=_shuffled) for part in classes.values()]


def _shuffled(file: File) -> bytes:
    return hashlib.blake2b(file.name.encode("utf-8", "surrogateescape")).digest()


def held_out(files: Sequence[File]) -> tuple[list[File], list[File]]:
    """Training and held-out files: the same share of every class is held out, at most `MAX_VAL` in all."""
    share = min(VAL_SHARE, MAX_VAL / len(files))
    train: list[File] = []
    val: list[File] = []
    for part in by_class(files):
        count = min(len(part), max(MIN_VAL, round(len(part) * share)))
        val += part[:count]
        train += part[count:]
    return train, val


def thinned(files: list[File], limit: int) -> list[File]:
    """At most `limit` files, an even share of every class, sorted by name."""
    if len(files) > limit:
        classes = by_class(files)
        kept = [part[: max(1, limit * len(part) // len(files))] for part in classes]
        files = [file for part in kept for file in part]
    return sorted(files, key=lambda file: file.name)


def check_counts(
    root: Path, classes: Sequence[str], train: Sequence[File], val: Sequence[File], *, split: bool, why: str = ""
) -> None:
    """Check that every class has enough images.

    Args:
        root: data folder.
        classes: names of the classes.
        train: training files.
        val: held-out files.
        split: whether `nas` divided the classes; they are then reported whole.
        why: which images were left out before, and why; empty if none.

    Raises:
        InputError: a class has too few.
    """
    for what, files, least in (("training", train, MIN_TRAIN), ("held-out", val, MIN_VAL)):
        counts = np.bincount([file.label for file in files], minlength=len(classes))
        if counts.min() < least:
            label, total, kind = int(counts.argmin()), int(counts.min()), f"{what} images"
            if split:
                total = sum(file.label == label for file in (*train, *val))
                kind, least = "images", MIN_TRAIN + MIN_VAL
            raise InputError(
                f"class {classes[label]!r} in {shown(str(root))} has {total} {kind}; at least {least} per class "
                f"are required{why and f' ({why})'}"
            )


def without_copies(
    train: list[File], val: list[File], contents: Mapping[str, str], classes: Sequence[str], *, split: bool
) -> tuple[list[File], list[File], list[str]]:
    """Keep the copies of an image on one side, and leave out images with two labels.

    Args:
        train: training files.
        val: held-out files.
        contents: hash of a file's content by its name; files that cannot be compared are absent.
        classes: names of the classes.
        split: whether `nas` divided the files; copies are then moved to one side. In a given split, held-out copies of
            training images are left out.

    Returns:
        Training files, held-out files, and notes on what was moved or left out.
    """
    notes: list[str] = []
    labels: dict[str, set[int]] = defaultdict(set)
    for file in (*train, *val):
        if file.name in contents:
            labels[contents[file.name]].add(file.label)
    if unclear := {content for content, found in labels.items() if len(found) > 1}:
        conflicting = [file for file in (*train, *val) if contents.get(file.name) in unclear]
        conflicting.sort(key=lambda file: (contents[file.name], file.name))
        notes.append(
            f"{len(conflicting)} files have the same content under different labels and are left out: "
            f"{some([file.name for file in conflicting], 4)}"
        )
        train, val = ([f for f in files if contents.get(f.name) not in unclear] for files in (train, val))
    trained = {contents[file.name] for file in train if file.name in contents}
    copies = [file for file in val if contents.get(file.name) in trained]
    if split and (copies or lacking(val, len(classes))):
        train, val = held_out_whole(train, val, contents)
    if split and copies:
        notes.append(
            f"{len(copies)} held-out images had copies among the training images; all copies of an image are now on "
            f"one side, which leaves {len(val)} held out: {some([file.name for file in copies])}"
        )
    elif copies:
        val = [file for file in val if contents.get(file.name) not in trained]
        notes.append(
            f"{len(copies)} held-out images are copies of training images and are left out: "
            f"{some([file.name for file in copies])}"
        )
    return train, val, notes


def lacking(val: Sequence[File], classes: int) -> bool:
    """Whether a class has fewer held-out images than it needs."""
    return bool(np.bincount([file.label for file in val], minlength=classes).min() < MIN_VAL)


def held_out_whole(
    train: Sequence[File], val: Sequence[File], contents: Mapping[str, str]
) -> tuple[list[File], list[File]]:
    """Divide again: as many files of each class are held out, but at least `MIN_VAL`, as far as all copies of an image
    fit."""
    wanted = Counter(file.label for file in val)
    now_train: list[File] = []
    now_val: list[File] = []
    for part in by_class([*train, *val]):
        groups: dict[str, list[File]] = {}
        for file in part:
            groups.setdefault(contents.get(file.name, f"only {file.name}"), []).append(file)
        room = max(MIN_VAL, wanted[part[0].label])
        for group in groups.values():
            (now_val if len(group) <= room else now_train).extend(group)
            room -= len(group) if len(group) <= room else 0
    return sorted(now_train, key=lambda file: file.name), sorted(now_val, key=lambda file: file.name)
