"""A latency model that is asked about each network once: for a caller's function, or a device that answers itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from nas.arch.arch import Arch
from nas.latency.record import Latency

if TYPE_CHECKING:
    from nas.latency.devices import LatencyModel
    from nas.latency.table.table import LatencyTable


class Remembering:
    """The model, with a memory; a `nas.latency.devices.LatencyModel`.

    Args:
        model: answers for networks that are not known yet.
        known_ms: latencies that it gave before, by network, in milliseconds.

    Attributes:
        asked: how many networks the model was asked about.
    """

    def __init__(self, model: LatencyModel, known_ms: Mapping[Arch, float] | None = None) -> None:
        self.asked = 0
        self._model = model
        self._known_ms: dict[Arch, float] = dict(known_ms or {})

    def __contains__(self, arch: Arch) -> bool:
        """Whether the latency of the network is known."""
        return arch in self._known_ms

    @property
    def device(self) -> str:
        return self._model.device

    @property
    def table(self) -> LatencyTable | None:
        return self._model.table

    def __call__(self, arch: Arch) -> Latency:
        return Latency(float(self.many([arch])[0]), None, None, self.device, None, None, 1, "predicted")

    def many(self, archs: Sequence[Arch]) -> np.ndarray:
        new = list(dict.fromkeys(arch for arch in archs if arch not in self._known_ms))
        if new:
            self.asked += len(new)
            self._known_ms.update(zip(new, self._model.many(new).tolist(), strict=True))
        return np.array([self._known_ms[arch] for arch in archs], dtype=float)

    def measure(self, arch: Arch) -> Latency | None:
        return self._model.measure(arch)
