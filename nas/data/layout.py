"""Finds the classes and the splits of a folder of images."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nas.data.images import HEIF_SUFFIXES, has_heif, suffixes
from nas.data.names import name_of, shown, some
from nas.system.errors import InputError
from nas.system.extras import pip_command

MIN_TRAIN, MIN_VAL = 8, 2  # images per class
MAX_FILES = 5_000_000
MAX_CLASSES = 10_000
SHOWN_CLASSES = 5
# Names of splits, without case and punctuation.
TRAIN_NAMES = ("train", "training", "trn", "trainset", "trainingset", "traindata", "trainingdata", "trainimages")
VAL_NAMES = (
    *("val", "valid", "validation", "dev", "valset", "validset", "validationset", "devset", "valdata"),
    *("validationdata", "valimages", "eval", "evaluation", "evalset", "holdout", "heldout"),
)
TEST_NAMES = ("test", "testing", "tst", "testset", "testingset", "testdata", "testingdata", "testimages")
# Images that Pillow does not read, or only with a plug-in.
FOREIGN = HEIF_SUFFIXES | {
    *(".jxl", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf", ".raw"),
    *(".svg", ".dcm", ".nii", ".npy", ".mat", ".exr", ".eps", ".fits", ".fit", ".hdr"),
}


@dataclass(frozen=True)
class File:
    """One image file of a set.

    Args:
        path: where it is.
        label: index of its class.
        name: path relative to the data folder, with forward slashes: the same on every machine.
    """

    path: Path
    label: int
    name: str


@dataclass(frozen=True)
class Layout:
    """The classes of a folder and their files.

    Args:
        classes: names of the classes, sorted as text.
        train: training files; all files without `val`.
        val: files of the held-out split; None if the folder has none.
        notes: what was not used.
    """

    classes: tuple[str, ...]
    train: list[File]
    val: list[File] | None
    notes: list[str]


@dataclass
class _Sub:
    """A subfolder that may be a class."""

    path: Path
    name: str
    images: list[Path] = field(default_factory=list)
    others: list[str] = field(default_factory=list)  # suffixes of files that are no images
    foreign: list[Path] = field(default_factory=list)  # images that cannot be read
    unread: list[str] = field(default_factory=list)  # folders that were not entered


def read_layout(root: Path) -> Layout:
    """The classes of a folder, with its split into training and held-out images if it has one.

    A split is a subfolder with a common name, in any case, that itself has subfolders with images.

    Raises:
        InputError: the folder cannot be listed, or does not have 2 classes or more; its classes look like splits; the
            files of a class cannot be read.
    """
    try:
        splits = _splits(root)
        train_root = next((path for names, path in splits if names is TRAIN_NAMES), None)
        if train_root is None:
            return _flat(root)
        subs = _subs(train_root)
        classes, notes = _checked(subs, train_root)
        train = _files(subs, classes, root)
        val_root, val = None, None
        for _, path in sorted(splits, key=lambda split: split[0] is TEST_NAMES):
            if path is train_root or val_root is not None:
                continue
            val_subs = _subs(path)
            _check_readable(val_subs, path)
            held_out = [sub.name for sub in val_subs if sub.images]
            unknown = sorted(set(held_out) - set(classes))
            if len(held_out) == 1 and unknown:  # without labels
                continue
            if unknown:
                raise InputError(
                    f"{shown(str(path))} has the class {unknown[0]!r}, but {shown(str(train_root))} does not; both "
                    "need the same classes"
                )
            val_root, val = path, _files(val_subs, classes, root)
            notes += _ignored(val_subs, path, root)
    except OSError as error:
        raise InputError(f"{shown(str(root))} cannot be read: {error.strerror}") from None
    used = {train_root, val_root}
    unused = [name_of(path.name) for path in _folders(root) if path not in used and _has_images(path)]
    if val_root is not None:
        notes.append(f"training images from {_name(train_root)}, held-out images from {_name(val_root)}")
    else:
        notes.append(f"training and held-out images from {_name(train_root)}")
    if unused:
        notes.append(f"not used: {', '.join(shown(name) for name in unused[:10])}{', …' if len(unused) > 10 else ''}")
    return Layout(classes, train, val, notes + _loose(root))


def _name(path: Path) -> str:
    return shown(name_of(path.name)) + "/"


def _flat(root: Path) -> Layout:
    subs = _subs(root)
    _check_not_splits(subs, root)
    classes, notes = _checked(subs, root)
    return Layout(classes, _files(subs, classes, root), None, notes + _loose(root))


def _folders(folder: Path) -> list[Path]:
    found = [path for path in folder.iterdir() if not path.name.startswith(".") and path.is_dir()]
    return sorted(found, key=lambda path: name_of(path.name))


def _splits(root: Path) -> list[tuple[tuple[str, ...], Path]]:
    """The splits of a folder with their kind of name, the most usual names first."""
    plain = {path: "".join(filter(str.isalnum, path.name.casefold())) for path in _folders(root)}
    return [
        (names, path)
        for names in (TRAIN_NAMES, VAL_NAMES, TEST_NAMES)
        for name in names
        for path, found in plain.items()
        if found == name and _has_classes(path)
    ]


def _has_classes(folder: Path) -> bool:
    """Whether a folder has subfolders with images rather than images itself: a split, not a class."""
    inside = sum(map(_has_images, _folders(folder)))
    return inside > 0 and sum(_is_image(path.name) for path in folder.iterdir() if path.is_file()) <= inside


def _has_images(folder: Path) -> bool:
    return any(_is_image(name) for _, _, names in os.walk(folder) for name in names)


def _is_image(name: str) -> bool:
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in suffixes()


def _subs(folder: Path) -> list[_Sub]:
    """The subfolders of a folder, sorted by name, with their files."""
    found = []
    seen = 0
    for path in _folders(folder):
        sub = _Sub(path, name_of(path.name))
        for here, folders, names in os.walk(path, onerror=lambda error: sub.unread.append(error.filename)):  # noqa: B023
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            sub.unread += [os.path.join(here, name) for name in folders if os.path.islink(os.path.join(here, name))]
            _sort(sub, here, [name for name in names if not name.startswith(".")])
            seen += len(names)
            if seen > MAX_FILES:
                raise InputError(f"{shown(str(folder))} holds more than {MAX_FILES:,} files; give a smaller folder")
        found.append(sub)
    return found


def _sort(sub: _Sub, here: str, names: Sequence[str]) -> None:
    """Sort the files of one folder into images, images that cannot be read, and others."""
    stems = set()
    rest = []
    for name in names:
        if _is_image(name):
            sub.images.append(Path(here, name))
            stems.add(os.path.splitext(name)[0])
        else:
            rest.append(name)
    for name in rest:
        stem, suffix = os.path.splitext(name)
        if suffix.lower() in FOREIGN and stem not in stems:  # a raw file beside its JPEG is not missed
            sub.foreign.append(Path(here, name))
        else:
            sub.others.append(suffix.lower())


def _files(subs: Sequence[_Sub], classes: Sequence[str], root: Path) -> list[File]:
    labels = {name: at for at, name in enumerate(classes)}
    return [
        File(path, labels[sub.name], name_of(path.relative_to(root).as_posix()))
        for sub in subs
        if sub.images
        for path in sorted(sub.images)
    ]


def _checked(subs: Sequence[_Sub], folder: Path) -> tuple[tuple[str, ...], list[str]]:
    """The names of the classes, and notes on what is none."""
    _check_readable(subs, folder)
    classes = tuple(sub.name for sub in subs if sub.images)
    if not 2 <= len(classes) <= MAX_CLASSES:
        inner = [path for sub in subs[:10] if sub.images for path in [sub.path] if _has_classes(path)]
        hint = f"; give {shown(str(inner[0]))} if its subfolders are the classes" if len(inner) == 1 else ""
        raise InputError(
            f"{shown(str(folder))} has {len(classes)} subfolder{'s' if len(classes) != 1 else ''} with images; 2 to "
            f"{MAX_CLASSES} are required, one per class, each with at least {MIN_TRAIN + MIN_VAL} images{hint}"
        )
    return classes, _ignored(subs, folder, folder)


def _check_readable(subs: Sequence[_Sub], folder: Path) -> None:
    for sub in subs:
        if sub.foreign and not sub.images:
            raise InputError(f"class {sub.name!r} in {shown(str(folder))} cannot be read: {_foreign([sub])}")


def _ignored(subs: Sequence[_Sub], folder: Path, root: Path) -> list[str]:
    """Notes on folders and files that are not used."""
    notes = []
    where = "" if folder == root else f" in {_name(folder)}"
    if empty := [sub for sub in subs if not sub.images]:
        named = ", ".join(shown(sub.name) + (f" (only {_counts(sub.others)})" if sub.others else "") for sub in empty)
        notes.append(f"folders without images{where} get no label: {named}")
    if count := sum(len(sub.foreign) for sub in subs):
        total = count + sum(len(sub.images) for sub in subs)
        text = f"{count} of {total} images{where} cannot be read: {_foreign(subs)}"
        if too_many(count, total):
            raise InputError(f"{shown(str(folder))}: {text}")
        notes.append(f"{text}; they are left out")
    if others := [end for sub in subs if sub.images for end in sub.others]:
        notes.append(f"files{where} that are not images are ignored: {_counts(others)}")
    if unread := [name_of(path) for sub in subs for path in sub.unread]:
        notes.append(f"{len(unread)} folders{where} are links or cannot be read, and are not used: {some(unread)}")
    return notes


def too_many(unreadable: int, total: int) -> bool:
    """Whether so many files cannot be read that something is wrong with the whole set."""
    return unreadable > max(10, total / 10)


def _counts(ends: Sequence[str]) -> str:
    return ", ".join(f"{shown(end, 12) or 'no suffix'} ({count})" for end, count in Counter(ends).most_common(5))


def _foreign(subs: Sequence[_Sub]) -> str:
    """Which files cannot be read, and what to do."""
    paths = [path for sub in subs for path in sub.foreign]
    heif = all(path.suffix.lower() in HEIF_SUFFIXES for path in paths)
    remedy = pip_command("heif") if heif and not has_heif() else "convert them to JPEG or PNG"
    return f"{_counts([path.suffix.lower() for path in paths])}, such as {shown(name_of(paths[0].name))}; {remedy}"


def _loose(folder: Path) -> list[str]:
    count = sum(_is_image(path.name) for path in folder.iterdir() if path.is_file())
    return [f"{count} images beside the class folders are not used"] if count else []


def _leaves(sub: _Sub) -> set[str]:
    """The names of the folders that hold its images."""
    return {name_of(path.parent.name) for path in sub.images}


def _check_not_splits(subs: Sequence[_Sub], root: Path) -> None:
    """Two classes with the same subfolders are splits whose names are unknown: the network would learn which split an
    image is from."""
    leaves = [(sub, _leaves(sub)) for sub in subs if not any(path.parent == sub.path for path in sub.images)]
    for one, other, shared, union in _pairs(leaves):
        if len(shared) >= 2 and 2 * len(shared) >= len(union):
            names = ", ".join(shown(name) for name in sorted(shared)[:SHOWN_CLASSES])
            raise InputError(
                f"{shown(one.name)} and {shown(other.name)} in {shown(str(root))} hold the same subfolders ({names}): "
                "rename them to train and val if they are splits; put their images directly into them if they are "
                "classes"
            )


def _pairs(leaves: Sequence[tuple[_Sub, set[str]]]) -> Iterator[tuple[_Sub, _Sub, set[str], set[str]]]:
    """Every folder with the one before it and with the first: enough, since splits are few."""
    for at, (sub, names) in enumerate(leaves):
        for other, others in {id(leaves[i][0]): leaves[i] for i in (0, at - 1) if 0 <= i < at}.values():
            yield other, sub, names & others, names | others
