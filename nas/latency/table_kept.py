"""What an interrupted table had timed: kept beside the tables in the cache until the table is whole."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from nas.files import write_atomic

MAX_BYTES = 8 << 20

Profile = list[tuple[float, int]]  # ms and kernels of each part
Round = list[tuple[str, float]]  # name and ms of each visit, in order of time


class Kept:
    """Profiles by network, and rounds in which all were timed in turn.

    Args:
        path: where they are kept; what it holds already is taken up, if it can be read. None keeps nothing.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        profiles, rounds = _read(path) if path else ({}, [])
        self._profiles: dict[str, Profile] = profiles
        self.rounds: list[Round] = rounds

    def profile(self, key: str) -> Profile | None:
        """Of a network; None if there is none."""
        return self._profiles.get(key)

    def add_profile(self, key: str, profile: Profile) -> None:
        """Keep it, unless it is kept already."""
        if key not in self._profiles:
            self._profiles[key] = profile
            self._write()

    def add_round(self, one: Round) -> None:
        """Keep a round."""
        self.rounds = [*self.rounds, one]
        self._write()

    def discard(self) -> None:
        """The table is whole."""
        if self._path:
            self._path.unlink(missing_ok=True)

    def _write(self) -> None:
        if self._path:
            write_atomic(self._path, json.dumps({"profiles": self._profiles, "rounds": self.rounds}))


def _read(path: Path) -> tuple[dict[str, Profile], list[Round]]:
    try:
        data = json.loads(path.read_text(encoding="utf-8")) if path.stat().st_size < MAX_BYTES else None
    except (OSError, ValueError):
        return {}, []
    if not isinstance(data, dict) or not isinstance(data.get("profiles"), dict):
        return {}, []
    profiles = {key: _pairs(pairs, _is_ms, _is_count) for key, pairs in data["profiles"].items()}
    rounds = data.get("rounds")
    found = [_pairs(pairs, _is_name, _is_ms) for pairs in rounds] if isinstance(rounds, list) else []
    return {key: profile for key, profile in profiles.items() if profile}, [one for one in found if one]


def _pairs(pairs: Any, first: Any, second: Any) -> list[Any]:
    """`pairs` as tuples; empty if any is none."""
    good = isinstance(pairs, list) and all(
        isinstance(pair, list) and len(pair) == 2 and first(pair[0]) and second(pair[1]) for pair in pairs
    )
    return [tuple(pair) for pair in pairs] if good else []


def _is_ms(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value >= 0


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= 40
