"""What the cache folder holds, and how it is cleared. Everything in it can be measured, made or downloaded again."""

from __future__ import annotations

import os
import re
import shutil
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import time
from uuid import uuid4

from nas.system.errors import InputError, known
from nas.system.files import cache_root

_SETS = "cifar10|cifar100|mnist|fashion_mnist|kmnist|svhn|stl10|gtsrb|dtd|flowers102|food101|oxford_pets|imagenette"
LEFTOVER_S = 86400.0  # an unfinished entry untouched for a day: the process that was writing it is gone


@dataclass(frozen=True, slots=True)
class Kind:
    """One folder of the cache.

    Args:
        name: name of the folder.
        about: what it holds.
        pattern: names of its entries. Anything else in the folder is not ours, and left alone.
    """

    name: str
    about: str
    pattern: str


KINDS = (
    Kind("anchor", "usual speed of this machine", r"[0-9a-f]{16}\.json"),
    Kind("check", "trainings of nas accuracy check", r"(recommended-)?[0-9a-f]{24}\.json|[0-9a-f]{24}\.safetensors"),
    Kind("data", "decoded images", r"[0-9a-f]{16}"),
    Kind("downloads", "public data sets", _SETS),
    Kind("latency", "latency tables", r"(agent-)?[0-9a-f]{24}(\.\d+\.part)?\.json"),
    Kind("weights", "published weights", r"[0-9a-f]{12}"),
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One file or folder of the cache, which is complete or absent.

    Args:
        kind: name of its `Kind`.
        path: where it is.
        size: bytes of all its files.
        modified: when any of it last changed, in seconds since 1970.
    """

    kind: str
    path: Path
    size: int
    modified: float


def entries(kinds: Sequence[str] = (), older_than_s: float = 0.0) -> list[Entry]:
    """What the cache holds, in order of kind and name. Symbolic links are not followed.

    Args:
        kinds: names of kinds; empty is all.
        older_than_s: only entries that did not change for this many seconds.

    Raises:
        InputError: there is no such kind.
    """
    names = [kind.name for kind in KINDS]
    for name in kinds:
        if name not in names:
            raise InputError(f"the cache has no kind {name!r:.80}; {known(names)}")
    now = time()
    return [
        entry
        for kind in KINDS
        if not kinds or kind.name in kinds
        for entry in _entries(kind, now)
        if now - entry.modified >= older_than_s
    ]


def _entries(kind: Kind, now: float) -> Iterator[Entry]:
    folder = cache_root() / kind.name
    if folder.is_symlink() or not folder.is_dir():
        return
    for path in sorted(folder.iterdir()):
        leftover = re.fullmatch(rf"\.({kind.pattern})\.\w+", path.name) is not None
        if not leftover and not re.fullmatch(kind.pattern, path.name):
            continue
        try:
            size, modified = _size_and_time(path)
        except FileNotFoundError:  # another process has just removed it
            continue
        if not path.is_symlink() and (not leftover or now - modified >= LEFTOVER_S):
            yield Entry(kind.name, path, size, modified)


def _size_and_time(path: Path) -> tuple[int, float]:
    parts = [path.lstat()]
    if stat.S_ISDIR(parts[0].st_mode):
        parts += [
            (Path(folder) / name).lstat() for folder, folders, files in os.walk(path) for name in [*folders, *files]
        ]
    return sum(part.st_size for part in parts if stat.S_ISREG(part.st_mode)), max(part.st_mtime for part in parts)


def remove(entry: Entry) -> None:
    """Remove an entry in one step: other processes find it complete or absent, and keep what they have open.

    Raises:
        OSError: it cannot be removed.
    """
    try:
        if not entry.path.is_dir() or entry.path.is_symlink():
            entry.path.unlink()
            return
        doomed = entry.path.with_name(f".{entry.path.name.lstrip('.')}.{uuid4().hex}")
        entry.path.rename(doomed)
    except FileNotFoundError:  # another process was faster
        return
    shutil.rmtree(doomed)
