"""The outcome of a run in a screenful of text, and as plain values for other programs."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from nas.engine.run.record import Candidate, Record
from nas.reports.run.data import report_data
from nas.reports.run.tables import Entry, Table, entries_of

_REPORT_ONLY = ("Target", "Parameters")  # the first of these, and what follows, is not for a terminal


def summary_text(record: Record, folder: Path) -> str:
    """The headline, the table of networks, and what to do next."""
    data = report_data(record)
    best = next((entry.candidate for entry in data.entries if entry.kind == "best"), None)
    lines = [data.headline.title, *data.headline.sentences]
    if data.networks.rows:
        columns = min(data.networks.header.index(name) for name in _REPORT_ONLY if name in data.networks.header)
        lines += ["", *aligned(data.networks, columns)]
    lines += ["", f"report   {folder / 'report.html'}"]
    if best is not None:
        lines.append(f"export   nas export {shlex.quote(str(folder))}")
    return "\n".join(lines)


def aligned(table: Table, columns: int) -> list[str]:
    """The first columns of a table as lines; names are aligned left, figures right."""
    rows = [table.header[:columns], *(row.cells[:columns] for row in table.rows)]
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    lines = []
    for first, *others in rows:
        cells = [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
    return lines


def summary_facts(record: Record, folder: Path) -> dict[str, Any]:
    """The outcome as values that JSON can hold."""
    front = record.front
    references = [entry for entry in entries_of(record) if entry.kind == "reference"]
    return {
        "run": str(folder),
        "report": str(folder / "report.html"),
        "target_ms": record.target_ms,
        "best": _facts(record, front[-1]) if front else None,
        "missed": [candidate.key for candidate in record.missed],
        "measured": record.measured,
        "modelled": record.info.modelled,
        "safety_margin": None if record.info.margin is None else record.info.margin.to_dict(),
        "admitted_ms": record.info.admitted_ms,
        "front": [_facts(record, candidate) for candidate in front],
        "references": [_facts(record, entry.candidate) | _comparison(entry) for entry in references],
        "candidates": {
            state.lower(): sum(c.state == state for c in record.candidates)
            for state in ("COMPLETE", "STOPPED", "FAILED", "TOO_SLOW")
        },
        "hypervolume": record.hypervolume(),
        "feasibility": record.info.feasibility,
        "limits": dict(record.info.options.limits),
        "further_devices": {one.device: one.target_ms for one in record.info.further},
        "clearance": record.info.clearance,
        "table_error": record.info.table_error,
    }


def _facts(record: Record, candidate: Candidate) -> dict[str, Any]:
    row = {name: value for name, value in candidate.row().items() if name not in candidate.genes}
    if not record.info.trains:
        row["proxy_accuracy"] = None
    estimate = candidate.estimate
    about: dict[str, Any] = {"task": estimate and estimate.task, "evidence": estimate and estimate.evidence}
    about |= {"accuracy_interval": estimate and estimate.interval, "trainings": candidate.trainings}
    return {"name": candidate.name, **row, **about, "arch": str(candidate.arch)}


def _comparison(reference: Entry) -> dict[str, Any]:
    """The network of the front that a reference is compared with, the chance that it is more accurate, and the
    published accuracy of the reference, 0 to 1."""
    rival, published = reference.rival, reference.published
    return {
        "rival": rival and rival.key,
        "chance_of_beating": reference.chance,
        "published_top1": None if published is None else round(published / 100, 6),
    }
