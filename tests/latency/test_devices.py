import itertools
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nas.arch.arch import Arch
from nas.arch.cost import cost_of
from nas.arch.space_yaml import load_space, parse_space
from nas.arch.uniform import Uniform
from nas.latency.devices import CallableModel, Host, LatencyModel, Saved, device
from nas.latency.feasibility import feasibility
from nas.latency.feasible_sampler import FeasibleSampler
from nas.latency.held_out import HeldOut
from nas.latency.limits import Limits
from nas.latency.record import Latency
from nas.latency.remembering import Remembering
from nas.latency.table.columns import Columns
from nas.latency.table.table import LatencyTable
from nas.system.errors import InfeasibleError, InputError
from nas.system.machine import host

SMALL = parse_space(
    """
name: small
resolution: [32, 48]
width: [0.5, 1.0]
stem: {op: conv, kernel: 3, channels: 16, stride: 2, act: [relu, h_swish]}
stages:
  - {op: mbconv, repeat: [1, 2], channels: [16, 24], stride: 2, kernel: [3, 5], expand: [1, 4], se: [0, 0.25]}
""",
    "small",
)


def cost_ms(arch: Arch) -> float:
    """A separable cost with a turn in it: SE is cheap and large kernels are, too, but 5 x 5 at 48 px is not."""
    rows = sum(0.3 + row.channels / 10 + row.expand - 2 * row.se - row.kernel / 20 for row in arch.rows)
    return 10 + rows + arch.resolution / 16


def every_network() -> list[Arch]:
    options = [[(gene.name, option) for option in gene.options] for gene in SMALL.genes]
    return list({SMALL.decode(dict(genes)) for genes in itertools.product(*options)})


def table_of(arch: Arch, name: str) -> LatencyTable:
    columns = Columns.seen_in([arch])
    return LatencyTable(
        device=name,
        runtime="onnxruntime",
        threads=1,
        space_key="0" * 12,
        versions={},
        groups=columns.groups,
        columns=columns.names,
        coefficients=(1e-6,) * len(columns.all_names),
        error=HeldOut((1.0,), (1.0,)),
        fitted=1,
    )


def test_feasibility_finds_the_true_extremes_of_a_small_space() -> None:
    """For a separable cost the descent ends at the optimum of all networks, by enumeration, from 5 samples."""
    found = feasibility(SMALL, CallableModel(cost_ms), None, samples=5)
    costs = [cost_ms(arch) for arch in every_network()]
    assert len(costs) == SMALL.size
    assert found.fastest_ms == min(costs)
    assert found.slowest_ms == max(costs)
    assert (cost_ms(found.fastest), cost_ms(found.slowest)) == (found.fastest_ms, found.slowest_ms)


def test_feasibility_bounds_all_samples_of_a_large_space() -> None:
    """Fastest and slowest lie outside every sample, are of the space, and the share is that of the samples."""
    space = load_space("mbconv")
    model = CallableModel(lambda arch: cost_of(arch).macs / 1e7)
    target = 20.0
    found = feasibility(space, model, target, seed=1, samples=300)
    drawn = model.many(Uniform(space).batch(300, np.random.default_rng(1)))
    assert found.fastest_ms < drawn.min()
    assert found.slowest_ms > drawn.max()
    assert found.share == np.mean(drawn <= target)
    assert found.binds is True
    assert found.quantiles_ms[0.5] == np.median(drawn)
    for arch in (found.fastest, found.slowest):
        assert space.decode(space.encode(arch)) == arch


def test_no_network_is_asked_about_twice() -> None:
    """A device may be slow to answer: equal networks are one question."""
    asked: list[Arch] = []

    class Counting:
        def many(self, archs: Sequence[Arch]) -> np.ndarray:
            asked.extend(archs)
            return np.array([cost_ms(arch) for arch in archs])

    feasibility(SMALL, Counting(), None, samples=500)
    assert len(asked) == len(set(asked)) <= SMALL.size


def test_an_infeasible_target_names_the_fastest_network() -> None:
    """The error has its key, its time and the target; a target at its very time is feasible."""
    found = feasibility(SMALL, CallableModel(cost_ms), None)
    with pytest.raises(InfeasibleError, match=found.fastest.key) as raised:
        feasibility(SMALL, CallableModel(cost_ms), found.fastest_ms - 0.1)
    assert f"{found.fastest_ms:.3g} ms" in str(raised.value)
    assert f"{found.fastest_ms - 0.1:g} ms" in str(raised.value)
    assert feasibility(SMALL, CallableModel(cost_ms), found.fastest_ms).binds is True


def test_a_target_above_the_slowest_does_not_bind() -> None:
    """It is said with the ms at which it would, and all of the space meets it."""
    found = feasibility(SMALL, CallableModel(cost_ms), 1000.0)
    assert (found.binds, found.share) == (False, 1.0)
    assert "does not bind" in str(found)
    assert f"{found.slowest_ms:.3g} ms" in str(found)
    facts = json.loads(json.dumps(found.to_dict()))
    assert facts["fastest"] == found.fastest.key
    assert facts["slowest_ms"] == found.slowest_ms
    assert facts["binds"] is False
    guarded = feasibility(SMALL, CallableModel(cost_ms), 1000.0, guard=0.1)
    assert guarded.to_dict()["binding_ms"] == pytest.approx(1.1 * found.slowest_ms)
    assert f"{1.1 * found.slowest_ms:.3g} ms" in str(guarded)
    without = feasibility(SMALL, CallableModel(cost_ms), None)
    assert (without.share, without.binds) == (None, None)


@pytest.mark.parametrize(("target", "samples"), [(0.0, 10), (float("nan"), 10), (-5.0, 10), (5.0, 0), (5.0, True)])
def test_feasibility_checks_what_it_is_given(target: float, samples: int) -> None:
    """Targets and samples out of bounds are refused."""
    with pytest.raises(InputError):
        feasibility(SMALL, CallableModel(cost_ms), target, samples=samples)


def test_a_function_is_a_device() -> None:
    """It answers for one and for many, is named after the function, and cannot be measured again."""
    model = device(cost_ms)
    arch = SMALL.sample(0)
    assert isinstance(model, LatencyModel)
    assert model(arch) == Latency(cost_ms(arch), None, None, "cost_ms", None, None, 1, "predicted")
    assert model.many([arch, arch]).tolist() == [cost_ms(arch)] * 2
    assert model.measure(arch) is None
    assert model.table is None
    assert device(lambda arch: np.float32(2.5))(arch).ms == 2.5


@pytest.mark.parametrize("value", [0, -1.0, float("nan"), float("inf"), None, "5", True, [1]])
def test_a_function_that_returns_no_cost_is_told(value: object) -> None:
    """Anything but a positive, finite number is refused, with the network it was returned for."""
    arch = SMALL.sample(0)
    with pytest.raises(InputError, match=arch.key):
        device(lambda arch: value)(arch)


def test_a_saved_table_is_a_device(tmp_path) -> None:
    """It predicts; it is measured again only on the machine it came from."""
    arch = SMALL.sample(0)
    table_of(arch, "some phone").save(tmp_path / "phone.json")
    phone = device(f"table:{tmp_path / 'phone.json'}")
    assert isinstance(phone, LatencyModel)
    assert phone.device == "some phone"
    assert phone(arch).source == "predicted"
    assert phone.many([arch]).tolist() == [phone(arch).ms]
    assert phone.measure(arch) is None
    table_of(arch, host()).save(tmp_path / "here.json")
    again = Saved(tmp_path / "here.json").measure(arch)
    assert again is not None
    assert again.source == "measured"


def test_the_host_without_a_space_measures() -> None:
    """Single networks and many; its name is the CPU's."""
    model = device("host")
    arch = SMALL.sample(0)
    assert isinstance(model, LatencyModel)
    assert model.device == host()
    assert model(arch).source == "measured"
    assert model.many([arch])[0] > 0


def test_the_host_with_a_space_predicts_and_measures(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table is fetched once, on first use, with the options given; measuring goes past it."""
    calls = []
    arch = SMALL.sample(0)

    def cached(*options: object) -> LatencyTable:
        calls.append(options)
        return table_of(arch, host())

    monkeypatch.setattr("nas.latency.devices.cached_table", cached)
    model = device("host", SMALL, runtime="torch", threads=1, seed=5)
    assert not calls
    assert model(arch).source == "predicted"
    assert model.many([arch, arch]).shape == (2,)
    assert calls == [(SMALL, "torch", 1, 5, None, False)]
    measured = model.measure(arch)
    assert measured is not None
    assert (measured.source, measured.runtime) == ("measured", "torch")


@pytest.mark.parametrize("asked", [{"runtime": "executorch"}, {"threads": 2}])
def test_a_table_says_how_networks_were_timed_and_no_other_way(asked: dict[str, Any], tmp_path: Path) -> None:
    """Another runtime or number of threads is refused, not ignored; what the table was timed with may be said."""
    arch = SMALL.sample(0)
    replace(table_of(arch, "a phone"), runtime="torch", threads=3).save(tmp_path / "phone.json")
    spec = f"table:{tmp_path / 'phone.json'}"
    assert device(spec).many([arch]) == device(spec, runtime="torch", threads=3).many([arch])
    for name in (spec, "pixel1"):
        with pytest.raises(InputError, match=f"was timed with {next(iter(asked))}"):
            device(name, **asked)


@pytest.mark.parametrize("spec", ["toaster", "", "table:", "hosts", 5, None])
def test_an_unknown_device_is_told_with_the_known(spec: object) -> None:
    """One line that lists what there is."""
    with pytest.raises(InputError, match="known: host, pixel1, table:PATH"):
        device(spec)  # type: ignore[arg-type]


def test_a_ready_model_is_taken_as_it_is() -> None:
    """Other kinds of device need no registration."""
    model = Host()
    assert device(model) is model
    with pytest.raises(InputError, match="known: onnxruntime"):
        device("host", runtime="tvm")


@pytest.mark.parametrize("most", [20, 100, 400])
def test_a_slow_device_is_asked_about_a_bounded_number_of_networks(most: int) -> None:
    """By feasibility, and by the draws of the first networks; the bound is kept to the network."""
    space = load_space("mbconv")
    asked: list[Arch] = []

    def slow(arch: Arch) -> float:
        asked.append(arch)
        return cost_ms(arch)

    found = feasibility(space, CallableModel(slow), None, most=most)
    assert found.samples == most // 4
    assert len(asked) <= most
    assert found.fastest_ms == min(map(cost_ms, asked))
    asked.clear()
    for target_ms in (0.9 * found.fastest_ms, 2 * found.fastest_ms):
        for drawn in (space, SMALL):
            rng = np.random.default_rng(0)
            FeasibleSampler(drawn, Limits(CallableModel(slow), target_ms), rng).unseen(set(), 10, most)
            assert len(asked) <= most
            asked.clear()


def test_a_model_with_a_memory_is_asked_about_each_network_once() -> None:
    """And answers as the model does."""
    asked: list[str] = []

    def slow(arch: Arch) -> float:
        asked.append(arch.key)
        return cost_ms(arch)

    archs = [SMALL.sample(seed) for seed in range(50)]
    model, plain = Remembering(CallableModel(slow)), CallableModel(cost_ms)
    assert model.many(archs).tolist() == plain.many(archs).tolist()
    assert [model(arch).ms for arch in archs] == [cost_ms(arch) for arch in archs]
    assert len(asked) == len(set(asked)) == model.asked == len({arch.key for arch in archs})
