"""How a network is timed: in turn with an anchor, until the median is known. Needs numpy alone; agents carry a copy.

On a shared machine everything may take a tenth longer for minutes, or twice as long for a moment. A fixed small
network, the anchor, is therefore run before and after every few runs of the network in question; what both suffer
cancels in their quotient. On a 2-core machine with four busy processes, ten medians of one network differed by 126 %,
the quotients by 9 %.

Neighbours on other cores, or other virtual machines, also take away cache that all share. The anchor, which needs
little, hardly feels it, and networks feel it each in its own measure. A second, far anchor leans on that cache: what
share of its excess a network has is found by regression within the measurement (a control variate), and taken out
(``benchmarks/anchors.py``).

A network finds the caches full of the anchors. One of a millisecond takes twice as long in its first run and 5 to 12 %
longer in its third to fifth than from the tenth on; it is run for ten milliseconds before its runs count.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from time import perf_counter

import numpy as np

GOAL = 0.01  # half the confidence interval of the median, relative to it
CONFIDENCE = 0.95
MIN_ROUNDS = 12
MIN_SECONDS = 0.3  # noise comes in bursts: runs of one burst agree among themselves
FAR_SECONDS = 1.5  # with a far anchor at least: what it feels comes and goes in seconds
MAX_SECONDS = 4.0
SLOW_SECONDS = 0.3  # a network that is run a dozen times at most: not in more than one place in memory
WARM_UP_SECONDS = 0.75
WARM_UP_RUNS = 4
WARM_UP_GOAL = 0.02
BURST = 3  # runs in a row, of which the median counts
BURST_SECONDS = 0.05  # fewer of a slow network
SETTLING_SECONDS = 0.01  # of runs that do not count, before each burst; and more runs in it of a quick network
SETTLING_RUNS = 2  # at least; one where a burst is one run, none of a network slower than `SLOW_SECONDS`
LONGEST = 250  # runs, so that a clock that stands still ends the burst
PEAK_SHARE, SHARE_FALLOFF = 0.9, 1.6  # of `expected_share`: its peak, and how quickly it falls to either side
SHARE_SIGMA, MAX_SHARE = 0.15, 1.5  # of the share of the far anchor's excess that a network has: spread, most
SMOOTHED_ROUNDS = 3  # rounds that what the far anchor feels lasts for at least
PASSES = 10
OUTLYING = 2.0  # standard deviations, beyond which a burst counts for less
TWO_SIDED = 1.96  # standard errors to either side that hold 95 %

Run = Callable[[], object]


@dataclass(frozen=True)
class Samples:
    """Durations in seconds, in order of time.

    Args:
        runs: of the network, every one.
        rounds: of the network, the median of each burst.
        anchors: of the anchor around each burst; all 1 without an anchor.
        far: of the far anchor around each burst; empty without one.
    """

    runs: tuple[float, ...]
    rounds: tuple[float, ...]
    anchors: tuple[float, ...]
    far: tuple[float, ...] = ()

    @property
    def quotients(self) -> np.ndarray:
        """Each burst over its anchor, shape ``(rounds,)``; with a far anchor, as they would be if all bursts had found
        the shared cache in its median `state`."""
        if not self.far:
            return np.asarray(np.array(self.rounds) / np.array(self.anchors))
        high, state = self._logs
        return np.asarray(np.exp(high - self.share * (state - np.median(state))))

    @property
    def share(self) -> float:
        """What share of the far anchor's excess the network has; 0 without a far anchor."""
        return fit_share(*self._logs, self._expected_share)[0] if self.far else 0.0

    @property
    def _expected_share(self) -> float:
        return expected_share(float(np.median(self.rounds)), float(np.median(self.far)))

    @cached_property
    def _logs(self) -> tuple[np.ndarray, np.ndarray]:
        """Logarithms of each burst and of the far anchor, over the anchor."""
        anchors = np.log(np.array(self.anchors))
        return np.log(np.array(self.rounds)) - anchors, np.log(np.array(self.far)) - anchors

    @property
    def state(self) -> float:
        """Median of the far anchor over the anchor; 1 without one."""
        return float(np.median(np.array(self.far) / np.array(self.anchors))) if self.far else 1.0

    def at_baseline(self, anchor_ms: float, state: float = 1.0) -> np.ndarray:
        """Ms of each burst, were the anchor to take `anchor_ms` and the `state` to be this; shape ``(rounds,)``."""
        return np.asarray(self.quotients * anchor_ms * (state / self.state) ** self.share)

    @property
    def anchor_ms(self) -> float:
        """Median of the anchor, in milliseconds."""
        return float(np.median(self.anchors)) * 1e3

    def half_width(self, baseline_state: float | None = None) -> float:
        """Half the confidence interval of the median, relative to it: that of `quotients`, and of what the network's
        share does not tell of the way to the usual state. The two are added, which is on the safe side."""
        quotients = self.quotients
        low, high = median_interval(quotients)
        width = float((high - low) / 2 / np.median(quotients))
        if not self.far or baseline_state is None:
            return width
        _, doubt = fit_share(*self._logs, self._expected_share)
        return width + TWO_SIDED * doubt * abs(math.log(baseline_state / self.state))


def expected_share(taken: float, far: float) -> float:
    """The share of the far anchor's excess to expect of a network before anything is known but times: one as quick as
    the far anchor feels what that feels, a much quicker one stays in a core's own caches, a much slower one waits for
    them for less of its time.

    The shape is that of 249 networks over 14 rounds in six minutes, as the far anchor's excess fell by 18 %: networks
    of 0.54, 1.04, 1.7, 2.5, 4.1, 5.9, 10 and 18 ms had 0.05, 0.47, 0.76, 0.81, 0.47, 0.13, -0.04 and 0.05 of it
    (standard errors 0.02 to 0.07), the far anchor taking 1.9 ms.
    """
    return PEAK_SHARE * math.exp(-SHARE_FALLOFF * math.log(taken / far) ** 2)


def fit_share(high: np.ndarray, state: np.ndarray, expected: float) -> tuple[float, float]:
    """By how much `high` rises where `state` does by one, and the standard error of that: Bayesian linear regression,
    from the `expected` slope on, with outlying bursts held back. Both are logarithms, of shape ``(rounds,)``, and are
    smoothed first: the noise of single bursts in `state` would make the slope too small."""
    high, state = _smoothed(high), _smoothed(state)
    high, state = high - np.median(high), state - np.median(state)
    slope = expected
    for _ in range(PASSES):
        left = high - slope * state
        left -= np.median(left)
        spread = 1.4826 * max(float(np.median(np.abs(left))), 1e-6)
        weight = 1 / np.maximum(1.0, np.abs(left) / (OUTLYING * spread)) / SMOOTHED_ROUNDS  # of means that overlap
        known = float((weight * state**2).sum()) + (spread / SHARE_SIGMA) ** 2
        slope = (float((weight * state * high).sum()) + expected * (spread / SHARE_SIGMA) ** 2) / known
    return min(max(slope, 0.0), MAX_SHARE), spread / math.sqrt(known)


def _smoothed(values: np.ndarray) -> np.ndarray:
    return (
        np.convolve(values, np.full(SMOOTHED_ROUNDS, 1 / SMOOTHED_ROUNDS), "valid")
        if len(values) > SMOOTHED_ROUNDS
        else values
    )


def sample(
    runs: Sequence[Run],
    anchor: Run | None = None,
    clock: Callable[[], float] = perf_counter,
    far: Run | None = None,
    baseline_state: float | None = None,
) -> Samples:
    """Run until steady, then in turn with the anchors until the median is known closely, or a cap is met.

    Args:
        runs: the network, loaded once or several times, each into memory of its own; bursts take them in turn, for
            where it happens to lie makes it a percent or two faster or slower as long as it lies there.
        anchor: that it is held against.
        clock: seconds.
        far: the far anchor.
        baseline_state: that the median is to be told for; None is the one that is met.
    """

    def burst(one: Run, count: int) -> list[float]:
        taken: list[float] = []
        while len(taken) < count and sum(taken) < WARM_UP_SECONDS:  # one run of a slow network is enough
            start = clock()
            one()
            taken.append(clock() - start)
        return taken

    def settled(one: Run, typical: float) -> list[float]:
        """A burst after runs that do not count: they find their weights driven out of the caches by the other's."""
        quick = min(LONGEST, math.ceil(SETTLING_SECONDS / typical))
        count = max(1, min(BURST, int(BURST_SECONDS / typical)), quick)
        lead = 0 if anchor is None or typical > SLOW_SECONDS else max(SETTLING_RUNS, quick) if count > 1 else 1
        taken = burst(one, lead + count)
        return taken[lead:] or taken[-1:]

    def held(one: Run | None, typical: float) -> float:
        return float(np.median(settled(one, typical))) if one else 1.0

    def warm(one: Run | None) -> float:
        return max(_warm(partial(burst, one, WARM_UP_RUNS), clock), 1e-9) if one else 1.0

    def between(values: list[float]) -> tuple[float, ...]:
        return tuple(np.convolve(values, [0.5, 0.5], "valid"))

    typical = warm(runs[0])
    if typical > SLOW_SECONDS:
        runs = runs[:1]
    for one in runs[1:]:
        warm(one)
    near_typical, far_typical = warm(anchor), warm(far)
    least = FAR_SECONDS if far else MIN_SECONDS
    every: list[float] = []
    rounds: list[float] = []
    around, far_around = [held(anchor, near_typical)], [held(far, far_typical)]
    begin = clock()
    check_at = MIN_ROUNDS
    while True:
        taken = settled(runs[len(rounds) % len(runs)], typical)
        every += taken
        rounds.append(float(np.median(taken)))
        around.append(held(anchor, near_typical))
        far_around.append(held(far, far_typical))
        spent = clock() - begin
        found = Samples(tuple(every), tuple(rounds), between(around), between(far_around) if far else ())
        if spent >= MAX_SECONDS and len(rounds) >= 3:
            return found
        if len(rounds) >= check_at and spent >= least:
            if found.half_width(baseline_state) <= GOAL:
                return found
            check_at = math.ceil(len(rounds) * 1.2)


def _warm(burst: Callable[[], list[float]], clock: Callable[[], float]) -> float:
    """Run until two bursts agree; the median of the last, in seconds."""
    begin = clock()
    before = math.inf
    while True:
        now = float(np.median(burst()))
        if clock() - begin >= WARM_UP_SECONDS:
            return now
        if abs(now - before) <= WARM_UP_GOAL * now:
            return now
        before = now


def median_interval(values: list[float] | np.ndarray, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """A confidence interval of the median that holds for any distribution: two order statistics.

    The number of values below the true median is binomial (n, 1/2), so the k-th smallest and the k-th largest enclose
    it with probability ``1 - 2 P(B < k)``; the largest k that gives `confidence` is taken. Values too few for any k
    give all of their range.

    >>> median_interval([5.0, 1.0, 4.0, 2.0, 3.0, 6.0])
    (1.0, 6.0)
    """
    ordered = np.sort(np.asarray(values, dtype=float))
    k = _order(len(ordered), confidence)
    return float(ordered[k - 1]), float(ordered[-k])


@lru_cache(maxsize=4096)
def _order(n: int, confidence: float) -> int:
    """The largest k >= 1 with ``P(Binomial(n, 1/2) < k) <= (1 - confidence) / 2``; 1 if there is none."""
    allowed = (1 - confidence) / 2 * 2.0**n if n < 1000 else None
    total, ways, k = 0, 1, 0
    while k < n:
        total += ways
        below = total <= allowed if allowed is not None else total / (1 << n) <= (1 - confidence) / 2
        if not below:
            break
        ways = ways * (n - k) // (k + 1)
        k += 1
    return max(k, 1)
