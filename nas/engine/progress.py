"""How far a running search is, for whoever watches it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from nas.engine.run.pareto import front_mask, hypervolume
from nas.engine.run.record import Candidate, State


@dataclass(frozen=True, slots=True)
class SearchProgress:
    """How far a search is.

    Args:
        evaluated: candidates scored, stopped or failed, those of earlier calls included, references not.
        too_slow: proposals that were too slow and never evaluated.
        failed: of `evaluated`, those that failed.
        stopped: of `evaluated`, those whose training was stopped at a rung.
        running: candidates and references under evaluation.
        trials: `evaluated` at which the search ends, or None.
        budget_s: search time at which it ends, or None.
        elapsed_s: search time so far, that of earlier calls included.
        latest: what just finished (a reference, or a scored, failed or too slow candidate); None if nothing did.
        best: the most accurate candidate within the target, by prediction, or by what an earlier call measured.
        hypervolume: as `nas.engine.run.record.Record.hypervolume`.
        phase: for people, e.g. ``reference mobilenet_v2``, ``search``, ``last 2 running``.
        latency_word: what latencies that were not measured are called: ``predicted`` or ``modelled``.
        over_word: what candidates are called that exceed a limit.
        scored_word: as `nas.engine.run.info.RunInfo.scored_word`.
    """

    evaluated: int
    too_slow: int
    failed: int
    running: int
    trials: int | None
    budget_s: float | None
    elapsed_s: float
    latest: Candidate | None
    best: Candidate | None
    hypervolume: float | None
    phase: str
    latency_word: str = "predicted"
    over_word: str = "too slow"
    scored_word: str = "trained"
    stopped: int = 0


class RunningStats:
    """Counts, best and front of what finished so far."""

    def __init__(self, target_ms: float | None) -> None:
        self.counts: dict[State, int] = {"COMPLETE": 0, "FAILED": 0, "TOO_SLOW": 0, "STOPPED": 0}
        self.best: Candidate | None = None
        self._target_ms = target_ms
        self._slowest_ms = 0.0
        self._front: list[Candidate] = []
        self._shares = True  # whether all scores are shares of images, 0 to 1

    @property
    def evaluated(self) -> int:
        """Candidates scored, stopped or failed."""
        return self.counts["COMPLETE"] + self.counts["STOPPED"] + self.counts["FAILED"]

    def add(self, candidate: Candidate) -> None:
        """Take a finished candidate into account."""
        self.counts[candidate.state] += 1
        self._slowest_ms = max(self._slowest_ms, candidate.latency_ms)
        within = candidate.latency.meets(self._target_ms)
        if candidate.score is None or not within:
            return
        self._keep([*self._front, candidate])
        if self.best is None or candidate.score > (self.best.score or 0.0):
            self.best = candidate

    def estimated(self, candidates: Sequence[Candidate]) -> None:
        """Take new estimates of all that finished into account."""
        scored = [c for c in candidates if c.score is not None and c.latency.meets(self._target_ms)]
        self._shares = True
        self._keep(scored)
        self.best = max(scored, key=lambda c: c.score or 0.0, default=None)

    def _keep(self, scored: Sequence[Candidate]) -> None:
        """The front is enough for the hypervolume, and short."""
        scores = [c.score or 0.0 for c in scored]
        self._shares = self._shares and all(0 <= score <= 1 for score in scores)
        mask = front_mask(scores, [c.latency_ms for c in scored])
        self._front = [c for c, on in zip(scored, mask, strict=True) if on]

    def hypervolume(self) -> float | None:
        """As `nas.engine.run.record.Record.hypervolume` gives for the same candidates."""
        if not self._shares:
            return None
        accuracies = [candidate.score or 0.0 for candidate in self._front]
        limit = self._slowest_ms if self._target_ms is None else self._target_ms
        return hypervolume(accuracies, [candidate.latency_ms for candidate in self._front], limit)


class Watcher(Protocol):
    """Sees a search happen. All methods are called from the driver."""

    def say(self, text: str) -> None:
        """A sentence for people: what is being done, what was found."""
        ...

    def step(self, done: int, total: int, text: str) -> None:
        """Work of known length: decoding images, measuring blocks."""
        ...

    def search(self, progress: SearchProgress) -> None:
        """The search moved on."""
        ...


class Silent:
    """A `Watcher` that shows nothing."""

    def say(self, text: str) -> None: ...

    def step(self, done: int, total: int, text: str) -> None: ...

    def search(self, progress: SearchProgress) -> None: ...
