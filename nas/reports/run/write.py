"""Writes the files of a report, each whole or not at all."""

from __future__ import annotations

from pathlib import Path

from nas.engine.run.record import Record
from nas.reports.png import drawings_png
from nas.reports.run.block_drawing import depth_shares_drawing, diagrams_drawing
from nas.reports.run.data import ReportData, report_data
from nas.reports.run.markdown import markdown_page
from nas.reports.run.page import report_page
from nas.reports.run.plots import pareto_png
from nas.reports.shapes import Drawing
from nas.system.errors import InputError
from nas.system.files import write_atomic


def write_report(record: Record, folder: Path) -> dict[str, Path]:
    """Write the report of a run into a folder, which is created if it does not exist.

    The files are ``report.html``, ``report.md``, ``pareto.png``, ``architectures.png`` (if there is a network to draw),
    ``pareto.csv``, ``trials.csv``, and ``arch/<key>.json`` of each listed network.

    Returns:
        the path of every file, by its name relative to `folder`.

    Raises:
        InputError: a file cannot be written.
    """
    data = report_data(record)
    pareto = pareto_png(data.view, data.title)
    files: dict[str, str | bytes] = {"pareto.png": pareto, "report.html": report_page(data, pareto)}
    if drawings := _drawings(data):
        files["architectures.png"] = drawings_png(drawings)
    files["report.md"] = markdown_page(data)
    files["pareto.csv"] = record.pareto.to_csv(index=False)
    files["trials.csv"] = record.trials.to_csv(index=False)
    for entry in data.entries:
        files[f"arch/{entry.candidate.key}.json"] = entry.candidate.arch.to_json() + "\n"
    try:
        (folder / "arch").mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            write_atomic(folder / name, content)
    except OSError as error:
        raise InputError(f"cannot write the report into {folder}: {error.strerror}; make it writable") from None
    return {name: folder / name for name in files}


def _drawings(data: ReportData) -> list[Drawing]:
    if not data.sheet.diagrams:
        return []
    return [
        diagrams_drawing(data.picture_sheet),
        *([depth_shares_drawing(data.depth_shares)] if data.depth_shares else []),
    ]
