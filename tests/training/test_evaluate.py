"""What a worker does: every fault of a candidate is an outcome; evaluations survive JSON and pickle."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import weakref

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nas.arch.arch import Arch
from nas.arch.block import Block
from nas.arch.cost import cost_of
from nas.data.dataset import ImageData
from nas.system.errors import InputError
from nas.training.evaluate import CustomEvaluator, Evaluation, ProxyEvaluator
from nas.training.proxy import ProxyConfig

ARCH = Arch((Block("conv", channels=16, kernel=3, stride=2, act="relu"), Block("pool")), resolution=32)
QUICK = ProxyConfig(steps=3, batch=8, val_images=20, resolution=16, full_resolution=32)


def tiny() -> ImageData:
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 255, (60, 16, 16, 3), np.uint8), rng.integers(0, 3, 60)
    return ImageData("tiny", ("a", "b", "c"), images[:40], labels[:40], images[40:], labels[40:], "k")


@given(
    accuracy=st.floats(allow_nan=False, allow_infinity=False),
    loss=st.none() | st.floats(0, 1e6),
    counts=st.tuples(*[st.integers(0, 2**62)] * 3),
    seconds=st.floats(0, 1e9),
    failed=st.booleans(),
)
def test_json_round_trip(
    accuracy: float, loss: float | None, counts: tuple[int, int, int], seconds: float, failed: bool
) -> None:
    """`from_dict` reads back exactly what `to_dict` gave, through JSON text."""
    if failed:
        one = Evaluation("abc", "FAILED", None, None, *counts, seconds, "why")
    else:
        one = Evaluation("abc", "COMPLETE", accuracy, loss, *counts, seconds)
    assert Evaluation.from_dict(json.loads(json.dumps(one.to_dict()))) == one


@pytest.mark.parametrize(
    "change",
    [
        {"state": "DONE"},
        {"proxy_accuracy": None},
        {"proxy_accuracy": float("nan")},
        {"proxy_accuracy": "0.5"},
        {"params": -1},
        {"macs": 1.5},
        {"seconds": None},
        {"reason": "but complete"},
        {"key": ""},
        {"extra": 1},
    ],
)
def test_wrong_records_are_refused(change: dict[str, object]) -> None:
    """A record that contradicts itself or the schema is an InputError."""
    good = Evaluation("abc", "COMPLETE", 0.5, 1.0, 1, 2, 3, 4.0).to_dict()
    with pytest.raises(InputError):
        Evaluation.from_dict(good | change)
    good.pop("macs")
    with pytest.raises(InputError):
        Evaluation.from_dict(good)


def test_proxy_evaluator_scores_and_costs() -> None:
    """A candidate comes back with its key, a score, and the cost of the full network."""
    result = ProxyEvaluator(tiny(), QUICK)(ARCH, 0)
    assert (result.key, result.state, result.reason) == (ARCH.key, "COMPLETE", None)
    assert result.proxy_accuracy is not None
    assert result.proxy_loss is not None
    cost = cost_of(ARCH)
    assert (result.params, result.macs, result.memory_bytes) == (cost.params, cost.macs, cost.memory_bytes)


@pytest.mark.parametrize("error", [MemoryError("no room"), RuntimeError("DefaultCPUAllocator: can't\nallocate")])
def test_running_out_of_memory_is_an_outcome(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python's and torch's out-of-memory become FAILED with the reason on one line."""

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("nas.training.proxy.build", fail)
    result = ProxyEvaluator(tiny(), QUICK)(ARCH, 0)
    assert result.state == "FAILED"
    assert result.proxy_accuracy is None
    assert result.reason is not None
    assert type(error).__name__ in result.reason
    assert "\n" not in result.reason


@pytest.mark.parametrize("full", [True, False])
def test_a_full_gpu_is_an_outcome_and_the_next_candidate_starts_clean(
    full: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reason names what helps, and the cache is emptied once the candidate's tensors are gone; other faults of
    PyTorch are reported as they are."""
    tensors: list[weakref.ref[torch.Tensor]] = []
    alive: list[bool] = []

    def fail(*_: object, **named: object) -> None:
        tensor = torch.zeros(3)
        tensors.append(weakref.ref(tensor))
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried") if full else RuntimeError("wrong\nshape")

    monkeypatch.setattr("nas.training.proxy.train_proxy", fail)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: alive.append(tensors[0]() is not None))
    result = ProxyEvaluator(tiny(), QUICK, accelerator="cuda")(ARCH, 0)
    assert result.state == "FAILED"
    assert result.reason
    assert "\n" not in result.reason
    if full:
        assert result.reason.startswith("out of GPU memory")
        assert "--gpus-per-trial" in result.reason
    else:
        assert "wrong shape" in result.reason
    assert alive == [False] * full


def test_an_accelerator_that_a_worker_lacks_is_an_outcome(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node of a cluster may have a PyTorch without CUDA."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    result = ProxyEvaluator(tiny(), QUICK, accelerator="cuda")(ARCH, 0)
    assert result.reason
    assert "cuda" in result.reason


def test_divergence_is_an_outcome() -> None:
    """A loss that is not finite becomes FAILED, named as divergence."""
    config = ProxyConfig(**QUICK.to_dict() | {"steps": 60, "lr": 100.0, "clip": 1e9})
    deep = Arch((*ARCH.rows[:1], *[Block("mbconv", channels=16, kernel=3, expand=3)] * 4, Block("pool")), resolution=32)
    result = ProxyEvaluator(tiny(), config)(deep, 0)
    assert result.state == "FAILED"
    assert result.reason is not None
    assert "DivergedError" in result.reason


def test_evaluators_travel() -> None:
    """Pickled by value, an evaluator gives the same result in any process."""
    evaluator = ProxyEvaluator(tiny(), QUICK).with_threads(1).in_memory()
    assert evaluator.threads == 1
    moved = pickle.loads(pickle.dumps(evaluator))
    assert moved(ARCH, 3).proxy_loss == evaluator(ARCH, 3).proxy_loss


def test_custom_evaluator_needs_no_torch_and_turns_faults_into_outcomes() -> None:
    """Scores pass through; exceptions, NaN and non-numbers are FAILED; an interruption is not swallowed."""
    assert CustomEvaluator(lambda arch: arch.resolution)(ARCH, 0).proxy_accuracy == 32

    def broken(arch: Arch) -> float:
        raise KeyError("x")

    for function in (broken, lambda arch: float("nan"), lambda arch: float("-inf"), lambda arch: "much"):
        result = CustomEvaluator(function)(ARCH, 0)
        assert (result.state, result.proxy_accuracy) == ("FAILED", None)
        assert result.reason

    def stop(arch: Arch) -> float:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        CustomEvaluator(stop)(ARCH, 0)
    code = (
        "import sys; from nas import Arch, Block; from nas.training.evaluate import CustomEvaluator;"
        "a = Arch((Block('conv', channels=8), Block('pool')), 32); CustomEvaluator(lambda arch: 1.0)(a, 0);"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
