"""``report.html``: one file, interactive, that loads nothing from anywhere. Its policy header forbids it to."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from importlib import resources

from nas.reports.formatting import escape_html
from nas.reports.run.block_diagram import cell_words, depth_table
from nas.reports.run.block_drawing import depth_shares_drawing, diagrams_drawing
from nas.reports.run.data import ReportData
from nas.reports.run.figures import Figure, history_figures, pareto_figure
from nas.reports.run.pareto_view import rows_in_words
from nas.reports.run.tables import Table
from nas.reports.svg import svg

POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"


def html_page(data: ReportData, pareto_png: bytes) -> str:
    """The whole page. `pareto_png` stands in for the interactive plot where scripts do not run."""
    from plotly.offline import get_plotlyjs

    sections = [_headline(data), _pareto(data, pareto_png), _networks(data), _diagrams(data)]
    sections += [_shares(data), _search(data), _claims(data)]
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape_html(data.title)}</title><style>{_part('style.css')}</style></head>\n<body><main>\n"
        f"<header><h1>{escape_html(data.title)}</h1><p>{escape_html(data.subtitle)}</p></header>\n"
        + "\n".join(sections)
        + f"\n</main>\n<script>{get_plotlyjs()}</script>\n<script>{_part('run/page.js')}</script>\n</body></html>\n"
    )


def _part(name: str) -> str:
    return resources.files("nas.reports").joinpath(*name.split("/")).read_text(encoding="utf-8")


def _section(title: str, *parts: str) -> str:
    return f"<section><h2>{escape_html(title)}</h2>{''.join(parts)}</section>"


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
            f"<details><summary>Its rows, and where it is saved</summary><p><code>arch/{key}.json</code></p>"
            f"<p><code>{escape_html(best.candidate.arch)}</code></p><p>{escape_html(rows_in_words([best.candidate.arch]))}</p></details>"
        )
    tiles = f'<dl class="figures">{figures}</dl>' if figures else ""
    title = f"<h2>{escape_html(line.title)}</h2>"
    return f'<section class="result">{title}{tiles}{_paragraphs(line.sentences)}{rows}</section>'


def _figure(name: str, figure: Figure, fallback: str = "") -> str:
    # No "<" survives in the JSON, so no text in it can close the element.
    text = json.dumps(figure, allow_nan=False).replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
    height = figure["layout"]["height"]
    data = f'<script type="application/json" id="data-{name}">{text}</script>'
    return f'<div class="plot" data-figure="data-{name}" style="min-height:{height}px"></div>{data}{fallback}'


def _pareto(data: ReportData, png: bytes) -> str:
    image = f'<noscript><img alt="Pareto plot" src="data:image/png;base64,{base64.b64encode(png).decode()}"></noscript>'
    counts, view = data.counts, data.view
    notes = [
        data.latency_note,
        "Hover or tap for rows and figures, click a front network or a reference to see its blocks.",
        *view.notes,
    ]
    if counts.failed:
        notes.append(f"{counts.failed:,} failed {'candidate' if counts.failed == 1 else 'candidates'} not drawn.")
    title = f"{data.score.name.capitalize()} against latency"
    notes.append(rows_in_words(entry.candidate.arch for entry in data.entries))
    return _section(title, _figure("pareto", pareto_figure(view), image), _paragraphs([" ".join(notes)], "note"))


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
    """Verdicts stand out by weight and by word, not by colour alone."""
    return f' class="{cell.split()[0]}"' if cell.split(" ")[0] in ("met", "missed") else ""


def _networks(data: ReportData) -> str:
    if not data.networks.rows:
        return ""
    notes = ["Latency: " + "; ".join(data.conditions) + ". Prediction error is predicted relative to measured."]
    if any(e.meets is not None for e in data.entries):
        notes.append("The target is judged by the measured latency, by the predicted one only where it says so.")
    notes.append("Parameters, MACs and memory access (float32 weights and activations) at 1000 classes.")
    if any(e.candidate.measured is not None and e.candidate.measured.warning for e in data.entries):
        notes.append("* The measurement deserves less trust; see the end of the report.")
    return _section("Front and references", _table(data.networks, True), _paragraphs([" ".join(notes)], "note"))


def _diagrams(data: ReportData) -> str:
    if not data.sheet.diagrams:
        return ""
    note = (
        "One cell per block, from input to output; blocks at the same size of the feature map (1/2 to 1/32 of the "
        "input's side) stand above each other. Taller is a larger kernel, wider a larger expansion, the dark lid is "
        "squeeze-and-excitation, the colour is the activation."
    )
    note = f"{note} {cell_words(data.sheet)}".strip()
    drawing = f'<div class="wide">{svg(diagrams_drawing(data.sheet))}</div>'
    return _section("What the networks look like", _paragraphs([note], "note"), drawing)


def _shares(data: ReportData) -> str:
    if not data.depth_shares:
        return ""
    chart = f'<div class="wide">{svg(depth_shares_drawing(data.depth_shares))}</div>'
    note = "Share of the blocks in the first · middle · last third of each network."
    parts = [_table(depth_table(data.depth_shares)), _paragraphs([note], "note"), _paragraphs(data.similarity)]
    return _section("Kernels, SE and activations by depth", chart, *parts)


def _search(data: ReportData) -> str:
    pairs = "".join(
        f"<div><dt>{escape_html(name)}</dt><dd>{escape_html(value)}</dd></div>" for name, value in data.search_facts
    )
    figures = [_figure(name, figure) for name, figure in history_figures(data.history, data.score)]
    plots = f'<div class="pair">{"".join(f"<div>{figure}</div>" for figure in figures)}</div>' if figures else ""
    note = (
        "By predicted latency, as the search saw it. Hypervolume is the share of the box (score 0 to 1, latency 0 to "
        "the target, else to the slowest candidate) that the front dominates."
    )
    return _section(
        "How the search went", plots, _paragraphs([note] if figures else [], "note"), f'<dl class="facts">{pairs}</dl>'
    )


def _claims(data: ReportData) -> str:
    def listing(claims: Iterable[str]) -> str:
        return "<ul>" + "".join(f"<li>{escape_html(claim)}</li>" for claim in claims) + "</ul>"

    can = f"<div><h3>It shows</h3>{listing(data.findings)}</div>" if data.findings else ""
    cannot = f"<div><h3>It is limited by</h3>{listing(data.limitations)}</div>"
    return _section("What this run can and cannot claim", f'<div class="claims">{can}{cannot}</div>')
