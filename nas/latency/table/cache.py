"""The cache of latency tables, with a checkpoint beside each table that is not finished."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from time import time
from typing import TYPE_CHECKING, Any, NamedTuple

from nas.system.errors import InputError
from nas.system.files import cache_folder, write_atomic
from nas.system.validate import is_number, is_whole

if TYPE_CHECKING:
    from nas.latency.table.table import LatencyTable

MAX_BYTES = 8 << 20
STALE_S = 3600.0

Profile = list[tuple[float, int]]  # ms and number of kernels of each part


class Visit(NamedTuple):
    """A few runs of one network in a round of all networks.

    Args:
        name: name of the network.
        ms: median of the runs.
        near_ms: time of the anchor around these runs.
        far_ms: time of the far anchor around these runs; None without one.
    """

    name: str
    ms: float
    near_ms: float
    far_ms: float | None


Round = list[Visit]  # in chronological order


def cached_path(name: str) -> Path | None:
    """Where the table with this name is cached; None if the cache cannot be written."""
    try:
        return cache_folder("latency") / f"{name}.json"
    except InputError:
        return None


def store(table: LatencyTable, path: Path | None, part: Path | None) -> None:
    """Cache a finished table and delete its checkpoint."""
    with suppress(OSError):  # the disk may be full; the table is still good
        if path is not None:
            table.save(path)
        if part is not None:
            part.unlink(missing_ok=True)


def drop_stale(part: Path | None) -> None:
    """Delete a checkpoint that is older than an hour: its timings are no basis for a refreshed table."""
    with suppress(OSError):
        if part is not None and time() - part.stat().st_mtime > STALE_S:
            part.unlink()


class Checkpoint:
    """The profiles of networks, and the rounds in which all networks were timed in turn.

    Args:
        path: file of the checkpoint. If it exists and can be read, its timings are used. None stores nothing.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        profiles, rounds = _read(path) if path else ({}, [])
        self._profiles: dict[str, Profile] = profiles
        self.rounds: list[Round] = rounds

    def profile(self, key: str) -> Profile | None:
        """The profile of a network; None if there is none."""
        return self._profiles.get(key)

    def add_profile(self, key: str, profile: Profile) -> None:
        """Store a profile, unless the network has one already."""
        if key not in self._profiles:
            self._profiles[key] = profile
            self._write()

    def add_round(self, one: Round) -> None:
        """Store a round."""
        self.rounds = [*self.rounds, one]
        self._write()

    def discard(self) -> None:
        """Delete the file."""
        if self._path:
            self._path.unlink(missing_ok=True)

    @property
    def timed(self) -> set[str]:
        """The networks of the rounds; empty before the first round."""
        return {visit.name for visit in self.rounds[0]} if self.rounds else set()

    def _write(self) -> None:
        if self._path:
            with suppress(OSError):  # without a checkpoint, an interrupted call starts over
                write_atomic(self._path, json.dumps({"profiles": self._profiles, "rounds": self.rounds}))


def _read(path: Path) -> tuple[dict[str, Profile], list[Round]]:
    try:
        data = json.loads(path.read_text(encoding="utf-8")) if path.stat().st_size < MAX_BYTES else None
    except (OSError, ValueError):
        return {}, []
    if not isinstance(data, dict) or not isinstance(data.get("profiles"), dict):
        return {}, []
    profiles = {key: _rows(rows, (_is_ms, _is_count)) for key, rows in data["profiles"].items()}
    rounds = data.get("rounds")
    kinds = (_is_name, _is_positive, _is_positive, lambda value: value is None or _is_positive(value))
    parsed = [_rows(rows, kinds) for rows in rounds] if isinstance(rounds, list) else []
    return (
        {
            key: profile
            for key, profile in profiles.items()
            if profile and min(map(sum, zip(*profile, strict=True))) > 0
        },
        [[Visit(*row) for row in rows] for rows in parsed if rows],
    )


def _rows(rows: Any, kinds: tuple[Callable[[Any], bool], ...]) -> list[Any]:
    """`rows` as tuples; empty if any cell is of the wrong kind."""
    good = isinstance(rows, list) and all(
        isinstance(row, list)
        and len(row) == len(kinds)
        and all(is_one(cell) for is_one, cell in zip(kinds, row, strict=True))
        for row in rows
    )
    return [tuple(row) for row in rows] if good else []


def _is_ms(value: Any) -> bool:
    return is_number(value) and value >= 0


def _is_positive(value: Any) -> bool:
    return _is_ms(value) and value > 0


def _is_count(value: Any) -> bool:
    return is_whole(value, 0)


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= 40
