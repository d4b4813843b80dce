"""The sampler auto: never an infeasible or a known network, and fewer evaluations than drawing at random."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import Trial

from nas.arch.arch import Arch
from nas.arch.codes import Coder
from nas.arch.cost import costs
from nas.arch.space import Space
from nas.arch.space_yaml import load_space
from nas.engine.auto import AutoSampler
from nas.engine.run.pareto import front_mask
from nas.engine.space_sampler import SpaceSampler, UniformSampler
from nas.latency.devices import device
from nas.latency.limits import Limits
from nas.latency.remembering import Remembering
from tests.engine.search_toys import SPACE, TINY, Model, cost_ms, target_of

MBCONV = load_space("mbconv")
PIXEL = device("pixel1")
Score = Callable[[Arch], float]


def score(arch: Arch) -> float:
    """Rises with cost, and with choices that cost nothing."""
    return cost_ms(arch) / 100 + sum(0.3 * (row.act == "h_swish") + 0.2 * (row.kernel == 5) for row in arch.rows)


def network_of(space: Space, trial: Trial) -> Arch:
    return space.realise(lambda gene: trial.suggest_categorical(gene.name, gene.options))  # type: ignore[arg-type, return-value]


def ran(space: Space, sampler: SpaceSampler, count: int, function: Score = score) -> list[Arch]:
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
    archs = []
    for _ in range(count):
        trial = study.ask()
        archs.append(network_of(space, trial))
        study.tell(trial, [function(archs[-1]), cost_ms(archs[-1])])
    return archs


@settings(deadline=None, max_examples=8)
@given(
    seed=st.integers(0, 2**16),
    share=st.sampled_from([0.05, 0.3, 1.0]),
    objective=st.sampled_from(["pareto", "accuracy"]),
)
def test_proposals_are_new_and_within_the_limits(seed: int, share: float, objective: str) -> None:
    limits = Limits(Model(), target_of(share), {"params": 2e5})
    archs = ran(SPACE, AutoSampler(SPACE, limits, seed, objective=objective), 15)  # type: ignore[arg-type]
    assert len(set(archs)) == len(archs)
    assert limits.loads(archs).max() <= 1


def test_a_small_space_is_used_up_to_its_last_network() -> None:
    sampler = AutoSampler(TINY, None, seed=0)
    archs = ran(TINY, sampler, TINY.size)
    assert len(set(archs)) == TINY.size
    assert not sampler.exhausted
    study = optuna.create_study(sampler=sampler)
    for arch in archs:
        study.enqueue_trial(TINY.encode(arch))
    for _ in archs:
        trial = study.ask()
        study.tell(trial, score(network_of(TINY, trial)))
    study.ask()
    assert sampler.exhausted


def test_candidates_under_way_are_not_proposed_again() -> None:
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=AutoSampler(SPACE, Limits(Model()), 0))
    archs = []
    for _ in range(8):
        trial = study.ask()
        archs.append(network_of(SPACE, trial))
        study.tell(trial, [score(archs[-1]), cost_ms(archs[-1])])
    under_way = [network_of(SPACE, study.ask()) for _ in range(6)]
    assert len(set(archs + under_way)) == 14


@pytest.mark.parametrize("objective", ["accuracy", "pareto"])
def test_fewer_evaluations_than_at_random(objective: str) -> None:
    """Better after 25 evaluations than random search after 100: in mbconv, under a limit, in each of its aims."""
    limits = Limits(PIXEL, 60.0)

    def exact(arch: Arch) -> float:
        rows = [row for row in arch.rows if row.op == "mbconv"]
        return sum((row.kernel == 5) + (row.se > 0) for row in rows) / len(rows) + np.log(costs([arch])[0, 1]) / 10

    def study_of(sampler: SpaceSampler, count: int) -> list[tuple[float, float]]:
        study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
        found = []
        for _ in range(count):
            trial = study.ask()
            arch = network_of(MBCONV, trial)
            found.append((exact(arch), PIXEL(arch).ms))
            study.tell(trial, found[-1])
        return found

    auto = study_of(AutoSampler(MBCONV, limits, 0, objective=objective), 25)  # type: ignore[arg-type]
    random = study_of(UniformSampler(MBCONV, limits, 0), 100)
    if objective == "accuracy":
        assert max(auto)[0] > max(random)[0]
        return
    floor = min(one for one, _ in random)

    def volume(pairs: list[tuple[float, float]]) -> float:
        grid = np.linspace(10, 60, 501)
        return float(np.mean([max([one for one, ms in pairs if ms <= at], default=floor) - floor for at in grid]))

    assert volume(auto) > volume(random)
    on = front_mask([one for one, _ in auto], [ms for _, ms in auto])
    assert sum(on) > 5


def test_it_serves_a_study_with_other_parameters() -> None:
    """Parameters that are no genes are drawn, and trials of other studies do not disturb."""
    study = optuna.create_study(direction="minimize", sampler=AutoSampler(TINY, seed=0))
    study.add_trial(
        optuna.create_trial(
            params={"x": 0.5}, distributions={"x": optuna.distributions.FloatDistribution(0, 1)}, value=1.0
        )
    )

    def objective(trial: Trial) -> float:
        return -score(network_of(TINY, trial)) + trial.suggest_float("x", 0, 1)

    study.optimize(objective, n_trials=8)
    assert len({TINY.realise(lambda gene: one.params[gene.name]) for one in study.trials[1:]}) == 8  # noqa: B023


def test_a_limit_few_networks_clear_is_served() -> None:
    """About one in ten thousand: drawn uniformly, and from then on proposed."""
    draws = np.sort(PIXEL.many([MBCONV.sample(seed) for seed in range(3000)]))
    limits = Limits(PIXEL, float(draws[0] * 0.97))
    archs = ran(MBCONV, AutoSampler(MBCONV, limits, 0), 12)
    assert limits.loads(archs).max() <= 1
    assert len(set(archs)) == 12


@pytest.mark.parametrize("limits", [None, Limits(Model())])
def test_without_a_limit_the_slow_end_is_explored_too(limits: Limits | None) -> None:
    """Where accuracy rises with cost alone, the front reaches from the fastest to the slowest networks."""
    costs_ms = np.sort([cost_ms(SPACE.sample(seed)) for seed in range(500)])
    found = [cost_ms(arch) for arch in ran(SPACE, AutoSampler(SPACE, limits, 0), 30, lambda arch: cost_ms(arch) ** 0.5)]
    assert max(found) >= costs_ms[-5]
    assert limits is None or min(found) < costs_ms[25]


def test_generations_do_not_fill_up_with_copies() -> None:
    sampler = AutoSampler(MBCONV, Limits(PIXEL, 60.0), 0)
    ran(MBCONV, sampler, 8)
    coder = Coder(MBCONV)
    for elite in sampler._elite.values():
        words = coder.batch(elite).words()
        assert len(set(words)) == len(words)


@pytest.mark.parametrize("space", [SPACE, TINY])
def test_a_slow_device_is_asked_a_bounded_number_of_questions(space: Space) -> None:
    asked = 0

    class Slow(Model):
        def many(self, archs: Sequence[Arch]) -> np.ndarray:
            nonlocal asked
            asked += len(archs)
            return super().many(archs)

    sampler = AutoSampler(space, Limits(Remembering(Slow()), target_of(0.9)), 0, questions=8)
    ran(space, sampler, 6)
    begun = asked
    ran(space, sampler, 1)
    assert asked - begun <= 4 * 8


def test_genes_are_those_that_the_space_gives_the_network() -> None:
    """Of several settings of the genes that describe one network, a trial has always the same."""
    space = load_space("shufflenet")
    study = optuna.create_study(sampler=AutoSampler(space, seed=0))
    for _ in range(10):
        trial = study.ask()
        arch = network_of(space, trial)
        assert trial.params == space.encode(arch)
        study.tell(trial, float(len(arch.rows)))
