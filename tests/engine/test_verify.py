"""Measuring the front after a search: bounded, whatever the latency model says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest

from nas.arch.arch import Arch
from nas.engine.run.record import Candidate, Record
from nas.engine.verify import SHOWN, measure_front
from nas.latency.record import Latency
from nas.system.progress import no_step
from tests.engine.search_toys import SPACE, cost_ms, info_of, noise, target_of

NETWORKS = 300


class Biased:
    """Networks take `factor` times as long as predicted."""

    device, table = "toy", None

    def __init__(self, factor: float) -> None:
        self.factor = factor
        self.timed = 0

    def __call__(self, arch: Arch) -> Latency:
        return Latency(cost_ms(arch), None, None, "toy", None, None, 1, "predicted")

    def many(self, archs: Sequence[Arch]) -> np.ndarray:
        return np.array([cost_ms(arch) for arch in archs])

    def measure(self, arch: Arch) -> Latency:
        self.timed += 1
        return Latency(self.factor * cost_ms(arch), None, None, "toy", None, None, 1, "measured")


def record(target_ms: float, model: Biased) -> Record:
    archs = dict.fromkeys(SPACE.sample(seed) for seed in range(NETWORKS))
    found = [
        Candidate(arch, "COMPLETE", model(arch), 1, 1, 1, proxy_accuracy=cost_ms(arch) / 1000 + 0.01 * noise(arch, 0))
        for arch in archs
        if cost_ms(arch) <= target_ms
    ]
    return Record(info_of(target_ms), found)


@pytest.mark.parametrize("factor", [1.5, 1.02])
def test_measurements_are_bounded_under_a_biased_model(factor: float) -> None:
    """Where the bound ends them, nothing that was not measured is on the front, and the best met its target."""
    model = Biased(factor)
    found = measure_front(record(target_of(0.9), model), model, lambda measured: None, no_step, most=12)
    assert model.timed <= 12
    assert found.info.measured_only
    assert all(candidate.measured is not None and found.meets(candidate) for candidate in found.front)
    assert found.missed


def test_a_front_that_fits_the_bound_is_measured_whole() -> None:
    model = Biased(1.02)
    kept: list[int] = []

    def keep(measured: Mapping[str, Latency]) -> None:
        kept.append(len(measured))

    begun = record(target_of(0.5), model)
    begun = replace(begun, candidates=begun.candidates[:25])
    found = measure_front(begun, model, keep, no_step)
    assert not found.info.measured_only
    assert found.front
    assert all(candidate.measured is not None for candidate in found.front)
    assert kept == sorted(kept)


def test_of_a_long_front_a_part_is_measured_and_stays() -> None:
    """Some at all latencies, the best among them; under a target that the best miss, others take their places."""
    for factor, target_ms in ((1.0, None), (1.03, target_of(0.9))):
        model = Biased(factor)
        begun = record(target_of(1.0), model)
        candidates = [replace(one, proxy_accuracy=one.predicted.ms / 1000) for one in begun.candidates]
        long = Record(info_of(target_ms), candidates)
        assert len(long.front) > 2 * SHOWN
        found = measure_front(long, model, lambda measured: None, no_step)
        assert model.timed <= 4 * SHOWN
        assert SHOWN // 2 <= len(found.front) < len(long.front)
        assert all(one.measured is not None and found.meets(one) for one in found.front)
        assert found.front[0].predicted.ms < 1.2 * long.front[0].predicted.ms
