import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper
from scipy.stats import binom

from nas.arch.arch import Arch
from nas.arch.block import Block
from nas.latency import measure as room
from nas.latency import sampling
from nas.latency.anchor import AnchorRuns, baseline_ms, known_baseline_state
from nas.latency.isolation import isolated
from nas.latency.measure import measure, measure_onnx, timed
from nas.latency.record import Latency
from nas.latency.runtimes.base import part_names, runtime_of
from nas.latency.sampling import median_interval, sample
from nas.latency.table.columns import parts_of_row, places
from nas.network.build import build
from nas.network.serialize.onnx import onnx_bytes
from nas.references.table import reference
from nas.system.errors import InputError
from nas.system.machine import host
from tests.latency.agents import model_of

pytestmark = [pytest.mark.timing, pytest.mark.torch]

TINY = Arch(
    (
        Block("conv", 8, 3, 2, act="relu"),
        Block("mbconv", 8, 3, 1, 3, 0.25, "h_swish"),
        Block("mbconv", 16, 5, 2, 1, 0, "relu6"),
        Block("conv", 24, act="swish"),
        Block("pool"),
        Block("linear", 32, act="h_swish"),
    ),
    32,
)
# A network of each family, for each op.
PROFILED = (
    "mobilenet_v1",
    "mobilenet_v3_large",
    "efficientnet_v2_s",
    "mobilenet_v4_conv_medium",
    "shufflenet_v1_g3",
    "shufflenet_v2",
)
GOOD = Latency(1.25, 0.1, 30, "a phone", "onnxruntime", 1, 1, "measured", "noisy")


@given(st.integers(1, 1500))
def test_the_interval_of_the_median_is_the_narrowest_symmetric_one_that_covers(n: int) -> None:
    """Coverage by scipy's binomial is at least 95 %, and that of the next narrower pair is not."""
    low, high = median_interval(np.arange(1, n + 1))
    k = int(low)
    assert high == n + 1 - k
    outside = 2 * binom.cdf(k - 1, n, 0.5)
    assert outside <= 0.05 * (1 + 1e-9) or k == 1
    assert 2 * binom.cdf(k, n, 0.5) > 0.05 * (1 - 1e-9)


def test_the_interval_covers_the_median_of_a_skewed_distribution_as_often_as_it_says() -> None:
    """2,000 samples of 40 from an exponential: the true median ln 2 is inside about 95 % of the intervals, or more."""
    rng = np.random.default_rng(0)
    inside = [
        low <= math.log(2) <= high for low, high in (median_interval(rng.exponential(size=40)) for _ in range(2000))
    ]
    assert 0.94 < np.mean(inside) < 0.985


class Clock:
    """Time that passes only while a callable runs; the machine may be slower for a while."""

    def __init__(self, slower: Callable[[float], float] = lambda now: 1.0) -> None:
        self.now, self._slower = 0.0, slower

    def __call__(self) -> float:
        return self.now

    def takes(self, *durations_s: float) -> Callable[[], None]:
        """A callable that takes these, the last one ever after."""
        left = list(durations_s)

        def run() -> None:
            self.now += (left.pop(0) if len(left) > 1 else left[0]) * self._slower(self.now)

        return run


def test_a_slow_start_is_warmed_up_and_not_counted() -> None:
    """Durations that fall before they settle are not among the samples."""
    clock = Clock()
    run = clock.takes(0.08, 0.06, 0.05, 0.04, 0.03, 0.02, 0.02, 0.02, 0.01)
    assert set(np.round(sample([run], clock=clock).runs, 9)) == {0.01}


def test_sampling_ends_when_the_median_is_known_and_at_the_cap_when_it_cannot_be() -> None:
    """A steady clock needs the minimum of rounds or seconds; strong noise stops at the maximum of seconds."""
    clock = Clock()
    few = sample([clock.takes(0.02)], clock=clock)
    assert few.half_width() < 1e-9
    assert len(few.rounds) == sampling.MIN_ROUNDS
    noise = np.random.default_rng(0).uniform(0.005, 0.05, 5000).tolist()
    many = sample([clock.takes(*noise)], clock=clock)
    assert len(many.rounds) > 3 * len(few.rounds)
    assert many.half_width() > sampling.GOAL
    assert sum(many.runs) <= sampling.MAX_SECONDS + 0.1


@pytest.mark.parametrize(
    "slower",
    [
        lambda now: 1.0 if now < 0.4 else 1.5,  # a neighbour comes
        lambda now: 1 + 0.3 * np.sin(now),  # drift
        lambda now: 3.0 if int(now * 3) % 5 == 0 else 1.0,  # bursts
    ],
)
def test_load_on_the_whole_machine_cancels_against_the_anchor(slower: Callable[[float], float]) -> None:
    """The network takes four times as long as the anchor, whatever the machine does."""
    clock = Clock(slower)
    found = sample([clock.takes(0.008)], clock.takes(0.002), clock)
    assert float(np.median(found.quotients)) == pytest.approx(4, rel=0.01)
    assert found.half_width() <= sampling.GOAL


class Neighbour(Clock):
    """A machine whose neighbours take cache away, a varying amount; each network feels its own share of it."""

    def __init__(self, level: float = 0.0) -> None:
        super().__init__()
        self._rng, self._level, self._until, self._now = np.random.default_rng(1), level, 0.0, 0.0

    def feels(self, seconds: float, share: float) -> Callable[[], None]:
        def run() -> None:
            if self.now >= self._until:
                self._now, self._until = self._level + self._rng.uniform(0, 0.2), self.now + 0.4
            self.now += seconds * np.exp(share * self._now) * self._rng.normal(1, 0.005)

        return run


@pytest.mark.parametrize("share", [0.0, 0.3, 0.8, 1.2])
@pytest.mark.parametrize("level", [0.0, 0.1])
def test_each_network_is_corrected_by_its_share_of_the_far_anchors_slowdown(
    share: float, level: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neighbours slow the far anchor by up to a third, and the network by an unknown share of that. The share is found,
    and the result is the network in the baseline state, to 3 % instead of 20 %."""
    monkeypatch.setattr(sampling, "FAR_SECONDS", 3.0)
    clock = Neighbour(level)
    found = sample([clock.feels(0.003, share)], clock.feels(0.004, 0.0), clock, clock.feels(0.002, 1.0))
    assert found.share == pytest.approx(share, abs=0.2)
    ms = float(np.median(found.at_baseline(4.0, 0.5 * np.exp(0.05))))
    assert ms == pytest.approx(3 * np.exp(share * 0.05), rel=0.03)


def test_a_network_loaded_several_times_takes_the_median_of_its_loads() -> None:
    """Loads run in turn, equally often; one slow load does not decide the median, but widens the interval."""
    clock = Clock()
    found = sample([clock.takes(ms / 1e3) for ms in (10.0, 10.1, 10.9)], clock.takes(0.004), clock)
    assert float(np.median(found.rounds)) * 1e3 == pytest.approx(10.1)
    counts = np.unique(np.round(np.array(found.rounds) * 1e3, 3), return_counts=True)[1]
    assert len(counts) == 3
    assert max(counts) - min(counts) <= 1
    assert found.half_width() > 0.003


@pytest.mark.parametrize("ms", [0.1, 0.35, 1.0, 4.0, 30.0, 100.0])
def test_a_burst_counts_from_the_tenth_millisecond_on(ms: float) -> None:
    """Of a network that is slow for ten milliseconds after each anchor, only the later runs count."""
    clock = Clock()
    since = [0.0]

    def network() -> None:
        clock.now += ms / 1e3 * (1.5 if clock.now - since[0] < 0.0099 else 1.0)

    def anchor() -> None:
        clock.now += 0.004
        since[0] = clock.now

    found = sample([network], anchor, clock)
    assert set(np.round(np.array(found.rounds) * 1e3, 6)) == {ms}


def test_a_slow_network_has_the_fewest_runs() -> None:
    """A network of ten seconds a run has two runs to warm up and three rounds."""
    clock = Clock()
    found = sample([clock.takes(10.0)] * 3, clock.takes(0.004), clock)
    assert len(found.runs) == 3
    assert clock.now < 10 * 5 + 2


def test_a_noisy_machine_gives_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    """A warning appears iff the interval is wider than the goal or the drift is large; the baseline scales `ms`."""
    monkeypatch.setattr(room, "baseline_ms", lambda now_ms, *_: now_ms / slower)
    anchors = AnchorRuns(lambda: None, None)  # type: ignore[arg-type]

    slower = 1.05

    def sampled(*rounds: float) -> None:
        samples = sampling.Samples(rounds, rounds, (0.005,) * len(rounds))
        monkeypatch.setattr(room, "sample", lambda runs, anchor, far, baseline_state: samples)

    sampled(*[0.001, 0.002] * 30)
    assert "noisy" in str(timed([lambda: None], anchors, "torch", 1, 1).warning)
    sampled(*[0.001] * 30)
    calm = timed([lambda: None], anchors, "torch", 1, 1, keep_samples=True)
    assert calm.warning is None
    assert (calm.ms, calm.drift) == (pytest.approx(1 / 1.05), pytest.approx(0.05))
    assert (calm.iqr_ms, calm.runs, calm.source) == (0.0, 30, "measured")
    assert calm.samples_ms == (1.0,) * 30
    assert Latency.from_dict(json.loads(json.dumps(calm.to_dict()))) == calm
    slower = 1.25
    assert "25% longer" in str(timed([lambda: None], anchors, "torch", 1, 1).warning)
    slower = 0.75
    assert "25% less" in str(timed([lambda: None], anchors, "torch", 1, 1).warning)


def test_the_baseline_is_the_lower_quartile_of_the_history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is cached separately for each device and number of threads; a damaged file is replaced."""
    monkeypatch.setenv("NAS_CACHE", str(tmp_path))
    assert baseline_ms(2.0, "cpu", 1) == 2.0
    seen = [baseline_ms(ms, "cpu", 1) for ms in (1.0, 1.1, 1.2, 9.0)]
    assert seen[-1] == np.quantile([2.0, 1.0, 1.1, 1.2, 9.0], 0.25)
    assert baseline_ms(5.0, "cpu", 2) == 5.0
    for path in (tmp_path / "anchor").glob("*.json"):
        path.write_text('["a", null]')
    assert baseline_ms(7.0, "cpu", 1) == 7.0


def test_without_a_writable_cache_a_measurement_is_its_own_baseline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("NAS_CACHE", str(tmp_path / "file"))
    assert [baseline_ms(ms, "cpu", 1) for ms in (1.0, 2.0)] == [1.0, 2.0]
    assert known_baseline_state("cpu", 1) is None


def test_the_baseline_forgets_measurements_after_a_week(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that has become slower for good has the slower baseline after a week."""
    monkeypatch.setenv("NAS_CACHE", str(tmp_path))
    for moment, ms, expected in ((0.0, 1.0, 1.0), (5.0, 2.0, 1.25), (8.0, 2.0, 2.0)):
        monkeypatch.setattr("nas.latency.anchor.time", lambda moment=moment: (20_000 + moment) * 86400)
        assert baseline_ms(ms, "cpu", 1) == expected


def test_one_measurement_at_a_time(tmp_path: Path) -> None:
    """The times that three processes spend within the lock do not overlap."""
    code = (
        "import time; from nas.latency.isolation import isolated\n"
        "with isolated(1):\n start = time.monotonic(); time.sleep(0.3); print(start, time.monotonic())"
    )
    both = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    spans = sorted(tuple(map(float, process.communicate()[0].split())) for process in both)
    assert all(one[1] <= other[0] for one, other in pairwise(spans))


def test_a_measurement_restores_the_cores() -> None:
    """The process is pinned within, and free again afterwards, also after an error."""
    before = os.sched_getaffinity(0)

    def fail() -> None:
        with isolated(1):
            assert len(os.sched_getaffinity(0)) == 1
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert os.sched_getaffinity(0) == before


@pytest.mark.usefixtures("brief")
def test_the_published_order_is_measured() -> None:
    """MobileNetV3-Small < V3-Large < EfficientNet-B0 in ONNX Runtime on any CPU; they are 3 and 2 times apart."""
    names = ("mobilenet_v3_small", "mobilenet_v3_large", "efficientnet_b0")
    small, large, b0 = (measure(reference(name)) for name in names)
    assert small.ms < large.ms < b0.ms
    assert (b0.device, b0.runtime, b0.threads, b0.batch, b0.source) == (host(), "onnxruntime", 1, 1, "measured")


@pytest.mark.usefixtures("brief")
@pytest.mark.parametrize("runtime", ["onnxruntime", "torch", "openvino"])
def test_runtimes_measure_and_restore_the_process(runtime: str) -> None:
    """A positive median with its spread; torch's thread count is restored."""
    import torch

    before = torch.get_num_threads()
    latency = measure(TINY, runtime, batch=2, num_classes=10)
    assert latency.ms > 0
    assert latency.runs is not None
    assert latency.runs >= 3
    assert (latency.runtime, latency.batch) == (runtime, 2)
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("runtime", ["onnxruntime", "torch"])
@pytest.mark.parametrize("arch", [TINY, *(reference(name, 0.5, 64) for name in PROFILED)], ids=lambda a: a.key)
def test_a_profile_has_one_time_per_part_of_the_network(runtime: str, arch: Arch) -> None:
    """The timed parts are those that the table derives from the rows, one for one, and all times are positive."""
    network = build(arch)
    with runtime_of(runtime).prepare(network, arch.resolution, 1, 1) as prepared:
        profile = prepared.profile()
    parts = [part for placed in places(arch) for part in parts_of_row(placed)]
    assert len(profile) == len(parts) == len(part_names(network))
    assert all(ms > 0 and kernels >= 1 for ms, kernels in profile)


@pytest.mark.usefixtures("brief")
def test_an_exported_file_is_measured_at_its_own_resolution(tmp_path) -> None:
    """Bytes and files, fixed and open batches are measured; a batch other than the fixed one is an error."""
    network = build(TINY, 10)
    path = tmp_path / "net.onnx"
    path.write_bytes(onnx_bytes(network, 48, None))
    assert measure_onnx(path, batch=2).batch == 2
    fixed = onnx_bytes(network, 48, 1)
    assert measure_onnx(fixed).ms > 0
    with pytest.raises(InputError, match="batch 1"):
        measure_onnx(fixed, batch=2)
    with pytest.raises(InputError, match=r"absent\.onnx"):
        measure_onnx(tmp_path / "absent.onnx")
    with pytest.raises(InputError, match="ONNX Runtime"):
        measure_onnx(b"not onnx")


def test_a_model_that_fails_when_it_runs_is_an_input_error() -> None:
    """The error is one line, although ONNX Runtime could load the model."""
    reshape = helper.make_node("Reshape", ["x", "shape"], ["y"])
    model = model_of([reshape], {"shape": np.array([7, 11])})
    with pytest.raises(InputError, match="ONNX Runtime") as caught:
        measure_onnx(model.SerializeToString())
    assert "\n" not in str(caught.value)


def test_onnx_computes_what_pytorch_computes_and_the_mode_is_kept() -> None:
    """Equal logits within float32 noise for an open batch; training mode is restored."""
    import onnxruntime
    import torch

    network = build(TINY, 10).train()
    modules = dict(network.named_modules())
    session = onnxruntime.InferenceSession(onnx_bytes(network, 32, None), providers=["CPUExecutionProvider"])
    assert network.training
    assert all(network.get_submodule(name) is module for name, module in modules.items())
    images = np.random.default_rng(1).standard_normal((3, 3, 32, 32), dtype=np.float32)
    with torch.no_grad():
        expected = network.eval()(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(session.run(["logits"], {"image": images})[0], expected, atol=1e-5)


@pytest.mark.parametrize(
    "options", [{"threads": 0}, {"threads": 10**6}, {"threads": 1.0}, {"batch": 0}, {"batch": True}]
)
def test_threads_and_batch_are_bounded(options: dict) -> None:
    """A value out of bounds or of the wrong type is an error that names the option and the value."""
    ((name, value),) = options.items()
    with pytest.raises(InputError, match=rf"{name} .*got {value!r}"):
        measure(TINY, **options)


def test_an_unknown_runtime_is_an_error_that_lists_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"'tvm'.*onnxruntime, torch, torch-compile, executorch, openvino"):
        measure(TINY, "tvm")


def test_a_latency_survives_its_dictionary() -> None:
    """``from_dict(to_dict(x)) == x``, and its text names time, spread, device and warning."""
    assert Latency.from_dict(GOOD.to_dict()) == GOOD
    for piece in ("1.25 ms", "0.1 IQR", "measured", "30 runs", "a phone", "onnxruntime", "1 thread", "noisy"):
        assert piece in str(GOOD)


@pytest.mark.parametrize(
    "change",
    [
        {"ms": 0}, {"ms": -1.0}, {"ms": math.nan}, {"ms": math.inf}, {"ms": "5"}, {"ms": True}, {"iqr_ms": -0.1},
        {"runs": 0}, {"threads": 1.5}, {"batch": None}, {"device": ""}, {"device": "x" * 300}, {"runtime": 3},
        {"source": "guessed"}, {"warning": "x" * 500}, {"extra": 1}, {"samples_ms": 5}, {"samples_ms": [10**400]},
    ],
)  # fmt: skip
def test_a_latency_from_outside_is_checked(change: dict) -> None:
    """Each broken field is refused."""
    with pytest.raises(InputError):
        Latency.from_dict(GOOD.to_dict() | change)


def test_a_latency_with_a_missing_field_is_refused() -> None:
    """All fields must be there, and it must be an object."""
    data = GOOD.to_dict()
    del data["batch"]
    with pytest.raises(InputError, match="needs batch"):
        Latency.from_dict(data)
    with pytest.raises(InputError, match="object"):
        Latency.from_dict([1])
    assert replace(GOOD, ms=2.0).ms == 2.0
