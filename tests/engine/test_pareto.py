"""The Pareto mask equals Optuna's, hypervolume equals Monte Carlo."""

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.engine.run.pareto import front_mask, hypervolume

points = st.lists(st.tuples(st.integers(0, 10), st.integers(1, 10)), min_size=1, max_size=30)


@settings(max_examples=50, deadline=None)
@given(points)
def test_the_front_is_optunas_best_trials(drawn: list[tuple[int, int]]) -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(directions=["maximize", "minimize"])
    study.add_trials([optuna.trial.create_trial(values=[float(a), float(c)]) for a, c in drawn])
    expected = {trial.number for trial in study.best_trials}
    mask = front_mask([a for a, _ in drawn], [c for _, c in drawn])
    assert set(np.flatnonzero(mask)) == expected


@given(points)
def test_hypervolume_equals_the_counted_share_of_a_grid(drawn: list[tuple[int, int]]) -> None:
    """Points on a grid of tenths: the dominated share of 100 cells, counted one by one."""
    accuracy, latency = [a / 10 for a, _ in drawn], [float(c) for _, c in drawn]
    dominated = sum(any(a >= i + 1 and c <= j for a, c in drawn) for i in range(10) for j in range(10))
    assert hypervolume(accuracy, latency, 10.0) == pytest.approx(dominated / 100)


def test_nan_is_never_on_the_front() -> None:
    assert front_mask([float("nan"), 0.5], [1.0, 2.0]).tolist() == [False, True]
