"""What a search leaves behind: candidates, references, facts of the run. Reports are drawn from this alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from nas.accuracy.record import Accuracy, AccuracyModel
from nas.arch.arch import Arch
from nas.arch.genes import Scalar
from nas.arch.space import Space
from nas.engine.run.info import RunInfo
from nas.engine.run.pareto import front_mask, hypervolume
from nas.latency.record import Latency

if TYPE_CHECKING:
    import pandas as pd

State = Literal["COMPLETE", "FAILED", "TOO_SLOW", "STOPPED"]

COLUMNS = (
    "key",
    "accuracy",
    "accuracy_sd",
    "proxy_accuracy",
    "latency_ms",
    "measured_ms",
    "params",
    "macs",
    "memory_bytes",
    "state",
    "seconds",
    "steps",
    "proxy_loss",
    "reason",
)  # then the genes


class Rung(NamedTuple):
    """What a candidate scored when its training reached a rung.

    Args:
        steps: length of the training up to there.
        accuracy: held-out accuracy, 0..1.
        loss: held-out loss in nats.
    """

    steps: int
    accuracy: float
    loss: float | None


class Repeat(NamedTuple):
    """A further training of a candidate, of full length.

    Args:
        seed: of weights and batches.
        accuracy: held-out accuracy, 0..1.
        loss: held-out loss in nats.
        seconds: what it took.
    """

    seed: int
    accuracy: float
    loss: float | None
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Candidate:
    """One network of a run, found (with genes) or fixed (with a name).

    Args:
        arch: the network.
        state: ``COMPLETE``: scored; ``FAILED``: its training failed, see `reason`; ``TOO_SLOW``: its prediction does
            not clear the target by the safety margin, so it was never trained; ``STOPPED``: its training ended at a
            rung, since others promised more: it has an estimate, but is never on the front.
        predicted: latency by the device's model, as the search saw it.
        params: trainable parameters at 1000 classes.
        macs: multiply-accumulates at 1000 classes.
        memory_bytes: memory access of one forward pass.
        genes: active genes; empty for a reference.
        name: of a reference.
        proxy_accuracy: held-out accuracy of the short training, 0..1, or the score of a custom evaluation. Of a stopped
            candidate, that at its last rung.
        proxy_loss: held-out loss of the short training.
        seconds: what its evaluation took.
        reason: of a failure.
        measured: latency on the quiet device after the search.
        estimate: accuracy by the run's model, which is the score; None where `proxy_accuracy` itself is.
        rungs: scores by length, in ascending order, if it was trained in rungs.
        repeats: further trainings with other seeds, after the search.
    """

    arch: Arch
    state: State
    predicted: Latency
    params: int
    macs: int
    memory_bytes: int
    genes: Mapping[str, Scalar] = field(default_factory=dict)
    name: str | None = None
    proxy_accuracy: float | None = None
    proxy_loss: float | None = None
    seconds: float = 0.0
    reason: str | None = None
    measured: Latency | None = None
    estimate: Accuracy | None = None
    rungs: tuple[Rung, ...] = ()
    repeats: tuple[Repeat, ...] = ()

    @property
    def trainings(self) -> int:
        """How often it was trained."""
        return self.trained + len(self.repeats)

    @property
    def trained(self) -> bool:
        """Whether its training, however long, says something about it."""
        return self.state in ("COMPLETE", "STOPPED")

    @property
    def steps(self) -> int | None:
        """Length of its training, if it was trained in rungs."""
        return self.rungs[-1].steps if self.rungs else None

    @property
    def score(self) -> float | None:
        """What networks are compared by, higher is better: the estimated accuracy, else the observed score; None if the
        network was not scored, or its training was stopped at a rung."""
        if self.state == "STOPPED":
            return None
        return self.proxy_accuracy if self.estimate is None else self.estimate.mean

    @property
    def key(self) -> str:
        return self.arch.key

    @property
    def latency(self) -> Latency:
        """The latency to judge by: measured if it was, else predicted."""
        return self.measured or self.predicted

    @property
    def latency_ms(self) -> float:
        """Milliseconds of `latency`."""
        return self.latency.ms

    def row(self) -> dict[str, Any]:
        """One line of ``trials.csv``; `latency_ms` is the predicted one there."""
        values = {name: getattr(self, name, None) for name in COLUMNS}
        values |= {"latency_ms": self.predicted.ms, "measured_ms": self.measured.ms if self.measured else None}
        accuracy = self.score if self.estimate is None else self.estimate.mean
        values |= {"accuracy": accuracy, "accuracy_sd": None if self.estimate is None else self.estimate.sd}
        return values | dict(self.genes)


def with_measured(candidates: Sequence[Candidate], measured: Mapping[str, Latency]) -> list[Candidate]:
    """The same candidates with latencies measured after the search, by architecture key."""
    return [replace(c, measured=measured.get(c.key, c.measured)) for c in candidates]


def with_repeats(candidates: Sequence[Candidate], repeats: Mapping[str, Sequence[Repeat]]) -> list[Candidate]:
    """The same candidates with their further trainings, by architecture key."""
    return [replace(c, repeats=tuple(repeats[c.key])) if c.key in repeats else c for c in candidates]


@dataclass(frozen=True)
class Record:
    """A run, complete enough to be reported; what `nas.search` returns.

    Args:
        info: what ``run.json`` holds: options, space, device, versions, times.
        candidates: in the order in which they finished; without references.
        references: the fixed networks, scored and measured in the same way.
        model: what the accuracies are estimated by; None where the observed scores themselves decide.
    """

    info: RunInfo
    candidates: Sequence[Candidate]
    references: Sequence[Candidate] = ()
    model: AccuracyModel | None = None

    @property
    def space(self) -> Space:
        """The searched space."""
        return self.info.space

    @property
    def target_ms(self) -> float | None:
        """Latency target, or None."""
        return self.info.options.target_ms

    def meets(self, candidate: Candidate) -> bool:
        """Whether its latency, measured if it was, is within the target."""
        return candidate.latency.meets(self.target_ms)

    @property
    def front(self) -> list[Candidate]:
        """The scored candidates within the target that no other dominates, fastest first."""
        scored = [c for c in self.candidates if c.score is not None and self.meets(c)]
        if self.info.measured_only:
            scored = [c for c in scored if c.measured is not None]
        mask = front_mask([c.score or 0.0 for c in scored], [c.latency_ms for c in scored])
        return sorted((c for c, on in zip(scored, mask, strict=True) if on), key=lambda c: c.latency_ms)

    @property
    def best(self) -> Arch | None:
        """The most accurate network within the target, or None if none was scored."""
        return self.front[-1].arch if self.front else None

    @property
    def trials(self) -> pd.DataFrame:
        """One row per candidate, columns `COLUMNS`, then one per gene; `latency_ms` is the predicted one."""
        return self._frame(self.candidates)

    @property
    def pareto(self) -> pd.DataFrame:
        """The rows of `trials` on the front, fastest first."""
        return self._frame(self.front)

    def hypervolume(self) -> float | None:
        """The share of accuracy 0..1 by latency 0..(target, else slowest candidate) that the front dominates; None for
        a score that is no accuracy, or without candidates."""
        limit = self.target_ms or max((c.latency_ms for c in self.candidates), default=0.0)
        front = self.front
        return hypervolume([c.score or 0.0 for c in front], [c.latency_ms for c in front], limit)

    @property
    def missed(self) -> list[Candidate]:
        """Scored candidates predicted within the target and measured above it, or too close to it to hold, the most
        accurate first: they were on the front, and those they hid took their places."""
        limit = self.target_ms
        late = [
            c
            for c in self.candidates
            if limit and c.measured and c.predicted.ms <= limit and not c.measured.meets(limit)
        ]
        scored = [(c.score, c) for c in late if c.score is not None]
        return [c for _, c in sorted(scored, key=lambda pair: -pair[0])]

    @property
    def measured(self) -> int:
        """How many candidates were measured after the search, references not counted."""
        return sum(c.measured is not None for c in self.candidates)

    def with_measured(self, measured: Mapping[str, Latency]) -> Record:
        """The same run with latencies measured after the search, by architecture key."""
        candidates, references = (with_measured(some, measured) for some in (self.candidates, self.references))
        return replace(self, candidates=candidates, references=references)

    def _frame(self, candidates: Sequence[Candidate]) -> pd.DataFrame:
        import pandas as pd

        genes = [gene.name for gene in self.space.genes]
        frame = pd.DataFrame([c.row() for c in candidates], columns=[*COLUMNS, *genes])
        return frame if self.info.trains else frame.assign(proxy_accuracy=None)
