"""The device models that come with the package."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent / "bundled"
PRIOR = "pixel1"  # where other fits start, for operators nobody has measured


def bundled() -> dict[str, Path]:
    """Their files, by name; each as `nas.latency.table.table.LatencyTable.load` reads it."""
    return {path.stem: path for path in sorted(FOLDER.glob("*.json"))}
