"""Times a network in turn with an anchor until its median is known. Needs only numpy; agents carry a copy.

On a shared machine everything may take a tenth longer for minutes, or twice as long for a moment. So a fixed small
network, the anchor, runs before and after every few runs of the network; what slows down both cancels in their
quotient. On a 2-core machine with four busy processes, ten medians of a network differed by 126 %, the quotients by
9 %.

Neighbours on other cores, or other virtual machines, also take away shared cache. The anchor needs little of it and
hardly feels that; each network feels it to its own degree. A second anchor, the far anchor, depends on that cache.
Regression within the measurement (a control variate) finds the network's share of the far anchor's slowdown, and the
latency is corrected for it (``benchmarks/anchors.py``).

A network finds the caches full of the anchors. A network of a millisecond takes twice as long in its first run, and 5
to 12 % longer in its third to fifth than from the tenth on. So it runs for ten milliseconds before its runs count.
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
MIN_SECONDS = 0.3  # noise comes in bursts, so runs of one moment resemble each other
FAR_SECONDS = 1.5  # the minimum with a far anchor: the load on the shared cache varies over seconds
MAX_SECONDS = 4.0
SLOW_SECONDS = 0.3  # a network slower than this gets a dozen runs at most, from one place in memory
WARM_UP_SECONDS = 0.75
WARM_UP_RUNS = 4
WARM_UP_GOAL = 0.02
BURST = 3  # runs in a row; their median counts
BURST_SECONDS = 0.05  # a slow network has fewer runs in a burst
SETTLING_SECONDS = 0.01  # of runs before each burst that do not count; a quick network's burst is as long as this
SETTLING_RUNS = 2  # at least; one if a burst is a single run, none for a network slower than `SLOW_SECONDS`
LONGEST = 250  # runs, so that a burst ends even if the clock stands still
PEAK_SHARE, SHARE_FALLOFF = 0.9, 1.6  # of `expected_share`: its maximum, and how quickly it falls to either side
SHARE_SIGMA, MAX_SHARE = 0.15, 1.5  # of a network's share of the far anchor's slowdown: standard deviation, maximum
SMOOTHED_ROUNDS = 3  # what the far anchor feels lasts for this many rounds or more
PASSES = 10
OUTLYING = 2.0  # standard deviations beyond which a burst weighs less
TWO_SIDED = 1.96  # standard errors to either side that contain 95 %

Run = Callable[[], object]


@dataclass(frozen=True)
class Samples:
    """Durations in seconds, in order of time.

    Args:
        runs: duration of every run of the network.
        rounds: median of each burst of runs of the network.
        anchors: duration of the anchor around each burst; all 1 without an anchor.
        far: duration of the far anchor around each burst; empty without one.
    """

    runs: tuple[float, ...]
    rounds: tuple[float, ...]
    anchors: tuple[float, ...]
    far: tuple[float, ...] = ()

    @property
    def quotients(self) -> np.ndarray:
        """Each burst over its anchor, shape ``(rounds,)``. With a far anchor, corrected to the median `state`."""
        if not self.far:
            return np.asarray(np.array(self.rounds) / np.array(self.anchors))
        network, state = self._logs
        return np.asarray(np.exp(network - self.share * (state - np.median(state))))

    @property
    def share(self) -> float:
        """The network's share of the far anchor's slowdown; 0 without a far anchor."""
        return fit_share(*self._logs, self._expected_share)[0] if self.far else 0.0

    @property
    def _expected_share(self) -> float:
        return expected_share(float(np.median(self.rounds)), float(np.median(self.far)))

    @cached_property
    def _logs(self) -> tuple[np.ndarray, np.ndarray]:
        """Logarithms of each burst and of the far anchor, both over the anchor."""
        anchors = np.log(np.array(self.anchors))
        return np.log(np.array(self.rounds)) - anchors, np.log(np.array(self.far)) - anchors

    @property
    def state(self) -> float:
        """State of the shared cache: the median of the far anchor over the anchor; 1 without a far anchor."""
        return float(np.median(np.array(self.far) / np.array(self.anchors))) if self.far else 1.0

    def at_baseline(self, anchor_ms: float, state: float = 1.0) -> np.ndarray:
        """Milliseconds of each burst if the anchor took `anchor_ms` in this `state`; shape ``(rounds,)``."""
        return np.asarray(self.quotients * anchor_ms * (state / self.state) ** self.share)

    @property
    def anchor_ms(self) -> float:
        """Median of the anchor in milliseconds."""
        return float(np.median(self.anchors)) * 1e3

    def half_width(self, baseline_state: float | None = None) -> float:
        """Half the confidence interval of the median, relative to the median.

        It is the interval of `quotients`, plus the uncertainty of the correction to `baseline_state`. Adding the two is
        conservative.
        """
        quotients = self.quotients
        low, high = median_interval(quotients)
        width = float((high - low) / 2 / np.median(quotients))
        if not self.far or baseline_state is None:
            return width
        _, error = fit_share(*self._logs, self._expected_share)
        return width + TWO_SIDED * error * abs(math.log(baseline_state / self.state))


def expected_share(taken: float, far: float) -> float:
    """The share of the far anchor's slowdown to expect of a network, given only their times in the same unit.

    A network as quick as the far anchor feels the same as it does. A much quicker one stays in a core's own caches; a
    much slower one waits for them for less of its time.

    The shape fits 249 networks over 14 rounds in six minutes, while the far anchor's slowdown fell by 18 %: networks of
    0.54, 1.04, 1.7, 2.5, 4.1, 5.9, 10 and 18 ms had shares of 0.05, 0.47, 0.76, 0.81, 0.47, 0.13, -0.04 and 0.05
    (standard errors 0.02 to 0.07); the far anchor took 1.9 ms.
    """
    return PEAK_SHARE * math.exp(-SHARE_FALLOFF * math.log(taken / far) ** 2)


def fit_share(network: np.ndarray, state: np.ndarray, expected: float) -> tuple[float, float]:
    """The slope of `network` over `state`, and its standard error, by Bayesian linear regression.

    Both arrays are smoothed first, because the noise of single bursts in `state` would bias the slope towards zero.
    Outlying bursts weigh less.

    Args:
        network: logarithms of the bursts over the anchor, shape ``(rounds,)``.
        state: logarithms of the far anchor over the anchor, shape ``(rounds,)``.
        expected: mean of the slope before any data; its standard deviation is `SHARE_SIGMA`.
    """
    network, state = _smoothed(network), _smoothed(state)
    network, state = network - np.median(network), state - np.median(state)
    slope = expected
    for _ in range(PASSES):
        residual = network - slope * state
        residual -= np.median(residual)
        spread = 1.4826 * max(float(np.median(np.abs(residual))), 1e-6)
        weight = 1 / np.maximum(1.0, np.abs(residual) / (OUTLYING * spread)) / SMOOTHED_ROUNDS  # the means overlap
        precision = float((weight * state**2).sum()) + (spread / SHARE_SIGMA) ** 2
        slope = (float((weight * state * network).sum()) + expected * (spread / SHARE_SIGMA) ** 2) / precision
    return min(max(slope, 0.0), MAX_SHARE), spread / math.sqrt(precision)


def _smoothed(values: np.ndarray) -> np.ndarray:
    if len(values) <= SMOOTHED_ROUNDS:
        return values
    return np.convolve(values, np.full(SMOOTHED_ROUNDS, 1 / SMOOTHED_ROUNDS), "valid")


def sample(
    runs: Sequence[Run],
    anchor: Run | None = None,
    clock: Callable[[], float] = perf_counter,
    far: Run | None = None,
    baseline_state: float | None = None,
) -> Samples:
    """Run a network until it is warm, then in turn with the anchors until its median is known to `GOAL`, or until
    `MAX_SECONDS` have passed.

    Args:
        runs: runs of the network, loaded once or several times. Bursts alternate between the loads, because the place
            in memory makes a network a percent or two faster or slower.
        anchor: run of the anchor.
        clock: returns seconds.
        far: run of the far anchor.
        baseline_state: state that the median is corrected to; None is the state during this measurement.
    """

    def burst(run: Run, count: int) -> list[float]:
        taken: list[float] = []
        while len(taken) < count and sum(taken) < WARM_UP_SECONDS:  # one run of a slow network is enough
            start = clock()
            run()
            taken.append(clock() - start)
        return taken

    def settled(run: Run, typical: float) -> list[float]:
        """A burst after runs that do not count, because the other networks have filled the caches."""
        quick = min(LONGEST, math.ceil(SETTLING_SECONDS / typical))
        count = max(1, min(BURST, int(BURST_SECONDS / typical)), quick)
        lead = 0 if anchor is None or typical > SLOW_SECONDS else max(SETTLING_RUNS, quick) if count > 1 else 1
        taken = burst(run, lead + count)
        return taken[lead:] or taken[-1:]

    def median_of(run: Run | None, typical: float) -> float:
        return float(np.median(settled(run, typical))) if run else 1.0

    def warm(run: Run | None) -> float:
        return max(_warm(partial(burst, run, WARM_UP_RUNS), clock), 1e-9) if run else 1.0

    def between(values: list[float]) -> tuple[float, ...]:
        return tuple(np.convolve(values, [0.5, 0.5], "valid"))

    typical = warm(runs[0])
    if typical > SLOW_SECONDS:
        runs = runs[:1]
    for run in runs[1:]:
        warm(run)
    near_typical, far_typical = warm(anchor), warm(far)
    least = FAR_SECONDS if far else MIN_SECONDS
    every: list[float] = []
    rounds: list[float] = []
    around, far_around = [median_of(anchor, near_typical)], [median_of(far, far_typical)]
    begin = clock()
    check_at = MIN_ROUNDS
    while True:
        taken = settled(runs[len(rounds) % len(runs)], typical)
        every += taken
        rounds.append(float(np.median(taken)))
        around.append(median_of(anchor, near_typical))
        far_around.append(median_of(far, far_typical))
        spent = clock() - begin
        samples = Samples(tuple(every), tuple(rounds), between(around), between(far_around) if far else ())
        if spent >= MAX_SECONDS and len(rounds) >= 3:
            return samples
        if len(rounds) >= check_at and spent >= least:
            if samples.half_width(baseline_state) <= GOAL:
                return samples
            check_at = math.ceil(len(rounds) * 1.2)


def _warm(burst: Callable[[], list[float]], clock: Callable[[], float]) -> float:
    """Run bursts until two in a row agree; the median of the last one, in seconds."""
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
    it with probability ``1 - 2 P(B < k)``. The largest k that gives `confidence` is used. If there are too few values
    for any k, the interval is their whole range.

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
