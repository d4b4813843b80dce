"""Whether a network meets a target that its measured latency comes close to: one measurement is not enough to say."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from nas.latency.measure import DISTURBED
from nas.latency.record import Latency
from nas.latency.sampling import TWO_SIDED

CLOSE = 0.03  # of the target: repeated measurements on a quiet machine differ by less
TIMES = 3
FAR = 0.08  # of the target: in all but the noisiest hours, repeated measurements differed by less (docs/latency.md)
QUANTILE = 0.95  # of further measurements, which `Latency.holds_ms` bounds
# Expected standard deviation of repeated measurements, and how many repetitions that expectation counts for: ten of
# MobileNetV3-Large differed by 1.9 to 2.9 %, which is 0.6 to 0.9 % (benchmarks/repeated_measure.py).
# In an hour in which everything took longer, two measurements of each of 100 networks differed by 2.4 % on average,
# which is 2.1 % (benchmarks/latency_table.py).
EXPECTED_SPREAD, DISTURBED_SPREAD, EXPECTED_COUNT = 0.008, 0.02, 4

Measure = Callable[[], Latency]


def surely(measure: Measure, target_ms: float | None) -> Latency:
    """Measure a network to decide whether it is feasible.

    If the first measurement is within the target but close to it (by `CLOSE`, or twice the uncertainty of its median),
    two more are made, and the bound of all three counts (`holding`): a network that is within the target by luck does
    not hold. One measurement above the target decides.
    """
    measured = [measure()]
    if target_ms is None or not _narrowly(measured[0], CLOSE, target_ms):
        return measured[0]
    while len(measured) < TIMES:
        measured.append(measure())
        if measured[-1].ms > target_ms:
            return measured[-1]
    return holding(measured)


def confirmed(latency: Latency, measure: Measure, target_ms: float | None) -> Latency:
    """Measure the one network that a search recommends again: `TIMES` further measurements, judged by `holding`.

    It is skipped if the network is farther below the target than `FAR` and twice the uncertainty of its median, or was
    confirmed before. The best network of a front was selected for its measured latency, which is therefore biased
    towards fast: it only raises the bound, and counts for nothing else.
    """
    if latency.confirmed or target_ms is None or not _narrowly(latency, FAR, target_ms):
        return latency
    again = holding([measure() for _ in range(TIMES)])
    return replace(again, holds_ms=max(again.at_most_ms, latency.ms), confirmed=True)


def _narrowly(latency: Latency, share: float, target_ms: float) -> bool:
    """Whether the target is met, but by no more than `share` of it or twice the uncertainty of the median."""
    return (1 - _doubt(latency, share)) * target_ms < latency.ms <= target_ms


def _doubt(latency: Latency, share: float) -> float:
    return max(share, 2 * (latency.half_width or 0.0))


def holding(measured: Sequence[Latency]) -> Latency:
    """The median of several measurements, with an upper bound (`Latency.holds_ms`) that 95 of 100 further ones stay
    within, at least the slowest of them.

    Logarithms of measurements are taken as normal, with a variance that is roughly known in advance (a conjugate prior)
    and not below each measurement's own; the bound is the quantile of Student's t, as in any prediction interval.
    """
    from scipy.stats import t

    ordered = sorted(measured, key=lambda latency: latency.ms)
    logs, n = np.log([latency.ms for latency in measured]), len(measured)
    degrees = EXPECTED_COUNT + n - 1
    disturbed = any(abs(latency.drift or 0.0) > DISTURBED for latency in measured)
    own = max(latency.half_width or 0.0 for latency in measured) / TWO_SIDED
    expected = max(own, DISTURBED_SPREAD if disturbed else EXPECTED_SPREAD)
    variance = (EXPECTED_COUNT * expected**2 + float(((logs - logs.mean()) ** 2).sum())) / degrees
    bound = math.exp(float(logs.mean()) + float(t.ppf(QUANTILE, degrees)) * math.sqrt(variance * (1 + 1 / n)))
    return replace(ordered[n // 2], holds_ms=max(bound, ordered[-1].ms))


def settled(first: Latency, measure: Measure, target_ms: float | None) -> Latency:
    """Judge a finished file: `first`, or the median of `TIMES` measurements if `first` is close to the target on either
    side (by `CLOSE`, or twice the uncertainty of its median). No single noisy reading condemns a network or saves
    it."""
    if target_ms is None or abs(first.ms / target_ms - 1) > _doubt(first, CLOSE):
        return first
    measured = sorted([first, *(measure() for _ in range(TIMES - 1))], key=lambda latency: latency.ms)
    return measured[len(measured) // 2]
