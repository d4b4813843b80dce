"""Before any training: what each limit besides latency leaves of a space, and whether a network clears all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.arch.arch import Arch
from nas.arch.codes import Coder, Codes
from nas.arch.space import Space
from nas.arch.uniform import Uniform
from nas.latency.descent import Costs, SpentError
from nas.latency.limits import QUANTITIES, Limits, shown
from nas.system.errors import InfeasibleError

STARTS = 3
SAMPLES = 2000

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
        least: network of the smallest value.
    """

    name: str
    bound: float
    smallest: float
    largest: float
    share: float
    least: Arch

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
        bounds = [asdict(bound) | {"least": bound.least.key} for bound in self.bounds]
        return {"bounds": bounds, "share": self.share, "samples": self.samples, "admitted": self.admitted.key}

    def __str__(self) -> str:
        """Two lines for people."""
        few = f"less than {1 / self.samples:.2%}" if self.share == 0 else f"{self.share:.1%}"
        named = "; ".join(map(str, self.bounds))
        return "\n".join([*([f"limits: {named}"] if named else []), f"{few} of the space clears all limits together"])


def bounds_of(space: Space, bounds: Mapping[str, float], seed: int = 0, samples: int = SAMPLES) -> tuple[Bound, ...]:
    """Sample the space uniformly, then descend and climb to the smallest and the largest value of each quantity.

    Args:
        space: to explore.
        bounds: limits by quantity.
        seed: random seed of the samples.
        samples: number of networks drawn.

    Raises:
        InfeasibleError: not even the smallest network found is within a bound.
    """
    if not bounds:
        return ()
    coder, found = Coder(space), []
    drawn = _drawn(space, coder, samples, seed)
    for name, bound in bounds.items():
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
        found.append(Bound(name, bound, smallest, values.most[1], float(np.mean(of_drawn <= bound)), least))
    return tuple(found)


def clearance(
    space: Space,
    limits: Limits,
    bounds: Sequence[Bound],
    seed: int = 0,
    samples: int = SAMPLES,
    most: int | None = None,
) -> Clearance:
    """Find a network that clears all limits: in a uniform sample, else by descents from what comes closest.

    Args:
        space: to explore.
        limits: at least one.
        bounds: what `bounds_of` found for them.
        seed: random seed of the samples, which are those of `nas.latency.feasibility.feasibility`.
        samples: number of networks drawn.
        most: number of networks whose latency is asked for at most; None is no bound.

    Raises:
        InfeasibleError: none was found.
    """
    coder = Coder(space)
    excess = Costs(coder, lambda archs: np.maximum(limits.shares(archs) - 1, 0).sum(axis=1), most)
    drawn = _drawn(space, coder, samples if most is None else max(1, min(samples, most // 4)), seed)
    of_drawn = excess(drawn)
    nearest = drawn[np.argsort(of_drawn, kind="stable")[:STARTS]]
    with suppress(SpentError):
        for start in [*nearest, *(coder.codes(space.encode(bound.least)) for bound in bounds)]:
            if excess.least[1] > 0:
                excess.descend(start, until=0.0)
    closest, beyond = excess.least
    if beyond > 0:
        raise InfeasibleError(
            f"no network of space {space.name} was found that clears all limits together, although each alone can be "
            f"met; the closest, {closest.key}, has {limits.broken_by(closest)}; raise a limit"
        )
    return Clearance(tuple(bounds), float(np.mean(of_drawn <= 0)), len(drawn), closest)


def _drawn(space: Space, coder: Coder, count: int, seed: int) -> Codes:
    rng = np.random.default_rng(seed)
    return coder.encoded(Uniform(space).batch(count, rng))
