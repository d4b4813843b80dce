"""The latency table of a space on one device: predicts the latency of any network, and stores its own error."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from nas.arch.arch import Arch
from nas.latency.held_out import HeldOut
from nas.latency.record import Latency
from nas.latency.table.columns import STEPPED, Columns
from nas.latency.table.predict import Predictor
from nas.latency.table.residuals import Residuals
from nas.system.errors import InputError
from nas.system.files import write_atomic
from nas.system.validate import is_number, is_whole, whole_number

SCHEMA = 3  # version of the file format and of the meaning of coefficients and weights
MAX_BYTES = 4 << 20
MAX_COLUMNS = 2000
MAX_NETS = 20_000
MAX_COUNT = 1_000_000  # threads, and networks fitted to
MAX_NAME, MAX_TEXT = 200, 400
GROUP = re.compile(r"[a-z_-]+( \d{1,4}){0,2}")
MAX_POINTS = 20_000  # timed parts of one kind: 70 networks of `nas.arch.arch.MAX_ROWS` rows


@dataclass(frozen=True)
class LatencyTable:
    """A latency model of one device. Call it with an `Arch`; `many` predicts thousands at once.

    It predicts any network whose kinds of operators it knows, and networks of its space best.

    Args:
        device: name of the device: CPU model and cores, or a name given to it.
        runtime: runtime that ran the networks.
        threads: number of threads they could use.
        space_key: key of the space whose networks it was fitted to; None for measurements from elsewhere.
        versions: versions of the libraries that affect speed.
        groups: known kinds of parts.
        columns: names of the quantities of a network.
        coefficients: ms per unit of each column of `nas.latency.table.columns.Columns.all_names`.
        error: its error on networks that it was not fitted to.
        fitted: number of networks that it was fitted to.
        source: origin of the measurements; empty for this machine.
        licence: licence of the measurements.
        notes: what users should know about it.
        residuals: correction factors for parts, by kind.
        stepped: quantities that cost more in larger networks.

    Raises:
        InputError: a text is missing or too long, or a field has unknown values.
    """

    device: str
    runtime: str
    threads: int
    space_key: str | None
    versions: dict[str, str]
    groups: tuple[str, ...]
    columns: tuple[str, ...]
    coefficients: tuple[float, ...]
    error: HeldOut
    fitted: int
    source: str = ""
    licence: str = ""
    notes: tuple[str, ...] = ()
    residuals: Mapping[str, Residuals] = field(default_factory=dict)
    stepped: tuple[str, ...] = STEPPED[:1]

    def __post_init__(self) -> None:
        for name in ("device", "runtime"):
            _text(name, getattr(self, name), MAX_NAME)
        for name in ("source", "licence"):
            if value := getattr(self, name):
                _text(name, value)
        for text in self.notes:
            _text("a note", text)
        if not set(self.stepped) <= set(STEPPED):
            raise InputError(f"stepped must be among {', '.join(STEPPED)}, got {', '.join(self.stepped):.60}")
        for group in self.groups:
            if not GROUP.fullmatch(group):
                raise InputError(f"a group must be a kind with its kernel and stride, got {group!r:.60}")

    @cached_property
    def _columns(self) -> Columns:
        return Columns(self.groups, self.columns, self.stepped)

    @cached_property
    def _predictor(self) -> Predictor:
        return Predictor(self._columns, np.array(self.coefficients), self.residuals)

    def many(self, archs: Sequence[Arch]) -> np.ndarray:
        """Predicted ms for a batch of one image, float64 of shape ``(len(archs),)``.

        Raises:
            InputError: a network has a kind of operator that the table does not know.
        """
        return self._predictor.many(archs)

    def __call__(self, arch: Arch) -> Latency:
        """The prediction for one network; raises as `many`."""
        ms = float(self.many([arch])[0])
        return Latency(ms, None, None, self.device, self.runtime, self.threads, 1, "predicted")

    def __str__(self) -> str:
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        return f"{self.device}, {self.runtime}, {threads}: {self.error}"

    def terms(self) -> dict[str, float]:
        """The coefficients by name, in ms per unit."""
        return dict(zip(self._columns.all_names, self.coefficients, strict=True))

    def save(self, path: Path | str) -> None:
        """Write JSON that `load` reads back as an equal table."""
        write_atomic(Path(path), json.dumps({"schema": SCHEMA} | asdict(self), indent=1))

    @staticmethod
    def load(path: Path | str) -> LatencyTable:
        """Read a file that `save` wrote.

        Raises:
            InputError: the file does not exist, is too large, is not a table of this version, or has a value that is
                out of bounds.
        """
        path = Path(path)
        try:
            if path.stat().st_size > MAX_BYTES:
                raise InputError(
                    f"a latency table may have at most {MAX_BYTES} bytes, {path} has {path.stat().st_size}"
                )
            data = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(f"cannot read the latency table {path}: {error.strerror}") from None
        except (ValueError, RecursionError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(
                f"{path} is not a latency table: its JSON is broken; profile again (nas profile, nas devices calibrate)"
            ) from None
        try:
            return _checked(data)
        except InputError as error:
            raise InputError(f"{path} is not a latency table this version reads: {error}") from None


def _checked(data: Any) -> LatencyTable:
    schema = data.get("schema") if isinstance(data, dict) else None
    if schema != SCHEMA:
        older = type(schema) is int and 0 < schema < SCHEMA
        fix = "; an earlier version wrote it: profile again (nas profile, nas devices calibrate)" if older else ""
        raise InputError(f"schema must be {SCHEMA}, got {schema!r:.60}{fix}")
    optional = ("source", "licence", "notes", "residuals", "stepped")
    if missing := [name for name in LatencyTable.__dataclass_fields__ if name not in (*optional, *data)]:
        raise InputError(f"these fields are missing: {', '.join(missing)}")
    error, versions = data["error"], data["versions"]
    if not isinstance(error, dict) or not isinstance(versions, dict) or len(versions) > 20:
        raise InputError("error and versions must be objects")
    predicted = _numbers("predicted_ms", error.get("predicted_ms"), MAX_NETS, positive=True)
    measured = _numbers("measured_ms", error.get("measured_ms"), MAX_NETS, positive=True)
    table = LatencyTable(
        device=data["device"],
        runtime=data["runtime"],
        threads=whole_number("threads", data["threads"], high=MAX_COUNT),
        space_key=None if data["space_key"] is None else _text("space_key", data["space_key"]),
        versions={_text("a version", k): _text("a version", v) for k, v in versions.items()},
        groups=_texts("groups", data["groups"]),
        columns=_texts("columns", data["columns"]),
        coefficients=_numbers("coefficients", data["coefficients"], MAX_COLUMNS),
        error=HeldOut(predicted, measured),
        fitted=whole_number("fitted", data["fitted"], high=MAX_COUNT),
        source=data.get("source") or "",
        licence=data.get("licence") or "",
        notes=_texts("notes", data["notes"]) if data.get("notes") else (),
        residuals=_residuals(data.get("residuals", {})),
        stepped=_texts("stepped", data["stepped"]) if "stepped" in data else STEPPED[:1],
    )
    if len(predicted) != len(measured) or not predicted:
        raise InputError("predicted_ms and measured_ms must have the same number of entries, at least one")
    if len(table.coefficients) != len(table._columns.all_names):
        raise InputError(
            f"the number of coefficients must be {len(table._columns.all_names)}, got {len(table.coefficients)}"
        )
    return table


def _residuals(data: Any) -> dict[str, Residuals]:
    if not isinstance(data, dict) or len(data) > MAX_COLUMNS:
        raise InputError(f"residuals must be an object of at most {MAX_COLUMNS} kinds")
    residuals = {}
    for kind, entry in data.items():
        points, weights = (entry.get("points"), entry.get("weights")) if isinstance(entry, dict) else (None, None)
        if not isinstance(points, list) or not isinstance(weights, list) or not 1 <= len(points) <= MAX_POINTS:
            raise InputError(f"residuals of {kind:.60} must have 1 to {MAX_POINTS} points and weights")
        for point in points:
            good = isinstance(point, list) and len(point) == 4 and all(is_whole(side, 0, 1 << 20) for side in point[:3])
            if not good or not isinstance(point[3], str):
                raise InputError(f"a point must be [channels in, channels out, side, act], got {point!r:.60}")
        numbers = _numbers("weights", weights, MAX_POINTS, signed=True)
        if len(numbers) != len(points):
            raise InputError(f"residuals of {kind:.60} must have as many weights as points")
        residuals[_text("a kind", kind)] = Residuals(tuple(map(tuple, points)), numbers)
    return residuals


def _text(name: str, value: Any, most: int = MAX_TEXT) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= most:
        raise InputError(f"{name} must be a text of 1 to {most} characters, got {value!r:.60}")
    return value


def _texts(name: str, values: Any) -> tuple[str, ...]:
    if not isinstance(values, list) or not 1 <= len(values) <= MAX_COLUMNS:
        raise InputError(f"{name} must be a list of 1 to {MAX_COLUMNS} texts")
    texts = tuple(_text(f"an entry of {name}", value) for value in values)
    if len(set(texts)) < len(texts):
        raise InputError(f"{name} must not repeat an entry")
    return texts


def _numbers(name: str, values: Any, most: int, positive: bool = False, signed: bool = False) -> tuple[float, ...]:
    if not isinstance(values, list) or len(values) > most:
        raise InputError(f"{name} must be a list of at most {most} numbers")
    for value in values:
        if not is_number(value) or (value < 0 and not signed) or (positive and value == 0):
            rule = "positive" if positive else "finite" if signed else "non-negative"
            raise InputError(f"{name} must be {rule} numbers, got {value!r:.60}")
    return tuple(float(value) for value in values)
