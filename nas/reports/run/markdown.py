"""``report.md``: the report in Markdown, with links to the pictures beside it."""

from __future__ import annotations

from collections.abc import Iterable

from nas.reports.formatting import escape_markdown
from nas.reports.run.block_diagram import SHARES_NOTE, cell_words, depth_table
from nas.reports.run.data import ReportData
from nas.reports.run.pareto_view import rows_in_words
from nas.reports.run.tables import Table


def markdown_page(data: ReportData, pareto_image: str = "pareto.png", diagrams_image: str = "architectures.png") -> str:
    """The whole page; paths of the pictures are relative to it."""
    line, score = data.headline, data.score
    parts = [f"# {escape_markdown(data.title)}", escape_markdown(data.subtitle), f"## {escape_markdown(line.title)}"]
    parts += _paragraphs(line.sentences)
    if line.figures:
        names, values = zip(*line.figures, strict=True)
        parts.append(_grid(names, [values]))
    best = next((entry.candidate for entry in data.entries if entry.kind == "best"), None)
    if best is not None:
        parts += [f"`{best.arch}`", escape_markdown(rows_in_words([best.arch]))]
        parts.append(f"Saved as [arch/{best.key}.json](arch/{best.key}.json).")
    parts += [f"## {escape_markdown(score.title)} against latency", f"![Pareto plot]({pareto_image})"]
    parts.append(escape_markdown(" ".join(data.plot_notes)))
    if data.networks.rows:
        parts += ["## Front and references", _table(data.networks), escape_markdown(" ".join(data.table_notes))]
        parts += ["## What the networks look like", f"![One block diagram per network]({diagrams_image})"]
        shown, total = len(data.picture_sheet.diagrams), len(data.sheet.diagrams)
        if words := cell_words(data.picture_sheet):
            parts.append(escape_markdown(words))
        if shown < total:
            parts.append(f"The picture shows {shown} of the {total} networks; report.html shows all of them.")
    if data.depth_shares:
        parts += ["## Kernels, SE and activations by depth", _table(depth_table(data.depth_shares))]
        parts.append(SHARES_NOTE)
        parts += _paragraphs(data.similarity)
    parts += ["## How the search went", _grid(("", ""), data.search_facts, "---")]
    last = data.history[-1] if data.history else None
    if last and last.hypervolume is not None:
        parts.append(f"Hypervolume at the end, by {data.latency_word} latency: {last.hypervolume:.4f}.")
    parts.append("## What this run shows, and what it does not")
    if data.findings:
        parts += ["### Findings", _bullets(data.findings)]
    parts += ["### Limitations", _bullets(data.limitations)]
    return "\n\n".join(parts) + "\n"


def _paragraphs(sentences: Iterable[str]) -> list[str]:
    return [escape_markdown(sentence) for sentence in sentences]


def _bullets(sentences: Iterable[str]) -> str:
    return "\n".join(f"- {escape_markdown(sentence)}" for sentence in sentences)


def _grid(header: Iterable[str], rows: Iterable[Iterable[str]], align: str = "---:") -> str:
    names = [escape_markdown(name) for name in header]
    return _lines(names, [[escape_markdown(cell) for cell in row] for row in rows], align)


def _lines(names: list[str], rows: list[list[str]], align: str = "---:") -> str:
    lines = [names, ["---", *[align] * (len(names) - 1)], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _table(table: Table) -> str:
    """A table whose networks link to their files."""
    notes = {"best": " (best)", "missed": " (over the target)"}
    rows = []
    for row in table.rows:
        first, *others = map(escape_markdown, row.cells)
        if row.key:
            first = f"[{first}](arch/{row.key}.json){notes.get(row.kind, '')}"
        rows.append([first, *others])
    return _lines([escape_markdown(name) for name in table.header], rows)
