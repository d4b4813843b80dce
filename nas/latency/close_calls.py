"""Whether a network meets a target that its measured time comes close to: one measurement is not enough to say."""

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
HOLDS = 0.95  # of further measurements
# Standard deviation of repeated measurements to expect beforehand, and how many repetitions that counts for: ten of
# MobileNetV3-Large differed by 1.9 to 2.9 %, which is 0.6 to 0.9 % (benchmarks/repeated_measure.py).
# In an hour in which everything took longer, two measurements of each of 100 networks differed by 2.4 % on average,
# which is 2.1 % (benchmarks/latency_table.py).
EXPECTED_SPREAD, DISTURBED_SPREAD, EXPECTED_COUNT = 0.008, 0.02, 4

Again = Callable[[], Latency]


def surely(measure: Again, target_ms: float | None) -> Latency:
    """A measurement to call a network feasible by. Where the first is within the target but within `CLOSE` of it, or
    twice what it is known to, two more are made, and what they say together counts (`holding`): what is within by luck
    alone does not hold. One above the target settles it."""
    found = [measure()]
    if target_ms is None or not _within(found[0], CLOSE, target_ms):
        return found[0]
    while len(found) < TIMES:
        found.append(measure())
        if found[-1].ms > target_ms:
            return found[-1]
    return holding(found)


def confirmed(found: Latency, measure: Again, target_ms: float | None) -> Latency:
    """What is said of the one network that a search recommends: what `TIMES` further measurements say together
    (`holding`), unless it is farther below the target than `FAR` and twice what it is known to, or was confirmed
    before. The best of a front is there because it came out well when it was measured: by that it is told too fast, so
    that it counts as one more that the bound is not below, and for nothing else."""
    if found.confirmed or target_ms is None or not _within(found, FAR, target_ms):
        return found
    anew = holding([measure() for _ in range(TIMES)])
    return replace(anew, holds_ms=max(anew.at_most_ms, found.ms), confirmed=True)


def _within(found: Latency, share: float, target_ms: float) -> bool:
    """Whether it meets the target, but not by more than `share` of it, or twice what its median is known to."""
    return (1 - _doubt(found, share)) * target_ms < found.ms <= target_ms


def _doubt(found: Latency, share: float) -> float:
    return max(share, 2 * (found.half_width or 0.0))


def holding(found: Sequence[Latency]) -> Latency:
    """The median of these, with what `HOLDS` of further measurements are to stay within, at least the slowest of them.

    Logarithms of measurements are taken for normal, of a spread that is known roughly beforehand (a conjugate prior of
    the variance), and is not below what each says of itself: the bound is a quantile of Student's t, as of any
    prediction interval.
    """
    from scipy.stats import t

    ordered = sorted(found, key=lambda latency: latency.ms)
    logs, n = np.log([latency.ms for latency in found]), len(found)
    degrees = EXPECTED_COUNT + n - 1
    disturbed = any(abs(latency.drift or 0.0) > DISTURBED for latency in found)
    own = max(latency.half_width or 0.0 for latency in found) / TWO_SIDED
    expected = max(own, DISTURBED_SPREAD if disturbed else EXPECTED_SPREAD)
    variance = (EXPECTED_COUNT * expected**2 + float(((logs - logs.mean()) ** 2).sum())) / degrees
    bound = math.exp(float(logs.mean()) + float(t.ppf(HOLDS, degrees)) * math.sqrt(variance * (1 + 1 / n)))
    return replace(ordered[n // 2], holds_ms=max(bound, ordered[-1].ms))


def settled(first: Latency, measure: Again, target_ms: float | None) -> Latency:
    """A measurement to judge a finished file by: `first`, or the median of `TIMES` if it is within `CLOSE` of the
    target on either side, or twice what it is known to. No single noisy reading condemns a network, and none saves
    it."""
    if target_ms is None or abs(first.ms / target_ms - 1) > _doubt(first, CLOSE):
        return first
    found = sorted([first, *(measure() for _ in range(TIMES - 1))], key=lambda latency: latency.ms)
    return found[len(found) // 2]
