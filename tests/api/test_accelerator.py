"""The accelerator of a search: decided before anything is read, kept in the run, and the same when it is resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import nas
from nas.api.scoring import executor_of
from nas.api.session import Session
from nas.engine.executors.base import ProcessExecutor, SerialExecutor
from nas.engine.options import SearchOptions
from nas.engine.progress import Silent
from nas.engine.run.info import DataInfo, RunInfo
from nas.system.errors import InputError
from tests.api.test_search import SPACE, cost, score

pytestmark = pytest.mark.torch


class Listener(Silent):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


def session(cuda: bool, monkeypatch: pytest.MonkeyPatch, data: DataInfo | None = None, **options: Any) -> Session:
    """A session on a machine with two CUDA GPUs, or with none."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2 * cuda)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "GPU X")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    asked = SearchOptions(**options)
    return Session(asked, RunInfo(asked, SPACE, "toy", data=data), None, Listener())


def test_the_choice_is_shown_and_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """In one line, unless it is the CPU; the evaluator trains there."""
    on_cpu = session(False, monkeypatch)
    on_cpu._check_early()
    assert (on_cpu.options.accelerator, on_cpu.watch.said) == ("cpu", [])  # type: ignore[attr-defined]
    on_gpu = session(True, monkeypatch)
    on_gpu._check_early()
    assert on_gpu.options.to_dict()["accelerator"] == "cuda"
    (line,) = on_gpu.watch.said  # type: ignore[attr-defined]
    assert "cuda" in line
    assert "GPU X" in line
    assert "bfloat16" in line


def test_an_absent_accelerator_is_refused_before_images_are_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Even where the images are missing, too; and nothing is left of the run."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match=r"cuda.*--accelerator cpu"):
        nas.search(SPACE, data=tmp_path / "none", accelerator="cuda", trials=1, run=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_continues_on_its_accelerator_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Proxy accuracies of two kinds of device are not mixed."""
    data = DataInfo("photos", "k", ("a", "b"), 10, 10, False, (), (10, 10))
    with pytest.raises(InputError, match=r"cuda.*resume"):
        session(False, monkeypatch, data, accelerator="cuda")._check_early()


@pytest.mark.parametrize(
    ("cuda", "options", "slots", "gpus"),
    [
        (True, {"workers": 8, "gpus_per_trial": 0.5}, 4, ("0", "1")),
        (True, {"workers": 8}, 8, ("0", "1")),
        (True, {"workers": 3, "gpus_per_trial": 0.1}, 3, ("0", "1")),
        (True, {"workers": 8, "accelerator": "cpu"}, 8, ()),
        (True, {"workers": 8, "evaluate": score}, 8, ()),
        (False, {"workers": 8}, 8, ()),
    ],
)
def test_workers_share_the_gpus(
    cuda: bool, options: dict[str, Any], slots: int, gpus: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are spread over all, and no more run than `gpus_per_trial` allows; without CUDA nothing changes."""
    one = session(cuda, monkeypatch, **options)
    one._check_early()
    with executor_of(lambda arch, seed: score(arch), one.options) as executor:  # type: ignore[arg-type, return-value]
        assert isinstance(executor, ProcessExecutor)
        assert (executor.slots, executor._gpus) == (slots, gpus)


def test_one_worker_stays_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    one = session(True, monkeypatch, gpus_per_trial=1)
    one._check_early()
    with executor_of(lambda arch, seed: score(arch), one.options) as executor:  # type: ignore[arg-type, return-value]
        assert isinstance(executor, SerialExecutor)


def test_an_own_evaluation_chooses_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """No accelerator is looked for, and none is missed."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: pytest.fail("nobody trains"))
    found = nas.search(SPACE, device=cost, evaluate=score, trials=2, accelerator="cuda")
    assert len(found.trials) >= 2
