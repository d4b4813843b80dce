"""By how much a network is expected to improve what is known: the figure that the next proposal maximises."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr, ndtr

Floats = NDArray[np.float64]

BELOW = 0.5  # of the range of known scores: how far the corner of the area is below the lowest; 0.3 to 1 do alike
MOST_STEPS = 64  # of a front; a longer one is thinned


@dataclass(frozen=True)
class Known:
    """The networks that are known or under way, within the limits.

    Args:
        scores: their expected scores, shape (n,); higher is better.
        times: their latencies, shape (n,).
    """

    scores: Floats
    times: Floats


def expected_improvement(means: Floats, sds: Floats, best: float) -> Floats:
    """``E[max(score - best, 0)]`` for normal scores (Jones et al., Journal of Global Optimization 1998), shape (n,).

    >>> expected_improvement(np.array([1.0, 0.0]), np.array([0.0, 1.0]), 0.0).round(3)
    array([1.   , 0.399])
    """
    sds = np.maximum(sds, 1e-12)
    z = (means - best) / sds
    density = np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)
    found: Floats = np.maximum(sds * (density + z * ndtr(z)), 0.0)
    return found


def expected_hypervolume_improvement(means: Floats, sds: Floats, times: Floats, known: Known, slowest: float) -> Floats:
    """The area between the front and a new network, in score times latency, that is expected to be won (Emmerich et
    al., IEEE Congress on Evolutionary Computation 2011). Latency is known, so it is a sum of expected improvements, one
    for each step of the front, times the width of the step. The corner of the area is `slowest` and a score half the
    known range below the lowest: the fast end of the front grows, too.

    >>> known = Known(np.array([1.0, 2.0]), np.array([1.0, 2.0]))
    >>> new = np.array([2.0, 1.0]), np.zeros(2), np.array([1.0, 0.5])
    >>> expected_hypervolume_improvement(*new, known, slowest=3.0).round(6)
    array([1.  , 0.25])
    """
    starts, heights = _steps(known)
    ends = np.append(starts[1:], np.inf)
    total = np.zeros(len(means))
    for start, end, height in zip(starts, ends, heights, strict=True):
        width = np.minimum(end, slowest) - np.maximum(start, times)
        reached = np.flatnonzero(width > 0)
        total[reached] += width[reached] * expected_improvement(means[reached], sds[reached], height)
    return total


def order(means: Floats, sds: Floats, improvement: Floats, best: float) -> Floats:
    """`improvement` on a logarithmic scale, with networks of no measurable improvement below, by their odds."""
    hopeless = log_ndtr((means - best) / np.maximum(sds, 1e-12)) - 1e3
    hopeless += 1e-3 * (means - best)  # where even the odds are none: the most accurate
    with np.errstate(divide="ignore"):
        logs = np.log(improvement)
    return np.where(logs > -600, logs, np.minimum(hopeless, -600.0))


def _steps(known: Known) -> tuple[Floats, Floats]:
    """The front as a rising staircase: where each step begins, and its height; the first is that of the corner."""
    at = np.lexsort((-known.scores, known.times))
    times, scores = known.times[at], known.scores[at]
    rising = scores > np.concatenate([[-np.inf], np.maximum.accumulate(scores)[:-1]])
    times, scores = times[rising], scores[rising]
    if len(times) > MOST_STEPS:
        kept = np.unique(np.linspace(0, len(times) - 1, MOST_STEPS).round().astype(int))
        times, scores = times[kept], scores[kept]
    floor = float(known.scores.min() - BELOW * np.ptp(known.scores))
    return np.concatenate([[-np.inf], times]), np.concatenate([[floor], scores])
