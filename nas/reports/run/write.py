"""The files of a report, each whole or absent."""

from __future__ import annotations

from pathlib import Path

from nas.engine.run.record import Record
from nas.reports.png import drawings_png
from nas.reports.run.block_drawing import shares_drawing, strips_drawing
from nas.reports.run.data import ReportData, contents
from nas.reports.run.markdown import markdown_page
from nas.reports.run.page import html_page
from nas.reports.run.plots import pareto_png
from nas.reports.shapes import Drawing
from nas.system.errors import InputError
from nas.system.files import write_atomic


def write_report(record: Record, folder: Path) -> dict[str, Path]:
    """Write ``report.html``, ``report.md``, ``pareto.png``, ``architectures.png``, ``pareto.csv``, ``trials.csv`` and
    ``arch/<key>.json`` of the front and the references into `folder`, which is made if absent.

    Returns:
        the path of every file by its name relative to `folder`. ``architectures.png`` is left out if there is no
        network to draw.
    """
    told = contents(record)
    pareto = pareto_png(told.view, told.title)
    files: dict[str, str | bytes] = {"pareto.png": pareto, "report.html": html_page(told, pareto)}
    if drawings := _drawings(told):
        files["architectures.png"] = drawings_png(drawings)
    files["report.md"] = markdown_page(told)
    files["pareto.csv"] = record.pareto.to_csv(index=False)
    files["trials.csv"] = record.trials.to_csv(index=False)
    for entry in told.entries:
        files[f"arch/{entry.candidate.key}.json"] = entry.candidate.arch.to_json() + "\n"
    try:
        (folder / "arch").mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            write_atomic(folder / name, content)
    except OSError as error:
        raise InputError(f"cannot write the report into {folder}: {error.strerror}; make it writable") from None
    return {name: folder / name for name in files}


def _drawings(told: ReportData) -> list[Drawing]:
    if not told.sheet.strips:
        return []
    return [strips_drawing(told.picture), *([shares_drawing(told.shares)] if told.shares else [])]
