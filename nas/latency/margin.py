"""The safety margin below a target, so that what a search finds still meets the target when it is measured.

A latency model errs, and a search exploits its errors: among equally good networks those look best that are predicted
too fast. So a candidate is trained only if its predicted latency clears the target by a *guard*. Its size is learned
from pairs of predicted and measured latencies: of the model's own held-out networks, and of a few that are measured
before the first training, drawn around the target. The median ratio of these also corrects the predictions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from nas.arch.arch import Arch
from nas.arch.cost import cost_of
from nas.arch.space import Space
from nas.arch.uniform import Uniform
from nas.latency.feasible_sampler import FeasibleSampler
from nas.latency.held_out import HeldOut, guard_of
from nas.latency.limits import Limits
from nas.latency.record import Latency
from nas.system.errors import InputError
from nas.system.progress import Step
from nas.system.units import MAX_GUARD

if TYPE_CHECKING:
    from nas.latency.devices import LatencyModel
    from nas.latency.table.table import LatencyTable

Source = Literal["near", "held-out", "given", "none"]

NETWORKS = 8  # measured before the search, 2 to 5 s each; executorch and torch-compile compile 5 to 40 s more each
NEAREST = 64  # from which those are taken
SAMPLES = 2000
WITHIN = 0.15  # of the target: farther off, a network says little about those near it
ABOVE = 0.5  # if the space has none so close, networks predicted up to this much above the target are measured
LEAST = 3  # pairs needed for a median
SLOWER = 0.05  # than the median of them: perhaps a burst of load on the machine
FAR_OFF = 0.1  # correction or guard beyond which a table is worth measuring again


@dataclass(frozen=True)
class SafetyMargin:
    """The rule by which candidates are admitted: the prediction times `correction` must clear the target by `guard`.

    Args:
        guard: share of the predicted latency, from 0, that a network may take longer and still meet the target.
        correction: median ratio of measured to predicted latency near the target; 1 if nothing was measured there.
        source: where the guard comes from: ``near``, networks measured before the search and the model's held-out ones
            near the target; ``held-out``, the latter alone; ``given`` by the caller; ``none``, the device answers for
            itself.
        pairs_ms: (predicted, measured) of the networks measured before the search, without the correction.
    """

    guard: float = 0.0
    correction: float = 1.0
    source: Source = "none"
    pairs_ms: tuple[tuple[float, float], ...] = ()

    def limit_ms(self, target_ms: float) -> float:
        """The slowest corrected prediction that is admitted."""
        return target_ms / (1 + self.guard)

    def __str__(self) -> str:
        """One line for people; empty without a margin."""
        if self.source == "none":
            return ""
        if self.source == "given":
            return f"safety margin of {self.guard:.1%}, as given"
        margin = f"safety margin of {self.guard:.1%}{', the maximum' if self.guard == MAX_GUARD else ''}"
        if self.source == "held-out":
            return f"{margin}, from the latency model's error on held-out networks"
        return (
            f"{margin}, from {len(self.pairs_ms)} networks measured around the target and the table's held-out ones; "
            f"predictions are multiplied by {self.correction:.3f}, the median of measured over predicted latency"
        )

    @property
    def far_off(self) -> bool:
        """Whether the table is so far off around the target that it is worth measuring again."""
        return self.source == "near" and max(abs(math.log(self.correction)), self.guard) > FAR_OFF

    def to_dict(self) -> dict[str, Any]:
        """Plain values; `from_dict` reads them back."""
        return asdict(self)

    @staticmethod
    def from_dict(data: Any) -> SafetyMargin:
        """Read what `to_dict` wrote.

        Raises:
            InputError: a value is missing or out of bounds.
        """
        fields = data if isinstance(data, dict) else {}
        pairs = fields.get("pairs_ms")
        pairs = pairs if isinstance(pairs, (list, tuple)) and len(pairs) <= 1000 else [None]
        good = (
            _within(fields.get("guard"), 0, MAX_GUARD)
            and _within(fields.get("correction"), 0.01, 100)
            and fields.get("source") in get_args(Source)
            and all(isinstance(p, (list, tuple)) and len(p) == 2 and all(_within(x, 0, 1e9) for x in p) for p in pairs)
        )
        if not good:
            raise InputError(f"margin must be a safety margin of this program, got {data!r:.80}")
        return SafetyMargin(fields["guard"], fields["correction"], fields["source"], tuple((p, m) for p, m in pairs))


def _within(value: Any, low: float, high: float) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high


class Corrected:
    """A latency model whose predictions are multiplied by a factor; a `nas.latency.devices.LatencyModel`."""

    def __init__(self, model: LatencyModel, factor: float) -> None:
        self._model, self._factor = model, factor

    @property
    def device(self) -> str:
        return self._model.device

    @property
    def table(self) -> LatencyTable | None:
        return self._model.table

    def __call__(self, arch: Arch) -> Latency:
        found = self._model(arch)
        return replace(found, ms=found.ms * self._factor)

    def many(self, archs: Sequence[Arch]) -> np.ndarray:
        return np.asarray(self._model.many(archs) * self._factor)

    def measure(self, arch: Arch) -> Latency | None:
        return self._model.measure(arch)


def learn(
    space: Space,
    model: LatencyModel,
    target_ms: float,
    *,
    seed: int = 0,
    progress: Step | None = None,
) -> SafetyMargin:
    """Learn the guard and, if the device can be measured, the correction; nothing may train meanwhile.

    The guard holds for about 9 in 10 networks like those it was learned from (`nas.latency.held_out.guard_of`). Ratios
    of networks measured now are taken relative to their median, which becomes the correction, and those of the held-out
    ones relative to theirs, which narrows them a little; a search draws its networks differently from either. A device
    without a table answers for itself and needs no guard.

    Args:
        space: space to be searched.
        model: latency model of the device.
        target_ms: latency target.
        seed: random seed of the networks to be measured.
        progress: called as ``progress(done, total, text)``.
    """
    if model.table is None:
        return SafetyMargin()
    held_out = model.table.error.near(target_ms)
    pairs = _measured(near(space, model, target_ms, np.random.default_rng([seed, 4])), model, progress)
    if len(pairs) < LEAST:
        return SafetyMargin(min(held_out.guard(), MAX_GUARD), source="held-out")
    return combined(pairs, held_out)


def combined(pairs: Sequence[tuple[float, float]], held_out: HeldOut) -> SafetyMargin:
    """The margin that follows from (predicted, measured) `pairs` near the target and the model's held-out ones."""
    local = np.array([measured / predicted for predicted, measured in pairs])
    correction = float(np.median(local))
    others = held_out.ratios
    guard = guard_of([*(local / correction), *(others / np.median(others))])
    return SafetyMargin(min(guard, MAX_GUARD), correction, "near", tuple(pairs))


def near(space: Space, model: LatencyModel, target_ms: float, rng: np.random.Generator) -> list[Arch]:
    """Up to `NETWORKS` networks predicted around a target, from the fewest to the most multiply-accumulates among the
    nearest; fewer or none if the space has none there. If next to none are predicted so close, networks somewhat above
    the target are taken as well: a table may be off by as much, and that must not make a target look infeasible."""
    archs = list(dict.fromkeys(Uniform(space).batch(SAMPLES, rng)))
    found: dict[Arch, float] = {}
    for above in (WITHIN, ABOVE):
        found = _close(archs, model, target_ms, above)
        if len(found) < NETWORKS:  # uniform draws rarely get there: descend to it
            limits = Limits(model, (1 + above) * target_ms)
            genes = FeasibleSampler(space, limits, rng).unseen({arch.key for arch in found}, NEAREST)
            found |= _close([space.decode(one) for one in genes], model, target_ms, above)
        if len(found) >= LEAST:
            break
    nearest = sorted(found, key=lambda arch: abs(math.log(found[arch] / target_ms)))[:NEAREST]
    ordered = sorted(nearest, key=lambda arch: (cost_of(arch).macs, arch.key))
    places = np.linspace(0, len(ordered) - 1, min(NETWORKS, len(ordered))).round().astype(int)
    return [ordered[at] for at in places]


def _close(archs: list[Arch], model: LatencyModel, target_ms: float, above: float) -> dict[Arch, float]:
    """Those predicted within `WITHIN` below the target and `above` it, with their latencies."""
    predicted = model.many(archs).tolist() if archs else []
    return {arch: ms for arch, ms in zip(archs, predicted, strict=True) if -WITHIN <= ms / target_ms - 1 <= above}


def _measured(archs: Sequence[Arch], model: LatencyModel, progress: Step | None) -> list[tuple[float, float]]:
    """(predicted, measured) of each; none if the device cannot be measured. Networks that are slower than the others
    relative to their predictions set the guard: they are measured twice more, and the median counts."""
    if not archs:
        return []
    predicted = model.many(archs)
    measured: list[list[float]] = []
    text = "measuring networks around the target"
    for at, arch in enumerate(archs):
        found = model.measure(arch)
        if found is None:
            return []
        if progress:
            progress(at + 1, len(archs), text)
        measured.append([found.ms])
    ratios = np.array([ms for ms, *_ in measured]) / predicted
    for arch, times, slow in zip(archs, measured, ratios > (1 + SLOWER) * np.median(ratios), strict=True):
        if slow:
            times += [found.ms for found in (model.measure(arch), model.measure(arch)) if found]
    return [(float(ms), float(np.median(times))) for ms, times in zip(predicted, measured, strict=True)]
