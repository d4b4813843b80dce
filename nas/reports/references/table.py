"""The table of published networks as plain data, and as text for a terminal."""

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
# Rank of a top-1 figure by the first word of its source; the lowest rank is plotted.
SOURCE_RANKS, OTHERS = {"paper": 0, "authors": 1, "slim": 1, "torchvision": 2, "timm": 3}, 4
WIDTH = 120
UNEXPLAINED = "not explained"
LEGEND = (
    "params and MACs (millions): counted here, then as published",
    "memory: MB of float32 weights and activations read and written",
    "top-1 in % as published (a: authors' repository; o: others; 71.9/72.2: two trainings by one source)",
)
DIFFER = "Counted and published figures differ by more than 0.5 %:"
DIFFER_UNKNOWN = "Counted and published figures differ for an unknown reason:"
MAX_CASES = 3  # a note names at most this many on the terminal; the page names all


@dataclass(frozen=True)
class ReferenceRow:
    """One network at one size: figures counted and timed here, and published ones.

    Args:
        name: name with multipliers, as `nas.reference` accepts it; or ``torchvision:NAME``, ``timm:NAME``.
        family: family of the network, which decides its colour in the plot.
        resolution: input side in pixels.
        params: number of parameters, counted here.
        macs: multiply-accumulates, counted here.
        memory_bytes: bytes of float32 weights and activations read and written.
        published: published entries for this size, the preferred one first.
        latency: latency measured now, or predicted by the chosen device; None without a device, or if the device cannot
            predict this network.
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
        """Top-1 in percent by source, from all entries, in the order of `SOURCE_RANKS`."""
        figures = {who: value for entry in reversed(self.published) for who, value in entry.top1.items()}
        return dict(sorted(figures.items(), key=lambda item: (_source_rank(item[0]), item[0])))

    @property
    def plotted_top1(self) -> tuple[str, float] | None:
        """The source and the figure that the plot shows: the first of `top1`."""
        return next(iter(self.top1.items()), None)

    @property
    def phones(self) -> tuple[PhoneLatency, ...]:
        """Published latencies."""
        return tuple(latency for entry in self.published for latency in entry.latency)

    @property
    def differences(self) -> tuple[Difference, ...]:
        """Published figures that differ from the counted ones."""
        return tuple(one for entry in self.published for one in entry.differences(self.params, self.macs))

    def figure(self, quantity: str) -> Figure | None:
        """The first published figure of ``params`` or ``macs``."""
        figures = (entry.params_m if quantity == "params" else entry.macs_m for entry in self.published)
        return next((figure for figure in figures if figure is not None), None)

    def flat(self) -> dict[str, Any]:
        """One line of the CSV as plain values; None where a figure is unknown."""
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
        """`flat`, plus every published entry in full."""
        entries = [
            asdict(entry)
            | {"params_m": entry.params_m and entry.params_m.value, "macs_m": entry.macs_m and entry.macs_m.value}
            for entry in self.published
        ]
        return self.flat() | {"published": entries}


@dataclass(frozen=True)
class Note:
    """An explanation that rows refer to by its number.

    Args:
        number: reference number, from 1.
        text: reason why figures differ.
        unknown: whether the reason is unknown; the text then says what is known.
        cases: names of rows, each with the figure that differs.
    """

    number: int
    text: str
    unknown: bool
    cases: tuple[tuple[str, Difference], ...]

    def lines(self, most: int | None = None) -> str:
        """The cases and the reason in one line; cases beyond `most` are only counted."""
        by_place: dict[tuple[str, str], list[str]] = {}
        for name, one in self.cases:
            by_place.setdefault((name, one.source), []).append(_difference_text(one))
        cases = [f"{name}: {' and '.join(texts)} in {source}" for (name, source), texts in by_place.items()]
        why = self.text[0].upper() + self.text[1:] if self.unknown else f"Why: {self.text}"
        rest = len(cases) - (most or len(cases))
        return "; ".join(cases[:most]) + (f"; and {rest} more" if rest > 0 else "") + f". {why}."


@dataclass(frozen=True)
class ReferenceTable:
    """The whole table.

    Args:
        rows: the networks, in order.
        left_out: published networks without a row, each with the reason.
        made: date and time of creation, ISO 8601.
        device: source of the latencies, in words; None without latencies.
        version: version of this program.
    """

    rows: tuple[ReferenceRow, ...]
    left_out: dict[str, str]
    made: str
    device: str | None
    version: str

    @property
    def latency_word(self) -> str:
        """``predicted`` if any latency is, else ``measured``."""
        predicted = any(row.latency and row.latency.source == "predicted" for row in self.rows)
        return "predicted" if predicted else "measured"

    @property
    def notes(self) -> tuple[Note, ...]:
        """One note per explanation, in the order of the rows; notes on unknown reasons come last."""
        cases: dict[tuple[bool, str], list[tuple[str, Difference]]] = {}
        for row in self.rows:
            for one in row.differences:
                cases.setdefault((one.unknown, one.explanation or UNEXPLAINED), []).append((row.name, one))
        kinds = sorted(cases, key=lambda kind: kind[0])
        return tuple(
            Note(at, text, unknown, tuple(cases[unknown, text])) for at, (unknown, text) in enumerate(kinds, 1)
        )

    @property
    def marks(self) -> dict[str, tuple[int, ...]]:
        """Numbers of the notes on each row, by the name of the row."""
        marks: dict[str, list[int]] = {row.name: [] for row in self.rows}
        for note in self.notes:
            for name in dict.fromkeys(name for name, _ in note.cases):
                marks[name].append(note.number)
        return {name: tuple(numbers) for name, numbers in marks.items()}

    def frame(self) -> pd.DataFrame:
        """A pandas data frame with one line per row, see `ReferenceRow.flat`."""
        import pandas as pd

        return pd.DataFrame([row.flat() for row in self.rows])

    def to_dict(self) -> dict[str, Any]:
        """Plain values for ``--json``."""
        facts = {"made": self.made, "version": self.version, "device": self.device}
        return facts | {"networks": [row.to_dict() for row in self.rows], "left_out": self.left_out}

    def _about_latency(self) -> list[str]:
        warnings = [row.latency.warning for row in self.rows if row.latency and row.latency.warning]
        about = [f"latency: {self.device}"] if self.device else []
        if warnings:
            about.append(f"*: {warnings[0]}" + (f" (first of {len(warnings)} warnings)" if len(warnings) > 1 else ""))
        return about

    def __str__(self) -> str:
        """The table for a terminal of 120 columns."""
        parts = [_grid(self), _wrapped("", "; ".join([*LEGEND, *self._about_latency()]))]
        phones = [line for row in self.rows for line in _phone_lines(row)]
        if phones:
            parts.append("\n".join(["Published latency (compare only within one source):", *phones]))
        for unknown, head in enumerate((DIFFER, DIFFER_UNKNOWN)):
            notes = (note for note in self.notes if note.unknown == bool(unknown))
            texts = [_wrapped(f"[{note.number}] ", note.lines(MAX_CASES)) for note in notes]
            parts += ["\n".join([head, *texts])] if texts else []
        if self.left_out:
            reasons = [_wrapped(f"{name}: ", reason) for name, reason in self.left_out.items()]
            parts.append("\n".join(["Left out:", *reasons]))
        return "\n\n".join(parts)


def _source_rank(source: str) -> int:
    return SOURCE_RANKS.get(source.split(" ")[0], OTHERS)


def _difference_text(one: Difference) -> str:
    """
    >>> _difference_text(Difference("macs", Figure.of("317"), 325.4, 0.0265, "slim", None))
    '317 M MACs (325.4 M here, +2.6 %)'
    """
    what = "parameters" if one.quantity == "params" else "MACs"
    return f"{one.published.text} M {what} ({_digits(one.counted)} M here, {relative(one.relative)})"


def _reason(one: Difference) -> str:
    return f"{_difference_text(one)} in {one.source}: {one.explanation or UNEXPLAINED}"


def _digits(millions: float) -> str:
    return f"{millions:,.3f}" if millions < 100 else f"{millions:,.1f}"


def percent_text(value: float) -> str:
    """A percentage as published, with one decimal at least.

    >>> percent_text(72.0), percent_text(75.274)
    ('72.0', '75.274')
    """
    return f"{value:.1f}" if round(value, 1) == value else f"{value:g}"


def top1_cells(row: ReferenceRow, most: int = 2) -> tuple[str, ...]:
    """Top-1 figures of the paper, torchvision and timm: three cells, at most `most` figures each.

    Without a figure from the paper, the first cell shows that of the authors' repository, marked ``a``. Without any of
    these, it shows the figure of another source, marked ``o``.
    """
    by_rank: list[list[str]] = [[] for _ in range(OTHERS + 1)]
    for source, value in row.top1.items():
        rank = _source_rank(source)
        by_rank[rank].append(f"{value:.1f}" + {1: "a", OTHERS: "o"}.get(rank, ""))
    paper, authors, *libraries, others = by_rank
    first = paper or authors or ([] if any(libraries) else others)
    cells = (first[:1], *libraries)  # further figures of a paper come from its earlier versions
    return tuple("/".join(dict.fromkeys(cell[:most])) or NONE for cell in cells)


def _grid(table: ReferenceTable) -> str:
    """The widest version that fits: with two top-1 figures per source, or with one."""
    two = _columns(table, 2)
    return two if max(map(len, two.splitlines())) <= WIDTH else _columns(table, 1)


def _columns(table: ReferenceTable, most: int) -> str:
    here = ("pred. ms" if table.latency_word == "predicted" else "ms here",) if table.device else ()
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
    """Break into lines, but not between a number and its unit."""
    kept = _UNIT.sub("\N{NO-BREAK SPACE}", head + text)
    lines = wrap(kept, WIDTH, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)
    return "\n".join(lines).replace("\N{NO-BREAK SPACE}", " ")
