"""What `nas accuracy check` keeps in the cache folder: the scores of finished trainings, and its recommendation.

A file that cannot be read counts as absent: everything in it can be made again.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.arch.space import Space
from nas.system.files import cache_folder, cache_root, write_atomic
from nas.system.validate import is_number, is_whole
from nas.training.config import ProxyConfig

if TYPE_CHECKING:
    from nas.data.dataset import ImageData

KIND = "check"
_SCHEMA = 2
_MAX_BYTES = 1 << 24
_MAX_STEPS = 10**7


@dataclass
class Scores:
    """The scores that one training gives, as far as they are known.

    Args:
        path: its file.
        seconds: wall-clock time of the training; None if it is not finished.
        found: accuracy, held-out loss and seconds of each scored network by key; None for what failed.
    """

    path: Path
    seconds: float | None = None
    found: dict[str, tuple[float | None, float | None, float]] = field(default_factory=dict)

    @property
    def weights(self) -> Path:
        """File of the trained weights."""
        return self.path.with_suffix(".safetensors")

    @staticmethod
    def of(made_for: Any) -> Scores:
        """What is kept of a training.

        Args:
            made_for: everything the training depends on, as JSON values.
        """
        path = cache_folder("check") / f"{_hash(made_for)}.json"
        data = _read(path)
        seconds, found = data.get("seconds"), data.get("found")
        if not _is_seconds(seconds) or not isinstance(found, dict) or not all(map(_is_score, found.values())):
            return Scores(path)
        return Scores(path, seconds, {key: (accuracy, loss, took) for key, (accuracy, loss, took) in found.items()})

    def keep(self) -> None:
        """Write the file."""
        write_atomic(self.path, json.dumps({"schema": _SCHEMA, "seconds": self.seconds, "found": self.found}))


def keep_recommendation(space: Space, data: ImageData, config: ProxyConfig, steps: int | None) -> None:
    """Keep the recommended length for these images and this space, in place of an earlier one; None removes that."""
    path = _recommendation(space, data, config)
    if steps is None:
        path.unlink(missing_ok=True)
        return
    cache_folder("check")
    write_atomic(path, json.dumps({"schema": _SCHEMA, "steps": steps}))


def recommended_steps(space: Space, data: ImageData, config: ProxyConfig) -> int | None:
    """The length that the latest check of this space on these images recommended; None without one."""
    steps = _read(_recommendation(space, data, config)).get("steps")
    return steps if is_whole(steps, 1, _MAX_STEPS) else None


def _recommendation(space: Space, data: ImageData, config: ProxyConfig) -> Path:
    settings = replace(config, shared_steps=0).to_dict()
    return cache_root() / KIND / f"recommended-{_hash([space.key, data.key, settings])}.json"


def _hash(value: Any) -> str:
    return hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=12).hexdigest()


def _read(path: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError, RecursionError):
        if path.stat().st_size <= _MAX_BYTES:
            data = json.loads(path.read_text(encoding="utf-8"))
            if isinstance(data, dict) and data.get("schema") == _SCHEMA:
                return data
    return {}


def _is_seconds(value: Any) -> bool:
    return is_number(value) and value >= 0


def _is_score(value: Any) -> bool:
    if not isinstance(value, list) or len(value) != 3 or not _is_seconds(value[2]):
        return False
    return value[:2] == [None, None] or all(map(is_number, value[:2]))
