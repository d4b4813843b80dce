"""Limits besides latency: nothing above one is ever evaluated, and what cannot be met ends before anything is."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nas
from nas.arch.arch import Arch
from nas.arch.codes import Coder
from nas.arch.space_yaml import load_space
from nas.engine.executors.base import SerialExecutor
from nas.engine.limit_options import read_devices, read_limits
from nas.engine.loop import run_search
from nas.engine.options import SearchOptions
from nas.engine.run.info import RunInfo
from nas.engine.run.store import Store
from nas.engine.samplers import SAMPLERS
from nas.latency.clearance import bounds_of, clearance
from nas.latency.devices import device
from nas.latency.limits import QUANTITIES, DeviceLimit, Limits
from nas.system.errors import InfeasibleError, InputError
from nas.training.evaluate import Evaluation
from tests.engine.search_toys import SPACE, Model, cost_ms, evaluation, info_of

DRAWN = [SPACE.sample(seed) for seed in range(300)]
VALUES = {name: quantity(DRAWN) for name, quantity in QUANTITIES.items()} | {"latency": Model().many(DRAWN)}


class Slots(SerialExecutor):
    """Several candidates under way at once, evaluated one after the other."""

    def __init__(self, slots: int, evaluated: list[Arch]) -> None:
        super().__init__(lambda arch, seed: self._note(arch, seed))
        self.slots, self._evaluated = slots, evaluated

    def _note(self, arch: Arch, seed: int) -> Evaluation:
        self._evaluated.append(arch)
        return evaluation(arch, seed)


class Other(Model):
    """A second device, on which deep networks are slow."""

    device = "other"

    def many(self, archs: Sequence[Arch]) -> np.ndarray:
        return np.array([float(len(arch.rows)) for arch in archs])


SAMPLER = st.sampled_from([*SAMPLERS, "optuna-random", "optuna-nsga3"])


def sampler_of(name: str, seed: int) -> Any:
    if name == "optuna-random":
        return optuna.samplers.RandomSampler(seed=seed)
    if name == "optuna-nsga3":
        return optuna.samplers.NSGAIIISampler(seed=seed, population_size=8)
    return name


@settings(max_examples=25, deadline=None)
@given(
    sampler=SAMPLER,
    shares=st.dictionaries(st.sampled_from([*QUANTITIES, "latency"]), st.floats(0.05, 1), max_size=4),
    deep=st.sampled_from([None, 5.0, 6.0]),
    workers=st.integers(1, 4),
    seed=st.integers(0, 2**16),
)
def test_nothing_above_any_limit_is_ever_evaluated(
    sampler: str, shares: dict[str, float], deep: float | None, workers: int, seed: int
) -> None:
    """With any sampler, any limits and any number of workers; what is not evaluated says why."""
    bounds = {name: float(np.quantile(VALUES[name], share)) for name, share in shares.items()}
    limit_ms = bounds.pop("latency", None)
    devices = () if deep is None else (DeviceLimit("other", Other(), deep),)
    limits = Limits(Model(), limit_ms, bounds, devices)
    evaluated: list[Arch] = []
    options = SearchOptions(target_ms=limit_ms, limits=bounds, trials=15, seed=seed, references=())
    outcome = run_search(SPACE, Model(), options, Slots(workers, evaluated), sampler_of(sampler, seed), limits=limits)
    for arch in evaluated:
        assert limit_ms is None or cost_ms(arch) <= limit_ms
        assert deep is None or len(arch.rows) <= deep
        for name, bound in bounds.items():
            assert QUANTITIES[name]([arch])[0] <= bound
    for candidate in outcome.candidates:
        assert (candidate.state == "TOO_SLOW") == (not limits.admits(candidate.arch))
        assert candidate.state != "TOO_SLOW" or candidate.reason or candidate.predicted.ms > (limit_ms or 0)
    assert len(evaluated) == len(set(evaluated))


@pytest.mark.parametrize("sampler", ["auto", "random", "tpe"])
def test_a_cap_that_one_network_in_ten_thousand_meets_is_served(sampler: str) -> None:
    space = load_space("mbconv")
    coder = Coder(space)
    drawn = coder.batch(coder.random(20_000, np.random.default_rng(1)))
    bound = float(np.quantile(QUANTITIES["params"](drawn), 1e-4))
    evaluated: list[Arch] = []
    model = device("pixel1")
    options = SearchOptions(limits={"params": bound}, trials=5, references=())
    outcome = run_search(
        space, model, options, Slots(1, evaluated), sampler, limits=Limits(model, None, {"params": bound})
    )
    assert outcome.stopped_because == "trials"
    assert len(evaluated) == 5
    assert max(QUANTITIES["params"](evaluated)) <= bound


def test_the_journal_knows_every_limit(tmp_path: Path) -> None:
    """A dashboard finds as infeasible exactly the networks that were not evaluated, for whatever limit."""
    bound = float(np.quantile(VALUES["params"], 0.5))
    limits = Limits(Model(), None, {"params": bound})
    options = SearchOptions(limits={"params": bound}, trials=25, references=())
    with Store.create(tmp_path / "run", info_of(options=options)) as store:
        outcome = run_search(
            SPACE, Model(), options, Slots(1, []), sampler_of("optuna-random", 0), limits=limits, store=store
        )
    backend = optuna.storages.journal.JournalFileBackend(str(tmp_path / "run" / "study.journal"))
    study = optuna.load_study(study_name=None, storage=optuna.storages.JournalStorage(backend))
    infeasible = {t.user_attrs["key"] for t in study.trials if max(t.constraints.values()) > 0}
    assert infeasible == {c.key for c in outcome.candidates if c.state == "TOO_SLOW"} != set()


def test_loads_are_the_largest_share_of_a_limit() -> None:
    """At the bound a network is admitted; just above it is not, and the limit is named with value and bound."""
    arch = DRAWN[0]
    params = float(VALUES["params"][0])
    at = Limits(Model(), 2 * cost_ms(arch), {"params": params, "macs": 1e12})
    assert at.loads([arch]).tolist() == [1.0]
    assert at.admits(arch)
    assert at.broken_by(arch) is None
    above = Limits(Model(), 2 * cost_ms(arch), {"params": params - 1})
    assert not above.admits(arch)
    assert "params" in str(above.broken_by(arch))
    assert not Limits(Model())
    assert Limits(Model()).loads(DRAWN).tolist() == [0.0] * len(DRAWN)


def test_bounds_end_at_the_true_extremes_of_the_space() -> None:
    """By descent: no sampled network is smaller or larger, and a bound below the smallest is infeasible."""
    for name, quantity in QUANTITIES.items():
        (bound,) = bounds_of(SPACE, {name: float(VALUES[name].max())}, samples=50)
        assert bound.smallest <= VALUES[name].min()
        assert bound.largest >= VALUES[name].max()
        assert quantity([bound.least])[0] == bound.smallest
        with pytest.raises(InfeasibleError, match=bound.least.key):
            bounds_of(SPACE, {name: 0.99 * bound.smallest}, samples=50)


def test_limits_that_exclude_each_other_are_infeasible_together() -> None:
    """Each alone can be met; and what clears a feasible combination is found."""

    class Inverse(Model):
        def many(self, archs: Sequence[Arch]) -> np.ndarray:
            return 1e9 / QUANTITIES["macs"](archs)

    macs = float(np.median(VALUES["macs"]))
    bounds = bounds_of(SPACE, {"macs": macs}, samples=50)
    found = clearance(SPACE, Limits(Inverse(), 1.2e9 / macs, {"macs": macs}), bounds, samples=50)
    assert QUANTITIES["macs"]([found.admitted])[0] <= macs
    with pytest.raises(InfeasibleError, match=r"macs|latency"):
        clearance(SPACE, Limits(Inverse(), 0.8e9 / macs, {"macs": macs}), bounds, samples=50)


@pytest.mark.parametrize(
    ("texts", "named"),
    [(["params"], "params=4M"), (["params=4M", "params=5M"], "params"), (["=4"], "params, macs")],
)
def test_limits_are_read_or_refused(texts: list[str], named: str) -> None:
    with pytest.raises(InputError, match=named):
        SearchOptions.parse(limits=read_limits(texts))


@pytest.mark.parametrize("bound", ["0", "-3", "many", "4MB", float("nan"), float("inf"), True, None])
def test_a_bound_must_be_a_positive_number(bound: Any) -> None:
    with pytest.raises(InputError, match="params"):
        SearchOptions.parse(limits={"params": bound})


@pytest.mark.parametrize("name", ["latency", "flops", ""])
def test_an_unknown_quantity_is_named(name: str) -> None:
    with pytest.raises(InputError, match="memory_int8"):
        SearchOptions.parse(limits={name: 3.0})


@pytest.mark.parametrize(
    ("devices", "target", "named"),
    [
        (["pixel1", "host"], "66ms", "host=...ms"),
        (["pixel1", "host"], None, "host"),
        (["pixel1", "pixel1"], "pixel1=66ms", "pixel1"),
        (["pixel1"], "host=8ms", "host"),
        (["pixel1", "host"], "pixel1=66ms,host=8ms,host=9ms", "host=9ms"),
        (["pixel1", "host"], "pixel1=66ms,host=", "''"),
        (["pixel1", "host"], "pixel1=66ms,host=0", "0"),
        ([lambda arch: 1.0, "host"], "host=8ms", "function"),
        ([], None, "device"),
    ],
)
def test_targets_must_match_the_devices(devices: Any, target: Any, named: str) -> None:
    with pytest.raises(InputError, match=named):
        read_devices(devices, target)


def test_a_run_keeps_its_limits(tmp_path: Path) -> None:
    """A resumed run applies those of ``run.json``: further devices with their tables and margins included."""
    bound = float(np.quantile(VALUES["params"], 0.6))
    table = device("pixel1").table
    assert table is not None
    table.save(tmp_path / "second.json")
    second, target_ms = f"table:{tmp_path / 'second.json'}", float(np.quantile(table.many(DRAWN), 0.5))
    parts: dict[str, Any] = {"evaluate": score}
    first = nas.search(
        SPACE,
        device=["pixel1", second],
        latency_target={"pixel1": 100.0, second: target_ms},
        limits={"params": bound, "memory": "1GB"},
        guard="5%",
        trials=4,
        run=tmp_path / "run",
        **parts,
    )
    (tmp_path / "second.json").unlink()
    again = nas.resume(tmp_path / "run", trials=8, **parts)
    assert again.info.options.limits == first.info.options.limits == {"params": bound, "memory": 1e9}
    assert again.info.further == first.info.further
    assert again.info.further[0].admitted_ms == pytest.approx(target_ms / 1.05)
    assert again.info.clearance == first.info.clearance
    scored = [candidate for candidate in again.candidates if candidate.state == "COMPLETE"]
    assert len(scored) == 8
    assert max(table.many([candidate.arch for candidate in scored])) <= target_ms / 1.05
    assert max(candidate.params for candidate in scored) <= bound
    assert "does not bind" in (tmp_path / "run" / "report.md").read_text()


def score(arch: Arch) -> float:
    return cost_ms(arch) / 1000


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"limits": {"params": 10}}, "params"),
        ({"device": ["pixel1", "table:{}"], "latency_target": "table:{}=0.001ms"}, "0.001 ms"),
    ],
)
def test_an_impossible_limit_ends_at_once(given: dict[str, Any], named: str, tmp_path: Path) -> None:
    """Before anything is scored, with the smallest network; no run folder stays behind."""
    path = tmp_path / "second.json"
    table = device("pixel1").table
    assert table is not None
    table.save(path)
    scored: list[Arch] = []
    if "device" in given:
        first, second = given["device"]
        given = {"device": [first, second.format(path)], "latency_target": given["latency_target"].format(path)}
    with pytest.raises(InfeasibleError, match=named):
        nas.search(SPACE, **{"device": "pixel1"} | given, evaluate=scored.append, run=tmp_path / "run")
    assert not scored
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("clearance", {"share": "all", "bounds": []}),
        ("clearance", {"share": 0.5, "bounds": [{"name": "params"}]}),
        ("further", [{"device": "phone", "margin": None}]),
        ("limits", {"params": -1}),
        ("limits", [1]),
    ],
)
def test_broken_limits_in_a_run_folder_are_refused(field: str, value: Any, tmp_path: Path) -> None:
    info = info_of(options=SearchOptions(limits={"params": 1e6}, references=()))
    data = json.loads(json.dumps(info.to_dict(tmp_path)))
    assert RunInfo.from_dict(data, tmp_path).options.limits == {"params": 1e6}
    (data["options"] if field == "limits" else data)[field] = value
    with pytest.raises(InputError):
        RunInfo.from_dict(data, tmp_path)
