"""Everything the report says, computed once; the pages and pictures only draw it."""

from __future__ import annotations

from dataclasses import dataclass

from nas.engine.run.record import Record
from nas.reports.formatting import Score, target
from nas.reports.run.block_diagram import Shares, Sheet, share_lines, sheet, thinned
from nas.reports.run.claims import can_claim, cannot_claim, likeness_sentences, search_facts
from nas.reports.run.headline import Headline, headline
from nas.reports.run.pareto_view import ParetoView, pareto_view
from nas.reports.run.similarity import nearest
from nas.reports.run.tables import (
    Counts,
    Entry,
    Step,
    Table,
    counts,
    course,
    entries,
    network_table,
    score_of,
    settings,
)


@dataclass(frozen=True)
class ReportData:
    """The report before it is drawn. Texts are plain: whoever draws them escapes them.

    Args:
        title: of the report.
        subtitle: run, target, circumstances of the latencies.
        score: how the score is called and written.
        entries: networks of the tables.
        headline: the result.
        networks: the table of front, missed and references.
        circumstances: of the latencies in the table.
        latency_note: which latency is drawn.
        view: the Pareto plot.
        sheet: strips of the front and the references.
        picture: the same with fewer of the front if they are many.
        shares: kernel, SE and activations by depth.
        likeness: sentences about the nearest reference.
        counts: candidates by outcome.
        course: the search, step by step.
        search: how it went, as pairs.
        can: what the run shows.
        cannot: where its word ends.
    """

    title: str
    subtitle: str
    score: Score
    entries: tuple[Entry, ...]
    headline: Headline
    networks: Table
    circumstances: tuple[str, ...]
    latency_note: str
    view: ParetoView
    sheet: Sheet
    picture: Sheet
    shares: tuple[Shares, ...]
    likeness: tuple[str, ...]
    counts: Counts
    course: tuple[Step, ...]
    search: tuple[tuple[str, str], ...]
    can: tuple[str, ...]
    cannot: tuple[str, ...]


def contents(record: Record) -> ReportData:
    """Compute the report of a run."""
    found = entries(record)
    tally = counts(record)
    strips = [e for e in found if e.kind == "best"] + [e for e in found if e.kind == "reference"]
    strips += [e for e in found if e.kind == "front"]
    drawn = sheet(record, strips)
    goal = "no latency target" if record.target_ms is None else f"latency target {target(record.target_ms)}"
    name = record.options.get("name")
    modelled = "modelled: " if record.modelled else ""
    where = settings([e.candidate.measured or e.candidate.predicted for e in found])
    return ReportData(
        title=f"Architecture search in {record.space.name}",
        subtitle=", ".join([*([f"run {name}"] if name else []), goal, *(f"{modelled}{one}" for one in where[:1])]),
        score=score_of(record),
        entries=tuple(found),
        headline=headline(record, found, tally),
        networks=network_table(record, found),
        circumstances=tuple(f"{modelled}{one}" for one in where),
        latency_note=_latency_note(record),
        view=pareto_view(record, found),
        sheet=drawn,
        picture=thinned(drawn),
        shares=tuple(share_lines(found)),
        likeness=tuple(likeness_sentences(nearest(record, found))),
        counts=tally,
        course=tuple(course(record)),
        search=tuple(search_facts(record, tally)),
        can=tuple(can_claim(record, found)),
        cannot=tuple(cannot_claim(record, found, tally)),
    )


def _latency_note(record: Record) -> str:
    if record.modelled:
        return "Latency is modelled: it comes from a model of the device, which is not at hand to be measured."
    return "Latency is the measured one for networks measured after the search, else the predicted one."
