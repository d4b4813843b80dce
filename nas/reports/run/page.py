"""``report.html``: one interactive file that loads nothing."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable

from nas.reports.formatting import escape_html
from nas.reports.html import html_page, packed_text, resource, section
from nas.reports.run.block_diagram import SHARES_NOTE, cell_words, depth_table
from nas.reports.run.block_drawing import depth_shares_drawing, diagrams_drawing
from nas.reports.run.data import ReportData
from nas.reports.run.figures import Figure, history_figures, pareto_figure
from nas.reports.run.pareto_view import rows_in_words
from nas.reports.run.tables import Table
from nas.reports.svg import svg


def report_page(data: ReportData, pareto_png: bytes) -> str:
    """The whole page; `pareto_png` replaces the interactive plot where scripts are disabled."""
    from plotly.offline import get_plotlyjs

    sections = [_headline(data), _pareto(data, pareto_png), _networks(data), _diagrams(data)]
    sections += [_shares(data), _search(data), _claims(data)]
    plotly = get_plotlyjs()
    return html_page(
        data.title,
        data.subtitle,
        sections,
        scripts=[resource("run/page.js")],
        script_styles=_styles_of(plotly),
        packed=[plotly],
    )


def _styles_of(plotly: str) -> list[str]:
    """The style elements that plotly.js adds: one that it leaves empty and fills by rules, and constant ones."""
    return ["", *re.findall(r"\.textContent='([^'\\]*)'", plotly)]


def _paragraphs(sentences: Iterable[str], kind: str = "") -> str:
    mark = f' class="{kind}"' if kind else ""
    return "".join(f"<p{mark}>{escape_html(sentence)}</p>" for sentence in sentences)


def _headline(data: ReportData) -> str:
    line = data.headline
    figures = "".join(
        f"<div><dt>{escape_html(name)}</dt><dd>{escape_html(value)}</dd></div>" for name, value in line.figures
    )
    best = next((e for e in data.entries if e.kind == "best"), None)
    rows = ""
    if best is not None:
        key = best.candidate.key
        rows = (
            f"<details><summary>Rows of this network, and its file</summary><p><code>arch/{key}.json</code></p>"
            f"<p><code>{escape_html(best.candidate.arch)}</code></p>{_paragraphs([rows_in_words([best.candidate.arch])])}"
            "</details>"
        )
    tiles = f'<dl class="figures">{figures}</dl>' if figures else ""
    title = f"<h2>{escape_html(line.title)}</h2>"
    return f'<section class="result">{title}{tiles}{_paragraphs(line.sentences)}{rows}</section>'


def _figure(name: str, figure: Figure, fallback: str = "") -> str:
    # Packed, no text in it can close the element.
    text = packed_text(json.dumps(figure, allow_nan=False))
    data = f'<script type="application/json+gzip" id="data-{name}">{text}</script>'
    return f'<div class="plot {name}" data-figure="data-{name}"></div>{data}{fallback}'


def _pareto(data: ReportData, png: bytes) -> str:
    image = f'<noscript><img alt="Pareto plot" src="data:image/png;base64,{base64.b64encode(png).decode()}"></noscript>'
    hint = "Hover or tap for details; click a network on the front or a reference to see its blocks."
    notes = [hint, *data.plot_notes, rows_in_words(entry.candidate.arch for entry in data.entries)]
    title = f"{data.score.title} against latency"
    return section(title, _figure("pareto", pareto_figure(data.view), image), _paragraphs([" ".join(notes)], "note"))


def _table(table: Table, code_keys: bool = False) -> str:
    head = "".join(f"<th>{escape_html(name)}</th>" for name in table.header)
    body = ""
    for row in table.rows:
        first, *others = row.cells
        name = f"<code>{escape_html(first)}</code>" if code_keys and first == row.key else escape_html(first)
        if row.key and row.kind != "missed":
            name = f'<a href="#net-{escape_html(row.key)}">{name}</a>'
        if row.key and row.kind in ("best", "missed"):
            name += f" <small>{'best' if row.kind == 'best' else 'over the target'}</small>"
        cells = "".join(f"<td{_tone(cell)}>{escape_html(cell)}</td>" for cell in others)
        body += f'<tr class="{escape_html(row.kind)}"><th>{name}</th>{cells}</tr>'
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _tone(cell: str) -> str:
    """A class for verdicts, which differ by word and weight, not only by colour."""
    return f' class="{cell.split()[0]}"' if cell.split(" ")[0] in ("met", "missed") else ""


def _networks(data: ReportData) -> str:
    if not data.networks.rows:
        return ""
    notes = _paragraphs([" ".join(data.table_notes)], "note")
    return section("Front and references", _table(data.networks, True), notes)


def _diagrams(data: ReportData) -> str:
    if not data.sheet.diagrams:
        return ""
    note = (
        "One cell per block, from input to output. Blocks with feature maps of the same size (1/2 to 1/32 of the input "
        "side) are aligned. Height shows the kernel, width the expansion, a dark bar on top squeeze-and-excitation, "
        "and colour the activation."
    )
    note = f"{note} {cell_words(data.sheet)}".strip()
    drawing = f'<div class="wide">{svg(diagrams_drawing(data.sheet))}</div>'
    return section("What the networks look like", _paragraphs([note], "note"), drawing)


def _shares(data: ReportData) -> str:
    if not data.depth_shares:
        return ""
    chart = f'<div class="wide">{svg(depth_shares_drawing(data.depth_shares))}</div>'
    parts = [_table(depth_table(data.depth_shares)), _paragraphs([SHARES_NOTE], "note"), _paragraphs(data.similarity)]
    return section("Kernels, SE and activations by depth", chart, *parts)


def _search(data: ReportData) -> str:
    pairs = "".join(
        f"<div><dt>{escape_html(name)}</dt><dd>{escape_html(value)}</dd></div>" for name, value in data.search_facts
    )
    figures = [_figure(name, figure) for name, figure in history_figures(data.history, data.score)]
    plots = f'<div class="pair">{"".join(f"<div>{figure}</div>" for figure in figures)}</div>' if figures else ""
    note = (
        f"By {data.latency_word} latency, which the search used. Hypervolume is the share of the box (score 0 to 1, "
        "latency 0 to the target, or to the slowest candidate without a target) that the front dominates."
    )
    return section(
        "How the search went", plots, _paragraphs([note] if figures else [], "note"), f'<dl class="facts">{pairs}</dl>'
    )


def _claims(data: ReportData) -> str:
    def listing(claims: Iterable[str]) -> str:
        return "<ul>" + "".join(f"<li>{escape_html(claim)}</li>" for claim in claims) + "</ul>"

    findings = f"<div><h3>Findings</h3>{listing(data.findings)}</div>" if data.findings else ""
    limitations = f"<div><h3>Limitations</h3>{listing(data.limitations)}</div>"
    return section("What this run shows, and what it does not", f'<div class="claims">{findings}{limitations}</div>')
