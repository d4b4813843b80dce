"""The device models that come with the package."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent / "bundled"
PRIOR = "pixel1"  # where other fits start, for operators that were not measured


def bundled() -> dict[str, Path]:
    """The files of the models by name; `nas.latency.table.table.LatencyTable.load` reads each."""
    return {path.stem: path for path in sorted(FOLDER.glob("*.json"))}
