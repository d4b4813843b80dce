"""What trainings are worth: the figures on simulated accuracies, whose spread and noise are known."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from nas.accuracy.check import ENOUGH, SCORED, SHARE, SURE, Check, Training, check, ranking
from nas.accuracy.ranking import tau


def training(steps: int, seed: int, seconds: float, accuracies: Sequence[float]) -> Training:
    """One whose losses rank as its accuracies do."""
    return Training(steps, seed, seconds, tuple(accuracies), tuple(1 - value for value in accuracies))


STEPS, SECONDS = (500, 1000, 2000, 4000), (50.0, 100.0, 200.0, 400.0)


def simulated(
    count: int, noises: Sequence[float], spread: float = 0.02, seed: int = 0
) -> tuple[np.ndarray, list[Training]]:
    """True accuracies, and trainings of them: one of each length with its own noise, and another of the longest."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(0.6, spread, count)
    plan = [*zip(STEPS, SECONDS, noises, (0, 0, 0, 0), strict=True), (STEPS[-1], 440.0, noises[-1], 1)]
    return truth, [
        training(steps, at, seconds, tuple(truth + at * 0.01 + rng.normal(0, noise, count)))
        for steps, seconds, noise, at in plan
    ]


def test_spread_noise_and_ceiling_are_those_of_the_simulation() -> None:
    """A shift of all accuracies between the seeds is no noise. Tau of two normal variables of correlation r is
    2 asin(r) / pi."""
    truth, trainings = simulated(200, (0.06, 0.03, 0.02, 0.01))
    found = check(trainings, {"truth": truth, "nothing": np.arange(200)}, 1.0)
    assert found.networks == 200
    assert found.noise == pytest.approx(0.01, rel=0.15)
    assert found.spread == pytest.approx(math.hypot(0.02, 0.01), rel=0.15)
    for length, noise in zip(found.lengths, (0.06, 0.03, 0.02, 0.01), strict=True):
        correlation = 0.02**2 / math.hypot(0.02, noise) / math.hypot(0.02, 0.01)
        expected = 2 * math.asin(correlation) / math.pi
        assert length.ranking.tau == pytest.approx(expected, abs=0.1)
    assert found.ceiling == found.lengths[-1].ranking
    assert found.untrained["truth"].tau > found.ceiling.tau  # the mean of both seeds is less noisy than one
    assert abs(found.untrained["nothing"].tau) < 0.15


def test_a_length_is_ranked_by_the_longest_of_another_seed() -> None:
    """Not by the one of its own seed, in whichever order the trainings come."""
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 30))
    made = [training(4000, 0, 4, tuple(first)), training(4000, 1, 6, tuple(second)), training(500, 0, 1, tuple(first))]
    found = check(made, {}, 1.0)
    assert found.lengths[0].ranking.tau == tau(first, second) < 0.9
    assert [(length.steps, length.seconds) for length in found.lengths] == [(500, 1), (4000, 5)]


@pytest.mark.parametrize(
    ("noises", "steps"),
    [((0.05, 0.002, 0.002, 0.002), 1000), ((0.002,) * 4, 500), ((0.05, 0.05, 0.05, 0.002), 4000)],
)
def test_the_shortest_length_that_is_good_enough_is_recommended(noises: tuple[float, ...], steps: int) -> None:
    found = check(simulated(60, noises)[1], {}, 0.1)
    recommended = found.recommended
    assert recommended is not None
    at = STEPS.index(steps)
    assert (recommended.steps, recommended.seconds) == (steps, found.lengths[at].seconds)
    assert found.lengths[at].ranking.tau >= ENOUGH * found.ceiling.tau
    assert all(length.ranking.tau < ENOUGH * found.ceiling.tau for length in found.lengths[:at])


@pytest.mark.parametrize("scoring_s", [0.1, 60.0])
def test_the_budget_has_room_for_the_training_and_for_candidates(scoring_s: float) -> None:
    recommended = check(simulated(60, (0.002,) * 4)[1], {}, scoring_s).recommended
    assert recommended is not None
    assert recommended.seconds <= SHARE * recommended.budget_s + 1e-9
    assert recommended.budget_s - recommended.seconds >= SCORED * scoring_s - 1e-9
    assert recommended.budget_s == max(50 / SHARE, 50 + SCORED * scoring_s)


def test_networks_that_do_not_differ_beyond_noise_give_no_recommendation() -> None:
    """In about one of twenty draws of pure noise the seeds agree by chance; equal accuracies never do."""
    found = [check(simulated(24, (0.01,) * 4, spread=0.0, seed=seed)[1], {}, 1.0) for seed in range(20)]
    assert sum(one.recommended is not None for one in found) <= 4
    same = check([training(steps, 0, 1, (0.5,) * 8) for steps in (10, 20, 20)], {"MACs": range(8)}, 1.0)
    assert same.recommended is None
    assert (same.spread, same.noise, same.ceiling.tau, same.untrained["MACs"].tau) == (0, 0, 0, 0)


def test_opposite_seeds_give_no_recommendation() -> None:
    up = tuple(np.linspace(0.4, 0.6, 12))
    opposed = [training(10, 0, 1, up), training(20, 0, 1, up), training(20, 1, 1, up[::-1])]
    found: Check = check(opposed, {}, 1.0)
    assert found.ceiling.chance < SURE
    assert found.recommended is None


def test_standard_error_and_chance_are_those_of_repeated_draws() -> None:
    """The error is the spread of tau over draws of networks; the chance of unrelated numbers is uniform."""
    rng = np.random.default_rng(1)

    def drawn(correlation: float) -> list[tuple[float, float, float]]:
        rows = []
        for _ in range(60):
            x, y = rng.normal(size=(2, 24))
            found = ranking(x, correlation * x + math.sqrt(1 - correlation**2) * y, rng)
            rows.append((found.tau, found.error, found.chance))
        return rows

    taus, errors, chances = zip(*drawn(0.7), strict=True)
    assert 0.8 < np.mean(errors) / np.std(taus) < 1.5
    assert np.median(chances) < 0.01
    unrelated = np.array([chance for *_, chance in drawn(0.0)])
    assert 0.02 < np.mean(unrelated < 0.1) < 0.2
    assert np.median(unrelated) == pytest.approx(0.5, abs=0.15)


def test_losses_rank_and_accuracies_spread() -> None:
    """Accuracies of few images are coarse; their losses still tell the networks apart."""
    losses = tuple(np.linspace(1, 2, 12))
    found = check([Training(steps, 0, 1, (0.5,) * 12, losses) for steps in (10, 20, 20)], {"worse": losses}, 1.0)
    assert found.spread == 0
    assert found.ceiling.tau == pytest.approx(1)
    assert found.untrained["worse"].tau == pytest.approx(-1)
    assert found.recommended is not None
