"""Ranking: Kendall's tau, and its mean among networks of about equal cost."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.accuracy.ranking import equal_cost_tau, tau

distinct = st.lists(st.integers(-1000, 1000), min_size=5, max_size=40, unique=True)


@given(distinct, st.randoms())
def test_tau_is_the_excess_of_pairs_in_order(truth: list[int], random: object) -> None:
    scores = sorted(truth)
    random.shuffle(scores)  # type: ignore[attr-defined]
    pairs = list(itertools.combinations(zip(scores, truth, strict=True), 2))
    excess = sum(1 if (a - c) * (b - d) > 0 else -1 for (a, b), (c, d) in pairs)
    assert tau(scores, truth) == pytest.approx(excess / len(pairs))


@given(distinct)
def test_tau_sees_order_alone(truth: list[int]) -> None:
    assert tau([value**3 for value in truth], truth) == pytest.approx(1)
    assert tau([-value for value in truth], truth) == pytest.approx(-1)
    assert tau([1.0] * len(truth), truth) == 0


def test_cost_itself_ranks_nothing_at_equal_cost() -> None:
    """Accuracy grows with cost and, within a group, with quality: cost ranks overall, quality at equal cost."""
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(10), 40)
    quality = rng.normal(size=400)
    truth, costs = 10 * group + quality, group + rng.uniform(0, 0.5, 400)
    assert tau(costs, truth) > 0.85
    assert abs(equal_cost_tau(costs, truth, costs)) < 0.15
    assert equal_cost_tau(quality, truth, costs) == pytest.approx(1)
    assert tau(quality, truth) < 0.3


@pytest.mark.parametrize("count", [5, 9, 12, 49, 103])
def test_groups_have_at_least_five_networks(count: int) -> None:
    """With five networks there is one group, whose tau is the overall one."""
    rng = np.random.default_rng(count)
    scores, truth, costs = rng.normal(size=(3, count))
    value = equal_cost_tau(scores, truth, costs)
    assert -1 <= value <= 1
    if count < 10:
        assert value == pytest.approx(tau(scores, truth))


@given(st.permutations(range(60)))
def test_the_order_of_the_networks_does_not_matter(order: list[int]) -> None:
    rng = np.random.default_rng(1)
    scores, truth, costs = rng.normal(size=(3, 60))
    at = np.array(order)
    assert equal_cost_tau(scores[at], truth[at], costs[at]) == pytest.approx(equal_cost_tau(scores, truth, costs))
