"""The engine, with toy latencies and scores in this process."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest

from nas.arch.arch import Arch
from nas.engine.driver import ALIKE
from nas.engine.executors.base import SerialExecutor
from nas.engine.loop import Outcome, SearchProgress, run_search
from nas.engine.options import SearchOptions
from nas.engine.run.record import Record
from nas.engine.run.store import Store
from nas.engine.samplers import SAMPLERS
from nas.latency.feasible_sampler import FeasibleSampler
from nas.latency.limits import Limits
from nas.system.errors import InputError, NasError
from nas.training.evaluate import CustomEvaluator, Evaluation, failed
from tests.engine.search_toys import (
    SPACE,
    TINY,
    Model,
    Traced,
    cost_ms,
    evaluated,
    evaluation,
    info_of,
    noise,
    raising,
    target_of,
)


def search(evaluator: Any = evaluation, sampler: Any = "random", space: Any = SPACE, **changes: Any) -> Outcome:
    names = {one.name for one in fields(SearchOptions)} - {"references"}
    given = {name: changes.pop(name) for name in list(changes) if name in names}
    options = SearchOptions(**{"trials": 20, "references": (), **given})
    return run_search(
        space, Model(), options, SerialExecutor(evaluator), sampler, **changes
    )  # fmt: skip


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_evaluates_each_network_once_and_no_slow_one(sampler: str, tmp_path: Path) -> None:
    """Whatever the sampler: `trials` networks scored, all distinct, all within the target; slow ones only listed."""
    target = target_of(0.3)
    outcome = search(Traced(tmp_path / "log"), sampler, target_ms=target, trials=40)
    keys = evaluated(tmp_path / "log")
    scored = [c for c in outcome.candidates if c.state == "COMPLETE"]
    too_slow = [c for c in outcome.candidates if c.state == "TOO_SLOW"]
    assert outcome.stopped_because == "trials"
    assert max(Counter(keys).values()) == 1
    assert sorted(keys) == sorted(c.key for c in scored)
    assert len(scored) == 40
    assert all(cost_ms(c.arch) <= target for c in scored)
    assert bool(too_slow) == (sampler in ("tpe", "nsga2", "gp"))  # the others know the latencies
    assert all(cost_ms(c.arch) > target and c.proxy_accuracy is None for c in too_slow)
    assert len({c.key for c in outcome.candidates}) == len(outcome.candidates)
    assert all(SPACE.decode(c.genes) == c.arch for c in outcome.candidates)


def slow_proposals(sampler: Any, seed: int) -> int:
    outcome = search(sampler=sampler, target_ms=target_of(0.2), trials=40, seed=seed)
    return sum(c.state == "TOO_SLOW" for c in outcome.candidates)


def test_tpe_learns_the_target() -> None:
    """From slow proposals alone TPE learns to make fewer than half as many of them as random search."""
    tpe, random = (
        sum(slow_proposals(name, seed) for seed in range(3)) for name in ("tpe", optuna.samplers.RandomSampler(seed=0))
    )
    assert tpe < random / 2, (tpe, random)


def test_tpe_finds_better_fronts_than_random() -> None:
    """On a score without noise TPE's front dominates more than random search's, in the mean of seeds."""

    def smooth(arch: Arch, seed: int) -> Evaluation:
        score = sum((row.act == "h_swish") + (row.kernel == 5) - (row.se > 0) for row in arch.rows) / 20 + 0.3
        return replace(evaluation(arch, seed), proxy_accuracy=score)

    def mean(sampler: str) -> float:
        volumes = []
        for seed in range(3):
            outcome = search(smooth, sampler, target_ms=target_of(0.5), trials=40, seed=seed)
            volumes.append(Record(info_of(target_of(0.5)), outcome.candidates).hypervolume())
        return float(np.mean(volumes))

    assert mean("tpe") > mean("random")


@pytest.mark.parametrize("target_ms", [None, 13.0])
def test_small_space_is_exhausted(target_ms: float | None, tmp_path: Path) -> None:
    """A space smaller than `trials` ends the search, and by then every network within the target was evaluated."""
    every = {arch.key for arch in map(TINY.sample, range(500)) if target_ms is None or cost_ms(arch) <= target_ms}
    outcome = search(Traced(tmp_path / "log"), "tpe", TINY, trials=10_000, target_ms=target_ms)
    assert outcome.stopped_because == "exhausted"
    assert sorted(evaluated(tmp_path / "log")) == sorted(every)
    assert target_ms is None or len(every) < TINY.size


def test_target_nothing_can_meet_ends() -> None:
    """A target below the fastest network ends the search with nothing evaluated, instead of hanging."""
    outcome = search(target_ms=1.0, sampler="tpe")
    assert outcome.stopped_because == "exhausted"
    assert {c.state for c in outcome.candidates} == {"TOO_SLOW"}


@pytest.mark.parametrize("sampler", [optuna.samplers.BruteForceSampler(seed=0), optuna.samplers.QMCSampler(seed=0)])
def test_any_optuna_sampler(sampler: optuna.samplers.BaseSampler) -> None:
    """Instances are taken, also one that stops the study when it has tried everything."""
    outcome = search(sampler=sampler, space=TINY, trials=1000)
    assert outcome.stopped_because == "exhausted"
    assert len(outcome.candidates) == TINY.size


class Listening(optuna.samplers.RandomSampler):
    """Random, noting trials begun and what is reported of each."""

    def __init__(self) -> None:
        super().__init__(seed=0)
        self.begun = 0
        self.reported: list[tuple[str, dict[str, float], Any]] = []

    def before_trial(self, *args: Any) -> None:
        self.begun += 1

    def after_trial(self, study: Any, trial: Any, state: Any, values: Any) -> None:
        self.reported.append((state.name, trial.constraints, values))


def test_the_distance_to_the_target_is_reported() -> None:
    """The sampler gets (accuracy, latency), or pruned or failed, and the milliseconds above the target."""
    sampler, target = Listening(), target_of(0.5)
    outcome = search(sampler=sampler, target_ms=target)
    state_of = {"COMPLETE": "COMPLETE", "TOO_SLOW": "PRUNED"}
    expected = []
    for candidate in outcome.candidates:
        scores = [candidate.proxy_accuracy, candidate.predicted.ms] if candidate.state == "COMPLETE" else None
        expected.append((state_of[candidate.state], {"latency": candidate.predicted.ms - target}, scores))
    assert sampler.reported == expected
    assert {state for state, _, _ in expected} == {"COMPLETE", "PRUNED"}


def test_twin_of_a_running_candidate_waits_for_its_result(tmp_path: Path) -> None:
    """A network proposed again while it runs is not submitted again, and that proposal gets the result too."""
    executor = SerialExecutor(Traced(tmp_path / "log"))
    executor.slots = 5  # a queue: submitted ones stay running until `wait`
    sampler = Listening()
    run_search(TINY, Model(), SearchOptions(trials=12), executor, sampler)
    assert len(evaluated(tmp_path / "log")) == len(set(evaluated(tmp_path / "log"))) == 12
    assert sampler.begun == len(sampler.reported) > 12


def test_references_are_scored_alike_and_kept_apart() -> None:
    """References get the candidates' seed and evaluator, come first, and neither count nor reach the sampler."""
    seeds, seen = [], []

    def spy(arch: Arch, seed: int) -> Evaluation:
        seeds.append(seed)
        return evaluation(arch, seed)

    slow = max(map(SPACE.sample, range(100)), key=cost_ms)
    references = {"slow": slow, "other": SPACE.sample(7)}
    target = target_of(0.5)
    outcome = search(spy, trials=5, seed=11, target_ms=target, references=references, watch=seen.append)
    assert [(r.name, r.arch) for r in outcome.references] == list(references.items())
    assert outcome.references[0].state == "COMPLETE", "a reference above the target is evaluated all the same"
    assert seeds == [11] * 7
    assert sum(c.state == "COMPLETE" for c in outcome.candidates) == 5
    alone = search(trials=5, seed=11, target_ms=target)
    assert [c.key for c in alone.candidates] == [c.key for c in outcome.candidates]
    assert seen[1].phase == "reference slow"


def test_failures_are_outcomes() -> None:
    """An exception or a NaN is a FAILED candidate with its reason in one line; it counts, and is not tried again."""
    nan = CustomEvaluator(lambda arch: math.nan)
    for broken, reason in ((raising, "ValueError: no such layer"), (nan, "nan")):
        outcome = search(broken, "tpe", trials=ALIKE - 1)
        assert [(c.state, c.proxy_accuracy) for c in outcome.candidates] == [("FAILED", None)] * (ALIKE - 1)
        assert all(c.reason and reason in c.reason and "\n" not in c.reason for c in outcome.candidates)


def test_an_evaluation_that_always_fails_ends_the_search_with_its_cause(tmp_path: Path) -> None:
    """Not one that fails now and then, or for several reasons, or after something was scored."""
    with pytest.raises(NasError, match="no such layer"):
        search(raising, trials=100)

    def moody(arch: Arch, seed: int) -> Evaluation:
        raise ValueError(arch.key)

    assert len(search(CustomEvaluator(lambda arch: moody(arch, 0).seconds), trials=20).candidates) == 20
    first: list[str] = []

    def once(arch: Arch, seed: int) -> Evaluation:
        first.append(arch.key)
        return evaluation(arch, seed) if len(first) == 1 else failed(arch, "no such layer")

    assert len(search(once, trials=20).candidates) == 20


@pytest.mark.parametrize(
    "sampler",
    [optuna.samplers.CmaEsSampler(), optuna.samplers.GridSampler({"resolution": [32]})],
    ids=lambda sampler: type(sampler).__name__,
)
def test_a_sampler_that_cannot_search_the_space_is_named(sampler: optuna.samplers.BaseSampler) -> None:
    with pytest.raises(InputError, match=type(sampler).__name__):
        search(sampler=sampler, target_ms=target_of(0.5))


def test_budget_ends_the_search() -> None:
    """No candidate starts after the budget, and what runs then is kept."""
    outcome = search(trials=None, budget_s=0.2, evaluator=evaluation)
    assert outcome.stopped_because == "budget"
    assert outcome.candidates


def test_resumed_search_goes_on(tmp_path: Path) -> None:
    """A second call evaluates what is missing to `trials`; one whose budget earlier calls spent evaluates nothing."""
    with Store.create(tmp_path / "run", info_of(target_of(0.5))) as store:
        options: dict[str, Any] = {"target_ms": target_of(0.5), "store": store, "references": {"ref": SPACE.sample(9)}}
        traced = Traced(tmp_path / "log")
        first = search(traced, trials=5, **options)
        second = search(traced, trials=8, seed=1, **options)
        third = search(traced, trials=None, budget_s=store.spent_s / 2, **options)
    keys = evaluated(tmp_path / "log")
    assert len(keys) == len(set(keys)) == 8 + 1
    assert second.candidates[: len(first.candidates)] == first.candidates
    assert second.references == first.references
    assert (third.candidates, third.stopped_because) == (second.candidates, "budget")


def test_progress_agrees_with_the_record() -> None:
    """The last progress has the record's counts, best and hypervolume."""
    seen: list[SearchProgress] = []
    target = target_of(0.5)
    outcome = search(sampler="tpe", target_ms=target, watch=seen.append)
    record, last = Record(info_of(target), outcome.candidates), seen[-1]
    assert last.best is not None
    assert last.best.arch == record.best
    assert last.hypervolume == pytest.approx(record.hypervolume(), rel=1e-12)
    assert last.hypervolume > 0
    assert (last.evaluated, last.failed, last.running) == (20, 0, 0)
    assert last.too_slow == sum(c.state == "TOO_SLOW" for c in outcome.candidates)
    volumes = [progress.hypervolume for progress in seen]
    assert volumes == sorted(volumes), "with a fixed target the front only grows"


def test_same_seed_same_search() -> None:
    """The seed decides every proposal; another seed makes others."""
    runs = [
        [c.key for c in search(sampler="tpe", seed=seed, target_ms=target_of(0.5)).candidates] for seed in (4, 4, 5)
    ]
    assert runs[0] == runs[1] != runs[2]


def test_draws_reach_rare_networks() -> None:
    """Where uniform draws almost never meet the target, the descent finds distinct unseen networks that do."""
    from nas.arch.space_yaml import load_space

    space = load_space("mbconv")
    target = 0.9 * min(cost_ms(space.sample(seed)) for seed in range(1500))
    found = FeasibleSampler(space, Limits(Model(), target), np.random.default_rng(0)).unseen(set(), 5)
    archs = {space.decode(genes) for genes in found}
    assert len(archs) == 5
    assert all(cost_ms(arch) <= target for arch in archs)


USED = 0.95  # of the target


@pytest.mark.parametrize("seed", range(4))
def test_a_search_does_not_dwell_at_the_fast_end(seed: int) -> None:
    """Where all that leaves a twentieth of the target unused scores alike, the fastest network is worth as much to a
    front as the whole rest; the best one all the same takes the rest of the target."""
    target_ms = target_of(0.7)

    def flat(arch: Arch, seed: int) -> Evaluation:
        score = max(USED * target_ms, cost_ms(arch) * (1 + 0.02 * noise(arch, seed))) / 1000
        return replace(evaluation(arch, seed), proxy_accuracy=score)

    found = search(flat, "auto", target_ms=target_ms, trials=60, seed=seed).candidates
    best = max(found, key=lambda candidate: candidate.proxy_accuracy or 0.0)
    assert best.predicted.ms >= USED * target_ms
