"""Trainings in rungs: each goes on from the checkpoint of the one before as if it had never stopped."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from nas.network.build import build
from nas.system.errors import InputError
from nas.training import checkpoint, proxy
from nas.training.accelerator import CPU
from nas.training.evaluate import CustomEvaluator, ProxyEvaluator, guarded
from nas.training.images import DeviceImages
from nas.training.loop import Weights, train
from nas.training.proxy import ProxyConfig, ProxyScore, train_proxy
from tests.training.test_proxy import ARCH, QUICK, made_of, stripes

pytestmark = pytest.mark.torch

CONFIG = replace(QUICK, steps=20, rungs=(5, 10), shared_steps=0)


def score_of(stop: int, folder: Path | None, seed: int = 3, config: ProxyConfig = CONFIG) -> ProxyScore:
    return train_proxy(ARCH, stripes(), config, seed, stop=stop, checkpoints=folder)


def exact(score: ProxyScore) -> tuple[float, float, int]:
    return score.accuracy, score.loss, score.steps


def test_every_rung_is_scored_as_without_a_stop(tmp_path: Path) -> None:
    """From checkpoint to checkpoint, each rung has the score, bit for bit, of a training straight to it."""
    in_rungs = [exact(score_of(stop, tmp_path)) for stop in CONFIG.lengths]
    assert in_rungs == [exact(score_of(stop, None)) for stop in CONFIG.lengths]
    assert [steps for *_, steps in in_rungs] == [5, 10, 20]
    assert len({loss for _, loss, _ in in_rungs}) == 3


@pytest.mark.parametrize("arch", [ARCH, made_of("uib", "group"), made_of("shuffle_v2", "batch")])
def test_state_is_that_of_one_training(arch: object) -> None:
    """Weights, moments, step count and average agree to the last bit between one training and its two halves."""

    def state(stops: tuple[int, ...]) -> list[torch.Tensor]:
        images, kept, steps = DeviceImages.of(stripes(), CPU.device), None, 0
        for stop in stops:
            network = build(CONFIG.candidate(arch), 2, 1)  # type: ignore[arg-type]
            weights = Weights(network)
            if kept is not None:
                weights.restore(steps, kept)
            train(network, weights, images, CONFIG, 16, 0, CPU, stop)
            kept, steps = weights.state(), weights.steps
        return [weights.value, weights.mean, weights.square, weights.average, torch.tensor(weights.averaged)]

    assert all(torch.equal(one, other) for one, other in zip(state((5, 10, 20)), state((20,)), strict=True))


def test_a_finished_rung_is_not_trained_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rung whose score is in the checkpoint, and any before it, is answered without a step, in equal bits."""
    scores = {stop: score_of(stop, tmp_path) for stop in (5, 10)}
    monkeypatch.setattr(proxy, "train", lambda *_: pytest.fail("trained"))
    assert {stop: score_of(stop, tmp_path) for stop in (5, 10)} == scores


def test_only_the_missing_steps_are_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second rung takes the steps that it has more than the first."""
    done = []

    def counted(*arguments: object) -> list[float]:
        losses = train(*arguments)  # type: ignore[arg-type]
        done.append(len(losses))
        return losses

    monkeypatch.setattr(proxy, "train", counted)
    for stop in CONFIG.lengths:
        score_of(stop, tmp_path)
    assert done == [5, 5, 10]


def test_a_checkpoint_of_another_training_is_ignored(tmp_path: Path) -> None:
    """Another seed, another setting, other images, a damaged or cut file: the score is that of a training alone."""
    score_of(5, tmp_path)
    (path,) = tmp_path.iterdir()
    content = path.read_bytes()
    assert exact(score_of(10, tmp_path, seed=4)) == exact(score_of(10, None, seed=4))
    slower = replace(CONFIG, lr=0.001)
    path.write_bytes(content)
    assert exact(score_of(10, tmp_path, config=slower)) == exact(score_of(10, None, config=slower))
    alone = exact(score_of(10, None))
    for damaged in (b"", content[:-4], b"\xff" * 100, content.replace(b'"step', b'"stop')):
        path.write_bytes(damaged)
        assert exact(score_of(10, tmp_path)) == alone
    nan = {name: np.full(3, np.nan, np.float32) for name in ("value", "mean", "square")}
    made_for = {"any": 1}
    checkpoint.write_checkpoint(path, checkpoint.Checkpoint(ARCH, 5, {5: {}}, nan), made_for)
    assert checkpoint.read_checkpoint(path, ARCH, made_for, 3) is None


def test_without_a_folder_on_this_machine_nothing_is_kept(tmp_path: Path) -> None:
    """A worker that does not see the folder trains to its rung from scratch."""
    assert exact(score_of(10, tmp_path / "absent")) == exact(score_of(10, None))
    assert not (tmp_path / "absent").exists()


def test_unfinished_trainings_are_listed(tmp_path: Path) -> None:
    """A resumed search finds the networks that it was training; what is no checkpoint has no network."""
    score_of(5, tmp_path)
    (tmp_path / "other.safetensors").write_bytes(b"no")
    found = {path.name: arch for path, arch in checkpoint.unfinished(tmp_path)}
    assert found == {f"{ARCH.key}.safetensors": ARCH, "other.safetensors": None}


@pytest.mark.parametrize("rungs", [(0,), (20,), (10, 10), (10, 5), (9, 10), (18,), 5, (2.5,), tuple(range(1, 30))])
def test_impossible_rungs_are_refused(rungs: object) -> None:
    """Out of order, too close for their averages, beyond the training, or no whole numbers."""
    with pytest.raises(InputError, match="rung"):
        replace(CONFIG, rungs=rungs)  # type: ignore[arg-type]


def test_rungs_travel_as_json() -> None:
    """The JSON form is lossless, and runs of versions without rungs read as trainings of one length."""
    assert ProxyConfig.from_dict(CONFIG.to_dict()) == CONFIG
    old = CONFIG.to_dict()
    del old["rungs"]
    assert ProxyConfig.from_dict(old).lengths == (20,)


def test_evaluators_end_at_a_rung() -> None:
    """The proxy stops at the step that it is given; a custom score has no rungs, which is a failure and not a crash."""
    evaluator = ProxyEvaluator(stripes(), CONFIG)
    assert guarded(evaluator, ARCH, 3, 5).proxy_loss == score_of(5, None).loss
    assert guarded(evaluator, ARCH, 3).proxy_loss == score_of(20, None).loss
    assert guarded(CustomEvaluator(lambda arch: 1.0), ARCH, 0, 5).state == "FAILED"
