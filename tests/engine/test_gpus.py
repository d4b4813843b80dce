"""Which GPU a candidate trains on: workers are spread over them, Ray assigns them. No GPU is needed for this."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import pytest

from nas.engine.executors.base import Executor, ProcessExecutor
from nas.engine.executors.ray import RayExecutor
from tests.engine.search_toys import SPACE, evaluation

pytestmark = pytest.mark.processes


def where(arch: Any, seed: int) -> Any:
    """The GPU that a worker sees, as its score."""
    seen = os.environ.get("CUDA_VISIBLE_DEVICES")
    return replace(evaluation(arch, seed), proxy_accuracy=float(seen or -1))


def seen_by(executor: Executor, candidates: int) -> list[float | None]:
    """The scores of that many candidates, all submitted before any is waited for."""
    for ticket in range(candidates):
        executor.submit(ticket, SPACE.sample(ticket), 0)
    found = {}
    while finished := executor.wait():
        assert finished.evaluation, finished.died
        found[finished.ticket] = finished.evaluation.proxy_accuracy
    return [found[ticket] for ticket in range(candidates)]


def test_workers_are_spread_over_the_gpus() -> None:
    """Each sees one GPU, the one with the fewest workers; a worker that replaces a dead one takes its GPU."""
    with ProcessExecutor(where, 5, 1, gpus=("4", "7")) as executor:
        assert seen_by(executor, 5) == [4, 7, 4, 7, 4]
        dead = executor._workers[1].process
        dead.kill()
        dead.wait()
        assert sorted(worker.gpu or "" for worker in executor._workers) == ["4", "4", "4", "7", "7"]
        assert seen_by(executor, 5).count(7) == 2


def test_without_gpus_workers_see_what_this_process_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "9")
    with ProcessExecutor(where, 2, 1) as executor:
        assert seen_by(executor, 2) == [9, 9]


class Trained:
    """An evaluator that trains on CUDA, as far as an executor can see."""

    accelerator = "cuda"

    def __call__(self, arch: Any, seed: int) -> Any:
        return where(arch, seed)


@pytest.mark.parametrize(("gpus", "reused"), [(1, True), (2, False)])
def test_ray_assigns_shares_of_gpus(gpus: int, reused: bool) -> None:
    """A task sees the GPU it has a share of. Its process serves the next task only where that has the same GPU."""
    import ray

    ray.init(address="local", num_cpus=1, num_gpus=gpus, include_dashboard=False, log_to_driver=False)
    try:
        with RayExecutor(Trained(), cpus_per_trial=0.1, gpus_per_trial=0.25) as executor:
            assert executor.slots == 4 * gpus
            assert executor._task._default_options.get("max_calls") == (0 if reused else 1)
            assert set(seen_by(executor, 2)) <= set(range(gpus))
    finally:
        ray.shutdown()
