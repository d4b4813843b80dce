"""Before any training: how fast and how slow the networks of a space are, and whether the target excludes any."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nas.arch.arch import Arch
from nas.arch.codes import Coder
from nas.arch.space import Space
from nas.arch.uniform import Uniform
from nas.latency.descent import Costs, SpentError
from nas.system.errors import InfeasibleError, InputError
from nas.system.units import above
from nas.system.validate import whole_number

if TYPE_CHECKING:
    from nas.latency.devices import LatencyModel

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
STARTS = 3


@dataclass(frozen=True)
class Feasibility:
    """The range of a space on a device, all by prediction.

    Args:
        fastest: the fastest network found by descent from samples.
        fastest_ms: its latency.
        slowest: the slowest network found.
        slowest_ms: its latency.
        share: share of uniformly sampled networks that clear the target by the guard; None without a target.
        quantiles_ms: latency of uniformly sampled networks by quantile.
        samples: how many were drawn.
        target_ms: latency target; None is no target.
        binds: whether the target, less the guard, excludes any network found; None without a target.
        guard: share of its predicted latency that a network may take longer and still meet the target.
        dropped_guard: the guard that was dropped because not even the fastest network clears it; else None.
        word: for people, what the latencies are: ``predicted``, or ``modelled`` if the device is not at hand.
    """

    fastest: Arch
    fastest_ms: float
    slowest: Arch
    slowest_ms: float
    share: float | None
    quantiles_ms: dict[float, float]
    samples: int
    target_ms: float | None
    binds: bool | None
    guard: float = 0.0
    dropped_guard: float | None = None
    word: str = "predicted"

    @property
    def admitted_ms(self) -> float | None:
        """The slowest prediction that clears the target by the guard; None without a target."""
        return None if self.target_ms is None else self.target_ms / (1 + self.guard)

    @property
    def binding_ms(self) -> float:
        """The target below which some of the networks found would be excluded."""
        return self.slowest_ms * (1 + self.guard)

    def to_dict(self) -> dict[str, Any]:
        """Plain values; networks by key."""
        figures = {k: v for k, v in asdict(self).items() if k not in ("fastest", "slowest", "quantiles_ms")}
        quantiles = {f"{quantile:g}": ms for quantile, ms in self.quantiles_ms.items()}
        figures |= {"admitted_ms": self.admitted_ms, "binding_ms": self.binding_ms}
        return figures | {"fastest": self.fastest.key, "slowest": self.slowest.key, "quantiles_ms": quantiles}

    def __str__(self) -> str:
        """A few lines for people."""
        lines = [
            f"fastest network of the space: {self.fastest_ms:.3g} ms {self.word} ({self.fastest.key}); "
            f"slowest: {self.slowest_ms:.3g} ms ({self.slowest.key}); median {self.quantiles_ms[0.5]:.3g} ms"
        ]
        if self.target_ms is not None and self.share is not None:
            few = f"less than {1 / self.samples:.2%}" if self.share == 0 else f"{self.share:.1%}"
            less = f" by {self.guard:.1%} ({self.admitted_ms:.3g} ms {self.word})" if self.guard else ""
            verb = "clears" if self.guard else "meets"
            lines.append(f"{few} of the space {verb} the target of {self.target_ms:g} ms{less}")
            if self.dropped_guard is not None:
                lines.append(
                    f"the fastest network is within {self.dropped_guard:.1%} of the target, so the safety margin is "
                    "off; the measurements at the end decide"
                )
            if not self.binds:
                lines.append(
                    f"the target of {self.target_ms:g} ms does not bind: the slowest network found takes "
                    f"{self.slowest_ms:.3g} ms; a target below {self.binding_ms:.3g} ms would exclude some"
                )
        return "\n".join(lines)


def feasibility(
    space: Space,
    model: LatencyModel,
    target_ms: float | None,
    seed: int = 0,
    samples: int = 2000,
    most: int | None = None,
    guard: float = 0.0,
    word: str = "predicted",
) -> Feasibility:
    """Sample the space uniformly, then descend and climb from the extremes gene by gene.

    Args:
        space: to explore.
        model: predicts milliseconds.
        target_ms: latency target; None is no target.
        seed: random seed of the samples.
        samples: number of networks drawn; decides how finely `Feasibility.share` is resolved.
        most: number of networks that `model` is asked about at most, for a slow one; a quarter of them are samples.
            None is no bound.
        guard: see `Feasibility.guard`. It is dropped if the fastest network is in the band between it and the target.
        word: see `Feasibility.word`.

    Raises:
        InfeasibleError: not even the fastest network found meets the target.
        InputError: `samples` or the target is out of bounds.
    """
    samples = whole_number("samples", samples, 1, 1_000_000)
    if target_ms is not None and not (0 < target_ms < float("inf")):
        raise InputError(f"a latency target must be a positive number of ms, got {target_ms!r}")
    samples = samples if most is None else max(1, min(samples, most // 4))
    rng = np.random.default_rng(seed)
    costs = Costs(Coder(space), model.many, most)
    drawn = costs.coder.encoded(Uniform(space).batch(samples, rng))
    drawn_ms = costs(drawn)
    order = np.argsort(drawn_ms, kind="stable")
    with suppress(SpentError):
        for low, high in zip(order[:STARTS], order[::-1][:STARTS], strict=True):  # in turn: a bound may end either
            costs.descend(drawn[low])
            costs.descend(drawn[high], sign=-1)
    (fastest, fastest_ms), (slowest, slowest_ms) = costs.least, costs.most
    if target_ms is not None and fastest_ms > target_ms:
        raise InfeasibleError(
            f"no network of space {space.name} can meet {target_ms:g} ms: the fastest found, {fastest.key}, takes "
            f"{above(fastest_ms, target_ms)} ms ({word}): {fastest}"
        )
    kept = 0.0 if target_ms is None or fastest_ms * (1 + guard) > target_ms else guard
    limit_ms = None if target_ms is None else target_ms / (1 + kept)
    return Feasibility(
        fastest=fastest,
        fastest_ms=fastest_ms,
        slowest=slowest,
        slowest_ms=slowest_ms,
        share=None if limit_ms is None else float(np.mean(drawn_ms <= limit_ms)),
        quantiles_ms={q: float(np.quantile(drawn_ms, q)) for q in QUANTILES},
        samples=samples,
        target_ms=target_ms,
        binds=None if limit_ms is None else bool(slowest_ms > limit_ms),
        guard=kept,
        dropped_guard=None if target_ms is None or kept == guard else guard,
        word=word,
    )
