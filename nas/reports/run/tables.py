"""The tables of the report as plain data: networks, counts, and the history of the search."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from nas.accuracy.posterior import Posterior
from nas.accuracy.sources import IMAGENET
from nas.engine.run.pareto import front_mask, hypervolume
from nas.engine.run.record import Candidate, Record
from nas.latency.record import Latency
from nas.references.published import published_top1
from nas.references.table import split_name
from nas.reports.formatting import NONE, Score, chance, conditions, measured_ms, megabytes, millions, ms, relative
from nas.reports.names import reference_name
from nas.system.errors import InputError
from nas.system.validate import is_number

Kind = Literal["best", "front", "missed", "reference"]


@dataclass(frozen=True, slots=True)
class Entry:
    """A network that the tables list.

    Args:
        candidate: the network and its figures.
        kind: ``best`` is the most accurate network of the front, ``front`` another; ``missed`` was predicted within the
            target and measured above it; ``reference`` is a fixed network.
        name: name of a reference; key of any other network.
        meets: whether it is within the target; None without a target.
        latency_word: word for its latency if it was not measured (`nas.engine.run.info.RunInfo.latency_word`).
        rival: of a reference: the best network of the front that is not slower; None if there is none.
        chance: probability that `rival` is more accurate; None without an accuracy model, or if it is the same network.
        published: published ImageNet top-1 of a reference in percent; None if none is known, or for another task.
    """

    candidate: Candidate
    kind: Kind
    name: str
    meets: bool | None
    latency_word: str = "predicted"
    rival: Candidate | None = None
    chance: float | None = None
    published: float | None = None

    @property
    def error(self) -> float | None:
        """Predicted latency relative to the measured one, minus 1; None if it was not measured."""
        measured = self.candidate.measured
        return None if measured is None else self.candidate.predicted.ms / measured.ms - 1

    @property
    def source(self) -> str:
        """Origin of the latency: ``measured``, or `latency_word`."""
        return "measured" if self.candidate.measured is not None else self.latency_word


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Args:
        cells: texts, the name of the row first.
        kind: kind of the network (`Entry.kind`), which decides how the row looks.
        key: key of the network; empty if the row is about several.
    """

    cells: tuple[str, ...]
    kind: str = ""
    key: str = ""


@dataclass(frozen=True)
class Table:
    """A table as text. The first column holds names, the others figures."""

    header: tuple[str, ...]
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Counts:
    """Number of candidates by outcome, and the seconds spent on all of them."""

    complete: int
    failed: int
    too_slow: int
    seconds: float
    stopped: int = 0

    @property
    def total(self) -> int:
        return self.complete + self.stopped + self.failed + self.too_slow


@dataclass(frozen=True)
class SearchState:
    """The state of the search after a candidate, by predicted latency, as the search saw it.

    Args:
        finished: number of candidates finished so far.
        best: best score within the target; None if there is none yet.
        hypervolume: share that the front dominates; see `search_history`.
    """

    finished: int
    best: float | None
    hypervolume: float | None


def number(value: Any) -> float | None:
    """`value` as a float if it is a finite number, else None."""
    return float(value) if is_number(value) else None


def score_of(record: Record) -> Score:
    """Percent for estimates and for proxy accuracies 0..1; plain numbers for the scores of a caller's own function."""
    every = (*record.candidates, *record.references)
    estimate = next((c.estimate for c in every if c.estimate is not None), None)
    if estimate is not None:
        return Score(True, estimate.task, isinstance(record.model, Posterior))
    scores = [c.proxy_accuracy for c in every if c.proxy_accuracy is not None]
    return Score(record.info.proxy is not None and all(0 <= score <= 1 for score in scores))


def entries_of(record: Record) -> list[Entry]:
    """The front, most accurate first; then networks that missed the target when measured; then the references."""
    word = record.info.latency_word
    front = [
        Entry(c, "front" if at else "best", c.key, meets_target(record, c), word)
        for at, c in enumerate(reversed(record.front))
    ]
    missed = [Entry(c, "missed", c.key, False, word) for c in record.missed]
    return [*front, *missed, *(_reference(record, c, score_of(record)) for c in record.references)]


def _reference(record: Record, c: Candidate, score: Score) -> Entry:
    """A reference, and how it compares with the front."""
    rival = None if c.score is None else front_at(record, c.latency_ms)
    better = None
    if rival is not None and rival.key != c.key and record.model is not None and c.estimate is not None:
        better = record.model.better(rival.arch, c.arch)
    return Entry(
        c,
        "reference",
        reference_name(c.name or c.key),
        meets_target(record, c),
        record.info.latency_word,
        rival=rival,
        chance=better,
        published=_published(c) if score.task == IMAGENET else None,
    )


def _published(reference: Candidate) -> float | None:
    try:
        figures = published_top1(split_name(reference.name or "")[0], reference.arch)
    except InputError:  # a run of another version, or of a network in a file that is gone
        return None
    return next(iter(figures.values()), None)


def meets_target(record: Record, candidate: Candidate) -> bool | None:
    """Whether a network is within the target, by its measured latency if there is one; None without a target."""
    return None if record.target_ms is None else record.meets(candidate)


def counts_of(record: Record) -> Counts:
    states = [c.state for c in record.candidates]
    return Counts(
        complete=states.count("COMPLETE"),
        failed=states.count("FAILED"),
        too_slow=states.count("TOO_SLOW"),
        seconds=sum(c.seconds for c in record.candidates),
        stopped=states.count("STOPPED"),
    )


def distinct_conditions(latencies: Iterable[Latency]) -> list[str]:
    """Where these latencies hold; one text unless runs were mixed."""
    return list(dict.fromkeys(conditions(latency) for latency in latencies))


def latency_origins(record: Record, latencies: Iterable[Latency]) -> list[str]:
    """The same, for a heading or an axis: it says so if the device is only modelled."""
    prefix = f"{record.info.latency_word} for " if record.info.modelled else ""
    return [f"{prefix}{where}" for where in distinct_conditions(latencies)]


def front_at(record: Record, limit_ms: float) -> Candidate | None:
    """The most accurate network of the front that takes at most `limit_ms`."""
    within = [c for c in record.front if c.latency_ms <= limit_ms]
    return within[-1] if within else None


def verdict(entry: Entry) -> str:
    """Whether the target is met, in words; a latency that was not measured is marked."""
    if entry.meets is None:
        return NONE
    return ("met" if entry.meets else "missed") + ("" if entry.source == "measured" else f" ({entry.source})")


def network_table(record: Record, entries: Sequence[Entry]) -> Table:
    """Front, missed networks and references, with measured and predicted latency side by side; columns that would be
    empty are left out."""
    score = score_of(record)
    goal = record.target_ms is not None
    other = f"{record.info.latency_word.capitalize()}, ms"
    timed = not record.info.modelled or any(entry.candidate.measured for entry in entries)
    beaten = any(entry.chance is not None for entry in entries)
    known = any(entry.published is not None for entry in entries)
    repeated = any(entry.candidate.repeats for entry in entries)
    header = ["Network", score.name.capitalize(), *(["Published"] if known else [])]
    header += [*(["Chance to beat"] if beaten else []), *(["Measured, ms"] if timed else []), other]
    header += [
        *(["Prediction error"] if timed else []),
        *(["Target"] if goal else []),
        *(["Trainings"] if repeated else []),
        "Parameters",
        "MACs",
        "Memory access",
        "Input",
    ]
    rows = []
    for entry in entries:
        c = entry.candidate
        noisy = "*" if c.measured is not None and c.measured.warning else ""
        cells = [entry.name, score.of(c)]
        cells += [NONE if entry.published is None else f"{entry.published:.1f} %"] if known else []
        cells += [chance(entry.chance)] if beaten else []
        cells += [measured_ms(c.measured) + noisy if c.measured else NONE] if timed else []
        cells += [ms(c.predicted.ms), *([relative(entry.error)] if timed else [])]
        cells += [verdict(entry)] if goal else []
        cells += [str(c.trainings)] if repeated else []
        cells += [millions(c.params), millions(c.macs), megabytes(c.memory_bytes), f"{c.arch.resolution} px"]
        rows.append(Row(tuple(cells), entry.kind, c.key))
    return Table(tuple(header), tuple(rows))


def search_history(record: Record) -> list[SearchState]:
    """The best score within the target and the hypervolume of the front after each finished candidate; estimates are
    those at the end of the run.

    The hypervolume is the share of the box (score 0..1, latency 0..target, or 0..slowest candidate without a target)
    that the front dominates; None if scores lie outside 0..1.
    """
    limit = record.target_ms or max((c.predicted.ms for c in record.candidates), default=0.0)
    scores = [c.score for c in record.candidates if c.score is not None]
    bounded = all(0 <= score <= 1 for score in scores) and limit > 0
    steps: list[SearchState] = []
    best: float | None = None
    share = 0.0
    accuracy: list[float] = []
    latency: list[float] = []
    for at, candidate in enumerate(record.candidates, start=1):
        value, cost = candidate.score, candidate.predicted.ms
        if value is not None and cost <= limit:
            best = value if best is None else max(best, value)
            accuracy, latency = [*accuracy, value], [*latency, cost]
            mask = front_mask(accuracy, latency)
            if mask[-1] and bounded:
                share = hypervolume(accuracy, latency, limit) or 0.0
            accuracy = [a for a, on in zip(accuracy, mask, strict=True) if on]
            latency = [c for c, on in zip(latency, mask, strict=True) if on]
        steps.append(SearchState(at, best, share if bounded and best is not None else None))
    return steps
