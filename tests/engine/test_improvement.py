"""Expected improvement against its definition, by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.engine.improvement import BELOW, Known, expected_hypervolume_improvement, expected_improvement, order
from nas.engine.run.pareto import front_mask

SLOWEST = 10.0
numbers = st.floats(-3, 3)
points = st.lists(st.tuples(numbers, st.floats(0.5, 9.5)), min_size=1, max_size=6)


def area(known: Known, floor: float) -> float:
    """Area between the front and (floor, SLOWEST), by its definition."""
    grid = np.linspace(0, SLOWEST, 20_001)
    heights = np.full(len(grid), floor)
    for score, time in zip(known.scores, known.times, strict=True):
        heights = np.where(grid >= time, np.maximum(heights, score), heights)
    return float(np.mean(heights - floor) * SLOWEST)


@given(front=points, mean=numbers, time=st.floats(0.5, 9.5))
def test_a_certain_network_wins_the_area_it_adds(front: list[tuple[float, float]], mean: float, time: float) -> None:
    known = Known(np.array([score for score, _ in front]), np.array([at for _, at in front]))
    floor = float(known.scores.min() - BELOW * np.ptp(known.scores))
    with_it = Known(np.append(known.scores, max(mean, floor)), np.append(known.times, time))
    won = expected_hypervolume_improvement(np.array([mean]), np.zeros(1), np.array([time]), known, SLOWEST)
    assert won[0] == pytest.approx(area(with_it, floor) - area(known, floor), abs=0.02)


@given(mean=numbers, sd=st.floats(0.05, 2), best=numbers)
def test_expected_improvement_is_the_mean_of_what_is_won(mean: float, sd: float, best: float) -> None:
    draws = mean + sd * np.random.default_rng(0).normal(size=200_000)
    found = expected_improvement(np.array([mean]), np.array([sd]), best)
    assert found[0] == pytest.approx(np.maximum(draws - best, 0).mean(), abs=0.02)


def test_hopeless_networks_are_ordered_all_the_same() -> None:
    """Where no improvement can be told from none, the odds decide, then the mean."""
    means, sds = np.array([-1e3, -9e2, 0.5, -5e2]), np.array([1.0, 1.0, 1.0, 1e-9])
    logs = order(means, sds, expected_improvement(means, sds, 0.0), 0.0)
    assert np.argmax(logs) == 2
    assert logs[1] > logs[0]
    assert np.isfinite(logs).all()


def test_a_long_front_is_thinned_to_about_the_same_area() -> None:
    times = np.linspace(1, 9, 500)
    known = Known(np.sqrt(times), times)
    assert all(front_mask(known.scores.tolist(), known.times.tolist()))
    new = np.array([3.5]), np.zeros(1), np.array([5.0])
    won = expected_hypervolume_improvement(*new, known, SLOWEST)
    both = Known(np.append(known.scores, 3.5), np.append(known.times, 5.0))
    assert won[0] == pytest.approx(area(both, 0.0) - area(known, 0.0), rel=0.05)
