"""Before any training: what each limit besides latency leaves of a space, and whether a network clears all of them."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.arch.arch import Arch
from nas.arch.codes import Coder
from nas.arch.space import Space
from nas.latency.descent import Costs, SpentError
from nas.latency.limits import QUANTITIES, Limits, shown
from nas.system.errors import InfeasibleError

STARTS = 3

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Bound:
    """What one limit leaves of a space.

    Args:
        name: quantity of `nas.latency.limits.QUANTITIES`.
        bound: its limit.
        smallest: smallest value found in the space.
        largest: largest value found in the space; up to the bound, the limit does not bind.
        share: share of uniformly sampled networks within the bound.
    """

    name: str
    bound: float
    smallest: float
    largest: float
    share: float

    def __str__(self) -> str:
        limit = f"{self.name} up to {shown(self.name, self.bound)}"
        if self.largest <= self.bound:
            return f"{limit} does not bind (largest found: {shown(self.name, self.largest)})"
        return f"{limit} (smallest found: {shown(self.name, self.smallest)}; {self.share:.1%} of the space)"


@dataclass(frozen=True)
class Clearance:
    """What all limits together leave of a space.

    Args:
        bounds: the limits besides latency.
        share: share of uniformly sampled networks that clear all limits, those on latency included.
        samples: number of networks sampled.
        admitted: a network that clears all limits.
    """

    bounds: tuple[Bound, ...]
    share: float
    samples: int
    admitted: Arch

    def to_dict(self) -> dict[str, Any]:
        """Plain values; the network by key."""
        return asdict(self) | {"admitted": self.admitted.key}

    def __str__(self) -> str:
        """Two lines for people."""
        few = f"less than {1 / self.samples:.2%}" if self.share == 0 else f"{self.share:.1%}"
        named = "; ".join(map(str, self.bounds))
        return "\n".join([*([f"limits: {named}"] if named else []), f"{few} of the space clears all limits together"])


def clearance(space: Space, limits: Limits, seed: int = 0, samples: int = 2000, most: int | None = None) -> Clearance:
    """Sample the space uniformly, and descend to the smallest value of each limited quantity, and of all together.

    Args:
        space: to explore.
        limits: at least one.
        seed: random seed of the samples, which are those of `nas.latency.feasibility.feasibility`.
        samples: number of networks drawn.
        most: number of networks whose latency is asked for at most; None is no bound.

    Raises:
        InfeasibleError: no network was found within one limit, or within all together.
    """
    rng = np.random.default_rng(seed)
    coder = Coder(space)
    excess = Costs(coder, lambda archs: np.maximum(limits.shares(archs) - 1, 0).sum(axis=1), most)
    samples = samples if most is None else max(1, min(samples, most))
    drawn = np.array([coder.codes(space.sample_genes(rng)) for _ in range(samples)])
    bounds, starts = [], []
    for name, bound in limits.bounds.items():
        values = Costs(coder, QUANTITIES[name])
        of_drawn = values(drawn)
        values.descend(drawn[np.argmin(of_drawn)])
        values.descend(drawn[np.argmax(of_drawn)], sign=-1)
        least, smallest = values.least
        if smallest > bound:
            raise InfeasibleError(
                f"no network of space {space.name} can meet the limit {name} {shown(name, bound)}: the smallest found, "
                f"{least.key}, needs {shown(name, smallest, bound)}: {least}"
            )
        starts.append(coder.codes(space.encode(least)))
        bounds.append(Bound(name, bound, smallest, values.most[1], float(np.mean(of_drawn <= bound))))
    of_drawn = excess(drawn)
    nearest = drawn[np.argsort(of_drawn, kind="stable")[:STARTS]]
    with suppress(SpentError):
        for start in [*nearest, *starts]:
            if excess.least[1] > 0:
                excess.descend(start, until=0.0)
    closest, beyond = excess.least
    if beyond > 0:
        raise InfeasibleError(
            f"no network of space {space.name} was found that clears all limits together, although each alone can be "
            f"met; the closest, {closest.key}, has {limits.broken_by(closest)}; raise a limit"
        )
    return Clearance(tuple(bounds), float(np.mean(of_drawn <= 0)), len(drawn), closest)
