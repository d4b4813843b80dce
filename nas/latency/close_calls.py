"""Whether a network meets a target that its measured time comes close to: one measurement is not enough to say."""

from __future__ import annotations

from collections.abc import Callable

from nas.latency.measure import Latency

CLOSE = 0.03  # of the target: repeated measurements on a quiet machine differ by less
TIMES = 3
FAR = 0.08  # of the target: repeated measurements have differed by 9 % once, else by less than this

Again = Callable[[], Latency]


def surely(measure: Again, target_ms: float | None) -> Latency:
    """A measurement to call a network feasible by. One that is within the target but within `CLOSE` of it is repeated,
    and the slowest of `TIMES` counts: what holds by luck alone does not hold."""
    found = measure()
    for _ in range(TIMES - 1):
        if target_ms is None or not (1 - CLOSE) * target_ms < found.ms <= target_ms:
            break
        found = max(found, measure(), key=lambda latency: latency.ms)
    return found


def confirmed(found: Latency, measure: Again, target_ms: float | None) -> Latency:
    """What is said of the one network that a search recommends: measured `TIMES` in all, of which the slowest counts,
    unless it is `FAR` below the target. Two measurements of a network differed by up to 7 % on a virtual machine, and
    the best of a front is there because it came out well the first time."""
    if target_ms is None or not (1 - FAR) * target_ms < found.ms <= target_ms:
        return found
    return max([found, *(measure() for _ in range(TIMES - 1))], key=lambda latency: latency.ms)


def settled(first: Latency, measure: Again, target_ms: float | None) -> Latency:
    """A measurement to judge a finished file by: `first`, or the median of `TIMES` if it is within `CLOSE` of the
    target on either side. No single noisy reading condemns a network, and none saves it."""
    if target_ms is None or abs(first.ms / target_ms - 1) > CLOSE:
        return first
    found = sorted([first, *(measure() for _ in range(TIMES - 1))], key=lambda latency: latency.ms)
    return found[len(found) // 2]
