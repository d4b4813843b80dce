"""The same answers from this process, worker processes and a Ray cluster of two nodes; and what dies is noticed."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nas.engine.executors.base import Executor, ProcessExecutor, SerialExecutor
from nas.engine.executors.ray import RayExecutor
from nas.engine.loop import Outcome, run_search
from nas.engine.options import SearchOptions
from nas.engine.run.store import Store
from nas.system.errors import InputError, NasError
from tests.engine.search_toys import SPACE, Deadly, Model, Traced, evaluated, evaluation, info_of, target_of

pytestmark = pytest.mark.processes

Make = Callable[[Any], Executor]


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """A Ray cluster of two nodes with one core each."""
    from ray.cluster_utils import Cluster

    quiet = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": 80 << 20}
    nodes = Cluster(initialize_head=True, head_node_args=quiet)
    nodes.add_node(num_cpus=1, object_store_memory=80 << 20)
    nodes.wait_for_nodes()
    yield nodes.address
    nodes.shutdown()


@pytest.fixture(params=["processes", "ray"])
def make(request: pytest.FixtureRequest) -> Make:
    if request.param == "processes":
        return lambda evaluator: ProcessExecutor(evaluator, 2)
    address = request.getfixturevalue("cluster")
    return lambda evaluator: RayExecutor(evaluator, address)


def search(executor: Executor, store: Store | None = None, trials: int = 12) -> Outcome:
    with executor:
        return run_search(
            SPACE,
            Model(),
            SearchOptions(target_ms=target_of(0.5), trials=trials, seed=2),
            executor,
            "random",
            references={"ref": SPACE.sample(77)},
            store=store,
        )


def scores(outcome: Outcome) -> dict[str, float | None]:
    found = {c.key: c.proxy_accuracy for c in outcome.candidates}
    return found | {f"ref {r.name}": r.proxy_accuracy for r in outcome.references}


def test_same_results_as_serial(make: Make, tmp_path: Path) -> None:
    """With the random sampler the same networks get the same scores wherever they run, two at a time."""
    executor = make(Traced(tmp_path / "log"))
    assert executor.slots == 2
    outcome = search(executor)
    assert scores(outcome) == scores(search(SerialExecutor(evaluation)))
    assert len(set(evaluated(tmp_path / "log"))) == len(evaluated(tmp_path / "log")) == 13


def test_training_gives_the_same_scores_everywhere(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Real proxy training, one thread each: images reach a worker by path or through Ray's object store, and the
    scores are equal to the bit."""
    monkeypatch.setenv("NAS_CACHE", str(tmp_path))
    from nas.data.load import load_data
    from nas.training.evaluate import ProxyEvaluator
    from nas.training.proxy import ProxyConfig

    config = ProxyConfig(steps=8, batch=16, resolution=16, full_resolution=max(SPACE.resolution), val_images=100)
    evaluator = ProxyEvaluator(load_data(None, config.resolution), config, threads=1)
    elsewhere, here = search(make(evaluator), trials=4), search(SerialExecutor(evaluator), trials=4)
    assert all(score is not None for score in scores(here).values())
    assert scores(elsewhere) == scores(here)


def test_killed_worker_costs_one_retry(make: Make, tmp_path: Path) -> None:
    """SIGKILL in the middle of a candidate: that one is evaluated once more, all are there, the scores are the same."""
    with Store.create(tmp_path / "run", info_of(target_of(0.5))) as store:
        outcome = search(make(Deadly(tmp_path / "log", once=tmp_path / "died")), store)
    assert (tmp_path / "died").exists()
    assert scores(outcome) == scores(search(SerialExecutor(evaluation)))
    assert len(evaluated(tmp_path / "log")) == 13 + 1
    assert Store.open(tmp_path / "run", read_only=True).load() == (outcome.candidates, outcome.references)


def test_deadly_candidate_fails(make: Make, tmp_path: Path) -> None:
    """A candidate that kills its worker every time is FAILED after two tries; the search ends."""
    outcome = search(make(Deadly(tmp_path / "log", after=1)), trials=3)
    failed = [c for c in [*outcome.candidates, *outcome.references] if c.state != "TOO_SLOW"]
    assert len(failed) == 4
    assert all(c.state == "FAILED" and c.reason and c.reason.startswith("its worker died 2 times: ") for c in failed)
    assert len(evaluated(tmp_path / "log")) == 8


def test_wait_and_cancel(make: Make, tmp_path: Path) -> None:
    """`wait` times out on running work and returns None when nothing runs; `cancel` does not wait for running work."""
    with make(Traced(tmp_path / "log", seconds=3600)) as executor:
        assert executor.wait() is None
        executor.submit(0, SPACE.sample(0), 0)
        assert executor.wait(0) is None
        executor.cancel()


class Unloadable:
    """Pickles, but cannot be read back."""

    def __reduce__(self) -> Any:
        return int, ("not a number",)


def test_unloadable_evaluator_is_one_line() -> None:
    """An evaluator that workers cannot load is an error of the whole search, not of each candidate."""
    with pytest.raises(NasError, match="ValueError: invalid literal"):
        search(ProcessExecutor(Unloadable(), 1))  # type: ignore[arg-type]


def test_unpicklable_evaluator_is_told() -> None:
    """An evaluator that holds a socket cannot travel; the way out is named."""
    with socket.socket() as unpicklable, pytest.raises(InputError, match="use workers=1"):
        ProcessExecutor(lambda arch, seed: unpicklable, 2)  # type: ignore[arg-type, return-value]


def test_ray_refuses_what_no_node_has(cluster: str) -> None:
    """More cores or GPUs per trial than the largest node has is refused with what that has."""
    with pytest.raises(InputError, match="no Ray node has 2 cpus and 0 gpus for a trial; the largest has 1 cpus"):
        RayExecutor(evaluation, cluster, cpus_per_trial=2)
    with pytest.raises(InputError, match="the most gpus are 0"):
        RayExecutor(evaluation, cluster, gpus_per_trial=1)
    with RayExecutor(evaluation, cluster, cpus_per_trial=0.5) as executor:
        assert executor.slots == 4


@pytest.mark.parametrize(
    ("address", "text"),
    [("127.0.0.1:9", "cannot reach a Ray cluster at 127.0.0.1:9"), ("nowhere", "a Ray address is HOST:PORT")],
)
def test_ray_address_is_checked(address: str, text: str) -> None:
    """An address where no cluster answers is one line with the way out, at once."""
    with pytest.raises(InputError, match=text):
        RayExecutor(evaluation, address)


def test_a_cluster_that_is_joined_already_counts_only_if_it_is_the_one_asked_for(cluster: str) -> None:
    """However this machine is called; and slots are those that are free."""
    import ray
    from ray._common.test_utils import wait_for_condition

    ray.init(address=cluster, log_to_driver=False)
    try:
        port = cluster.rpartition(":")[2]
        for same in (cluster, f"localhost:{port}", f"127.0.0.1:{port}", None):
            with RayExecutor(evaluation, same) as executor:
                assert executor.slots == 2
        assert ray.is_initialized(), "whoever joined it leaves it"
        with socket.create_server(("127.0.0.1", 0)) as other:
            address = f"127.0.0.1:{other.getsockname()[1]}"
            with pytest.raises(InputError, match=rf"{cluster}.*{address}"):
                RayExecutor(evaluation, address)

        class Holder:
            def here(self) -> bool:
                return True

        holder = ray.remote(num_cpus=1)(Holder).remote()
        assert ray.get(holder.here.remote())
        wait_for_condition(lambda: ray.available_resources().get("CPU") == 1)
        with RayExecutor(evaluation, cluster) as executor:
            assert executor.slots == 1
        ray.kill(holder)
    finally:
        ray.shutdown()
