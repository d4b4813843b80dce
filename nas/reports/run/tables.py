"""What the report says, as plain data: the networks, the counts, the course of the search. No drawing here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from nas.engine.run.pareto import front_mask, hypervolume
from nas.engine.run.record import Candidate, Record
from nas.latency.record import Latency
from nas.reports.formatting import NONE, Score, circumstances, measured_ms, megabytes, millions, ms, relative
from nas.reports.palette import reference_name

Kind = Literal["best", "front", "missed", "reference"]


@dataclass(frozen=True, slots=True)
class Entry:
    """A network that stands in the tables.

    Args:
        candidate: the network and its figures.
        kind: ``best`` and ``front`` are on the front, best is its most accurate; ``missed`` was predicted within the
            target and measured above it; ``reference`` is a fixed network.
        name: what it is called; of a found network its key.
        meets: whether it is within the target; None without a target.
        unmeasured: what its latency is called as long as it was not measured: ``predicted``, or ``modelled`` of a
            device that is not at hand.
    """

    candidate: Candidate
    kind: Kind
    name: str
    meets: bool | None
    unmeasured: str = "predicted"

    @property
    def error(self) -> float | None:
        """Predicted latency relative to the measured one, minus 1; None if it was not measured."""
        measured = self.candidate.measured
        return None if measured is None else self.candidate.predicted.ms / measured.ms - 1

    @property
    def source(self) -> str:
        """Where `Candidate.latency_ms` comes from."""
        source = (self.candidate.measured or self.candidate.predicted).source
        return source if source == "measured" else self.unmeasured


@dataclass(frozen=True)
class Row:
    """One line of a table: its cells as text, and what it is about."""

    cells: tuple[str, ...]
    kind: str = ""
    key: str = ""


@dataclass(frozen=True)
class Table:
    """A table as text. The first column names the row, the others are figures."""

    header: tuple[str, ...]
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Counts:
    """Candidates by what became of them, and the seconds they took."""

    complete: int
    failed: int
    too_slow: int
    seconds: float

    @property
    def total(self) -> int:
        return self.complete + self.failed + self.too_slow


@dataclass(frozen=True)
class Step:
    """The state of the search after `finished` candidates, by predicted latency, as the search saw it."""

    finished: int
    best: float | None
    hypervolume: float | None


def section(options: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A part of the options; one that is not a mapping is only a name."""
    value = options.get(name)
    if isinstance(value, Mapping):
        return value
    return {} if value is None else {"name": value}


def number(value: Any) -> float | None:
    """`value` if it is a finite number."""
    good = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < float("inf")
    return float(value) if good else None


def score_of(record: Record) -> Score:
    """Percent for the proxy's accuracy, plain for a custom evaluation (``options["proxy"]`` is None)."""
    scores = [c.proxy_accuracy for c in (*record.candidates, *record.references) if c.proxy_accuracy is not None]
    return Score(record.options.get("proxy") is not None and all(0 <= score <= 1 for score in scores))


def entries(record: Record) -> list[Entry]:
    """The front from the most accurate down, then what missed the target when measured, then the references."""
    word = unmeasured(record)
    found = [
        Entry(c, "front" if at else "best", c.key, meets(record, c), word)
        for at, c in enumerate(reversed(record.front))
    ]
    late = [Entry(c, "missed", c.key, False, word) for c in record.missed]
    fixed = [Entry(c, "reference", reference_name(c.name or c.key), meets(record, c), word) for c in record.references]
    return [*found, *late, *fixed]


def unmeasured(record: Record) -> str:
    """What a latency of this run that was not measured is called."""
    return "modelled" if record.modelled else "predicted"


def meets(record: Record, candidate: Candidate) -> bool | None:
    """Within the target, by the measured latency if there is one; None without a target."""
    return None if record.target_ms is None else record.meets(candidate)


def counts(record: Record) -> Counts:
    states = [c.state for c in record.candidates]
    return Counts(
        complete=states.count("COMPLETE"),
        failed=states.count("FAILED"),
        too_slow=states.count("TOO_SLOW"),
        seconds=sum(c.seconds for c in record.candidates),
    )


def settings(latencies: Sequence[Latency]) -> list[str]:
    """The distinct circumstances of these latencies: one, unless runs were mixed."""
    return list(dict.fromkeys(circumstances(latency) for latency in latencies))


def front_at(record: Record, limit_ms: float) -> Candidate | None:
    """The most accurate front member that takes at most `limit_ms`."""
    within = [c for c in record.front if c.latency_ms <= limit_ms]
    return within[-1] if within else None


def verdict(entry: Entry) -> str:
    """The target, judged by the measured latency where there is one."""
    if entry.meets is None:
        return NONE
    return ("met" if entry.meets else "missed") + ("" if entry.source == "measured" else f" ({entry.source})")


def network_table(record: Record, listed: Sequence[Entry]) -> Table:
    """Front, missed and references with predicted and measured latency side by side."""
    score = score_of(record)
    goal = record.target_ms is not None
    other = f"{unmeasured(record).capitalize()}, ms"
    header = ["Network", score.name.capitalize(), "Measured, ms", other, "Prediction error"]
    header += [*(["Target"] if goal else []), "Parameters", "MACs", "Memory access", "Input"]
    rows = []
    for entry in listed:
        c = entry.candidate
        noisy = "*" if c.measured is not None and c.measured.warning else ""
        cells = [entry.name, score.text(c.proxy_accuracy)]
        cells += [measured_ms(c.measured) + noisy if c.measured else NONE, ms(c.predicted.ms), relative(entry.error)]
        cells += [verdict(entry)] if goal else []
        cells += [millions(c.params), millions(c.macs), megabytes(c.memory_bytes), f"{c.arch.resolution} px"]
        rows.append(Row(tuple(cells), entry.kind, c.key))
    return Table(tuple(header), tuple(rows))


def course(record: Record) -> list[Step]:
    """After each finished candidate: the best score within the target and the hypervolume of the front so far.

    The hypervolume is the share of score 0..1 by latency 0..(target, else the slowest candidate) that is dominated;
    None where a score lies outside 0..1 and the share means nothing.
    """
    limit = record.target_ms or max((c.predicted.ms for c in record.candidates), default=0.0)
    scores = [c.proxy_accuracy for c in record.candidates if c.proxy_accuracy is not None]
    bounded = all(0 <= score <= 1 for score in scores) and limit > 0
    steps: list[Step] = []
    best: float | None = None
    share = 0.0
    accuracy: list[float] = []
    latency: list[float] = []
    for at, candidate in enumerate(record.candidates, start=1):
        value, cost = candidate.proxy_accuracy, candidate.predicted.ms
        if value is not None and cost <= limit:
            best = value if best is None else max(best, value)
            accuracy, latency = [*accuracy, value], [*latency, cost]
            mask = front_mask(accuracy, latency)
            if mask[-1] and bounded:
                share = hypervolume(accuracy, latency, limit) or 0.0
            accuracy = [a for a, on in zip(accuracy, mask, strict=True) if on]
            latency = [c for c, on in zip(latency, mask, strict=True) if on]
        steps.append(Step(at, best, share if bounded and best is not None else None))
    return steps
