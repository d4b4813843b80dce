"""Networks of a space that cost about the same: what a search under a budget compares."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from nas.arch.arch import Arch
from nas.arch.space import Space
from nas.latency.feasible_sampler import FeasibleSampler
from nas.latency.limits import Limits
from nas.latency.record import Latency


class _Distance:
    """How far the cost of a network is from the middle of a band, as a factor's logarithm; a
    `nas.latency.devices.LatencyModel`, so that the sampler of feasible networks finds those in the band."""

    def __init__(self, cost: Callable[[Sequence[Arch]], np.ndarray], middle: float) -> None:
        self._cost, self._middle = cost, middle

    device, table = "distance", None

    def __call__(self, arch: Arch) -> Latency:
        return Latency(float(self.many([arch])[0]), None, None, self.device, None, None, 1, "predicted")

    def many(self, archs: Sequence[Arch]) -> np.ndarray:
        return np.asarray(np.abs(np.log(self._cost(archs) / self._middle)))

    def measure(self, arch: Arch) -> Latency | None:
        return None


def of_equal_cost(
    space: Space,
    cost: Callable[[Sequence[Arch]], np.ndarray],
    low: float,
    high: float,
    wanted: int,
    rng: np.random.Generator,
    most: int | None = None,
) -> list[Arch]:
    """Distinct networks whose cost is in a band: uniform draws and, where those are too few, networks that evolve from
    the nearest draws towards it.

    Args:
        space: to draw from.
        cost: positive costs of networks, e.g. ``model.many`` of a latency model.
        low: lower bound of the cost, above 0.
        high: upper bound of the cost.
        wanted: number of networks; fewer are returned if fewer can be found.
        rng: random numbers.
        most: networks whose cost may be computed; None is no bound.

    >>> from nas.arch.cost import cost_of
    >>> from nas.arch.space_yaml import load_space
    >>> costs = lambda archs: np.array([cost_of(arch).macs for arch in archs])
    >>> found = of_equal_cost(load_space("mbconv"), costs, 92e6, 100e6, 5, np.random.default_rng(0))
    >>> len(found), all(92e6 <= cost <= 100e6 for cost in costs(found))
    (5, True)
    """
    distance = _Distance(cost, math.sqrt(low * high))
    sampler = FeasibleSampler(space, Limits(distance, math.log(high / low) / 2), rng)
    return [space.decode(genes) for genes in sampler.unseen((), wanted, most)]
