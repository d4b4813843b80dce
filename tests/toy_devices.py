"""Devices of the toy space whose predictions err in known ways: for tests of margins, verification and searches."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nas.arch.arch import Arch
from nas.latency.held_out import HeldOut
from nas.latency.record import Latency
from tests.engine.search_toys import SPACE, cost_ms, noise


def times(ms: float, source: Any = "measured") -> Latency:
    return Latency(ms, None, None, "toy", None, None, 1, source)


class Table:
    """As much of a latency table as a search asks for."""

    runtime, threads = "toy", 1

    def __init__(self, error: HeldOut) -> None:
        self.error = error

    def save(self, path: Path) -> None:
        path.write_text("{}")


class Device:
    """Predicts `cost_ms`; measured networks take that times `bias` and noise of their own."""

    device = "toy"

    def __init__(self, bias: float = 1.0, spread: float = 0.0) -> None:
        self.bias, self.spread = bias, spread
        self.timed: list[Arch] = []
        predicted = [cost_ms(SPACE.sample(seed)) for seed in range(16)]
        self.table: Any = Table(
            HeldOut(tuple(predicted), tuple(self.true_ms(SPACE.sample(seed)) for seed in range(16)))
        )

    def true_ms(self, arch: Arch) -> float:
        return cost_ms(arch) * self.bias * (1 + self.spread * (2 * noise(arch, 1) - 1))

    def __call__(self, arch: Arch) -> Latency:
        return times(cost_ms(arch), "predicted")

    def many(self, archs: Sequence[Arch]) -> np.ndarray:
        return np.array([cost_ms(arch) for arch in archs])

    def measure(self, arch: Arch) -> Latency | None:
        self.timed.append(arch)
        return times(self.true_ms(arch))


def capacity(arch: Arch) -> float:
    """Presses against the target, and most so where a network is slower than it is predicted to be."""
    return cost_ms(arch) * (1 + 0.1 * noise(arch, 1))
