"""Networks of equal cost: within the band, distinct, found where uniform draws find none."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from nas.arch.arch import Arch
from nas.arch.cost import cost_of
from nas.arch.space_yaml import load_space
from nas.latency.equal_cost import of_equal_cost
from tests.training.shared_child import SPACE

MBCONV = load_space("mbconv")


def macs(archs: Sequence[Arch]) -> np.ndarray:
    return np.array([cost_of(arch).macs / 1e6 for arch in archs])


@pytest.mark.parametrize(("low", "high"), [(150.0, 165.0), (22.0, 23.5), (500.0, 540.0)])
def test_rare_costs_are_found(low: float, high: float) -> None:
    """Of a thousand uniform draws of mbconv, next to none are as small or large as the last two."""
    found = of_equal_cost(MBCONV, macs, low, high, 12, np.random.default_rng(0))
    assert len({arch.key for arch in found}) == 12
    costs = macs(found)
    assert ((low <= costs) & (costs <= high)).all()


def test_none_are_made_up_and_questions_are_bounded() -> None:
    asked = 0

    def counted(archs: Sequence[Arch]) -> np.ndarray:
        nonlocal asked
        asked += len(archs)
        return macs(archs)

    assert of_equal_cost(MBCONV, counted, 1e4, 1.1e4, 8, np.random.default_rng(0), most=200) == []
    assert asked <= 200


def test_a_small_space_gives_all_it_has() -> None:
    every = of_equal_cost(SPACE, macs, 1e-3, 1e6, SPACE.size + 1, np.random.default_rng(0))
    assert len(every) == SPACE.size
