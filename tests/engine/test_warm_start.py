"""What trainings of earlier runs are worth to a new one, and the file that keeps them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nas.accuracy.posterior import Training
from nas.arch.arch import Arch
from nas.engine.executors.base import SerialExecutor
from nas.engine.judge import Judge, judge_of
from nas.engine.loop import run_search
from nas.engine.options import SearchOptions
from nas.engine.run.info import DataInfo
from nas.engine.run.store import Store
from nas.engine.warm_start import FILE_NAME, EarlierRun, WarmStart
from nas.references.table import reference
from nas.system.errors import InputError
from nas.training.config import ProxyConfig
from nas.training.evaluate import Evaluation
from tests.engine.search_toys import SPACE, Model, evaluation, info_of, target_of

WEIGHTS = np.random.default_rng(5).normal(size=len(SPACE.feature_names))
POOL = [SPACE.sample(seed) for seed in range(400)]
SUMS = np.array([SPACE.features(arch) @ WEIGHTS for arch in POOL])
SEEDS = range(3)
Earlier = Sequence[tuple[EarlierRun, bool]]


def true(arch: Arch) -> float:
    return 0.5 + 0.03 * float(SPACE.features(arch) @ WEIGHTS - SUMS.mean()) / float(SUMS.std())


def earlier(score: Callable[[Arch], float], same: bool, seed: int) -> Earlier:
    """A run of 60 random networks, with noise, at another level."""
    rng = np.random.default_rng(1000 + seed)
    archs = [SPACE.sample(10_000 + 1000 * seed + at) for at in range(60)]
    trainings = tuple(Training(arch, score(arch) + 0.1 + 0.01 * rng.normal()) for arch in archs)
    return [(EarlierRun("old", trainings), same)]


def best_of(seed: int, runs: Earlier, trials: int = 12) -> float:
    """The true score of the best network that a search evaluates."""
    rng = np.random.default_rng(seed)

    def noisy(arch: Arch, seed: int) -> Evaluation:
        return replace(evaluation(arch, seed), proxy_accuracy=true(arch) + 0.01 * rng.normal(), proxy_loss=None)

    options = SearchOptions(trials=trials, references=(), target_ms=target_of(0.5), seed=seed)
    judge = Judge(SPACE, None, True, "toy", runs)
    found = run_search(SPACE, Model(), options, SerialExecutor(noisy), "auto", judge=judge)
    return max(true(one.arch) for one in found.candidates if one.state == "COMPLETE")


@pytest.fixture(scope="module")
def cold() -> list[float]:
    """Of searches that know nothing and evaluate twice as much."""
    return [best_of(seed, (), 24) for seed in SEEDS]


@pytest.mark.parametrize("same", [True, False])
def test_a_warm_start_needs_fewer_evaluations(same: bool, cold: list[float]) -> None:
    """Half the evaluations find better networks, whether the earlier run counts as one of the same task, at another
    level, or as one of another task that turns out to agree."""
    warm = [best_of(seed, earlier(true, same, seed)) for seed in SEEDS]
    assert np.mean(warm) > np.mean(cold) + 0.005


def test_a_misleading_run_does_not_hurt_much(cold: list[float]) -> None:
    """Trainings of a task that ranks all networks the other way round."""
    misled = [best_of(seed, earlier(lambda arch: 1 - true(arch), False, seed), 24) for seed in SEEDS]
    assert np.mean(misled) > np.mean(cold) - 0.01


def test_the_first_network_is_already_ranked_by_other_tasks() -> None:
    """Before the first training of the run, the ranking is that of the earlier run; with one training, still."""
    judge = Judge(SPACE, None, True, "toy", earlier(true, False, 0))
    assert judge.warm
    assert judge.model is not None
    order = np.argsort([true(arch) for arch in POOL])
    worst, best = [POOL[at] for at in order[:20]], [POOL[at] for at in order[-20:]]
    for _ in range(2):
        assert judge.model.many(best)[0].min() > judge.model.many(worst)[0].max()
        judge.observe(POOL[0], 0.4)
    assert not Judge(SPACE, None, True).warm


def test_networks_of_another_space_count_by_what_all_networks_have() -> None:
    """Trainings of the same task on networks outside the space are one more model, in the words of the evidence too."""
    from nas.arch.space_yaml import load_space

    other = load_space("efficientnet")
    trainings = tuple(Training(other.sample(seed), 0.5 + 0.001 * other.sample(seed).resolution) for seed in range(20))
    judge = Judge(SPACE, None, True, "toy", [(EarlierRun("b0s", trainings), True)])
    assert judge.model is not None
    assert "b0s" in judge.model.evidence
    assert np.isfinite(judge.model.many(POOL[:5])[0]).all()
    few = Judge(SPACE, None, True, "toy", [(EarlierRun("b0s", trainings[:3]), True)])
    assert not few.warm


PROXY = ProxyConfig(steps=50, shared_steps=0).to_dict()
DATA = DataInfo("photos", "abc", ("a", "b"), 10, 10)


@pytest.mark.parametrize(
    ("run", "same"),
    [
        ({"data": "abc", "proxy": PROXY}, True),
        ({"data": "abc", "proxy": {name: value for name, value in PROXY.items() if name != "rungs"}}, True),
        ({"data": "other", "proxy": PROXY}, False),
        ({"data": "abc", "proxy": {**PROXY, "steps": 51}}, False),
        ({"custom": True}, False),
    ],
)
def test_what_is_the_same_task(run: dict[str, object], same: bool) -> None:
    """The same images and proxy; settings that an earlier version did not have have their first value."""
    found = EarlierRun("old", (), **run)  # type: ignore[arg-type]
    assert found.same_task(info_of(custom=(), data=DATA, proxy=PROXY)) == same
    assert found.same_task(info_of()) == ("custom" in run)


def test_the_file_keeps_everything(tmp_path: Path) -> None:
    """Networks, trainings, images and proxy come back equal, and the run is judged by them from its folder alone."""
    trainings = tuple(Training(arch, 0.5, 1.0, 7) for arch in POOL[:9])
    warm = WarmStart({"mine": POOL[0], "mobilenet_v2": reference("mobilenet_v2")}, (EarlierRun("a", trainings),))
    with Store.create(tmp_path / "run", info_of()) as store:
        store.write_warm_start(warm)
    with Store.open(tmp_path / "run", read_only=True) as store:
        assert store.warm_start() == warm
    info = info_of(custom=(), data=DATA, proxy=PROXY, options=SearchOptions(data="photos", references=()))
    judge = judge_of(info, tmp_path / "run")
    assert judge is not None
    assert judge.warm
    assert WarmStart.load(tmp_path, SearchOptions()) == WarmStart({})


@pytest.mark.parametrize("options", [SearchOptions(start=["mobilenet_v2"]), SearchOptions(warm_start=["old"])])
def test_a_run_does_not_go_on_without_what_it_began_with(options: SearchOptions, tmp_path: Path) -> None:
    """A search that was killed before the file was written, or whose file was deleted, is not resumed cold."""
    Store.create(tmp_path / "run", info_of(options=options)).close()
    with Store.open(tmp_path / "run") as store, pytest.raises(InputError, match=FILE_NAME) as error:
        store.warm_start()
    assert "start a new run" in str(error.value)
    info = info_of(custom=(), data=DATA, proxy=PROXY, options=replace(options, data="photos", references=()))
    with pytest.raises(InputError, match=FILE_NAME):
        judge_of(info, tmp_path / "run")


@pytest.mark.parametrize(
    ("change", "value"),
    [
        ({"schema": 7}, "7"),
        ({"networks": 3}, "networks"),
        ({"networks": [{"name": "a", "arch": {}}]}, "schema"),
        ({"runs": [{"name": "a", "trainings": []}]}, "trainings"),
        ({"runs": [{"name": "a", "trainings": [{"accuracy": "high", "length": 0}]}]}, "high"),
        ({"runs": [{"name": "a", "trainings": [{"accuracy": 0.5, "length": 0, "loss": "low"}]}]}, "low"),
        ({"runs": [{"name": "a", "trainings": [{"accuracy": 0.5, "length": 0}], "data": 3}]}, "3"),
    ],
)
def test_a_broken_file_is_named_in_one_line(change: dict[str, object], value: str, tmp_path: Path) -> None:
    content = {"schema": 1, "networks": [], "runs": []} | change
    (tmp_path / FILE_NAME).write_text(json.dumps(content))
    with pytest.raises(InputError, match=value) as error:
        WarmStart.load(tmp_path, SearchOptions())
    assert FILE_NAME in str(error.value)
    assert "\n" not in str(error.value)
    (tmp_path / FILE_NAME).write_text("{")
    with pytest.raises(InputError, match=FILE_NAME):
        WarmStart.load(tmp_path, SearchOptions())
