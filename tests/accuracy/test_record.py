"""Estimates: how they print, their intervals, and chances."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.accuracy.prior import bundled
from nas.accuracy.record import INTERVAL, Accuracy, AccuracyModel, chance_above

means = st.floats(0, 1)
sds = st.floats(0, 0.5)


def estimate(mean: float, sd: float) -> Accuracy:
    return Accuracy(mean, sd, "flowers", "")


@given(st.floats(-3, 3), st.floats(0.01, 2), st.floats(1.1, 5))
def test_a_wider_sd_moves_a_chance_towards_a_half(mean: float, sd: float, wider: float) -> None:
    assert abs(chance_above(mean, sd * wider) - 0.5) <= abs(chance_above(mean, sd) - 0.5)


def test_a_chance_is_that_of_a_normal_variable() -> None:
    assert chance_above(1, 1) == pytest.approx(0.8413, abs=1e-4)
    assert chance_above(-INTERVAL, 1) == pytest.approx(0.05, abs=1e-4)
    assert [chance_above(mean, 0) for mean in (-1, 0, 1)] == [0, 0.5, 1]


def test_the_interval_is_symmetric_about_the_mean() -> None:
    low, high = estimate(0.7, 0.01).interval
    assert (low + high) / 2 == pytest.approx(0.7)
    assert high - low == pytest.approx(2 * 1.645 * 0.01)
    assert str(estimate(0.7, 0.01)) == "70.0 ± 1.0 %"


def test_the_bundled_model_is_an_accuracy_model() -> None:
    assert isinstance(bundled(), AccuracyModel)
