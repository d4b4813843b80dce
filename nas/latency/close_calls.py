"""Whether a network meets a target that its measured time comes close to: one measurement is not enough to say."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from nas.latency.measure import DISTURBED, Latency

CLOSE = 0.03  # of the target: repeated measurements on a quiet machine differ by less
TIMES = 3
FAR = 0.08  # of the target: repeated measurements have differed by 9 % once, else by less than this
HOLDS = 0.95  # of further measurements
# Standard deviation of repeated measurements to expect beforehand, and how many repetitions that counts for: ten of
# MobileNetV3-Large differed by 1.9 to 2.9 %, which is 0.6 to 0.9 % (benchmarks/repeated_measure.py).
# In an hour in which everything took longer, two measurements of each of 100 networks differed by 2.4 % on average,
# which is 2.1 % (benchmarks/latency_table.py).
EXPECTED_SPREAD, DISTURBED_SPREAD, EXPECTED_COUNT = 0.008, 0.02, 4

Again = Callable[[], Latency]


def surely(measure: Again, target_ms: float | None) -> Latency:
    """A measurement to call a network feasible by. Where the first is within the target but within `CLOSE` of it, two
    more are made, and what they say together counts (`holding`): what is within by luck alone does not hold. One above
    the target settles it."""
    found = [measure()]
    if target_ms is None or not (1 - CLOSE) * target_ms < found[0].ms <= target_ms:
        return found[0]
    while len(found) < TIMES:
        found.append(measure())
        if found[-1].ms > target_ms:
            return found[-1]
    return holding(found)


def confirmed(found: Latency, measure: Again, target_ms: float | None) -> Latency:
    """What is said of the one network that a search recommends: what `TIMES` further measurements say together
    (`holding`), unless it is `FAR` below the target. Two measurements of a network differed by up to 7 % on a virtual
    machine, and the best of a front is there because it came out well when it was measured: by that it is told too
    fast, so that it counts as one more that the bound is not below."""
    if target_ms is None or not (1 - FAR) * target_ms < found.ms <= target_ms:
        return found
    anew = holding([measure() for _ in range(TIMES)])
    return replace(anew, holds_ms=max(anew.at_most_ms, found.ms))


def holding(found: Sequence[Latency]) -> Latency:
    """The median of these, with what `HOLDS` of further measurements are to stay within, at least the slowest of them.

    Logarithms of measurements are taken for normal, of a spread that is known roughly beforehand (a conjugate prior of
    the variance): the bound is a quantile of Student's t, as of any prediction interval.
    """
    from scipy.stats import t

    ordered = sorted(found, key=lambda latency: latency.ms)
    logs, n = np.log([latency.ms for latency in found]), len(found)
    degrees = EXPECTED_COUNT + n - 1
    disturbed = any(abs(latency.drift or 0.0) > DISTURBED for latency in found)
    expected = DISTURBED_SPREAD if disturbed else EXPECTED_SPREAD
    variance = (EXPECTED_COUNT * expected**2 + float(((logs - logs.mean()) ** 2).sum())) / degrees
    bound = math.exp(float(logs.mean()) + float(t.ppf(HOLDS, degrees)) * math.sqrt(variance * (1 + 1 / n)))
    return replace(ordered[n // 2], holds_ms=max(bound, ordered[-1].ms))


def settled(first: Latency, measure: Again, target_ms: float | None) -> Latency:
    """A measurement to judge a finished file by: `first`, or the median of `TIMES` if it is within `CLOSE` of the
    target on either side. No single noisy reading condemns a network, and none saves it."""
    if target_ms is None or abs(first.ms / target_ms - 1) > CLOSE:
        return first
    found = sorted([first, *(measure() for _ in range(TIMES - 1))], key=lambda latency: latency.ms)
    return found[len(found) // 2]
