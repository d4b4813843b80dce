"""What replayed searches show of their samplers: best and hypervolume so far, and evaluations to reach a level."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.engine.replay import Replay
from nas.engine.run.pareto import front_mask
from nas.engine.tables import Table
from nas.system.errors import InputError

BAND = (0.05, 0.95)  # quantiles over the seeds
SHOWN = (10, 25, 50, 100)  # evaluations
LEVELS = ("optimum", "0.02", "1%")
RESAMPLES = 2000  # of the bootstrap
OPTIMUM = "optimum"
_SHARE = re.compile(r"(\d+(?:\.\d+)?)%", re.ASCII)
_BELOW = re.compile(r"\d+(?:\.\d+)?", re.ASCII)
_ROUNDING = 1e-12

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Band:
    """A mean over seeds, and the quantiles `BAND`."""

    mean: float
    low: float
    high: float

    @staticmethod
    def of(values: Floats) -> Band:
        """Of one number a seed, shape (seeds,)."""
        low, high = np.quantile(values, BAND)
        return Band(float(values.mean()), float(low), float(high))


@dataclass(frozen=True, slots=True)
class Needed:
    """Evaluations needed to reach an accuracy.

    Args:
        accuracy: that is to be reached.
        median: over the seeds; None if half of them did not reach it.
        reached: share of the seeds that reached it.
    """

    accuracy: float
    median: float | None
    reached: float


@dataclass(frozen=True, slots=True)
class Gain:
    """What it is worth to recommend the network that the posterior holds to be the best, and not that with the best
    observed score: difference of their accuracies, with a 90 % interval of its mean over the seeds (bootstrap).

    Args:
        chosen: mean accuracy of the network that the posterior chose.
        luckiest: mean accuracy of the network with the best observed score.
        mean: mean difference.
        low: lower end of the interval.
        high: upper end.
    """

    chosen: float
    luckiest: float
    mean: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Comparison:
    """Samplers on one table, under one cap.

    Args:
        name: name of the table.
        unit: of costs.
        cap: largest cost, or None.
        tau: equal-cost tau of one observed score with the truth; None without noise.
        percent: whether accuracies are shares.
        networks: number of networks that levels and hypervolumes are relative to.
        optimum: their best accuracy.
        levels: accuracies to be reached, by name.
        best: by sampler, the accuracy of the network with the best score observed so far, shape (seeds, evaluations).
        hypervolume: by sampler, as `hypervolumes` of the networks so far, shape (seeds, evaluations).
        gains: by sampler, of the posterior's choice; empty without noise.
    """

    name: str
    unit: str
    cap: float | None
    tau: float | None
    percent: bool
    networks: int
    optimum: float
    levels: Mapping[str, float]
    best: Mapping[str, Floats]
    hypervolume: Mapping[str, Floats]
    gains: Mapping[str, Gain]

    @staticmethod
    def of(
        table: Table,
        replays: Mapping[str, Sequence[Replay]],
        cap: float | None = None,
        tau: float | None = None,
        levels: Sequence[str] = LEVELS,
    ) -> Comparison:
        """Compare replays of one table.

        Args:
            table: that was searched.
            replays: by sampler, one for each seed.
            cap: largest cost, or None.
            tau: equal-cost tau of an observed score with the truth; None without noise.
            levels: as `level_of` takes them.
        """
        within = table.under(cap)
        field = table.accuracies[within], table.costs[within]
        longest = max(len(one.keys) for some in replays.values() for one in some)
        return Comparison(
            name=table.name,
            unit=table.unit,
            cap=cap,
            tau=tau,
            percent=table.percent,
            networks=len(within),
            optimum=float(field[0].max()),
            levels={level: level_of(level, field[0], table.percent) for level in levels},
            best={name: np.array([_padded(_best(one), longest) for one in some]) for name, some in replays.items()},
            hypervolume={
                name: np.array([_padded(hypervolumes(one.accuracies, one.costs, field), longest) for one in some])
                for name, some in replays.items()
            },
            gains={} if tau is None else {name: _gain(some) for name, some in replays.items()},
        )

    @property
    def title(self) -> str:
        """One line: table, cap and noise."""
        parts = [
            f"{self.name}, {self.networks:,} networks",
            *([] if self.cap is None else [f"at most {self.cap:g} {self.unit}"]),
            *([] if self.tau is None else [f"scores with equal-cost tau {self.tau:g}"]),
        ]
        return ", ".join(parts)

    @property
    def evaluations(self) -> int:
        """Of each replay."""
        return int(next(iter(self.best.values())).shape[1])

    @property
    def shown(self) -> list[int]:
        """Numbers of evaluations at which figures are printed."""
        return [at for at in SHOWN if at < self.evaluations] + [self.evaluations]

    def needed(self, sampler: str, level: str) -> Needed:
        """Evaluations that a sampler needs to reach one of `levels`."""
        reached = self.best[sampler] >= self.levels[level] - _ROUNDING
        first = np.where(reached.any(axis=1), 1.0 + reached.argmax(axis=1), math.inf)
        median = float(np.median(first))
        share = float(reached.any(axis=1).mean())
        return Needed(self.levels[level], median if math.isfinite(median) else None, share)

    def accuracy(self, value: float) -> str:
        """An accuracy as it is printed."""
        return f"{100 * value:.3f}" if self.percent else f"{value:.4g}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        shown = {
            name: {
                str(at): {
                    "best": _plain(Band.of(self.best[name][:, at - 1])),
                    "hypervolume": _plain(Band.of(self.hypervolume[name][:, at - 1])),
                }
                for at in self.shown
            }
            for name in self.best
        }
        return {
            **{name: getattr(self, name) for name in ("name", "unit", "cap", "tau", "networks", "optimum")},
            "after": shown,
            "levels": {name: {level: _plain(self.needed(name, level)) for level in self.levels} for name in self.best},
            "gains": {name: _plain(gain) for name, gain in self.gains.items()},
        }


def level_of(text: str, accuracies: Floats, percent: bool = True) -> float:
    """The accuracy that a level stands for.

    Args:
        text: ``optimum``; ``1%``, the best hundredth of all networks; ``0.02``, so far below the optimum: in percentage
            points where accuracies are shares.
        accuracies: of all networks, shape (n,).
        percent: whether accuracies are shares.

    Raises:
        InputError: anything else.

    >>> accuracies = np.linspace(0.5, 0.599, 100)
    >>> [round(level_of(text, accuracies), 4) for text in ("optimum", "1%", "0.3")]
    [0.599, 0.599, 0.596]
    """
    top = float(accuracies.max())
    if text == OPTIMUM:
        return top
    if (share := _SHARE.fullmatch(text)) and 0 < float(share[1]) <= 100:
        rank = max(1, int(len(accuracies) * float(share[1]) / 100 + 1e-9))
        return float(np.sort(accuracies)[-rank])
    if _BELOW.fullmatch(text):
        return top - float(text) / (100 if percent else 1)
    raise InputError(f"a level is optimum, a top share such as 1%, or a distance from the optimum, got {text!r:.40}")


def hypervolumes(accuracies: Floats, costs: Floats, field: tuple[Floats, Floats]) -> Floats:
    """The area that the first n networks dominate in the plane of accuracy and cost, for each n, as a share of what all
    networks of a table dominate; shape (n,). The reference point is the lowest accuracy and the largest cost of the
    table. A sampler of a larger space than the table can exceed 1. Where the table dominates no area, e.g. since
    all its costs are equal, every share is 1.

    Args:
        accuracies: of the networks in the order of evaluation, shape (n,).
        costs: of them, shape (n,).
        field: accuracies and costs of the table.

    >>> field = np.array([0.5, 0.6, 0.7]), np.array([3.0, 1.0, 2.0])
    >>> hypervolumes(np.array([0.5, 0.7, 0.6]), np.array([3.0, 2.0, 1.0]), field).round(3).tolist()
    [0.0, 0.667, 1.0]
    """
    low, high = float(field[0].min()), float(field[1].max())
    whole = _area(*field, low, high)
    if not whole:
        return np.ones(len(accuracies))
    found = np.zeros(len(accuracies))
    kept: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
    for at in range(len(accuracies)):
        rows = np.append(kept, at)
        kept = rows[front_mask(accuracies[rows].tolist(), costs[rows].tolist())]
        new = at == 0 or at in kept
        found[at] = _area(accuracies[kept], costs[kept], low, high) / whole if new else found[at - 1]
    return found


def _area(accuracies: Floats, costs: Floats, low: float, high: float) -> float:
    order = np.lexsort((-accuracies, costs))
    steps = np.maximum.accumulate(np.maximum(accuracies[order], low))
    rises = np.diff(steps, prepend=low)
    return float(np.sum(rises * np.maximum(high - costs[order], 0.0)))


def _best(replay: Replay) -> Floats:
    at = [int(np.argmax(replay.observed[:count])) for count in range(1, len(replay.keys) + 1)]
    best: Floats = replay.accuracies[at]
    return best


def _padded(values: Floats, length: int) -> Floats:
    """Once all networks are evaluated nothing changes any more."""
    return np.pad(values, (0, length - len(values)), mode="edge")


def _gain(replays: Sequence[Replay]) -> Gain:
    chosen = np.array([one.accuracies[one.chosen] for one in replays])
    luckiest = np.array([one.accuracies[int(np.argmax(one.observed))] for one in replays])
    low, high = bootstrapped(chosen - luckiest)
    return Gain(float(chosen.mean()), float(luckiest.mean()), float((chosen - luckiest).mean()), low, high)


def bootstrapped(values: Floats) -> tuple[float, float]:
    """The 90 % interval of a mean over seeds."""
    drawn = np.random.default_rng(0).choice(values, (RESAMPLES, len(values))).mean(axis=1)
    low, high = np.quantile(drawn, BAND)
    return float(low), float(high)


def _plain(value: Band | Needed | Gain) -> dict[str, float | None]:
    return {name: getattr(value, name) for name in type(value).__slots__}
