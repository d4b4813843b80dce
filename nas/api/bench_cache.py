"""Finished replays as CSV files, so that an interrupted comparison goes on where it was."""

from __future__ import annotations

import csv
import hashlib
import io
import math
import re
from pathlib import Path

import numpy as np

from nas.engine.replay import Replay
from nas.system.errors import InputError
from nas.system.files import write_atomic

COLUMNS = ("key", "observed", "accuracy", "cost", "chosen")
MAX_BYTES = 8 << 20


def path_of(out: Path, table: str, setting: str, sampler: str, seed: int) -> Path:
    """The file of one replay; its folder is made if absent.

    Args:
        out: of the comparison.
        table: name of the table, for people.
        setting: what the replay depends on.
        sampler: one of `nas.engine.samplers.SAMPLERS`.
        seed: of the replay.

    Raises:
        InputError: the folder cannot be made.
    """
    table = re.sub(r"[^A-Za-z0-9_.-]+", "-", table)[:60]
    folder = out / "replays" / f"{table}-{hashlib.blake2b(setting.encode(), digest_size=4).hexdigest()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write to {folder}: {error.strerror}; give another folder with --out") from None
    return folder / f"{sampler}-{seed}.csv"


def write(path: Path, replay: Replay) -> None:
    """Keep a replay, whole or not at all."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    columns = replay.keys, replay.observed.tolist(), replay.accuracies.tolist(), replay.costs.tolist()
    for at, row in enumerate(zip(*columns, strict=True)):
        writer.writerow([*map(str, row), int(at == replay.chosen)])
    write_atomic(path, text.getvalue())


def read(path: Path) -> Replay | None:
    """A finished replay; None if there is none, or the file is not what `write` wrote."""
    try:
        if path.stat().st_size > MAX_BYTES:
            return None
        lines = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8"))))
        if not lines or tuple(lines[0]) != COLUMNS:
            return None
        keys = tuple(line[0] for line in lines[1:])
        values = np.array([[float(cell) for cell in line[1:]] for line in lines[1:]]).reshape(len(keys), 4)
        chosen = np.flatnonzero(values[:, 3] == 1)
    except (OSError, UnicodeDecodeError, ValueError, IndexError, csv.Error):
        return None
    if len(chosen) != 1 or len(set(keys)) < len(keys) or not all(map(math.isfinite, values.ravel())):
        return None
    return Replay(keys, values[:, 0], values[:, 1], values[:, 2], int(chosen[0]))
