"""What the trainings of a search are worth: figures from the scores that trainings of several lengths give to some
networks of equal cost.

With `a` and `b` the networks' accuracies by the two longest trainings, which differ in seed alone:

- spread: sqrt((var(a) + var(b)) / 2), the standard deviation of the networks' accuracies;
- noise: sd(a - b) / sqrt(2), that of one network's accuracy from seed to seed; a mean difference does not count.

Networks are ranked by held-out loss, from which a search learns (`nas.accuracy.posterior`). With `a` and `b` these
losses, negated:

- ceiling: tau(a, b), Kendall's tau-b: what the noise of `b` leaves of a ranking by a training of its length;
- a shorter training `s`: tau(s, b), where `s` has the seed of `a`, since a seed in common with `b` would
  flatter it;
- what needs no training (a model, MACs): its tau with (a + b) / 2.

Each tau has a standard error, by leaving out one network at a time, and a chance: the share of random orders of the
networks with a tau as far from 0. Held-out images are the same for all trainings: what other images would have given is
no part of the noise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nas.accuracy.ranking import tau

FEWEST_NETWORKS = 8
ENOUGH = 0.9  # share of the ceiling that a length must reach to be recommended
SHARE = 0.4  # of a budget that the training of shared weights may take
SCORED = 100  # networks that a recommended budget scores at least
SURE = 0.1  # largest chance of a ceiling that is believed: one in twenty, as only taus above 0 count
_ORDERS = 1000  # random orders for a chance

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Training:
    """One training, and the scores it gives.

    Args:
        steps: its length.
        seed: its random seed.
        seconds: wall-clock time of the training, without scoring.
        accuracies: of n networks, shares from 0 to 1, in one order for all trainings.
        losses: their held-out cross-entropies, in nats.
    """

    steps: int
    seed: int
    seconds: float
    accuracies: tuple[float, ...]
    losses: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Ranking:
    """How well one list of numbers ranks networks by another.

    Args:
        tau: Kendall's tau-b, -1 to 1.
        error: its standard error (jackknife).
        chance: share of random orders whose tau is as far from 0, 0 to 1.
    """

    tau: float
    error: float
    chance: float


@dataclass(frozen=True, slots=True)
class Length:
    """What one length of training is worth.

    Args:
        steps: the length.
        seconds: wall-clock time of the training.
        ranking: of the networks by the longest training of another seed.
    """

    steps: int
    seconds: float
    ranking: Ranking


@dataclass(frozen=True, slots=True)
class Recommendation:
    """How long to train.

    Args:
        steps: length of the training of shared weights.
        seconds: time it takes.
        budget_s: budget of a search in which it takes at most `SHARE`, and in which `SCORED` networks can be scored.
    """

    steps: int
    seconds: float
    budget_s: float


@dataclass(frozen=True, slots=True)
class Check:
    """The figures; this module's text has their formulas.

    Args:
        networks: number of networks.
        spread: standard deviation of the networks' accuracies, as a share of 1.
        noise: standard deviation of one network's accuracy from seed to seed, as a share of 1.
        lengths: from the shortest to the longest; the ranking of the longest is the ceiling.
        untrained: rankings that need no training, by name.
        scoring_s: seconds to score a network.
        recommended: the shortest length that reaches `ENOUGH` of the ceiling; None if the two longest trainings agree
            no better than by chance.
    """

    networks: int
    spread: float
    noise: float
    lengths: tuple[Length, ...]
    untrained: dict[str, Ranking]
    scoring_s: float
    recommended: Recommendation | None

    @property
    def ceiling(self) -> Ranking:
        """The agreement of the two longest trainings."""
        return self.lengths[-1].ranking


def check(trainings: Sequence[Training], untrained: Mapping[str, ArrayLike], scoring_s: float, seed: int = 0) -> Check:
    """The figures of trainings.

    Args:
        trainings: one of each length, of one seed, and another of the longest with another seed, of at least
            `FEWEST_NETWORKS` networks each.
        untrained: numbers that rank the networks without any training, by name; higher is better.
        scoring_s: seconds to score a network.
        seed: random seed of the random orders.

    >>> truth = [0.5, 0.52, 0.54, 0.56, 0.58, 0.6, 0.62, 0.64]
    >>> short = [0.3, 0.2, 0.1, 0.4, 0.0, 0.5, 0.3, 0.2]
    >>> made = [Training(500, 0, 60, (0.5,) * 8, tuple(short))]
    >>> made += [Training(4000, at, 480, (0.6,) * 8, tuple(truth)) for at in (0, 1)]
    >>> found = check(made, {"MACs": [1, 2, 3, 4, 5, 6, 7, 8]}, scoring_s=2.0)
    >>> round(found.ceiling.tau), round(found.untrained["MACs"].tau), found.recommended
    (1, -1, Recommendation(steps=4000, seconds=480.0, budget_s=1200.0))
    """
    ordered = sorted(trainings, key=lambda training: training.steps)
    *_, one, other = ordered
    first, second = (np.array(training.accuracies) for training in (one, other))
    by_one, by_other = (-np.array(training.losses) for training in (one, other))
    rng = np.random.default_rng(seed)
    lengths = [
        Length(training.steps, training.seconds, ranking(-np.array(training.losses), by_other, rng))
        for training in ordered[:-1]
    ]
    lengths[-1] = Length(one.steps, (one.seconds + other.seconds) / 2, lengths[-1].ranking)
    return Check(
        networks=len(first),
        spread=math.sqrt((first.var(ddof=1) + second.var(ddof=1)) / 2),
        noise=float((first - second).std(ddof=1)) / math.sqrt(2),
        lengths=tuple(lengths),
        untrained={name: ranking(numbers, (by_one + by_other) / 2, rng) for name, numbers in untrained.items()},
        scoring_s=scoring_s,
        recommended=_recommended(lengths, scoring_s),
    )


def _recommended(lengths: Sequence[Length], scoring_s: float) -> Recommendation | None:
    ceiling = lengths[-1].ranking
    if ceiling.tau <= 0 or ceiling.chance > SURE:
        return None
    best = next(length for length in lengths if length.ranking.tau >= ENOUGH * ceiling.tau)
    budget_s = max(best.seconds / SHARE, best.seconds + SCORED * scoring_s)
    return Recommendation(best.steps, best.seconds, budget_s)


def ranking(scores: ArrayLike, truth: ArrayLike, rng: np.random.Generator) -> Ranking:
    """How well `scores` rank networks by `truth`; higher is better in both."""
    scored, true = (np.asarray(values, dtype=float) for values in (scores, truth))
    count = len(scored)
    without = [tau(np.delete(scored, at), np.delete(true, at)) for at in range(count)]
    error = math.sqrt((count - 1) * float(np.var(without)))
    return Ranking(tau(scored, true), error, _chance(scored, true, rng))


def _chance(scores: Floats, truth: Floats, rng: np.random.Generator) -> float:
    """In all orders the denominator of tau is the same, so concordant less discordant pairs are compared."""
    ours, theirs = (np.sign(values[:, None] - values[None, :]) for values in (scores, truth))
    orders = (rng.permutation(len(scores)) for _ in range(_ORDERS))
    drawn = np.array([np.sum(ours[np.ix_(order, order)] * theirs) for order in orders])
    as_far = int(np.count_nonzero(np.abs(drawn) >= abs(np.sum(ours * theirs))))
    return (1 + as_far) / (1 + _ORDERS)
