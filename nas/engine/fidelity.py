"""Which candidates are trained on: asynchronous successive halving with two objectives.

As in ASHA (Li et al., arXiv 1810.05934) nobody waits: when a candidate reaches a rung, it is compared at once with all
that have reached it, and is trained on if it is among the best share of them, else its training ends there. Candidates
are ranked by non-dominated sorting of (expected accuracy at full length, latency), and within a front by the share of
the hypervolume that they alone add. The expected accuracy is that of the run's posterior: early scores themselves
mislead, since larger networks start slower.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nas.arch.arch import Arch
from nas.engine.judge import Judge
from nas.engine.run.pareto import front_mask
from nas.engine.run.record import Candidate
from nas.training.checkpoint import path_of, unfinished

KEEP = 1 / 2  # share of the candidates at a rung that are trained on: docs/proxy.md
FULL = 8  # networks, references included, that reach a rung before any is stopped there: the curves of those trained
# on say how scores at a rung and at the end belong together. With four, estimates rank no better: docs/proxy.md
LONGER = 8  # times the rung before: docs/proxy.md
SHORTEST = 50  # steps, below which the order of networks is close to chance: docs/proxy.md


def default_rungs(steps: int) -> tuple[int, ...]:
    """The rungs of a training of that many steps: an eighth of the whole, an eighth of that, and so on, but none below
    50 steps, unless the whole is below 400.

    >>> default_rungs(3200), default_rungs(400), default_rungs(140), default_rungs(60)
    ((50, 400), (50,), (50,), ())
    """
    rungs: list[int] = []
    while (rung := (rungs[0] if rungs else steps) // LONGER) >= SHORTEST:
        rungs.insert(0, rung)
    return tuple(rungs) or ((SHORTEST,) if steps >= 2 * SHORTEST else ())


@dataclass
class Halving:
    """The rungs of a search, and which candidates reached them. Only the driver uses it.

    Args:
        lengths: rungs and the full length, in steps.
        judge: estimates accuracies at full length.
        folder: with the checkpoints of the candidates under way; None if there are none.
        keep: share of the candidates at a rung that are trained on.
        full: networks, references included, that reach a rung before any is stopped there.
    """

    lengths: Sequence[int]
    judge: Judge
    folder: Path | None = None
    keep: float = KEEP
    full: int = FULL
    _reached: dict[str, Candidate] = field(default_factory=dict)

    def learn(self, candidates: Sequence[Candidate]) -> None:
        """Take networks into account that reached a rung: finished ones, and ones that are trained on. Those that
        failed afterwards are forgotten."""
        for one in candidates:
            if one.rungs and one.trained:
                self._reached[one.key] = one
            else:
                self._reached.pop(one.key, None)

    def goes_on(self, candidate: Candidate) -> bool:
        """Whether a candidate that has just reached a rung is trained on; references, which have a name, always are."""
        self.judge.learn([candidate])
        self.learn([candidate])
        at = len(candidate.rungs)
        seen = [one for one in self._reached.values() if len(one.rungs) >= at]
        if candidate.name is not None or len(seen) <= self.full:
            return True
        peers = [one for one in seen if one.name is None]
        estimated = self.judge.estimated(peers)
        accuracies = np.array([0.0 if one.estimate is None else one.estimate.mean for one in estimated])
        latencies = np.array([one.latency_ms for one in estimated])
        keys = [one.key for one in peers]
        chosen = best(accuracies, latencies, ceil(self.keep * len(peers)))
        return keys.index(candidate.key) in chosen

    def unfinished(self) -> list[Arch]:
        """The networks that were in training when an earlier call ended. Files that hold none are deleted."""
        found: list[Arch] = []
        for path, arch in () if self.folder is None else unfinished(self.folder):
            if arch is not None and path.stem == arch.key:
                found.append(arch)
            else:
                path.unlink(missing_ok=True)
        return found

    def forget(self, arch: Arch) -> None:
        """Delete the checkpoint of a network that is finished, or stopped for good."""
        if self.folder is not None:
            path_of(self.folder, arch).unlink(missing_ok=True)


def best(accuracies: NDArray[np.float64], latencies: NDArray[np.float64], count: int) -> set[int]:
    """The first `count` points by non-dominated sorting (accuracy up, latency down), and within the last front by the
    hypervolume that would be lost without each; the ends of a front come first.

    >>> sorted(best(np.array([0.5, 0.6, 0.9, 0.4]), np.array([1.0, 2.0, 3.0, 3.0]), 2))
    [0, 2]
    """
    left, chosen = np.arange(len(accuracies)), set[int]()
    while len(chosen) < count and len(left):
        front = left[front_mask(accuracies[left].tolist(), latencies[left].tolist())]
        order = np.argsort(-_added(accuracies[front], latencies[front]), kind="stable")
        chosen |= set(front[order][: count - len(chosen)].tolist())
        left = left[~np.isin(left, front)]
    return chosen


def _added(accuracies: NDArray[np.float64], latencies: NDArray[np.float64]) -> NDArray[np.float64]:
    """The hypervolume that each point of a front alone adds; infinite at both ends, which have no neighbour to bound
    it."""
    order = np.argsort(latencies, kind="stable")
    added = np.full(len(order), np.inf)
    gain, room = np.diff(accuracies[order]), np.diff(latencies[order])
    added[order[1:-1]] = gain[:-1] * room[1:]
    return added
