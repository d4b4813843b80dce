"""Networks are timed in turn and corrected for the background load of a shared machine."""

from collections import Counter
from contextlib import ExitStack, nullcontext
from pathlib import Path

import numpy as np
import pytest

from nas.arch.arch import Arch
from nas.arch.block import OPS, Block
from nas.arch.cost import cost_of
from nas.arch.space_yaml import parse_space
from nas.latency.anchor import AnchorRuns
from nas.latency.runtimes.base import part_names, runtime_of
from nas.latency.table import timing
from nas.latency.table.cache import Checkpoint, Visit
from nas.latency.table.columns import parts_of_row, places
from nas.latency.table.load_correction import Visits
from nas.latency.table.timing import (
    MOST_KERNEL_OVERHEAD_MS,
    REVISITS,
    ROUNDS,
    _rescaled,
    most_variable,
    time_networks,
    visits,
)
from nas.network.build import build
from tests.latency.tables import ONE, SMALL

pytestmark = pytest.mark.timing

EVERY_OP = (
    Block("conv", 16, 3, 2, act="relu"),
    Block("max_pool", kernel=3, stride=2),
    Block("conv", 16, 3, groups=4, act="gelu"),
    Block("dwsep", 24, 3, act="relu", depth_multiplier=2),
    Block("spatial_sep", 24, 5, 2, act="relu6"),
    Block("mbconv", 24, 5, expand=3, se=0.25, act="swish", norm="group"),
    Block("fused_mbconv", 24, 3, se=0.25, act="relu"),
    Block("fused_mbconv", 32, 3, expand=4, act="relu", norm="none"),
    Block("uib", 32, 5, expand=2, kernel_start=3, act="gelu"),
    Block("uib", 32, 0, expand=2, act="h_swish"),
    Block("shuffle_v1", 72, 3, 2, groups=3, act="gelu"),
    Block("shuffle_v1", 72, 3, groups=3, act="relu"),
    Block("shuffle_v2", 96, 7, act="h_swish"),
    Block("shuffle_v2", 96, 3, act="relu"),
    Block("pool"),
    Block("linear", 48, act="relu", norm="batch"),
    Block("linear", 48, act="relu", norm="group", bias=False),
)


@pytest.mark.parametrize("runtime", ["onnxruntime", "torch"])
def test_every_op_is_timed_part_by_part(runtime: str) -> None:
    """Each part of each row is in the runtime's profile, in its place, and each layer is in exactly one part."""
    arch = Arch(EVERY_OP, 64)
    assert {row.op for row in arch.rows} == set(OPS)
    parts = [part for placed in places(arch) for part in parts_of_row(placed)]
    assert sum(layer.macs for part in parts for layer in part) == cost_of(arch).macs
    assert sum(layer.params for part in parts for layer in part) == cost_of(arch).params
    network = build(arch)
    found = part_names(network)
    assert len(found) == len(parts)
    with runtime_of(runtime).prepare(network, 64, 1, 1) as prepared:
        profile = prepared.profile()
    assert len(profile) == len(parts)
    assert all(ms > 0 and kernels > 0 for ms, kernels in profile)


SHARES = np.array([0.0, 0.45, 0.9, 0.5, 0.1])  # about the expected shares of networks of 0.5, 1.2, 2, 4 and 8 ms


def visited(rng: np.random.Generator, machine: np.ndarray, cache: np.ndarray) -> tuple[np.ndarray, list[list[Visit]]]:
    """Forty networks in rounds, on a machine that is slower by `machine` and has less cache by `cache`, both of shape
    ``(rounds, 40)``; the anchors take 4 and 2 ms."""
    true_ms = np.repeat([0.5, 1.2, 2.0, 4.0, 8.0], 8) * rng.uniform(0.9, 1.1, 40)
    share = np.repeat(SHARES, 8)

    def visit(at: int, slow: float, taken: float) -> Visit:
        noise = rng.normal(1, 0.003, 3)
        ms = true_ms[at] * slow * np.exp(share[at] * taken)
        return Visit(str(at), ms * noise[0], 4 * slow * noise[1], 2 * slow * np.exp(taken) * noise[2])

    return true_ms, [
        [visit(int(at), *now) for at, *now in zip(rng.permutation(40), *moments, strict=True)]
        for moments in zip(machine, cache, strict=True)
    ]


def off(rounds: list[list[Visit]], true_ms: np.ndarray) -> float:
    """Mean relative error of the corrected times."""
    found = Visits.of(rounds).at_baseline(4.0, 0.5)
    return float(np.abs([found[str(at)] / true_ms[at] - 1 for at in range(40)]).mean())


def test_bursts_and_drift_of_the_machine_are_corrected() -> None:
    """With a slow second in each round and a drift through all, networks are right to 0.5 %, while plain medians are
    off by 3 %."""
    rng = np.random.default_rng(0)
    machine = np.linspace(1.0, 1.06, 5 * 40)
    for start in (5, 63, 100, 122, 181):
        machine[start : start + 15] *= 1.2
    true_ms, rounds = visited(rng, machine.reshape(5, 40), np.zeros((5, 40)))
    assert off(rounds, true_ms) < 0.005
    plain = np.array([np.median([v.ms for one in rounds for v in one if v.name == str(at)]) for at in range(40)])
    assert np.abs(plain / true_ms - 1).mean() > 0.03


def test_cache_that_neighbours_take_is_corrected() -> None:
    """They take more each round, and much at some moments: each network is corrected by its own share, to 1 %, with
    only five visits; without the far anchor all would be 4 % too slow."""
    rng = np.random.default_rng(1)
    cache = np.linspace(0.05, 0.2, 5)[:, None] + 0.1 * (rng.random((5, 40)) < 0.2)
    true_ms, rounds = visited(rng, np.ones((5, 40)), cache)
    assert off(rounds, true_ms) < 0.01
    alone = [[visit._replace(far_ms=None) for visit in one] for one in rounds]
    assert off(alone, true_ms) > 0.04
    assert Visits.of(alone).state == 1.0


def test_a_network_that_bursts_hit_in_most_rounds_is_timed_again() -> None:
    """One of twenty takes a quarter longer in two rounds of three. It is distinguished from networks that are always
    slow and from those that are slow together with the anchor, and further visits correct its median."""

    def visit(at: int, round_: int) -> Visit:
        machine = 1.5 if at == 3 and round_ else 1.0
        burst = 1.25 if at == 7 and round_ else 1.0
        return Visit(str(at), (1 + at) * machine * burst, 4 * machine, None)

    rounds = [[visit(at, round_) for at in range(20)] for round_ in range(3)]
    assert Visits.of(rounds).at_baseline(4.0)["7"] > 1.2 * 8
    assert most_variable(rounds)[0] == "7"
    further = [[visit(7, 0)] for _ in range(REVISITS)]
    assert Visits.of(rounds + further).at_baseline(4.0)["7"] == pytest.approx(8, rel=0.02)


def test_a_tenth_of_the_networks_is_visited_again(tmp_path: Path) -> None:
    """Each whole round has all networks, and only whole rounds are stored for a call that resumes."""
    checkpoint = Checkpoint(tmp_path / "part.json")
    arch = parse_space(ONE, "one").sample(0)
    ready = runtime_of("onnxruntime").prepare(build(arch, 2), arch.resolution, 1, 1)
    with ready as run:
        loads = {str(at): nullcontext(run) for at in range(25)}
        found = visits(loads, nullcontext(AnchorRuns(run, None)), 3, 3, 0.0, lambda *_: None, checkpoint)
    counts = Counter(visit.name for one in found for visit in one)
    assert sorted(counts.values()) == [3] * 22 + [3 + REVISITS] * 3
    assert [len(one) for one in checkpoint.rounds] == [25, 25, 25]


def test_a_profile_is_scaled_to_sum_to_the_network() -> None:
    """The profiler's overhead is the same for each kernel; any further excess is in proportion to the parts."""
    profile = [(0.5, 1), (0.3, 1), (0.2, 8)]
    assert _rescaled(profile, 0.98).tolist() == pytest.approx([0.498, 0.298, 0.184])
    most = np.array([0.5, 0.3, 0.2]) - MOST_KERNEL_OVERHEAD_MS * np.array([1, 1, 8])
    assert _rescaled(profile, 0.5).tolist() == pytest.approx((most * 0.5 / most.sum()).tolist())
    assert _rescaled(profile, 2.0).tolist() == pytest.approx([1.0, 0.6, 0.4])
    assert (_rescaled([(0.001, 9), (1.0, 1)], 0.9) > 0).all()


class Loads:
    """A network that can be entered again and again, and counts how often."""

    def __init__(self) -> None:
        self.entered = self.left = 0

    def __enter__(self) -> str:
        self.entered += 1
        return "loaded"

    def __exit__(self, *_: object) -> None:
        self.left += 1


@pytest.mark.parametrize(("limit_s", "times"), [(60.0, 1 + 3), (-1.0, 1)])
def test_a_network_that_takes_long_to_load_stays_loaded(
    limit_s: float, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is loaded once to see how long that takes, then for each visit or never again, and released at the end."""
    monkeypatch.setattr(timing, "LOADING_S", limit_s)
    load = Loads()
    with ExitStack() as stack:
        to_visit = timing._to_visit(stack, load)
        for _ in range(3):
            with to_visit as loaded:
                assert loaded == "loaded"
        assert load.entered == times
    assert load.left == times


def test_a_slow_machine_fits_to_fewer_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any time budget there are all held-out networks, and the fewest to fit to, in the fewest rounds."""
    monkeypatch.setattr(timing, "FEWEST", 3)
    space = parse_space(SMALL, "test")
    archs = list(dict.fromkeys(space.sample(seed) for seed in range(20)))
    checkpoint = Checkpoint()
    tested, timed = time_networks(archs[:2], archs[2:], runtime_of("onnxruntime"), 1, 0.0, lambda *_: None, checkpoint)
    assert [one.arch for one in tested] == archs[:2]
    assert [one.arch for one in timed] == archs[2:5]
    whole = [one for one in checkpoint.rounds if len(one) == 5]
    assert len(whole) == len(checkpoint.rounds) == ROUNDS[0]
    assert all(one.ms > 0 and one.parts_ms.sum() == pytest.approx(one.ms) for one in timed)
