"""`nas.search` as a library: with one's own score and cost nothing is built; the target binds; a run is resumable."""

import json
import subprocess
import sys
from pathlib import Path
from threading import Event

import numpy as np
import optuna
import pytest

import nas
from nas.api.session import LEAST_QUESTIONS
from nas.arch.arch import Arch
from nas.arch.genes import every
from nas.arch.space_yaml import parse_space
from nas.engine.progress import Silent

SPACE = parse_space(
    """\
name: toy
resolution: [32, 48]
stem: {op: conv, kernel: 3, channels: 8, stride: 2, act: relu}
stages:
  - {op: mbconv, repeat: [1, 2], channels: 16, kernel: [3, 5, 7], expand: [1, 3], se: [off, 0.25], act: [relu, swish]}
""",
    "toy.yaml",
)


def cost(arch: Arch) -> float:
    return float(sum(row.kernel**2 * row.expand for row in arch.rows)) * arch.resolution / 32


def score(arch: Arch) -> float:
    return sum(row.kernel * (1 + (row.se > 0)) + row.expand for row in arch.rows) / 100


def test_own_functions_need_neither_torch_nor_timing() -> None:
    code = """
import sys, nas
result = nas.search("mbconv", latency_target=3000.0, trials=15, seed=1,
    device=lambda arch: float(sum(r.kernel * r.channels for r in arch.rows)),
    evaluate=lambda arch: sum(r.se for r in arch.rows))
assert (result.trials.state == "COMPLETE").sum() == 15
assert not {"torch", "onnxruntime", "ray"} & set(sys.modules), "loaded in vain"
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_whole_space_under_a_target_gives_the_true_optimum() -> None:
    """Against brute force: everything within the target is evaluated once, nothing above it ever."""
    target = 40.0
    evaluated: list[str] = []

    def spy(arch: Arch) -> float:
        evaluated.append(arch.key)
        return score(arch)

    result = nas.search(SPACE, latency_target=target, device=cost, evaluate=spy, trials=10_000)
    everything = {arch for _, _, arch in every(SPACE.realise)}
    assert len(everything) == SPACE.size
    feasible = {arch.key: score(arch) for arch in everything if cost(arch) <= target}
    assert sorted(evaluated) == sorted(feasible)
    assert result.best is not None
    assert score(result.best) == max(feasible.values())
    assert set(result.trials.query("state == 'COMPLETE'").key) == set(feasible)


def test_columns_and_front() -> None:
    result = nas.search(SPACE, latency_target="60ms", device=cost, evaluate=score, trials=30, sampler="random")
    columns = ["key", "proxy_accuracy", "latency_ms", "params", "macs", "state", "seconds"]
    assert set(columns) <= set(result.trials.columns)
    assert {gene.name for gene in SPACE.genes} <= set(result.trials.columns)
    front = result.pareto
    assert (front.latency_ms <= 60).all()
    assert front.latency_ms.is_monotonic_increasing
    assert front.proxy_accuracy.is_monotonic_increasing
    done = result.trials.query("state == 'COMPLETE'")
    for _, row in front.iterrows():
        better = (done.proxy_accuracy > row.proxy_accuracy) & (done.latency_ms <= row.latency_ms)
        assert not better.any()


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "random", optuna.samplers.QMCSampler(seed=0)])
def test_any_sampler_runs_under_a_target(sampler: object) -> None:
    result = nas.search(SPACE, latency_target=60, device=cost, evaluate=score, trials=12, sampler=sampler)  # type: ignore[arg-type]
    assert len(result.trials.query("state == 'COMPLETE'")) == 12
    assert (result.trials.query("state == 'TOO_SLOW'").latency_ms > 60).all()
    assert result.trials.query("state == 'TOO_SLOW'").proxy_accuracy.isna().all()


def test_equal_seeds_find_equal_networks_and_workers_do_not_change_scores() -> None:
    runs = [
        nas.search(SPACE, device=cost, evaluate=score, trials=10, sampler="random", seed=3, workers=workers)
        for workers in (1, 1, 2)
    ]
    tables = [dict(zip(run.trials.key, run.trials.proxy_accuracy, strict=True)) for run in runs]
    assert tables[0] == tables[1] == tables[2]


def test_a_failing_evaluation_is_an_outcome() -> None:
    def moody(arch: Arch) -> float:
        if arch.resolution == 48:
            raise RuntimeError("out of luck")
        return float("nan") if arch.rows[1].kernel == 3 else score(arch)

    result = nas.search(SPACE, device=cost, evaluate=moody, trials=40, sampler="random")
    failed = result.trials.query("state == 'FAILED'")
    assert len(failed)
    assert failed.reason.str.len().gt(0).all()
    assert failed.proxy_accuracy.isna().all()
    assert result.best is not None
    assert result.best.resolution == 32


def test_an_infeasible_target_names_the_fastest_network() -> None:
    fastest = min(cost(arch) for _, _, arch in every(SPACE.realise))
    with pytest.raises(nas.InfeasibleError, match=f"{fastest:g}"):
        nas.search(SPACE, latency_target=fastest * 0.9, device=cost, evaluate=score, trials=5)


def test_a_run_folder_is_resumed_with_the_functions_given_again(tmp_path: Path) -> None:
    first = nas.search(SPACE, device=cost, evaluate=score, trials=5, run=tmp_path / "r", latency_target=80)
    with pytest.raises(nas.InputError, match=r"evaluate=\.\.\."):
        nas.resume(tmp_path / "r", trials=9)
    second = nas.resume(tmp_path / "r", trials=9, evaluate=score, device=cost)
    assert len(second.trials.query("state == 'COMPLETE'")) == 9
    assert list(second.trials.key[: len(first.trials)]) == list(first.trials.key)
    assert second.trials.key.is_unique


def test_bad_arguments_are_refused_before_any_work() -> None:
    for arguments in (
        {"latency_target": "fast"},
        {"latency_target": float("nan")},
        {"trials": 0},
        {"budget": "-1m"},
        {"seed": -1},
        {"workers": 0},
        {"sampler": "magic"},
        {"references": ["mobilenet_v9"]},
    ):
        with pytest.raises(nas.InputError):
            nas.search(SPACE, device=cost, evaluate=_never, **arguments)  # type: ignore[arg-type]


def _never(arch: Arch) -> float:
    raise AssertionError("evaluated")


def test_device_values_must_be_costs() -> None:
    for bad in (lambda arch: -1.0, lambda arch: float("nan"), lambda arch: "3"):
        with pytest.raises(nas.NasError):
            nas.search(SPACE, device=bad, evaluate=score, trials=2)  # type: ignore[arg-type]


def test_the_contract_of_names() -> None:
    space = nas.load_space("mbconv")
    arch = space.sample(np.random.default_rng(0))
    assert nas.Arch.from_json(arch.to_json()) == arch
    assert nas.reference("mobilenet_v3_large", width=0.75, resolution=192).resolution == 192
    assert nas.count(nas.reference("mobilenet_v3_small")).macs == 56_510_400
    assert len(nas.device(cost, space=SPACE).many([SPACE.sample(0), SPACE.sample(1)])) == 2


class Said(Silent):
    """Keeps the sentences for people."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def say(self, text: str) -> None:
        self.texts.append(text)


def test_how_often_a_function_is_asked_before_the_first_evaluation_is_bounded_and_shown() -> None:
    """Feasibility and the draws of the first networks together, though the function is slow and the space small."""
    asked: list[str] = []
    before: list[int] = []

    def slow(arch: Arch) -> float:
        asked.append(arch.key)
        Event().wait(0.3 if len(asked) <= 2 else 0.0)  # the first two are timed
        return cost(arch)

    def spy(arch: Arch) -> float:
        before.append(len(asked))
        return score(arch)

    said = Said()
    nas.search("mbconv", latency_target=800, device=slow, evaluate=spy, trials=2, watch=said)
    assert before[0] <= LEAST_QUESTIONS + 1
    assert len(asked) == len(set(asked))
    (line,) = [text for text in said.texts if "asked about" in text]
    assert line.startswith("slow")


def test_a_resumed_run_names_the_versions_that_changed(tmp_path: Path) -> None:
    """Latencies and scores of two versions are in one run: said, and kept for the report."""
    run = tmp_path / "run"
    nas.search(SPACE, device=cost, evaluate=score, trials=2, run=run)
    content = json.loads((run / "run.json").read_text())
    now = content["versions"]["onnxruntime"]
    content["versions"]["onnxruntime"] = "1.0.0"
    (run / "run.json").write_text(json.dumps(content))
    said = Said()
    record = nas.resume(run, device=cost, evaluate=score, trials=3, watch=said)
    (line,) = [text for text in said.texts if "1.0.0" in text]
    assert "onnxruntime" in line
    assert now in line
    assert record.info.versions["onnxruntime"] == "1.0.0"
    assert record.info.resumed_with == {"onnxruntime": now}
    assert f"onnxruntime {now}" in (run / "report.md").read_text() + (run / "report.html").read_text()
