"""Reads measurements from elsewhere: a CSV of networks and milliseconds, from any device."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass
from pathlib import Path

from nas.arch.arch import Arch
from nas.references.resolve import arch_in_table
from nas.system.errors import InputError

MAX_BYTES = 256 << 20
MAX_ROWS = 20_000
COLUMNS = ("network", "ms")


@dataclass(frozen=True, slots=True)
class Measured:
    """A network and its measured milliseconds."""

    arch: Arch
    ms: float


def read_measurements(path: str | Path) -> list[Measured]:
    """Read a CSV with the columns ``network`` and ``ms``; other columns are ignored.

    A network is the name of a reference (``mobilenet_v2@width=0.5``), a path to a ``.yaml`` reference or an
    ``arch.json`` (relative to the CSV), or the JSON of an `Arch` itself.

    Raises:
        InputError: the file cannot be read or is too large, a column is missing, a network is unknown, or a line has no
            positive number of milliseconds. The text names the line.
    """
    path = Path(path)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"a CSV of measurements may have at most {MAX_BYTES >> 20} MB; shorten {path}")
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise InputError(f"cannot read measurements {path}: {reason}") from None
    rows = csv.reader(io.StringIO(text))
    measured: list[Measured] = []
    try:
        header = [name.strip().lower() for name in next(rows, [])]
        if missing := [name for name in COLUMNS if name not in header]:
            raise InputError(f"a CSV of measurements needs the columns network and ms; add {missing[0]} to its header")
        for cells in rows:
            if not any(cell.strip() for cell in cells):
                continue
            if len(measured) == MAX_ROWS:
                raise InputError(f"a CSV of measurements may have at most {MAX_ROWS} lines; shorten it")
            measured.append(_measured(dict(zip(header, cells, strict=False)), path.parent))
    except InputError as error:
        raise InputError(f"{path}:{max(rows.line_num, 1)}: {error}") from None
    except csv.Error as error:
        raise InputError(f"{path}:{max(rows.line_num, 1)}: the CSV is broken: {error}") from None
    if not measured:
        raise InputError(f"{path} has no measurements; add lines below its header")
    return measured


def _measured(line: dict[str, str], folder: Path) -> Measured:
    try:
        ms = float(line.get("ms", ""))
    except ValueError:
        ms = math.nan
    if not math.isfinite(ms) or ms <= 0:
        raise InputError(f"ms must be a positive number, got {line.get('ms', '')!r:.40}")
    return Measured(arch_in_table(line.get("network", ""), folder), ms)
