"""Trainings in rungs: who is trained on, what is kept of those that are not, and what a killed search goes on with."""

from __future__ import annotations

import csv
import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from nas.accuracy.curves import extrapolated
from nas.accuracy.posterior import Training
from nas.accuracy.ranking import tau
from nas.arch.arch import Arch
from nas.engine.executors.base import SerialExecutor
from nas.engine.fidelity import FULL, Halving, best
from nas.engine.judge import Judge
from nas.engine.options import SearchOptions
from nas.engine.run.record import Candidate, Record, Rung, State
from nas.engine.run.store import Store
from nas.system.errors import InputError
from nas.training.checkpoint import Checkpoint, path_of, write_checkpoint
from nas.training.evaluate import Evaluation, failed
from tests.engine.search_toys import SPACE, Model, cost_ms
from tests.engine.staged import LENGTHS, REFERENCES, Staged, accuracy, info, rungs_in, search

TRIALS = 40


def scored(arch: Arch, state: State, steps: int) -> Candidate:
    found = accuracy(arch, steps)
    rungs = (Rung(steps, found, 1 - found),)
    return Candidate(arch, state, Model()(arch), 10, 20, 30, proxy_accuracy=found, proxy_loss=1 - found, rungs=rungs)


def test_a_network_that_failed_after_a_rung_is_no_evidence() -> None:
    """Neither for estimates nor for who is trained on: as if the run was read from its folder again."""
    small, large = sorted((SPACE.sample(seed) for seed in range(2)), key=cost_ms)
    judge = Judge(SPACE, None, trained=True)
    halving = Halving(LENGTHS, judge, full=1)
    judge.learn([scored(small, "STOPPED", 10)])
    halving.learn([scored(small, "STOPPED", 10)])
    judge.learn([scored(small, "FAILED", 10)])
    halving.learn([scored(small, "FAILED", 10)])
    assert judge.model is None
    assert halving.goes_on(scored(large, "STOPPED", 10)), "it is the first at this rung"


def test_estimates_are_those_of_the_folder_although_trainings_fail(tmp_path: Path) -> None:
    """Trainings that diverge after the first rung count neither in the search nor when the run is read again."""

    def diverging(arch: Arch, seed: int, stop: int | None = None) -> Evaluation:
        fails = int(arch.key, 16) % 3 == 0 and stop != LENGTHS[0]
        return failed(arch, "diverged") if fails else Staged(tmp_path / "log")(arch, seed, stop)

    with Store.create(tmp_path / "run", info(16)) as store:
        outcome = search(SerialExecutor(diverging), 16, store)
        again = store.record().candidates
    assert any(c.state == "FAILED" and c.rungs for c in outcome.candidates)
    means = [[None if c.estimate is None else c.estimate.mean for c in some] for some in (outcome.candidates, again)]
    assert means[0] == pytest.approx(means[1])


@pytest.mark.parametrize("seed", range(20))
def test_nothing_better_is_left_behind(seed: int) -> None:
    """No point that was left out is at least as accurate and as fast as one that was chosen, and better in one."""
    rng = np.random.default_rng(seed)
    accuracies, latencies = rng.integers(0, 8, 30) / 8, rng.integers(1, 9, 30).astype(float)
    chosen = best(accuracies, latencies, 7)
    assert len(chosen) == 7
    for one in chosen:
        for other in set(range(30)) - chosen:
            gain, saving = accuracies[other] - accuracies[one], latencies[one] - latencies[other]
            assert not (gain >= 0 and saving >= 0 and (gain > 0 or saving > 0))


def test_references_and_the_first_see_the_end(tmp_path: Path) -> None:
    """All references are trained to the end, and so are the first candidates until there are a few curves. Each
    rung is trained once, in order; the count of candidates is that of those started."""
    outcome = search(SerialExecutor(Staged(tmp_path / "log")), TRIALS)
    lengths: dict[str, list[int]] = {}
    for key, stop in rungs_in(tmp_path / "log"):
        lengths.setdefault(key, []).append(stop)
    assert all(tuple(stops) == LENGTHS[: len(stops)] for stops in lengths.values())
    assert {c.name for c in outcome.references if c.state == "COMPLETE"} == set(REFERENCES)
    stopped = [c for c in outcome.candidates if c.state == "STOPPED"]
    assert len(outcome.candidates) == TRIALS
    assert all(c.state == "COMPLETE" for c in outcome.candidates[: FULL - len(REFERENCES)])
    assert {c.key: c.steps for c in outcome.candidates} == {c.key: lengths[c.key][-1] for c in outcome.candidates}
    assert all(c.proxy_accuracy == accuracy(c.arch, c.steps or 0) for c in stopped)


def test_most_are_stopped(tmp_path: Path) -> None:
    """In the mean of several searches: one that finds better and better networks stops fewer."""
    outcomes = [search(SerialExecutor(Staged(tmp_path / str(seed))), TRIALS, seed=seed) for seed in range(4)]
    stopped = [sum(c.state == "STOPPED" for c in outcome.candidates) for outcome in outcomes]
    assert sum(stopped) > len(outcomes) * TRIALS / 2


def test_slow_starters_are_not_stopped_for_it(tmp_path: Path) -> None:
    """The network that is most accurate at full length, and least accurate at the first rung, reaches the end."""
    outcome = search(SerialExecutor(Staged(tmp_path / "log")), TRIALS)
    most, least = (
        max(outcome.candidates, key=lambda c: sign * accuracy(c.arch, n)) for sign, n in ((1, 160), (-1, 10))
    )
    assert most == least
    assert most.state == "COMPLETE"


def test_estimates_of_stopped_networks_are_of_the_full_length(tmp_path: Path) -> None:
    """Scores that fall with the cost at a rung become estimates that rise with it, as at the end; a stopped network is
    on no front."""
    outcome = search(SerialExecutor(Staged(tmp_path / "log")), TRIALS)
    stopped = [c for c in outcome.candidates if c.state == "STOPPED" and c.steps == LENGTHS[0]]
    truth = [accuracy(c.arch, LENGTHS[-1]) for c in stopped]
    assert tau([c.proxy_accuracy or 0 for c in stopped], truth) < 0
    assert tau([c.estimate.mean for c in stopped if c.estimate], truth) > 0.8
    record = Record(info(TRIALS), outcome.candidates)
    assert {c.state for c in record.front} == {"COMPLETE"}


def test_curves_are_carried_on_by_size() -> None:
    """From 8 networks with whole curves, the end of the others is found although their order is reversed at first."""
    archs = [SPACE.sample(seed) for seed in range(40)]
    trainings = [Training(a, accuracy(a, s), 1 - accuracy(a, s), s) for a in archs[:8] for s in LENGTHS]
    trainings += [Training(a, accuracy(a, 10), 1 - accuracy(a, 10), 10) for a in archs[8:]]
    ends = extrapolated(trainings)
    truth = [accuracy(one.arch, 160) for one in ends]
    assert {one.length for one in ends} == {10, 160}
    assert len(ends) == len({arch.key for arch in archs})
    assert np.max(np.abs(np.array([one.accuracy for one in ends]) - truth)) < 0.02
    assert np.max(np.abs(np.array([1 - (one.loss or 0) for one in ends]) - truth)) < 0.02


def test_a_run_keeps_curves(tmp_path: Path) -> None:
    """trials.csv has the rung that each network reached; a dashboard finds its scores at all rungs, and it stopped as
    pruned; reading the run gives the same candidates."""
    with Store.create(tmp_path / "run", info(TRIALS)) as store:
        outcome = search(SerialExecutor(Staged(tmp_path / "log")), TRIALS, store)
        record = store.record()
    assert [(c.key, c.state, c.rungs) for c in record.candidates] == [
        (c.key, c.state, c.rungs) for c in outcome.candidates
    ]
    rows = list(csv.DictReader(record.trials.to_csv().splitlines()))
    assert [int(row["steps"]) for row in rows] == [c.steps for c in outcome.candidates]
    backend = JournalFileBackend(str(tmp_path / "run" / "study.journal"))
    study = optuna.load_study(study_name="nas", storage=JournalStorage(backend))
    curves = {trial.user_attrs["key"]: trial for trial in study.get_trials()}
    for one in outcome.candidates:
        assert curves[one.key].intermediate_values == {rung.steps: rung.accuracy for rung in one.rungs}
        pruned = curves[one.key].state == TrialState.PRUNED
        assert pruned == (one.state == "STOPPED")


def test_a_resumed_search_starts_no_stopped_network_again(tmp_path: Path) -> None:
    """More trials train more networks; those that were stopped are known, to the sampler and to the rungs."""
    log = tmp_path / "log"
    with Store.create(tmp_path / "run", info(20)) as store:
        search(SerialExecutor(Staged(log)), 20, store)
    before = len(rungs_in(log))
    with Store.open(tmp_path / "run") as store:
        outcome = search(SerialExecutor(Staged(log)), 30, store)
    assert not {key for key, _ in rungs_in(log)[before:]} & {key for key, _ in rungs_in(log)[:before]}
    assert len(outcome.candidates) == 30


def test_files_that_hold_no_training_are_removed(tmp_path: Path) -> None:
    """A damaged checkpoint, and one of a network that is finished, go; the search is as without."""
    with Store.create(tmp_path / "run", info(8)) as store:
        folder = store.checkpoints_path
        folder.mkdir()
        (folder / "damaged.safetensors").write_bytes(b"x")
        outcome = search(SerialExecutor(Staged(tmp_path / "log", folder)), 8, store, folder=folder)
        assert not list(folder.iterdir())
    assert len(outcome.candidates) == 8


@pytest.mark.parametrize(
    "given",
    [
        {"rungs": "on"},
        {"rungs": []},
        {"rungs": [0], "steps": 100},
        {"rungs": [50]},
        {"rungs": [50], "shared_steps": 100},
        {"rungs": [50], "steps": 100, "evaluate": len},
        {"rungs": [50], "steps": 100, "accuracy": "imagenet"},
    ],
)
def test_rungs_without_a_training_are_refused(given: dict[str, object]) -> None:
    """Unknown words, impossible lengths, and rungs of what is not trained from scratch."""
    with pytest.raises(InputError, match="rung"):
        SearchOptions(**given)  # type: ignore[arg-type]


def test_what_a_killed_process_was_writing_is_deleted(tmp_path: Path) -> None:
    """`write_atomic` leaves its temporary file behind if the process is killed in the middle."""
    arch = SPACE.sample(0)
    whole = path_of(tmp_path, arch)
    scores = {LENGTHS[0]: {"accuracy": 0.5, "loss": 0.5, "seconds": 1.0, "train_loss": None}}
    vectors = {name: np.zeros(3, np.float32) for name in ("value", "mean", "square")}
    write_checkpoint(whole, Checkpoint(arch, LENGTHS[0], scores, vectors), {"seed": 1})
    for content in (whole.read_bytes(), whole.read_bytes()[:20], b""):
        (tmp_path / f".{whole.name}.{len(content)}").write_bytes(content)
    assert Halving(LENGTHS, Judge(SPACE, None, trained=True), tmp_path).unfinished() == [arch]
    assert list(tmp_path.iterdir()) == [whole]


@pytest.mark.processes
@pytest.mark.parametrize("workers", [1, 2])
def test_kill_nine_loses_no_rung(workers: int, tmp_path: Path) -> None:
    """kill -9 at random moments, resumed each time: only what ran at a kill is trained again, every network that was
    started is in the run at the end, and no checkpoint is left."""
    folder, log = tmp_path / "run", tmp_path / "log"
    rng = random.Random(workers)
    command = [sys.executable, "-m", "tests.engine.staged", folder, log, TRIALS, workers, 0.02]
    root = Path(__file__).parents[2]
    for attempt in range(4):
        child = subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, text=True, cwd=root)
        assert child.stdout
        if attempt < 3:
            for _ in range(rng.randrange(1, 10)):
                child.stdout.readline()
            child.send_signal(signal.SIGKILL)
        else:
            child.stdout.read()
        child.wait()
        child.stdout.close()
    assert child.returncode == 0
    with Store.open(folder) as store:
        candidates, references = store.load()
        assert not list(store.checkpoints_path.iterdir())
    assert len(candidates) == TRIALS
    again = Counter(rungs_in(log))
    assert sum(count - 1 for count in again.values()) <= 3 * workers
    reached = {(c.key, rung.steps) for c in [*candidates, *references] for rung in c.rungs}
    assert reached <= set(again)
    assert len(set(again) - reached) <= 3 * workers  # killed before its first checkpoint
