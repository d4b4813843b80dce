"""What every network that is trained must clear: the latency target, and limits on size, compute and memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nas.arch.arch import Arch
from nas.arch.batch import Batch
from nas.arch.cost import costs
from nas.arch.file_size import file_sizes
from nas.arch.peak import BYTES, peaks
from nas.system.units import above, with_prefix

if TYPE_CHECKING:
    from nas.latency.devices import LatencyModel

Floats = NDArray[np.float64]

QUANTITIES: Mapping[str, Callable[[Sequence[Arch]], Floats]] = {  # what may be limited, besides latency
    "params": lambda archs: costs(archs)[:, 0],
    "macs": lambda archs: costs(archs)[:, 1],
    "memory": lambda archs: BYTES["float32"] * peaks(archs),
    "memory_int8": lambda archs: BYTES["int8"] * peaks(archs),
    "size": lambda archs: file_sizes(archs)[:, 0],
    "size_int8": lambda archs: file_sizes(archs)[:, 1],
}


@dataclass(frozen=True)
class DeviceLimit:
    """A latency limit on one device.

    Args:
        name: name of the device, to show.
        model: predicts its latency.
        limit_ms: slowest prediction that is admitted: the device's target, less its safety margin.
    """

    name: str
    model: LatencyModel
    limit_ms: float


@dataclass(frozen=True)
class Limits:
    """What every network that is trained must clear.

    Args:
        model: latency model of the first device, whose latency is the objective.
        limit_ms: slowest prediction that is admitted; None is no limit.
        bounds: largest value that is admitted of each limited quantity of `QUANTITIES`, in bytes for memory and size.
        devices: limits on further devices.

    >>> from nas.latency.devices import device
    >>> from nas.references.table import reference
    >>> limits = Limits(device("pixel1"), 66.0, {"params": 4e6})
    >>> limits.admits(reference("mobilenet_v3_small")), limits.broken_by(reference("mobilenet_v3_large"))
    (True, 'params: 5.48M, above the limit of 4M')
    """

    model: LatencyModel
    limit_ms: float | None = None
    bounds: Mapping[str, float] = field(default_factory=dict)
    devices: tuple[DeviceLimit, ...] = ()

    def __bool__(self) -> bool:
        """Whether anything is limited."""
        return self.limit_ms is not None or bool(self.bounds) or bool(self.devices)

    @property
    def fast(self) -> bool:
        """Whether many networks are asked about as quickly as one: all devices are predicted by tables."""
        return all(is_fast(model) for model in (self.model, *(one.model for one in self.devices)))

    def names(self) -> tuple[str, ...]:
        """The limited quantities, in the order of the columns of `shares`: latency first, further devices by name."""
        own = () if self.limit_ms is None else ("latency",)
        return (*own, *(f"latency on {one.name}" for one in self.devices), *self.bounds)

    def _bounds(self) -> list[float]:
        """The bounds of `names`."""
        own = [] if self.limit_ms is None else [self.limit_ms]
        return [*own, *(one.limit_ms for one in self.devices), *self.bounds.values()]

    def shares(self, archs: Sequence[Arch]) -> Floats:
        """Each limited quantity as a share of its limit, shape ``(len(archs), len(names()))``."""
        batch = Batch.of(archs)
        columns = [] if self.limit_ms is None else [self.model.many(batch) / self.limit_ms]
        columns += [one.model.many(batch) / one.limit_ms for one in self.devices]
        columns += [QUANTITIES[name](batch) / bound for name, bound in self.bounds.items()]
        return np.stack(columns, axis=1) if columns else np.zeros((len(archs), 0))

    def loads(self, archs: Sequence[Arch]) -> Floats:
        """The largest of `shares` of each network, shape ``(len(archs),)``; up to 1 the network is admitted, and
        without limits it is 0."""
        found: Floats = self.shares(archs).max(axis=1, initial=0.0)
        return found

    def admits(self, arch: Arch) -> bool:
        """Whether the network clears all limits."""
        return not self or bool(self.loads([arch])[0] <= 1)

    def broken_by(self, arch: Arch) -> str | None:
        """The limit that the network exceeds most, in words; None if it clears all."""
        if not self:
            return None
        shares = self.shares([arch])[0]
        worst = int(np.argmax(shares))
        if shares[worst] <= 1:
            return None
        name, limit = self.names()[worst], self._bounds()[worst]
        return f"{name}: {shown(name, shares[worst] * limit, limit)}, above the limit of {shown(name, limit)}"


def is_fast(model: LatencyModel) -> bool:
    """Whether a latency model answers for many networks as quickly as for one: by a table, or as it says itself."""
    return model.table is not None or bool(getattr(model, "fast", False))


def in_bytes(name: str) -> bool:
    """Whether a quantity is counted in bytes."""
    return name.startswith(("memory", "size"))


def shown(name: str, value: float, limit: float | None = None) -> str:
    """A limited quantity with its unit; with as many digits as show that it is above `limit`, if it is."""
    limit = None if limit is None or value <= limit else limit
    if name.startswith("latency"):
        return f"{value:.3g} ms" if limit is None else f"{above(value, limit)} ms"
    return with_prefix(value, in_bytes(name), limit)
