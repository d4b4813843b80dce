"""Files of a run folder, read and checked; an error names the file, what is wrong with it, and a remedy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from nas.engine.run.info import SCHEMA, RunInfo
from nas.engine.run.json_file import load_json
from nas.engine.run.record import Candidate, Repeat
from nas.engine.run.trials import reference_from_dict
from nas.latency.record import Latency
from nas.system.errors import InputError
from nas.system.validate import is_number, is_whole

T = TypeVar("T")

FILE_SCHEMA = 1  # of all files but run.json


def read_info(path: Path) -> RunInfo:
    """``run.json``."""
    remedy = "restore it from a copy, or start a new run"
    data = load_json(path, remedy, 1, SCHEMA)
    try:
        return RunInfo.from_dict(data, path.parent)
    except InputError as error:
        raise InputError(f"{path}: {error}; {remedy}") from None


def read_references(path: Path) -> list[tuple[Candidate, float]]:
    """References with the search time at which they finished; empty without the file."""
    return _listed(path, "references", reference_from_dict, "delete it; references are evaluated again")


def read_repeats(path: Path) -> list[tuple[str, Repeat, float]]:
    """Further trainings with the key of the network and the search time at which they finished; empty without the
    file."""
    return _listed(path, "repeats", _repeat, "delete it; the best networks are trained again")


def read_measured(path: Path) -> dict[str, Latency]:
    """Latencies measured after the search, by architecture key; empty without the file."""
    remedy = "delete it; it can be measured again"
    if not path.exists():
        return {}
    found = load_json(path, remedy, FILE_SCHEMA).get("measured")
    try:
        if not isinstance(found, dict):
            raise InputError("measured must be an object")
        return {key: Latency.from_dict(value) for key, value in found.items()}
    except InputError as error:
        raise InputError(f"{path}: {error}; {remedy}") from None


def _listed(path: Path, name: str, read: Callable[[Any], T], remedy: str) -> list[T]:
    if not path.exists():
        return []
    found = load_json(path, remedy, FILE_SCHEMA).get(name)
    try:
        if not isinstance(found, list):
            raise InputError(f"{name} must be a list")
        return [read(item) for item in found]
    except InputError as error:
        raise InputError(f"{path}: {error}; {remedy}") from None


def _repeat(item: Any) -> tuple[str, Repeat, float]:
    if not isinstance(item, dict) or not isinstance(item.get("key"), str) or not is_whole(item.get("seed"), 0):
        raise InputError(f"a repeat must be an object with a key and a seed, got {item!r:.60}")
    for name in ("accuracy", "loss", "seconds", "elapsed_s"):
        if not is_number(item.get(name)) and not (name == "loss" and item.get(name) is None):
            raise InputError(f"{name} of a repeat must be a finite number, got {item.get(name)!r:.40}")
    repeat = Repeat(item["seed"], item["accuracy"], item["loss"], item["seconds"])
    return item["key"], repeat, item["elapsed_s"]
