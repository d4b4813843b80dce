"""Comparisons of samplers as CSV: curves by evaluations, and evaluations to reach each level."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from typing import Any

from nas.reports.samplers.data import Band, Comparison

_ENDS = ("mean", "low", "high")


def curves_csv(comparisons: Iterable[Comparison]) -> str:
    """A row for each sampler and number of evaluations."""
    return _csv(row for one in comparisons for row in _curves(one))


def levels_csv(comparisons: Iterable[Comparison]) -> str:
    """A row for each sampler and level; `evaluations` is empty if half of the seeds did not reach it."""
    return _csv(row for one in comparisons for row in _levels(one))


def _curves(found: Comparison) -> Iterator[dict[str, Any]]:
    for name in found.best:
        for at in range(found.evaluations):
            best, volume = (Band.of(values[name][:, at]) for values in (found.best, found.hypervolume))
            yield {
                **_setting(found, name),
                "evaluations": at + 1,
                **{f"best_{end}": getattr(best, end) for end in _ENDS},
                **{f"hypervolume_{end}": getattr(volume, end) for end in _ENDS},
            }


def _levels(found: Comparison) -> Iterator[dict[str, Any]]:
    for name in found.best:
        for level in found.levels:
            needed = found.needed(name, level)
            figures = {"accuracy": needed.accuracy, "evaluations": needed.median, "reached": needed.reached}
            yield {**_setting(found, name), "level": level, **figures}


def _setting(found: Comparison, sampler: str) -> dict[str, Any]:
    return {
        "table": found.name,
        "cap": found.cap,
        "tau": found.tau,
        "sampler": sampler,
        "seeds": len(found.best[sampler]),
    }


def _csv(rows: Iterable[dict[str, Any]]) -> str:
    """With a header; empty cells for None."""
    listed = list(rows)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(listed[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        {name: f"{value:.8g}" if isinstance(value, float) else value for name, value in row.items()} for row in listed
    )
    return text.getvalue()
