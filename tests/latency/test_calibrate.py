"""Device models from measurements: exact devices are recovered, and pixel1 agrees with published figures."""

import importlib.util
import json
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from scipy.stats import spearmanr

from nas.arch.arch import Arch
from nas.arch.space_yaml import load_space
from nas.cli.main import main
from nas.latency.devices import device
from nas.latency.models import bundled
from nas.latency.table.calibrate import FEWEST, TRUSTED, calibrate
from nas.latency.table.measurements import Measured, read_measurements
from nas.latency.table.table import LatencyTable
from nas.references.table import reference
from nas.system.errors import InputError

ROOT = Path(__file__).parents[2]
TUNAS = ROOT / "tests" / "data" / "tables" / "pixel1"


def benchmark(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pixel1() -> LatencyTable:
    table = device("pixel1").table
    assert table
    return table


@pytest.fixture(scope="module")
def truth(pixel1: LatencyTable) -> list[Measured]:
    """Networks of mbconv on an imaginary phone that takes 0.7 of a Pixel 1's time for every operator."""
    space = load_space("mbconv")
    archs = [space.sample(seed) for seed in range(160)]
    return [Measured(arch, 0.7 * float(ms)) for arch, ms in zip(archs, pixel1.many(archs), strict=True)]


def off(table: LatencyTable, measured: list[Measured]) -> np.ndarray:
    return np.asarray(np.abs(table.many([one.arch for one in measured]) / [one.ms for one in measured] - 1))


def test_a_device_without_noise_is_recovered(truth: list[Measured]) -> None:
    """Without a prior, unseen networks are predicted to 1 %, and no more networks are wanted."""
    done = calibrate(truth[:120], "phone")
    assert off(done.table, truth[120:]).max() < 0.01
    assert done.table.error.worst < 0.05
    assert done.wanted == 0


def test_a_scaled_prior_needs_the_fewest_networks(truth: list[Measured], pixel1: LatencyTable) -> None:
    """Eight networks find the scale, and operators that were not measured are predicted, but not without a prior."""
    done = calibrate(truth[:FEWEST], "phone", prior=pixel1)
    assert off(done.table, truth[FEWEST:]).mean() < 0.02
    assert done.wanted >= TRUSTED - FEWEST
    plain = [Measured(reference("mobilenet_v2", resolution=side), side / 4) for side in range(128, 256, 8)]
    with_se = reference("mobilenet_v3_large")
    assert calibrate(plain, "phone", prior=pixel1).table(with_se).ms > 0
    with pytest.raises(InputError, match=r"\bse\b"):
        calibrate(plain, "phone").table(with_se)


def test_noise_is_measured_by_cross_validation(truth: list[Measured]) -> None:
    """With 10 % noise the reported error is the noise, not the residual of the fit."""
    rng = np.random.default_rng(0)
    noisy = [Measured(one.arch, one.ms * float(np.exp(0.1 * rng.standard_normal()))) for one in truth]
    assert 0.06 < calibrate(noisy, "phone").table.error.mape < 0.16


def test_too_few_networks_are_an_error(truth: list[Measured]) -> None:
    """Measurements of the same network count once."""
    with pytest.raises(InputError, match=f"{FEWEST} .*got 1"):
        calibrate([truth[0]] * 50, "phone")


@pytest.mark.parametrize("space", ["v3_like", "proxyless"])
def test_pixel1_ranks_and_predicts_networks_of_both_tunas_spaces(space: str, pixel1: LatencyTable) -> None:
    """On networks that it was not fitted to; ``benchmarks/pixel1.py`` does the same with ten times as many."""
    draws = benchmark("pixel1")
    measured = draws.drawn(getattr(draws, space)(TUNAS), 300, seed=99)
    predicted = pixel1.many([one.arch for one in measured])
    assert spearmanr(predicted, [one.ms for one in measured])[0] >= 0.99
    assert off(pixel1, measured).mean() <= 0.035


def test_pixel1_orders_the_networks_of_the_v3_paper(pixel1: LatencyTable) -> None:
    """The order is as published (final version), except for pairs within 5 %; V3-Large lies between its two published
    figures."""
    table = benchmark("pixel1").V3_TABLE
    final = {name: ms for name, (_, ms) in table.items()}
    predicted = {name: pixel1(reference(name)).ms for name in table}
    for slower, faster in pairwise(sorted(table, key=lambda name: -final[name])):
        close = final[slower] / final[faster] < 1.05 or abs(predicted[slower] / predicted[faster] - 1) < 0.05
        assert predicted[slower] > predicted[faster] or close
    early, late = table["mobilenet_v3_large"]
    assert late < predicted["mobilenet_v3_large"] < early


@pytest.mark.parametrize("name", ["mobilenet_v2", "mnasnet_a1"])
def test_pixel1_scales_to_small_networks_as_published(name: str, pixel1: LatencyTable) -> None:
    """Over the published widths and resolutions (from 4.5 ms on) the model has next to no constant of its own: relative
    to the full-size network, since sources differ in scale, each size is within 15 % of its source."""
    sizes = benchmark("pixel1").grid(name)
    assert len(sizes) == {"mobilenet_v2": 22, "mnasnet_a1": 25}[name]
    ms, predicted = np.array([one.ms for one in sizes]), pixel1.many([one.arch for one in sizes])
    slope, constant = np.polyfit(ms, predicted, 1)
    assert slope == pytest.approx(1, abs=0.06)
    assert abs(constant) < 1
    assert np.abs(predicted / ms - 1).max() < 0.15


def test_pixel1_covers_the_mbconv_family_at_any_width_and_resolution(pixel1: LatencyTable) -> None:
    """That includes kernels that it was not fitted to; wider and larger networks are slower."""
    names = ["efficientnet_b0", "mobilenet_v3_small", "mnasnet_a1", "proxylessnas_gpu", "fbnet_c", "mobilenet_v2"]
    for name in names:
        sizes = [(0.5, 96), (0.75, 160), (1.0, 224), (1.4, 288)]
        ms = pixel1.many([reference(name, width, side) for width, side in sizes])
        assert np.all(np.diff(ms) > 0)


def test_a_bundled_model_names_its_source_and_licence(tmp_path: Path) -> None:
    for name, path in bundled().items():
        table = LatencyTable.load(path)
        assert all((table.source, table.licence, table.notes)), name
        table.save(tmp_path / "copy.json")
        assert LatencyTable.load(tmp_path / "copy.json") == table


def test_networks_may_be_named_filed_or_written_out(tmp_path: Path) -> None:
    small = reference("mobilenet_v3_small")
    (tmp_path / "net.json").write_text(small.to_json())
    (tmp_path / "own.yaml").write_text("name: own\nbase: mobilenet_v2\nresolution: 96\n")
    quoted = '"' + small.to_json().replace('"', '""') + '"'
    lines = ["ms,network,phone", f"1,{quoted},x", "2,net.json,x", '3,"mobilenet_v2@width=0.5,resolution=96",x', ""]
    (tmp_path / "all.csv").write_text("\n".join([*lines, "4,own.yaml@width=0.5,x"]))
    found = read_measurements(tmp_path / "all.csv")
    half = reference("mobilenet_v2", 0.5, 96)
    assert [one.arch for one in found] == [small, small, half, half]
    assert [one.ms for one in found] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", r"bad\.csv:1: .*network and ms"),
        ("network,latency\n", r"bad\.csv:1: .*add ms"),
        ("x" * 200_000, r"bad\.csv:1: .*CSV"),
        ("network,ms\n", r"bad\.csv .*header"),
        ("network,ms\nmobilenet_v2,0\n", r"bad\.csv:2: ms .*'0'"),
        ("network,ms\nmobilenet_v2,3\nmobilenet_v2,nan\n", r"bad\.csv:3: ms .*'nan'"),
        ("ms,network\n5\n", r"bad\.csv:2: .*network"),
        ("network,ms\nmobilenet_v2\n", r"bad\.csv:2: ms .*''"),
        ("network,ms\nmobilnet_v2,3\n", r"bad\.csv:2: .*'mobilnet_v2'.* mobilenet_v2"),
        ("network,ms\nnet.json,3\n", r"bad\.csv:2: .*net\.json"),
        ('network,ms\n"{""schema"": 9}",3\n', r"bad\.csv:2: .*9"),
    ],
)
def test_bad_measurements_are_errors_with_their_line(text: str, names: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=names):
        read_measurements(path)


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as caught:
        main(list(words))
    shown = capsys.readouterr()
    return int(caught.value.code or 0), shown.out, shown.err


def test_a_phone_is_calibrated_and_used_from_the_command_line(
    truth: list[Measured], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From a CSV to a model file to predictions."""
    rows = [json.dumps(one.arch.to_json()).replace('\\"', '""') + f",{one.ms}" for one in truth[:40]]
    (tmp_path / "phone.csv").write_text("\n".join(["network,ms", *rows]))
    out = tmp_path / "phone.json"
    code, text, _ = run(capsys, "devices", "calibrate", str(tmp_path / "phone.csv"), "--out", str(out), "--json")
    assert code == 0
    assert json.loads(text)["fitted_to_networks"] == 40
    model = device(f"table:{out}")
    arch: Arch = truth[50].arch
    assert model(arch).ms == pytest.approx(truth[50].ms, rel=0.1)
    assert model.measure(arch) is None
    code, text, _ = run(capsys, "devices", "show", f"table:{out}", "--json")
    assert json.loads(text)["error"]["nets"] == 40
    code, text, _ = run(capsys, "devices", "--json")
    assert [one["name"] for one in json.loads(text)] == ["host", *bundled()]
    code, _, error = run(capsys, "devices", "show", "host")
    assert code == 2
    assert "host" in error
    assert "table:PATH" in error
