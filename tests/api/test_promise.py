"""The stated milliseconds hold: the guard below a target, what is measured at the end, and what is called modelled."""

from __future__ import annotations

import importlib.util
import json
import math
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import nas
from nas.api.session import Session
from nas.arch.arch import Arch
from nas.artifacts.check_against_target import check_against_target
from nas.artifacts.export import Exported
from nas.artifacts.source import ExportSource
from nas.cli import search as cli_search
from nas.cli.exported import export_facts, export_text
from nas.cli.progress import line
from nas.engine.options import SearchOptions
from nas.engine.progress import SearchProgress, Silent
from nas.engine.run.info import RunInfo
from nas.engine.run.record import Record
from nas.engine.run.trials import excess_ms
from nas.engine.verify import measure_front
from nas.latency.feasibility import feasibility
from nas.latency.held_out import HeldOut
from nas.latency.margin import NETWORKS, SafetyMargin, combined, learn, near
from nas.latency.record import Latency
from nas.reports.run.data import report_data
from nas.reports.run.summary import summary_facts, summary_text
from nas.system import machine
from nas.system.errors import TargetMissedError
from tests.engine.search_toys import SPACE, cost_ms, target_of
from tests.toy_devices import Device, capacity, times


def search(device: Device, target_ms: float, **changes: Any) -> Record:
    options: dict[str, Any] = {"evaluate": capacity, "trials": 40, "device": device}
    return nas.search(SPACE, latency_target=target_ms, **options | changes)


def test_a_target_is_not_out_of_reach_by_prediction_alone() -> None:
    """A device that is a quarter faster than predicted: a target that the fastest network meets only when measured is
    searched for; one that it does not is refused."""
    fastest_ms = feasibility(SPACE, Device(), None).fastest_ms
    assert near(SPACE, Device(), 0.8 * fastest_ms, np.random.default_rng(0))
    assert learn(SPACE, Device(0.75), 0.8 * fastest_ms).correction == pytest.approx(0.75)
    record = search(Device(0.75), 0.8 * fastest_ms, trials=4)
    assert record.front
    with pytest.raises(nas.InfeasibleError):
        search(Device(0.75), 0.74 * fastest_ms)
    with pytest.raises(nas.InfeasibleError, match="without --guard"):
        search(Device(0.75), 0.8 * fastest_ms, guard="5%")
    with pytest.raises(nas.InfeasibleError) as own:
        nas.search(SPACE, latency_target=0.8 * fastest_ms, device=cost_ms, evaluate=capacity, trials=1, guard="5%")
    assert "--guard" not in str(own.value), "of someone's own function nothing is measured first"


@pytest.mark.parametrize(("guard", "first", "later"), [(None, 1.2, 1.35), (0.02, 1.35, 1.35), (None, 0.7, 0.8)])
def test_the_guard_that_is_advised_keeps_all_misses_out(guard: float | None, first: float, later: float) -> None:
    """Where networks miss when they are measured, it is one under which none of them would have been trained, though a
    guard that is given takes the place of the correction."""

    class Slower(Device):
        def measure(self, arch: Arch) -> Latency | None:
            self.bias = first if len(self.timed) < NETWORKS else later
            return super().measure(arch)

    target_ms = target_of(0.5)
    record = search(Slower(), target_ms, guard=guard)
    assert record.missed
    advised = cli_search._remedy(record)
    again = search(Slower(), target_ms, guard=advised.removeprefix("--guard "))
    assert not again.missed
    assert again.front


def test_a_table_that_is_far_off_is_told_with_what_to_do() -> None:
    """And a guard that was cut off is not told as if it kept what guards keep."""
    pairs = ((5.0, 5.0), (5.0, 6.5), (5.0, 5.1))
    assert SafetyMargin(0.05, 0.8, "near", pairs).far_off
    assert SafetyMargin(0.15, 1.0, "near", pairs).far_off
    assert not SafetyMargin(0.05, 1.05, "near", pairs).far_off
    mbconv = nas.load_space("mbconv")
    for space, asked, command in (
        (mbconv, SearchOptions(), "nas profile --refresh --space mbconv"),
        (
            mbconv,
            SearchOptions(runtime="torch", threads=2),
            "nas profile --refresh --space mbconv --runtime torch --threads 2",
        ),
        (SPACE, SearchOptions(device="http://pi:8421"), "nas profile --refresh --space FILE --device http://pi:8421"),
        (SPACE, SearchOptions(device="table:a.json"), None),
        (SPACE, SearchOptions(device="custom"), None),
    ):
        assert Session(asked, RunInfo(asked, space, "toy"), None, Silent())._profile_again() == command
    held_out = HeldOut((1.0, 1.0, 1.0), (1.0, 1.0, 2.0))
    assert "maximum" in str(combined(pairs, held_out))


@pytest.mark.parametrize("bias", [0.85, 1.0, 1.25])
def test_what_is_admitted_leaves_room_and_what_is_called_feasible_is(bias: float) -> None:
    """Whatever the table's bias: none is trained that is predicted within the guard of the target; the whole front was
    measured and is truly within the target; and the best uses at least nine tenths of it."""
    device, target_ms = Device(bias, 0.04), bias * target_of(0.5)
    record = search(device, target_ms)
    rule = record.info.margin
    assert rule is not None
    scored = [c for c in record.candidates if c.state == "COMPLETE"]
    too_slow = [c for c in record.candidates if c.state == "TOO_SLOW"]
    limit_ms = rule.limit_ms(target_ms)
    assert limit_ms < target_ms
    assert all(c.predicted.ms <= limit_ms for c in scored)
    assert all(c.predicted.ms > limit_ms for c in too_slow)
    assert all(c.predicted.ms == pytest.approx(cost_ms(c.arch) * rule.correction) for c in record.candidates)
    assert record.front
    assert all(c.measured and device.true_ms(c.arch) <= target_ms for c in record.front)
    assert record.best is not None
    assert device.true_ms(record.best) >= 0.9 * target_ms


def test_front_members_that_miss_are_replaced_and_counted(tmp_path: Path) -> None:
    """Without a guard, under a table that is too fast: those over the target leave the front, others take their places
    and are measured too, and every text says how many there were."""
    device, target_ms = Device(1.06, 0.05), target_of(0.5)
    record = search(device, target_ms, guard=0, run=tmp_path / "run")
    late = [c for c in record.candidates if c.measured and c.measured.at_most_ms > target_ms]
    assert late
    assert record.missed == sorted(late, key=lambda c: -(c.proxy_accuracy or 0))
    assert record.front
    assert all(c.measured and c.measured.at_most_ms <= target_ms for c in record.front)
    assert record.measured == len({arch.key for arch in device.timed})
    best = max((c for c in record.candidates if c.measured and c not in late), key=lambda c: c.proxy_accuracy or 0)
    assert record.best == best.arch
    words = f"{len(late)} of {record.measured} measured networks missed the target"
    assert words in summary_text(record, tmp_path)
    assert "replaced" in summary_text(record, tmp_path)
    assert words in (tmp_path / "run" / "report.md").read_text()
    assert words in (tmp_path / "run" / "report.html").read_text()
    facts = json.loads(json.dumps(summary_facts(record, tmp_path)))
    assert (facts["missed"], facts["measured"]) == ([c.key for c in record.missed], record.measured)


def test_where_all_miss_nothing_is_recommended(tmp_path: Path) -> None:
    """If no scored network meets the target when measured: no best, a sentence that says so, and exit code 1."""
    record = search(Device(3.0), target_of(0.5), guard=0, trials=10, run=tmp_path / "run")
    assert record.best is None
    assert record.front == []
    assert len(record.missed) == record.measured == 10
    text = summary_text(record, tmp_path)
    assert text.startswith("No network to recommend")
    assert "10 of 10 measured networks missed the target" in text
    assert "nas export" not in text
    assert promise_benchmark().shipped(record, tmp_path / "run") == {}
    with pytest.raises(TargetMissedError, match="--budget 10m"):
        cli_search._show_run(record, tmp_path, as_json=False)


def test_a_resumed_run_keeps_its_rule(tmp_path: Path) -> None:
    """The guard and the correction of the first call hold to the end, though the device has become another since; the
    networks around the target are not measured again."""
    target_ms = target_of(0.5)
    first = search(Device(1.1, 0.04), target_ms, trials=5, run=tmp_path / "run")
    later = Device(0.7, 0.2)
    second = nas.resume(tmp_path / "run", trials=25, evaluate=capacity, device=later)  # type: ignore[arg-type]
    assert (second.info.margin, second.info.admitted_ms) == (first.info.margin, first.info.admitted_ms)
    rule = second.info.margin
    assert rule is not None
    assert all(c.predicted.ms == pytest.approx(rule.correction * cost_ms(c.arch)) for c in second.candidates)
    known = {c.key for c in second.candidates}
    assert all(arch.key in known for arch in later.timed), "only candidates were measured"


@pytest.mark.parametrize(("target", "then", "kept"), [(1.2, 1.15, True), (1.05, 0.9, False)])
def test_a_resumed_run_keeps_its_limit(target: float, then: float, kept: bool, tmp_path: Path) -> None:
    """Whether the guard was dropped is settled once: it stays as it was, though the fastest network found is another
    by then, that keeps the guard or does not; and a limit above the target is no limit."""
    fastest_ms = feasibility(SPACE, Device(), None).fastest_ms
    run, target_ms = tmp_path / "run", target * fastest_ms
    first = nas.search(
        SPACE, latency_target=target_ms, device=cost_ms, evaluate=capacity, trials=2, guard=0.1, run=run
    )  # fmt: skip
    assert first.info.admitted_ms == pytest.approx(target_ms / (1.1 if kept else 1))

    def later(arch: Arch) -> float:
        return then * cost_ms(arch)

    anew = feasibility(SPACE, nas.device(later), target_ms, guard=0.1)
    assert (anew.dropped_guard is None) != kept, "found anew it would change"
    second = nas.resume(run, trials=4, evaluate=capacity, device=later)
    assert second.info.admitted_ms == first.info.admitted_ms
    assert json.loads(json.dumps(second.info.feasibility)) == json.loads(json.dumps(first.info.feasibility))
    content = json.loads((run / "run.json").read_text())
    for bad in (2 * target_ms, 0, "8", True, math.nan):
        content["admitted_ms"] = bad
        (run / "run.json").write_text(json.dumps(content))
        with pytest.raises(nas.InputError, match="admitted_ms"):
            nas.resume(run, trials=6, evaluate=capacity, device=later)


@pytest.mark.parametrize("spec", ["host", "table", "host without its table"])
def test_a_measured_run_does_not_go_on_elsewhere(
    spec: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """On another machine, or with fewer cores, nothing could be measured as before: one line that names both machines,
    and the run is left as it is. Back on its own machine it goes on."""

    request.addfinalizer(machine.here.cache_clear)

    def move_to(cores: int, node: str = "a") -> None:
        machine.here.cache_clear()
        monkeypatch.setattr("nas.system.machine.cpu", lambda: "CPU")
        monkeypatch.setattr("nas.system.machine.usable_cores", lambda: cores)
        monkeypatch.setattr("platform.node", lambda: node)

    def timed(arch: Arch, runtime: str, threads: int) -> Latency:
        return times(table(arch).ms)

    pixel1 = nas.device("pixel1").table
    assert pixel1 is not None
    table = replace(pixel1, device="CPU, 8 cores", runtime="onnxruntime", threads=1)
    table.save(tmp_path / "table.json")
    monkeypatch.setattr("nas.latency.devices.cached_table", lambda *_: replace(table, device=machine.host()))
    monkeypatch.setattr("nas.latency.devices.measure", timed)

    move_to(8)
    run, target_ms = tmp_path / "run", float(np.median(table.many([SPACE.sample(seed) for seed in range(100)])))
    device = f"table:{tmp_path / 'table.json'}" if spec == "table" else "host"
    nas.search(SPACE, latency_target=target_ms, device=device, evaluate=capacity, trials=3, run=run)
    if spec == "host without its table":
        (run / "latency_table.json").unlink()
    before = (run / "run.json").read_text()
    assert json.loads(before)["device"]["modelled"] is False
    for cores, node, what in ((2, "a", "2.*8"), (8, "b", "'b'.*'a'")):
        move_to(cores, node)
        with pytest.raises(nas.InputError, match=what):
            nas.resume(run, trials=6, evaluate=capacity)
        assert json.loads((run / "run.json").read_text()) == json.loads(before)
    move_to(8)
    record = nas.resume(run, trials=6, evaluate=capacity)
    assert not record.info.modelled
    assert all(c.measured for c in record.front)


def test_a_guard_no_network_keeps_is_dropped() -> None:
    """Between the admitted limit and the target the fastest networks are let in, and it is said; above it they are
    not."""
    device = Device()
    fastest_ms = feasibility(SPACE, device, None).fastest_ms
    kept = feasibility(SPACE, device, 1.2 * fastest_ms, guard=0.1)
    assert (kept.guard, kept.dropped_guard) == (0.1, None)
    assert kept.admitted_ms == pytest.approx(1.2 * fastest_ms / 1.1)
    assert "10.0%" in str(kept)
    dropped = feasibility(SPACE, device, 1.05 * fastest_ms, guard=0.1)
    assert (dropped.guard, dropped.dropped_guard, dropped.admitted_ms) == (0.0, 0.1, 1.05 * fastest_ms)
    assert "safety margin is off" in str(dropped)
    with pytest.raises(nas.InfeasibleError):
        feasibility(SPACE, device, 0.99 * fastest_ms, guard=0.1)
    record = search(device, 1.05 * fastest_ms, guard=0.1, trials=3)
    assert record.best is not None


def test_the_best_is_confirmed_or_replaced(tmp_path: Path) -> None:
    """A device that is quick with each network the first time and 6 % slower ever after: no network is recommended that
    later measurements of it show above the target, and the ones that were are counted as missed."""

    class Fickle(Device):
        def measure(self, arch: Arch) -> Latency | None:
            again = arch in self.timed
            self.timed.append(arch)
            return times(cost_ms(arch) * (1.06 if again else 1.0))

    target_ms = target_of(0.5)
    device = Fickle()
    # Of `auto` nearly all candidates are close calls here, and the bound of measurements ends the first call.
    record = search(device, target_ms, guard=0, run=tmp_path / "run", sampler="tpe")
    assert record.missed
    assert not record.info.measured_only
    assert all(device.timed.count(missed.arch) >= 2 for missed in record.missed)
    assert record.best is not None
    assert cost_ms(record.best) * 1.06 <= target_ms
    before = len(device.timed)
    assert measure_front(record, device, lambda _: None, lambda *_: None).front == record.front
    assert len(device.timed) == before, "another call, as of a resumed run, measures nothing again"


def test_a_confirmation_that_was_interrupted_is_made_up_for() -> None:
    """The best came close to the target, so that three measurements tell it already; those it was chosen by."""
    found = search(Device(), target_of(0.5), guard=0)
    best = found.front[-1]
    alone = [replace(candidate, measured=None) for candidate in found.front]
    options = replace(found.info.options, target_ms=best.predicted.ms / 0.98)
    record = Record(replace(found.info, options=options), alone)

    class Interrupted(Device):
        def measure(self, arch: Arch) -> Latency | None:
            if arch == best.arch and self.timed.count(best.arch) == 3:
                raise KeyboardInterrupt
            return super().measure(arch)

    kept: dict[str, Latency] = {}
    with pytest.raises(KeyboardInterrupt):
        measure_front(record, Interrupted(), kept.update, lambda *_: None)
    assert kept[best.key].holds_ms is not None
    assert not kept[best.key].confirmed
    device = Device()
    last = measure_front(record.with_measured(kept), device, kept.update, lambda *_: None).front[-1]
    assert device.timed == [best.arch] * 3
    assert last.measured is not None
    assert last.measured.confirmed


def test_a_resumed_search_knows_what_missed(tmp_path: Path) -> None:
    """What was measured above the target is not its best so far, nor feasible to its sampler."""
    device, run = Device(1.06), tmp_path / "run"
    record = search(device, target_of(0.5), guard=0, run=run, trials=20)
    assert record.missed
    missed = {candidate.key for candidate in record.missed}
    heard = Heard()
    nas.resume(run, trials=25, evaluate=capacity, device=device, watch=heard)
    assert heard.seen
    assert all(one.best is None or one.best.key not in missed for one in heard.seen)
    target_ms = target_of(0.5)
    for candidate in record.candidates:
        assert excess_ms(candidate, target_ms) == candidate.predicted.ms - target_ms
        feasible = excess_ms(candidate, target_ms, target_ms) <= 0
        assert feasible == (candidate.predicted.ms <= target_ms and candidate.key not in missed)


def test_a_function_answers_for_itself() -> None:
    """Someone's own cost is the cost: no guard is kept below it unless one is asked for."""
    target_ms = target_of(0.5)
    record = nas.search(SPACE, latency_target=target_ms, device=cost_ms, evaluate=capacity, trials=20)
    assert record.info.admitted_ms == target_ms
    asked = nas.search(SPACE, latency_target=target_ms, device=cost_ms, evaluate=capacity, trials=20, guard="10%")
    assert asked.info.admitted_ms == pytest.approx(target_ms / 1.1)
    assert all(c.predicted.ms <= target_ms / 1.1 for c in asked.front)


class Heard(Silent):
    """A watcher that keeps what it is told."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.seen: list[SearchProgress] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def search(self, progress: SearchProgress) -> None:
        self.seen.append(progress)


@pytest.fixture(scope="module")
def modelled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Record, Path]:
    """A search on a device that is not at hand."""
    folder = tmp_path_factory.mktemp("modelled") / "run"
    heard = Heard()
    pixel1: Any = nas.device("pixel1")
    target_ms = float(np.median(pixel1.many([SPACE.sample(seed) for seed in range(100)])))
    found = nas.search(
        SPACE, latency_target=target_ms, device="pixel1", evaluate=capacity, trials=6, run=folder,
        references=["mobilenet_v3_small"], watch=heard,
    )  # fmt: skip
    assert any("fastest network of the space" in text and "ms modelled" in text for text in heard.said)
    assert not any("predicted" in text for text in heard.said)
    assert all("ms modelled" in line(one.latest, one) for one in heard.seen if one.latest)
    return found, folder


def test_a_modelled_device_says_so_everywhere(modelled: tuple[Record, Path]) -> None:
    """Title, sentences, table, axis and files call its latencies modelled, and none of them predicted or measured; the
    guard is that of the model's own error."""
    record, folder = modelled
    told = report_data(record)
    assert record.front
    assert record.info.modelled
    assert all(c.predicted.source == "predicted" and c.measured is None for c in record.candidates)
    assert record.info.margin is not None
    assert record.info.margin.source == "held-out"
    assert 0.005 < record.info.margin.guard < 0.1
    assert told.headline.title.endswith("ms modelled")
    assert "Modelled, ms" in told.networks.header
    assert {row.cells[told.networks.header.index("Target")] for row in told.networks.rows} <= {
        "met (modelled)",
        "missed (modelled)",
    }
    assert "modelled" in told.view.x_title
    assert all("predicted" not in sentence for sentence in (told.headline.title, *told.headline.sentences))
    assert all("predicted" not in line for mark in told.view.front for line in mark.hover)
    assert "modelled" in summary_text(record, folder)
    assert "predicted" not in summary_text(record, folder)
    assert summary_facts(record, folder)["modelled"] is True
    for name in ("report.md", "report.html"):
        assert "modelled" in (folder / name).read_text()


def test_a_modelled_run_goes_on_modelled(modelled: tuple[Record, Path]) -> None:
    """Nothing of it was measured anywhere, so that it can be resumed anywhere."""
    record, folder = modelled
    assert nas.resume(folder, trials=6, evaluate=capacity).info.modelled
    assert record.info.modelled


def test_an_export_of_a_modelled_run_says_so(modelled: tuple[Record, Path]) -> None:
    """The file is measured here, told apart from what the model says of the device, and is held to no target."""
    record, folder = modelled
    done = nas.export(folder, formats=("onnx",))
    best = record.front[-1]
    assert done.target_ms is None
    assert done.modelled == best.predicted
    text = export_text(done)
    assert f"{best.predicted.ms:.3g} ms on {best.predicted.device} (modelled)" in text
    assert "measured" in text
    assert export_facts(done)["modelled"]["ms"] == best.predicted.ms


@pytest.mark.parametrize(
    ("first", "later", "told"), [(9.0, [], 9.0), (10.2, [9.9, 9.8], 9.9), (9.9, [10.2, 10.1], 10.1)]
)
def test_an_export_close_to_its_target_is_measured_again(
    first: float, later: list[float], told: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One noisy reading neither condemns a file nor saves it: close to the target the median of three is told."""
    arch, asked_for = SPACE.sample(0), []

    def again(model: Path, threads: int) -> Latency:
        asked_for.append((model.name, threads))
        return times(later[len(asked_for) - 1])

    monkeypatch.setattr("nas.latency.measure.measure_onnx", again)
    done = Exported(arch, 10, (), 0.0, times(first))
    found = check_against_target(done, ExportSource(arch, Path("x"), target_ms=10.0, threads=2), Path("x"))
    assert found.checked is not None
    assert (found.checked.ms, found.target_ms) == (told, 10.0)
    assert asked_for == [("model.onnx", 2)] * len(later)


def promise_benchmark() -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks" / "promise.py"
    spec = importlib.util.spec_from_file_location("promise", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_benchmark_tells_what_speaks_against_it() -> None:
    """A search that recommends nothing is told and counted, and so is each network beyond a guard: at a target of 5 ms
    with a guard of 10 % and a correction of 1.1, one predicted 5 ms that takes more than 6.05."""
    promise = promise_benchmark()
    rule = {"space": "mbconv", "target_ms": 5.0, "guard": 0.1, "correction": 1.1, "admitted_ms": 4.5}
    best = {
        "predicted_ms": 4.4,
        "measured_ms": 4.8,
        "exported_ms": 4.5,
        "again_ms": 4.9,
        "took_ms": 4.99,
        "usable_ms": 5.0,
    }
    met = {"number": 0, **rule, "missed": 1, "measured": 4, "pairs_ms": [], **best}
    late = met | {
        "number": 1,
        "again_ms": 5.1,
        "took_ms": 5.2,
        "pairs_ms": [(5.0, 6.0), (5.0, 6.1), (11.0, 99.0), (2.0, 99.0)],
    }
    none = {"number": 2, **rule, "missed": 3, "measured": 3, "pairs_ms": []}
    none |= {"rival_predicted_ms": 4.9, "rival_ms": 5.2}
    assert [promise.row(one).partition("|")[0].split()[-1] for one in (met, late, none)] == ["met", "MISSED", "NONE"]
    assert promise.beyond_guard([met, late, none]) == (2, 4)
    assert promise.beyond_guard([met | {"space": "shufflenet"}, late]) == (0, 0)
    text = promise.summary([met, late, none])
    for fact in ("1 of 2", "90.0% to 90.0%", "1 of 3", "1 of 1", "10%", "5 of 11 (45.5%)", "2 of 4 (50.0%)"):
        assert fact in text
    for fact in ("0 of 0", "1 of 1"):
        assert fact in promise.summary([none])
