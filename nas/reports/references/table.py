"""The table of published networks as plain data, and as text for a terminal; the page and the plot are made of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from nas.latency.record import Latency
from nas.references.published import Difference, Figure, PhoneLatency, Published
from nas.reports.formatting import NONE, megabytes, ms, relative

if TYPE_CHECKING:
    import pandas as pd

_UNIT = re.compile(r"(?<=\d) (?=M\b|MB\b|%|ms\b)")
# Of top-1 by the first word of who states it, the one to plot by first: paper, authors' repository, torchvision, timm.
SOURCES, OTHERS = {"paper": 0, "authors": 1, "slim": 1, "torchvision": 2, "timm": 3}, 4
WIDTH = 120
UNEXPLAINED = "not explained"
LEGEND = (
    "params and MACs (in millions) are counted here, beside them as published",
    "memory: MB of float32 weights and activations read and written",
    "top-1 in % as published (a: by the authors' repository, o: by others; 71.9/72.2: two trainings of one source)",
)
DIFFER = "Ours and theirs differ by more than 0.5 %:"
DIFFER_UNKNOWN = "Ours and theirs differ, and we do not know why:"
MAX_CASES = 3  # of a note, on the terminal; the page has all


@dataclass(frozen=True)
class ReferenceRow:
    """One network at one size: what is counted and timed here beside what is published.

    Args:
        name: as `nas.reference` takes it, multipliers included; or ``torchvision:NAME``, ``timm:NAME``.
        family: names of one family share it; a colour of the plot.
        resolution: input side in pixels.
        params: counted.
        macs: counted.
        memory_bytes: float32 weights and activations read and written.
        published: of this size, the entry to be shown first standing first.
        latency: measured now, or predicted by the device that was asked for; None if none was, or it cannot tell.
    """

    name: str
    family: str
    resolution: int
    params: int
    macs: int
    memory_bytes: int
    published: tuple[Published, ...]
    latency: Latency | None = None

    @property
    def top1(self) -> dict[str, float]:
        """Top-1 in percent by source, all entries together, in the order of `SOURCES`, then others."""
        found = {who: value for entry in reversed(self.published) for who, value in entry.top1.items()}
        return dict(sorted(found.items(), key=lambda item: (_source_rank(item[0]), item[0])))

    @property
    def plotted_top1(self) -> tuple[str, float] | None:
        """The source and the figure a plot shows: the first of `top1`."""
        return next(iter(self.top1.items()), None)

    @property
    def phones(self) -> tuple[PhoneLatency, ...]:
        return tuple(latency for entry in self.published for latency in entry.latency)

    @property
    def differences(self) -> tuple[Difference, ...]:
        return tuple(one for entry in self.published for one in entry.differences(self.params, self.macs))

    def figure(self, quantity: str) -> Figure | None:
        """The first published figure of ``params`` or ``macs``."""
        figures = (entry.params_m if quantity == "params" else entry.macs_m for entry in self.published)
        return next((figure for figure in figures if figure is not None), None)

    def flat(self) -> dict[str, Any]:
        """One line of the CSV, plain values; None where nothing is known."""
        params, macs, top1, latency = self.figure("params"), self.figure("macs"), self.plotted_top1, self.latency
        return {
            "name": self.name,
            "family": self.family,
            "resolution": self.resolution,
            "params": self.params,
            "params_published_m": params.value if params else None,
            "macs": self.macs,
            "macs_published_m": macs.value if macs else None,
            "memory_bytes": self.memory_bytes,
            "top1": top1[1] if top1 else None,
            "top1_source": top1[0] if top1 else None,
            "top1_all": "; ".join(f"{percent_text(value)} {source}" for source, value in self.top1.items()) or None,
            "latency_ms": latency.ms if latency else None,
            "latency_iqr_ms": latency.iqr_ms if latency else None,
            "latency_source": latency.source if latency else None,
            "latency_device": latency.device if latency else None,
            "latency_runtime": latency.runtime if latency else None,
            "latency_threads": latency.threads if latency else None,
            "latency_warning": latency.warning if latency else None,
            "phone_latency": "; ".join(f"{p.device} {p.ms:g} ms ({p.source})" for p in self.phones) or None,
            "published_sources": "; ".join(dict.fromkeys(entry.source for entry in self.published)) or None,
            "differs": "; ".join(map(_reason, self.differences)) or None,
        }

    def to_dict(self) -> dict[str, Any]:
        """`flat`, with every published entry whole."""
        entries = [
            asdict(entry)
            | {"params_m": entry.params_m and entry.params_m.value, "macs_m": entry.macs_m and entry.macs_m.value}
            for entry in self.published
        ]
        return self.flat() | {"published": entries}


@dataclass(frozen=True)
class Note:
    """An explanation some rows bear a mark of.

    Args:
        number: the mark, from 1.
        text: why figures differ.
        unknown: nobody knows why; the text says what is known.
        cases: the rows and what differs in them.
    """

    number: int
    text: str
    unknown: bool
    cases: tuple[tuple[str, Difference], ...]

    def lines(self, most: int | None = None) -> str:
        """All in one sentence; of more than `most` cases the rest is counted."""
        by_place: dict[tuple[str, str], list[str]] = {}
        for name, one in self.cases:
            by_place.setdefault((name, one.source), []).append(_told(one))
        cases = [f"{name}: {' and '.join(told)} in {source}" for (name, source), told in by_place.items()]
        why = self.text[0].upper() + self.text[1:] if self.unknown else f"Why: {self.text}"
        rest = len(cases) - (most or len(cases))
        return "; ".join(cases[:most]) + (f"; and {rest} more" if rest > 0 else "") + f". {why}."


@dataclass(frozen=True)
class ReferenceTable:
    """The whole table.

    Args:
        rows: in order.
        left_out: networks that stand in no row, and why.
        made: date and time.
        device: what the latencies hold for, in words; None without latencies.
        version: of this program.
    """

    rows: tuple[ReferenceRow, ...]
    left_out: dict[str, str]
    made: str
    device: str | None
    version: str

    @property
    def notes(self) -> tuple[Note, ...]:
        """One per explanation, in the order in which rows need them; last those of unknown cause."""
        found: dict[tuple[bool, str], list[tuple[str, Difference]]] = {}
        for row in self.rows:
            for one in row.differences:
                found.setdefault((one.unknown, one.explanation or UNEXPLAINED), []).append((row.name, one))
        kinds = sorted(found, key=lambda kind: kind[0])
        return tuple(
            Note(at, text, unknown, tuple(found[unknown, text])) for at, (unknown, text) in enumerate(kinds, 1)
        )

    @property
    def marks(self) -> dict[str, tuple[int, ...]]:
        """The numbers of the notes of each row, by its name."""
        found: dict[str, list[int]] = {row.name: [] for row in self.rows}
        for note in self.notes:
            for name in dict.fromkeys(name for name, _ in note.cases):
                found[name].append(note.number)
        return {name: tuple(numbers) for name, numbers in found.items()}

    def frame(self) -> pd.DataFrame:
        """One line per row, `ReferenceRow.flat`."""
        import pandas as pd

        return pd.DataFrame([row.flat() for row in self.rows])

    def to_dict(self) -> dict[str, Any]:
        """What ``--json`` prints."""
        facts = {"made": self.made, "version": self.version, "device": self.device}
        return facts | {"networks": [row.to_dict() for row in self.rows], "left_out": self.left_out}

    def _about_latency(self) -> list[str]:
        noisy = [row.latency.warning for row in self.rows if row.latency and row.latency.warning]
        told = [f"latency: {self.device}"] if self.device else []
        return told + ([f"*: {noisy[0]}" + (" (the first of them)" if len(noisy) > 1 else "")] if noisy else [])

    def __str__(self) -> str:
        """For a terminal of 120 columns."""
        parts = [_grid(self), _wrapped("", "; ".join([*LEGEND, *self._about_latency()]))]
        phones = [line for row in self.rows for line in _phone_lines(row)]
        if phones:
            parts.append("\n".join(["Published latency, which compares only within one source:", *phones]))
        for unknown, head in enumerate((DIFFER, DIFFER_UNKNOWN)):
            notes = (note for note in self.notes if note.unknown == bool(unknown))
            told = [_wrapped(f"[{note.number}] ", note.lines(MAX_CASES)) for note in notes]
            parts += ["\n".join([head, *told])] if told else []
        if self.left_out:
            out = [_wrapped(f"{name}: ", reason) for name, reason in self.left_out.items()]
            parts.append("\n".join(["Left out:", *out]))
        return "\n\n".join(parts)


def _source_rank(source: str) -> int:
    return SOURCES.get(source.split(" ")[0], OTHERS)


def _told(one: Difference) -> str:
    """
    >>> _told(Difference("macs", Figure.of("317"), 325.4, 0.0265, "slim", None))
    '317 M MACs (325.4 M here, +2.6 %)'
    """
    what = "parameters" if one.quantity == "params" else "MACs"
    return f"{one.published.text} M {what} ({_digits(one.counted)} M here, {relative(one.relative)})"


def _reason(one: Difference) -> str:
    return f"{_told(one)} in {one.source}: {one.explanation or UNEXPLAINED}"


def _digits(millions: float) -> str:
    return f"{millions:,.3f}" if millions < 100 else f"{millions:,.1f}"


def percent_text(value: float) -> str:
    """As published, one decimal at least.

    >>> percent_text(72.0), percent_text(75.274)
    ('72.0', '75.274')
    """
    return f"{value:.1f}" if round(value, 1) == value else f"{value:g}"


def top1_cells(row: ReferenceRow, most: int = 2) -> tuple[str, ...]:
    """Three cells: the paper's, torchvision's and timm's figures, `most` of each. Where no paper states one, the first
    has that of the authors' repository, marked ``a``; where nobody of these does, that of others, marked ``o``."""
    found: list[list[str]] = [[] for _ in range(OTHERS + 1)]
    for source, value in row.top1.items():
        rank = _source_rank(source)
        found[rank].append(f"{value:.1f}" + {1: "a", OTHERS: "o"}.get(rank, ""))
    paper, authors, *libraries, others = found
    first = paper or authors or ([] if any(libraries) else others)
    cells = (first[:1], *libraries)  # a paper's other figures are those of its earlier versions
    return tuple("/".join(dict.fromkeys(cell[:most])) or NONE for cell in cells)


def _grid(table: ReferenceTable) -> str:
    """As much as fits: two figures of one source beside each other, or one."""
    two = _columns(table, 2)
    return two if max(map(len, two.splitlines())) <= WIDTH else _columns(table, 1)


def _columns(table: ReferenceTable, most: int) -> str:
    predicted = any(row.latency and row.latency.source == "predicted" for row in table.rows)
    here = ("pred. ms" if predicted else "ms here",) if table.device else ()
    header = ("network", "px", "params", "publ. M", "MACs M", "publ.", "memory", "paper", "torchv.", "timm", *here, "")
    marks, lines = table.marks, [header]
    for row in table.rows:
        params, macs = row.figure("params"), row.figure("macs")
        cells = [row.name, str(row.resolution), f"{row.params:,}", params.text if params else NONE]
        cells += [f"{row.macs / 1e6:.1f}", macs.text if macs else NONE, megabytes(row.memory_bytes).removesuffix(" MB")]
        cells += top1_cells(row, most)
        noisy = "*" if row.latency and row.latency.warning else ""
        cells += [ms(row.latency.ms) + noisy if row.latency else NONE] if here else []
        lines.append((*cells, f"[{','.join(map(str, marks[row.name]))}]" if marks[row.name] else ""))
    widths = [max(len(line[at]) for line in lines) for at in range(len(header))]
    return "\n".join(_line(line, widths) for line in lines)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *middle = (cell.rjust(width) for cell, width in zip(cells[:-1], widths[:-1], strict=True))
    return " ".join([first.strip().ljust(widths[0]), *middle, cells[-1]]).rstrip()


def _phone_lines(row: ReferenceRow) -> list[str]:
    by_source: dict[str, list[str]] = {}
    for one in row.phones:
        by_source.setdefault(one.source, []).append(f"{one.device} {one.ms:g}")
    parts = [f"{', '.join(figures)} ({source})" for source, figures in by_source.items()]
    return [_wrapped(f"{row.name}: ", "; ".join(parts))] if parts else []


def _wrapped(head: str, text: str) -> str:
    """Broken into lines, but not between a number and its unit."""
    kept = _UNIT.sub("\N{NO-BREAK SPACE}", head + text)
    lines = wrap(kept, WIDTH, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)
    return "\n".join(lines).replace("\N{NO-BREAK SPACE}", " ")
