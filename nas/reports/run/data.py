"""The content of a report, computed once; pages and pictures only draw it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nas.accuracy.calibrate import PUBLISHED
from nas.accuracy.prior import PriorModel
from nas.engine.run.record import Record
from nas.reports.formatting import Score, counted, is_or_are, target
from nas.reports.run.block_diagram import DepthShares, DiagramSheet, depth_comparison, diagram_sheet, thinned
from nas.reports.run.claims import findings, limitations, search_facts, similarity_sentences
from nas.reports.run.headline import Headline, headline
from nas.reports.run.pareto_view import ParetoView, pareto_view
from nas.reports.run.similarity import nearest_reference
from nas.reports.run.tables import (
    Counts,
    Entry,
    SearchState,
    Table,
    counts_of,
    entries_of,
    latency_origins,
    network_table,
    score_of,
    search_history,
)


@dataclass(frozen=True)
class ReportData:
    """The content of a report. Texts are plain; the writers of HTML and Markdown escape them.

    Args:
        title: title of the report.
        subtitle: run, target, and where the latencies hold.
        score: name and format of the score.
        entries: the networks listed in the tables.
        headline: the result.
        networks: table of the front, the networks that missed the target, and the references.
        table_notes: sentences about the figures in that table.
        latency_word: word for a latency that was not measured: ``predicted`` or ``modelled``.
        view: the Pareto plot.
        plot_notes: sentences about what the plot shows and leaves out.
        sheet: block diagrams of the front and the references.
        picture_sheet: the same for a PNG, with part of a long front left out.
        depth_shares: use of large kernels, SE and activations by depth.
        similarity: sentences about the nearest reference.
        counts: candidates by outcome.
        history: state of the search after each candidate.
        search_facts: names and values that describe the search.
        findings: what the run shows.
        limitations: what the run cannot show.
    """

    title: str
    subtitle: str
    score: Score
    entries: tuple[Entry, ...]
    headline: Headline
    networks: Table
    table_notes: tuple[str, ...]
    latency_word: str
    view: ParetoView
    plot_notes: tuple[str, ...]
    sheet: DiagramSheet
    picture_sheet: DiagramSheet
    depth_shares: tuple[DepthShares, ...]
    similarity: tuple[str, ...]
    counts: Counts
    history: tuple[SearchState, ...]
    search_facts: tuple[tuple[str, str], ...]
    findings: tuple[str, ...]
    limitations: tuple[str, ...]


LISTED = 32  # networks of the front in tables; a search without trainings finds hundreds


def report_data(record: Record) -> ReportData:
    """Compute the report of a run."""
    entries = entries_of(record)
    listed = _listed(entries)
    counts = counts_of(record)
    drawn = [e for kind in ("best", "reference", "front") for e in entries if e.kind == kind]
    sheet = diagram_sheet(record, drawn)
    goal = "no latency target" if record.target_ms is None else f"latency target {target(record.target_ms)}"
    name = record.info.name
    view = pareto_view(record, entries)
    where = latency_origins(record, (entry.candidate.latency for entry in entries))
    return ReportData(
        title=f"Architecture search in {record.space.name}",
        subtitle=", ".join([*([f"run {name}"] if name else []), goal, *where[:1]]),
        score=score_of(record),
        entries=tuple(entries),
        headline=headline(record, entries, counts),
        networks=network_table(record, listed),
        table_notes=(*_left_out(entries, listed), *_table_notes(record, entries, where)),
        latency_word=record.info.latency_word,
        view=view,
        plot_notes=tuple(_plot_notes(record, view, counts)),
        sheet=sheet,
        picture_sheet=thinned(sheet),
        depth_shares=tuple(depth_comparison(entries)),
        similarity=tuple(similarity_sentences(nearest_reference(record, entries))),
        counts=counts,
        history=tuple(search_history(record)),
        search_facts=tuple(search_facts(record, counts)),
        findings=tuple(findings(record, entries)),
        limitations=tuple(limitations(record, entries, counts)),
    )


def _listed(entries: Sequence[Entry]) -> list[Entry]:
    """All but a part of a long front: the best network, those that references are compared with, and others evenly."""
    front = [entry for entry in entries if entry.kind in ("best", "front")]
    if len(front) <= LISTED:
        return list(entries)
    kept = {front[round(at)].candidate.key for at in np.linspace(0, len(front) - 1, LISTED)}
    kept |= {entry.rival.key for entry in entries if entry.rival is not None}
    return [entry for entry in entries if entry.kind not in ("best", "front") or entry.candidate.key in kept]


def _left_out(entries: Sequence[Entry], listed: Sequence[Entry]) -> list[str]:
    more = len(entries) - len(listed)
    return [f"{counted(more, 'more network')} of the front {is_or_are(more)} in pareto.csv."] if more else []


def _table_notes(record: Record, entries: Sequence[Entry], where: Sequence[str]) -> list[str]:
    notes = [f"Latency: {'; '.join(where)}."]
    if any(entry.chance is not None for entry in entries):
        notes.append(
            "Chance to beat: that the best network of the front which is not slower is more accurate, if both are "
            "trained by the same recipe. Errors of the estimates that both share cancel."
        )
    if any(entry.published is not None for entry in entries):
        notes.append("Published: ImageNet top-1 of the paper, else of a library.")
        if isinstance(record.model, PriorModel) and any(source.name == PUBLISHED for source in record.model.sources):
            notes.append("The model was fitted to such figures, among others.")
    if any(entry.candidate.measured is not None for entry in entries):
        notes.append("The prediction error is relative to the measured latency.")
        if any(entry.meets is not None for entry in entries):
            notes.append("The target is judged by the measured latency where there is one.")
    notes.append("Parameters, MACs and memory access (float32 weights and activations) are for 1000 classes.")
    if any(entry.candidate.measured is not None and entry.candidate.measured.warning for entry in entries):
        notes.append("Measurements marked * are less reliable; see the limitations at the end.")
    return notes


def _plot_notes(record: Record, view: ParetoView, counts: Counts) -> list[str]:
    if record.info.modelled:
        latency = "The latencies come from a model of the device, which cannot be measured here."
    else:
        latency = "The plot shows the latency measured after the search where there is one, else the predicted latency."
    failed = f"{counted(counts.failed, 'failed candidate')} {is_or_are(counts.failed)} not plotted."
    return [latency, *view.notes, *([failed] if counts.failed else [])]
