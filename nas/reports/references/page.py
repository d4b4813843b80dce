"""The table of published networks as one HTML file, which loads nothing and runs no script."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from nas.references.published import Figure
from nas.reports.formatting import NONE, date_time, escape_html, megabytes, ms
from nas.reports.html import html_page, section
from nas.reports.references.plot import display_name, top1_drawing
from nas.reports.references.table import DIFFER_UNKNOWN, Note, ReferenceRow, ReferenceTable, percent_text
from nas.reports.svg import svg

TITLE = "Published networks: counted and published figures"
STYLE = """
main { max-width: 1220px; }
td.text, th.text { text-align: left; }
td.text { min-width: 130px; white-space: normal; }
td.text.lines { min-width: 270px; font-size: .8125rem; }
th:first-child { position: sticky; left: 0; background: #fff; }
@media (max-width: 640px) { th:first-child { white-space: normal; min-width: 9.5em; overflow-wrap: anywhere; } }
td, tbody th { vertical-align: top; }
tbody th small { display: block; }
td.text.broad { min-width: 320px; }
sup a { text-decoration: none; color: var(--reference); padding: 0 2px; }
ol.notes { padding-left: 26px; }
ol.notes li { margin-bottom: 9px; max-width: 100ch; overflow-wrap: anywhere; }
ol.notes li:target { background: var(--shade); }
"""
COUNTED = (
    "Parameters include the scale and shift of batch norm. A MAC is one multiply-accumulate of a convolution or a "
    "linear layer, squeeze-and-excitation included. Memory access is the float32 weights and activations that the "
    "operators read and write, each on its own. A small number beside a name links to an explanation where a published "
    "figure differs from the counted one by more than 0.5 %, beyond rounding."
)


# What the words beside a top-1 figure mean.
LABELS = {
    "authors": "the authors' repository",
    "slim": "the authors' repository, tensorflow/models",
    "osmr": "retrained by osmr/imgclsmob",
    "ICML": "the version in the proceedings, which is earlier than the latest on arXiv",
    "10-crop": "ten crops of each image",
    "V1": "torchvision's first weights",
    "V2": "torchvision's second weights, trained by a longer recipe",
    "tf_": "the authors' TensorFlow weights, converted",
    "aa": "trained with AutoAugment",
    "ra": "timm's recipe with RandAugment",
    "ra4": "a later timm recipe with RandAugment",
    "lamb": "timm's recipe with the LAMB optimizer",
    "a1": "timm's recipe A1 of ResNet strikes back",
}


def reference_page(table: ReferenceTable) -> str:
    """The whole page; every text in it is escaped."""
    where = f"Latency: {table.device}. " if table.device else ""
    created = f"{where}Created {date_time(table.made)} by nas {table.version}."
    sections = [_plot(table), _networks(table), _notes(table.notes), _phones(table.rows), _left_out(table)]
    return html_page(TITLE, created, sections, STYLE)


def _note(text: str) -> str:
    return f'<p class="note">{escape_html(text)}</p>'


def _grid(header: Iterable[tuple[str, str]], body: Iterable[str]) -> str:
    head = "".join(f"<th{_kind(kind)}>{escape_html(name)}</th>" for name, kind in header)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{"".join(body)}</tbody></table></div>'


def _kind(kind: str) -> str:
    return f' class="{kind}"' if kind else ""


def _plot(table: ReferenceTable) -> str:
    drawing = top1_drawing(table)
    if drawing is None:
        return ""
    return section("Published accuracy against latency", f'<div class="wide">{svg(drawing)}</div>')


def _networks(table: ReferenceTable) -> str:
    header = [("Network", ""), ("Input", ""), ("Parameters", ""), ("published", ""), ("MACs", ""), ("published", "")]
    header += [("Memory access", "")]
    header += [(f"{table.latency_word.capitalize()}, ms", "")] if table.device else []
    header += [("Top-1 as published, %", "text")]
    marks = table.marks
    body = [_network(row, marks[row.name], table.device is not None) for row in table.rows]
    notes = [_note(COUNTED)]
    if warnings := [row.latency.warning for row in table.rows if row.latency and row.latency.warning]:
        notes.append(_note(f"* This measurement is less reliable: {warnings[0]}."))
    if labels := labels_used(table.rows):
        words = "; ".join(f"{word}: {text}" for word, text in labels.items())
        notes.append(_note(f"Words beside a top-1 figure: {words}."))
    return section("Networks", _grid(header, body), *notes)


def labels_used(rows: Iterable[ReferenceRow]) -> dict[str, str]:
    """Meaning of the words beside the top-1 figures of these rows, in the order of `LABELS`."""
    words = {word for row in rows for source in row.top1 for word in source.split(" ")}
    return {word: text for word, text in LABELS.items() if word in words}


def _network(row: ReferenceRow, marks: tuple[int, ...], timed: bool) -> str:
    links = "".join(f'<sup><a href="#note-{number}">{number}</a></sup>' for number in marks)
    label = f"<small>{escape_html(row.name)}</small>" if display_name(row) != row.name else ""
    params, macs = row.figure("params"), row.figure("macs")
    cells = [f"{row.resolution} px", f"{row.params:,}", _published(params)]
    cells += [f"{row.macs / 1e6:,.1f} M", _published(macs), megabytes(row.memory_bytes)]
    top1 = "<br>".join(map(escape_html, _top1(row))) or NONE
    latency = ""
    if timed:
        noisy = " *" if row.latency and row.latency.warning else ""
        latency = f"<td>{escape_html(ms(row.latency.ms) + noisy if row.latency else NONE)}</td>"
    figures = "".join(f"<td>{escape_html(cell)}</td>" for cell in cells)
    name = f"<th>{escape_html(display_name(row))}{links}{label}</th>"
    return f'<tr>{name}{figures}{latency}<td class="text lines">{top1}</td></tr>'


def _published(figure: Figure | None) -> str:
    if figure is None:
        return NONE
    return f"{figure.value:,.0f} M" if figure.text.isdecimal() else f"{figure.text} M"


def _top1(row: ReferenceRow) -> list[str]:
    """One line per source: ``torchvision 74.042 (V1), 75.274 (V2)``."""
    lines: dict[str, list[str]] = {}
    for source, value in row.top1.items():
        who, _, which = source.partition(" ")
        lines.setdefault(who, []).append(percent_text(value) + (f" ({which})" if which else ""))
    return [f"{who} {', '.join(figures)}" for who, figures in lines.items()]


def _notes(notes: Sequence[Note]) -> str:
    known, unknown = [note for note in notes if not note.unknown], [note for note in notes if note.unknown]
    parts = [_list(known)] if known else []
    parts += [f"<p>{escape_html(DIFFER_UNKNOWN)}</p>", _list(unknown)] if unknown else []
    return section("Where counted and published figures differ", *parts) if parts else ""


def _list(notes: Sequence[Note]) -> str:
    items = "".join(f'<li id="note-{note.number}">{escape_html(note.lines())}</li>' for note in notes)
    return f'<ol class="notes" start="{notes[0].number}">{items}</ol>'


def _phones(rows: Iterable[ReferenceRow]) -> str:
    body = []
    for row in rows:
        by_source: dict[str, list[str]] = {}
        for one in row.phones:
            by_source.setdefault(one.source, []).append(f"{one.device} {one.ms:g} ms")
        for at, (source, figures) in enumerate(by_source.items()):
            name = escape_html(display_name(row)) if at == 0 else ""
            latency = f'<td class="text">{escape_html(", ".join(figures))}</td>'
            body.append(f'<tr><th>{name}</th>{latency}<td class="text broad">{escape_html(source)}</td></tr>')
    if not body:
        return ""
    note = "Sources differ on the same network: compare figures within one source only."
    grid = _grid([("Network", ""), ("Latency", "text"), ("Source and version", "text")], body)
    return section("Published latency", grid, _note(note))


def _left_out(table: ReferenceTable) -> str:
    items = "".join(f"<li>{escape_html(f'{name}: {reason}')}</li>" for name, reason in table.left_out.items())
    return section("Left out", f"<ul>{items}</ul>") if items else ""
