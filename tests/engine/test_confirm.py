"""The best networks are trained again: the answer is not the luckiest draw."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from nas.arch.arch import Arch
from nas.arch.cost import cost_of
from nas.engine.confirm import CONTENDERS, TIMES, confirm, most_repeats, seed_matters, undecided, with_reserve
from nas.engine.executors.base import SerialExecutor
from nas.engine.judge import Judge
from nas.engine.options import SearchOptions
from nas.engine.run.record import Candidate, Record, Repeat
from nas.system.progress import no_step
from nas.training.evaluate import Evaluation, failed
from tests.engine.search_toys import SPACE, Model, evaluation, info_of

ARCHS = [SPACE.sample(seed) for seed in range(60)]
WEIGHTS = np.random.default_rng(1).normal(size=len(SPACE.feature_names))
NOISE = 0.02


def true(arch: Arch) -> float:
    """A sum of effects of genes, and what is the network's own."""
    own = np.random.default_rng(int(arch.key, 16)).normal()
    return 0.5 + 0.004 * float(SPACE.features(arch) @ WEIGHTS) + 0.01 * own


def noisy(run: int, noise: float = NOISE) -> Callable[[Arch, int], Evaluation]:
    def evaluate(arch: Arch, seed: int) -> Evaluation:
        luck = np.random.default_rng([int(arch.key, 16), seed, run]).normal()
        return replace(evaluation(arch, seed), proxy_accuracy=true(arch) + noise * luck, proxy_loss=None)

    return evaluate


def trained(evaluate: Callable[[Arch, int], Evaluation]) -> tuple[Record, Judge]:
    """A run of random networks, each trained once."""
    judge = Judge(SPACE, None, trained=True)
    candidates = [
        Candidate(arch, "COMPLETE", Model()(arch), cost_of(arch).params, 1, 1, proxy_accuracy=found)
        for arch in ARCHS
        if (found := evaluate(arch, 0).proxy_accuracy) is not None
    ]
    judge.learn(candidates)
    return Record(info_of(), judge.estimated(candidates), [], judge.model), judge


def confirmed(record: Record, judge: Judge, evaluate: Any, most: int | None) -> tuple[Record, list[tuple[str, Repeat]]]:
    kept: list[tuple[str, Repeat]] = []
    executor = SerialExecutor(evaluate)
    found = confirm(
        *(record, judge, executor),
        may_start=lambda: True,
        most=most,
        keep=lambda key, repeat: kept.append((key, repeat)),
        progress=no_step,
    )
    return found, kept


def test_the_confirmed_network_is_better_than_the_best_observed_one() -> None:
    """In the mean of runs, by its true score: better than the luckiest draw, and than the best before it was
    confirmed."""
    scores = []
    for run in range(12):
        record, judge = trained(noisy(run))
        luckiest = max(record.candidates, key=lambda one: one.proxy_accuracy or 0.0)
        after, _ = confirmed(record, judge, noisy(run), 12)
        assert record.best is not None
        assert after.best is not None
        scores.append((true(luckiest.arch), true(record.best), true(after.best)))
    observed, before, found = np.mean(scores, axis=0)
    assert found > observed + 0.002
    assert found > before + 0.002


def test_it_ends_when_one_is_surely_best() -> None:
    """With little noise a few trainings suffice for most rivals; those that remain were trained as often as may be, and
    more time changes nothing."""
    record, judge = trained(noisy(0, 0.001))
    after, kept = confirmed(record, judge, noisy(0, 0.001), None)
    assert len(undecided(after)) < len(undecided(record))
    assert all(one.trainings == TIMES for one in undecided(after))
    assert CONTENDERS - 1 <= len(kept) < CONTENDERS * (TIMES - 1)
    assert confirmed(after, judge, noisy(0, 0.001), None)[1] == []


def test_contenders_are_trained_equally_often_with_distinct_seeds() -> None:
    """Where no network is better, every training is bounded, and no seed is used twice for one network."""

    def equal(arch: Arch, seed: int) -> Evaluation:
        luck = np.random.default_rng([int(arch.key, 16), seed]).normal()
        return replace(evaluation(arch, seed), proxy_accuracy=0.5 + 0.02 * luck, proxy_loss=None)

    record, judge = trained(equal)
    after, kept = confirmed(record, judge, equal, 11)
    assert len(kept) == 11
    assert len({(key, repeat.seed) for key, repeat in kept}) == 11
    assert 0 not in {repeat.seed for _, repeat in kept}
    assert max(Counter(key for key, _ in kept).values()) < TIMES
    assert sum(len(one.repeats) for one in after.candidates) == 11


def test_seeds_that_an_earlier_call_kept_are_not_used_again() -> None:
    """A call that was killed may have kept the training with seed 2 and lost that with seed 1."""
    record, judge = trained(noisy(3))
    kept_before = Repeat(2, 0.5, None)
    contenders = {one.key for one in undecided(record)}
    candidates = [replace(c, repeats=(kept_before,)) if c.key in contenders else c for c in record.candidates]
    after, kept = confirmed(replace(record, candidates=candidates), judge, noisy(3), 6)
    assert kept
    for one in after.candidates:
        seeds = [repeat.seed for repeat in one.repeats]
        assert len(seeds) == len(set(seeds))
        assert 0 not in seeds


def test_a_network_that_fails_is_not_tried_again_and_time_is_kept() -> None:
    record, judge = trained(noisy(1))
    calls: list[str] = []

    def failing(arch: Arch, seed: int) -> Evaluation:
        calls.append(arch.key)
        return failed(arch, "out of memory")

    after, kept = confirmed(record, judge, failing, None)
    assert kept == []
    assert max(Counter(calls).values()) == 1
    assert after.best == record.best
    executor = SerialExecutor(noisy(1))
    late = confirm(
        *(record, judge, executor), may_start=lambda: False, most=None, keep=lambda *_: None, progress=no_step
    )
    assert late == record


@pytest.mark.parametrize(
    ("proxy", "trains", "matters"),
    [
        ({"shared_steps": 0}, True, True),
        ({"shared_steps": 4000, "tune": 0}, True, False),
        ({"shared_steps": 4000, "tune": 70}, True, True),
        ({"shared_steps": 0}, False, False),
    ],
)
def test_where_another_seed_says_something(proxy: dict[str, Any], trains: bool, matters: bool) -> None:
    """Not of shared weights, whose scores hardly depend on the seed, and not where trainings do not count."""
    assert seed_matters(info_of(proxy=proxy), Judge(SPACE, None, trained=trains)) == matters
    assert not seed_matters(info_of(proxy=proxy), None)


def test_how_much_is_kept_for_it() -> None:
    """A tenth of the budget that is left, however much was spent before, or of the networks where their number is
    limited, those of an earlier call included."""
    assert with_reserve(SearchOptions(budget_s=100.0), 0.0).budget_s == pytest.approx(90)
    assert with_reserve(SearchOptions(budget_s=1010.0), 1000.0).budget_s == pytest.approx(1009)
    assert with_reserve(SearchOptions(trials=9), 0.0).budget_s is None
    record, judge = trained(noisy(2))
    assert most_repeats(SearchOptions(budget_s=100.0), record) is None
    assert most_repeats(SearchOptions(trials=60), record) == 6
    after, kept = confirmed(record, judge, noisy(2), 4)
    assert most_repeats(SearchOptions(trials=60), after) == 6 - len(kept) < 6
