"""The command `nas accuracy`: what it prints, its files, and mistakes in one line."""

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nas.accuracy.prior import PriorModel, bundled
from nas.arch.cost import cost_of
from nas.cli.main import main
from nas.references.table import reference
from tests.accuracy.simulated import source


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        main(["accuracy", *arguments])
    out, err = capsys.readouterr()
    assert isinstance(stop.value.code, int)
    return stop.value.code, out, err


def read(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    code, out, _ = run(capsys, *arguments, "--json")
    assert code == 0
    return json.loads(out)


def table(path: Path, count: int = 60, name: str = "a", seed: int = 0) -> Path:
    """A table of one's own."""
    made = source(name, count, seed)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("arch", "accuracy"))
        writer.writerows(
            (arch.to_json(), f"{100 * share:.3f}") for arch, share in zip(made.archs, made.accuracies, strict=True)
        )
    return path


def test_the_list_names_the_bundled_model(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys)
    assert code == 0
    assert "imagenet" in out
    assert "file:PATH" in out
    assert read(capsys) == [{"name": "imagenet", "task": "ImageNet", "networks": bundled().networks}]


def test_show_prints_sources_domain_and_effects(capsys: pytest.CaptureFixture[str]) -> None:
    """Every source with its licence, origin and figures; what was never varied, in words; no lines without end."""
    code, out, _ = run(capsys, "show", "imagenet")
    assert code == 0
    for facts in bundled().sources:
        line = next(line for line in out.splitlines() if line.startswith(facts.name))
        held_out = facts.held_out
        for part in (f"{held_out.networks:,}", f"{held_out.tau:.2f}", f"{held_out.equal_cost_tau:.2f}", facts.licence):
            assert part in line
        assert facts.origin in out
    assert "ImageNet" in out
    assert "never seen: kernels of 7×7 or larger at 1/2; operators other" in out
    effects = [line for line in out.splitlines() if line.startswith("1/") and "±" in line]
    assert len(effects) == 7
    assert "never seen" in effects[0]
    assert all(line.rstrip() == line for line in out.splitlines())


def test_show_gives_programs_everything(capsys: pytest.CaptureFixture[str]) -> None:
    facts = read(capsys, "show", "imagenet")
    assert [one["name"] for one in facts["sources"]] == ["imagenet-mbconv", "ofa-mbv3", "published"]
    assert "1.k7" in facts["never_varied"]
    assert facts["ranges"]["5a.se"] == [0, 1]
    assert {"slot", "change", "points", "sd"} == set(facts["effects"][0])


def test_predictions_are_beside_published_figures(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Those of the same width and resolution, the paper's first; a network of one's own has none."""
    (tmp_path / "own.json").write_text(reference("mobilenet_v2").to_json())
    names = ["mobilenet_v3_large", "mobilenet_v2@width=1.0,resolution=160", "mobilenet_v2@width=0.9", "own.json"]
    found = read(capsys, "predict", *names)
    assert list(found) == names
    for name in names[:3]:
        arch = reference(name)
        accuracy = bundled()(arch)
        assert found[name]["accuracy"] == accuracy.mean
        assert found[name]["sd"] == accuracy.sd
        assert found[name]["interval"] == list(accuracy.interval)
        assert (found[name]["params"], found[name]["macs"]) == (cost_of(arch).params, cost_of(arch).macs)
    assert next(iter(found[names[0]]["published"].items())) == ("paper", 75.2)
    assert found[names[1]]["published"] == {"slim": 68.8}
    assert found[names[2]]["published"] == found[names[3]]["published"] == {}
    code, out, _ = run(capsys, "predict", *names)
    lines = out.splitlines()
    assert code == 0
    assert re.search(r"^mobilenet_v3_large +74\.\d ± \d\.\d % +75\.2 \(paper\), others .* 5,483,032 +216\.6$", lines[1])
    assert "68.8 (slim)" in lines[2]
    assert "left out" in lines[-1]


def test_a_network_outside_the_data_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    out = run(capsys, "predict", "shufflenet_v2", "mobilenet_v2")[1]
    outside = [line for line in out.splitlines() if "outside" in line]
    assert len(outside) == 1
    assert outside[0].startswith("shufflenet_v2 ")
    assert "operators" in outside[0]
    assert read(capsys, "predict", "shufflenet_v2")["shufflenet_v2"]["outside"] == ["other"]


def test_a_model_of_ones_own_is_fitted_shown_and_used(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Published figures are of ImageNet, so they are not beside estimates of another task."""
    path = table(tmp_path / "mine.csv")
    code, out, err = run(capsys, "calibrate", str(path), "--task", "flowers", "--out", "flowers.json")
    assert code == 0
    assert "--model file:flowers.json" in out
    assert "fitting on all networks" in err
    model = PriorModel.load(tmp_path / "flowers.json")
    assert (model.name, model.task, model.level) == ("flowers", "flowers", "mine")
    assert re.search(r"^mine +60 ", out, re.MULTILINE)
    assert run(capsys, "show", "file:flowers.json")[1].startswith("flowers: accuracy on flowers")
    assert run(capsys, "show", "flowers.json")[0] == 0
    found = read(capsys, "predict", "efficientnet_b0", "--model", "file:flowers.json")["efficientnet_b0"]
    assert (found["task"], found["published"]) == ("flowers", {})
    again = read(capsys, "calibrate", str(path), "--task", "birds", "--name", "two", "--out", "flowers.json")
    assert (again["name"], again["task"], again["out"]) == ("two", "birds", "flowers.json")
    assert PriorModel.load(tmp_path / "flowers.json").task == "birds"


def test_the_level_is_chosen_by_name(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nas.accuracy.calibrate.FOLDS", 2)
    tables = [str(table(tmp_path / f"{name}.csv", 30, name, seed)) for seed, name in enumerate(("one", "two"))]
    assert read(capsys, "calibrate", *tables, "--level", "two")["level"] == "two"
    assert (tmp_path / "accuracy.json").is_file()


def _file(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


Case = tuple[Callable[[Path], list[str]], tuple[str, ...]]
BAD: dict[str, Case] = {
    "unknown model": (lambda t: ["show", "imagenot"], ("'imagenot'", "known: imagenet, file:PATH, a run folder")),
    "absent model": (lambda t: ["show", "file:absent.json"], ("absent.json", "No such file")),
    "no model": (lambda t: ["show", _file(t / "a.json", '{"kind": "latency"}')], ("a.json", "nas accuracy calibrate")),
    "broken model": (lambda t: ["predict", "mobilenet_v2", "--model", "file:" + _file(t / "a.json", "{")], ("a.json",)),
    "model of a run": (
        lambda t: ["predict", "mobilenet_v2", "--model", str(_run(t / "run"))],
        ("run.json",),
    ),
    "unknown network": (lambda t: ["predict", "mobilenet_v9"], ("'mobilenet_v9'", "mobilenet_v2")),
    "library's network": (lambda t: ["predict", "torchvision:vgg16"], ("torchvision:vgg16",)),
    "one bad network of two": (lambda t: ["predict", "mobilenet_v2", "absent/net"], ("absent/net",)),
    "no network": (lambda t: ["predict"], ("networks", "nas accuracy predict --help")),
    "no table": (lambda t: ["calibrate"], ("tables",)),
    "absent table": (lambda t: ["calibrate", "absent.csv"], ("absent.csv",)),
    "unknown columns": (lambda t: ["calibrate", _file(t / "a.csv", "net,top\na,b\n")], ("a.csv", "arch and accuracy")),
    "few rows": (lambda t: ["calibrate", str(table(t / "a.csv", 12))], ("a.csv", "12 different", "30")),
    "constant accuracies": (
        lambda t: ["calibrate", _file(t / "a.csv", _constant(table(t / "b.csv").read_text()))],
        ("a.csv", "50"),
    ),
    "mixed units": (
        lambda t: ["calibrate", _file(t / "a.csv", table(t / "b.csv").read_text() + "mobilenet_v2,0.7\n")],
        ("a.csv:62", "0.7", "unit"),
    ),
    "one table twice": (lambda t: ["calibrate", *[str(table(t / "a.csv"))] * 2], ("each once", "a, a")),
    "unknown level": (lambda t: ["calibrate", str(table(t / "a.csv")), "--level", "b"], ("'b'", "one of a")),
    "empty task": (lambda t: ["calibrate", str(table(t / "a.csv")), "--task", ""], ("--task", "''")),
    "name of two lines": (lambda t: ["calibrate", str(table(t / "a.csv")), "--name", "a\nb"], ("--name",)),
    "output in no folder": (
        lambda t: ["calibrate", str(table(t / "a.csv")), "--out", "absent/a.json"],
        ("absent/a.json", "--out"),
    ),
}


def _run(folder: Path) -> Path:
    folder.mkdir()
    (folder / "run.json").write_text("{}")
    return folder


def _constant(text: str) -> str:
    return re.sub(r",[\d.]+$", ",50", text, flags=re.MULTILINE)


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_exit_code_2(case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make, named = BAD[case]
    code, out, err = run(capsys, *make(tmp_path))
    assert (code, out) == (2, "")
    *_, line = err.splitlines()
    assert line.startswith("nas: ")
    assert all(part in line for part in named), line
    assert not (tmp_path / "accuracy.json").exists()


@pytest.mark.parametrize("content", ["arch,accuracy\n", '{"kind": "latency"}', "[]", ""])
def test_other_files_are_not_overwritten(content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A table given as --out by mistake is kept, and no time is spent on the fit."""
    path = Path(_file(tmp_path / "mine.csv", content))
    code, _, err = run(capsys, "calibrate", str(table(tmp_path / "a.csv")), "--out", str(path))
    assert code == 2
    assert "--out" in err
    assert err.count("\n") == 1
    assert path.read_text() == content


def test_a_failed_calibration_keeps_the_model_that_is_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bundled().save(tmp_path / "accuracy.json")
    before = (tmp_path / "accuracy.json").read_bytes()
    assert run(capsys, "calibrate", str(table(tmp_path / "a.csv", 12)))[0] == 2

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("nas.api.accuracy.calibrate", interrupted)
    assert run(capsys, "calibrate", str(table(tmp_path / "a.csv")))[0] == 130
    assert (tmp_path / "accuracy.json").read_bytes() == before
