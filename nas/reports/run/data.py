"""Everything the report says, computed once; the pages and pictures only draw it."""

from __future__ import annotations

from dataclasses import dataclass

from nas.engine.run.record import Record
from nas.reports.formatting import Score, target
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
    distinct_conditions,
    entries_of,
    network_table,
    score_of,
    search_history,
)


@dataclass(frozen=True)
class ReportData:
    """The report before it is drawn. Texts are plain: whoever draws them escapes them.

    Args:
        title: title of the report.
        subtitle: run, target, and where the latencies hold.
        score: name and format of the score.
        entries: the networks listed in the tables.
        headline: the result.
        networks: table of the front, the networks that missed the target, and the references.
        conditions: where the latencies of the table hold; one text unless runs were mixed.
        latency_note: which latency is drawn.
        view: the Pareto plot.
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
    conditions: tuple[str, ...]
    latency_note: str
    view: ParetoView
    sheet: DiagramSheet
    picture_sheet: DiagramSheet
    depth_shares: tuple[DepthShares, ...]
    similarity: tuple[str, ...]
    counts: Counts
    history: tuple[SearchState, ...]
    search_facts: tuple[tuple[str, str], ...]
    findings: tuple[str, ...]
    limitations: tuple[str, ...]


def report_data(record: Record) -> ReportData:
    """Compute the report of a run."""
    entries = entries_of(record)
    counts = counts_of(record)
    drawn = [e for kind in ("best", "reference", "front") for e in entries if e.kind == kind]
    sheet = diagram_sheet(record, drawn)
    goal = "no latency target" if record.target_ms is None else f"latency target {target(record.target_ms)}"
    name = record.info.name
    modelled = "modelled: " if record.info.modelled else ""
    where = distinct_conditions([e.candidate.measured or e.candidate.predicted for e in entries])
    return ReportData(
        title=f"Architecture search in {record.space.name}",
        subtitle=", ".join([*([f"run {name}"] if name else []), goal, *(f"{modelled}{one}" for one in where[:1])]),
        score=score_of(record),
        entries=tuple(entries),
        headline=headline(record, entries, counts),
        networks=network_table(record, entries),
        conditions=tuple(f"{modelled}{one}" for one in where),
        latency_note=_latency_note(record),
        view=pareto_view(record, entries),
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


def _latency_note(record: Record) -> str:
    if record.info.modelled:
        return "Latency is modelled: it comes from a model of the device, which is not at hand to be measured."
    return "Latency is the measured one for networks measured after the search, else the predicted one."
