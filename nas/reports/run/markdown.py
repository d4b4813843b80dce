"""``report.md``: the same in Markdown, with the pictures beside it."""

from __future__ import annotations

from collections.abc import Iterable

from nas.reports.formatting import markdown
from nas.reports.run.block_diagram import cell_words, share_table
from nas.reports.run.data import ReportData
from nas.reports.run.pareto_view import rows_in_words
from nas.reports.run.tables import Table


def markdown_page(
    contents: ReportData, pareto_image: str = "pareto.png", strips_image: str = "architectures.png"
) -> str:
    """The whole page; the pictures are named relative to it."""
    line, counts, score = contents.headline, contents.counts, contents.score
    parts = [f"# {markdown(contents.title)}", markdown(contents.subtitle), f"## {markdown(line.title)}"]
    parts += _paragraphs(line.sentences)
    if line.figures:
        names, values = zip(*line.figures, strict=True)
        parts.append(_grid(names, [values]))
    best = next((entry.candidate for entry in contents.entries if entry.kind == "best"), None)
    if best is not None:
        parts += [f"`{best.arch}`", markdown(rows_in_words([best.arch]))]
        parts.append(f"Saved as [arch/{best.key}.json](arch/{best.key}.json).")
    parts += [f"## {score.name.capitalize()} against latency", f"![Pareto plot]({pareto_image})"]
    notes = [contents.latency_note]
    notes += [*contents.view.notes, *([f"Failed candidates, not drawn: {counts.failed:,}."] if counts.failed else [])]
    parts.append(markdown(" ".join(notes)))
    if contents.networks.rows:
        parts += ["## Front and references", _table(contents.networks)]
        where = "; ".join(contents.circumstances)
        parts.append(markdown(f"Latency: {where}. The target is judged by the measured latency where there is one."))
        parts += ["## What the networks look like", f"![One strip per network]({strips_image})"]
        drawn, everything = len(contents.picture.strips), len(contents.sheet.strips)
        if words := cell_words(contents.picture):
            parts.append(markdown(words))
        if drawn < everything:
            parts.append(f"The picture shows {drawn} of the {everything} networks, report.html all of them.")
    if contents.shares:
        parts += ["## Kernels, SE and activations by depth", _table(share_table(contents.shares))]
        parts.append("Share of the blocks in the first · middle · last third of each network.")
        parts += _paragraphs(contents.likeness)
    parts += ["## How the search went", _grid(("", ""), contents.search, "---")]
    last = contents.course[-1] if contents.course else None
    if last and last.hypervolume is not None:
        parts.append(f"Hypervolume at the end, by predicted latency: {last.hypervolume:.4f}.")
    parts.append("## What this run can and cannot claim")
    if contents.can:
        parts += ["### It shows", _bullets(contents.can)]
    parts += ["### It is limited by", _bullets(contents.cannot)]
    return "\n\n".join(parts) + "\n"


def _paragraphs(sentences: Iterable[str]) -> list[str]:
    return [markdown(sentence) for sentence in sentences]


def _bullets(sentences: Iterable[str]) -> str:
    return "\n".join(f"- {markdown(sentence)}" for sentence in sentences)


def _grid(header: Iterable[str], rows: Iterable[Iterable[str]], align: str = "---:") -> str:
    names = [markdown(name) for name in header]
    return _lines(names, [[markdown(cell) for cell in row] for row in rows], align)


def _lines(names: list[str], rows: list[list[str]], align: str = "---:") -> str:
    lines = [names, ["---", *[align] * (len(names) - 1)], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _table(table: Table) -> str:
    """The name of a network leads to its file."""
    notes = {"best": " (best)", "missed": " (over the target)"}
    rows = []
    for row in table.rows:
        first, *others = map(markdown, row.cells)
        if row.key:
            first = f"[{first}](arch/{row.key}.json){notes.get(row.kind, '')}"
        rows.append([first, *others])
    return _lines([markdown(name) for name in table.header], rows)
