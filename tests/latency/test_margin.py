"""The safety margin: learned from errors, kept by nine in ten networks."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import nas
from nas.arch.arch import Arch
from nas.latency.held_out import HeldOut, guard_of
from nas.latency.margin import NETWORKS, WITHIN, Corrected, SafetyMargin, combined, learn, near
from nas.latency.record import Latency
from tests.engine.search_toys import SPACE, TINY, cost_ms, target_of
from tests.toy_devices import Device, times

RATIOS = st.lists(st.floats(0.5, 2), min_size=1, max_size=40)


@given(RATIOS, st.floats(0.1, 0.95), st.data())
def test_the_guard_grows_with_the_error(ratios: list[float], share: float, data: st.DataObject) -> None:
    """A slower network, or a larger share to be covered, never makes the guard smaller; it is never below 0, and never
    above what the slowest asks for."""
    guard = guard_of(ratios, share)
    at = data.draw(st.integers(0, len(ratios) - 1))
    slower = [ratio * (1.1 if here == at else 1) for here, ratio in enumerate(ratios)]
    assert guard_of(slower, share) >= guard
    assert guard_of(ratios, share + 0.04) >= guard
    assert max(0, min(ratios) - 1) <= guard <= max(0, max(ratios) - 1)
    assert sum(ratio <= 1 + guard + 1e-12 for ratio in ratios) >= min(len(ratios), (len(ratios) + 1) * share - 1e-6)


@pytest.mark.parametrize(("nets", "covered"), [(9, 0.9), (19, 0.9), (4, 0.8), (16, 16 / 17)])
def test_the_guard_covers_what_it_says(nets: int, covered: float) -> None:
    """Of networks drawn as those it was learned from, the promised share is within it, whatever the distribution: with
    n pairs exactly ceil((n + 1) * 0.9) / (n + 1), and n / (n + 1) where that asks for more than there are."""
    rng = np.random.default_rng(nets)
    size = (20_000, nets + 1)
    for ratios in (np.exp(rng.normal(0.02, 0.05, size)), 1.05 + 0.1 * rng.exponential(size=size)):
        at = min(math.ceil(0.9 * (nets + 1)), nets)
        guards = np.sort(ratios[:, :-1], axis=1)[:, at - 1]
        assert guard_of(ratios[0, :-1]) == pytest.approx(max(0.0, guards[0] - 1))
        within = [row[-1] <= 1 + guard_of(row[:-1]) for row in ratios[:3000]]
        assert np.mean(ratios[:, -1] <= guards) == pytest.approx(covered, abs=0.01)
        assert np.mean(within) >= covered - 0.02


def test_held_out_pairs_near_the_target_count() -> None:
    """The error of networks far from the target is not that of those near it, unless too few are near."""
    near_ones, far = [(10.0, 10.0 + 0.01 * at) for at in range(12)], [(0.5, 1.0)] * 12
    error = HeldOut(*zip(*(*near_ones, *far), strict=True))
    assert error.near(10.0).guard() == pytest.approx(0.011)
    assert error.near(100.0) == error
    assert error.guard() == pytest.approx(1.0)


def test_networks_around_the_target_are_found() -> None:
    """They are distinct, predicted within the stated distance, and range from few to many multiply-accumulates; also
    where next to no network of the space is; and none are made up where there are none."""
    device = Device()
    for share in (0.002, 0.1, 0.5, 0.9):
        target_ms = target_of(share)
        found = near(SPACE, device, target_ms, np.random.default_rng(0))
        assert len(set(found)) == len(found) == NETWORKS
        assert all(abs(cost_ms(arch) / target_ms - 1) <= WITHIN for arch in found)
    assert near(SPACE, device, 1.0, np.random.default_rng(0)) == []
    assert near(SPACE, device, 1e4, np.random.default_rng(0)) == []
    assert 0 < len(near(TINY, device, cost_ms(TINY.sample(0)), np.random.default_rng(0))) <= NETWORKS


@pytest.mark.parametrize("bias", [0.8, 1.0, 1.3])
def test_the_bias_near_the_target_is_learned(bias: float) -> None:
    """What is common to the networks around the target becomes the correction, what is left the guard."""
    found = learn(SPACE, Device(bias, 0.03), target_of(0.5))
    assert found.correction == pytest.approx(bias, rel=0.03)
    assert 0 < found.guard <= 0.065
    assert found.source == "near"
    assert len(found.pairs_ms) == NETWORKS
    assert learn(SPACE, Device(bias), target_of(0.5)).guard == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("lasts", [False, True])
def test_a_burst_of_the_machine_does_not_count_for_the_guard(lasts: bool) -> None:
    """One of the networks around the target takes a quarter longer than predicted: if only once, that is forgotten; if
    always, it counts."""

    class Disturbed(Device):
        def measure(self, arch: Arch) -> Latency | None:
            found = super().measure(arch)
            assert found is not None
            first = self.timed[2:3]  # the third that is measured
            return times(found.ms * 1.25) if [arch] == first and (lasts or len(self.timed) == 3) else found

    device = Disturbed(spread=0.02)
    found = learn(SPACE, device, target_of(0.5))
    assert len(device.timed) == NETWORKS + 2
    assert len(found.pairs_ms) == NETWORKS
    slowest = max(measured / predicted for predicted, measured in found.pairs_ms)
    assert slowest > 1.2 if lasts else slowest <= 1.02


def test_the_guard_keeps_nine_in_ten() -> None:
    """Over many tables with noise, nine in ten networks that are admitted at the limit meet the target."""
    rng = np.random.default_rng(0)
    kept = []
    for _ in range(400):
        true = 1.1 * np.exp(rng.normal(0, 0.03, NETWORKS + 1))
        held_out = HeldOut((1.0,) * 16, tuple(np.exp(rng.normal(0, 0.03, 16))))
        rule = combined([(5.0, 5.0 * ratio) for ratio in true[:-1]], held_out)
        kept.append(rule.limit_ms(5.0) / rule.correction * true[-1] <= 5.0)
    assert 0.85 <= np.mean(kept) <= 0.97


@pytest.mark.parametrize(
    "bad", [None, {}, {"guard": -0.1}, {"guard": math.nan}, {"correction": 0}, {"pairs_ms": [[1]]}]
)
def test_a_broken_rule_is_refused(bad: Any) -> None:
    """`SafetyMargin` survives JSON; what no version wrote is refused."""
    good = SafetyMargin(0.03, 1.02, "near", ((5.0, 5.1), (4.9, 5.0), (5.1, 5.2)))
    assert SafetyMargin.from_dict(json.loads(json.dumps(good.to_dict()))) == good
    with pytest.raises(nas.InputError, match="margin"):
        SafetyMargin.from_dict(good.to_dict() | bad if bad else bad)


def test_corrected_models_agree_with_themselves() -> None:
    """`many` and single calls are corrected alike; what is measured is not."""
    device = Corrected(Device(2.0), 0.9)
    archs = [SPACE.sample(seed) for seed in range(20)]
    assert device.many(archs) == pytest.approx([device(arch).ms for arch in archs])
    assert device.many(archs) == pytest.approx([0.9 * cost_ms(arch) for arch in archs])
    measured = device.measure(archs[0])
    assert measured is not None
    assert measured.ms == 2 * cost_ms(archs[0])
