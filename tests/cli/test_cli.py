"""The command line: exit codes, one-line errors, machine-readable output."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nas.cli.main import main
from tests.check_docs import options
from tests.conftest import BRIEF

NAS = [sys.executable, "-c", "import nas.cli.main; nas.cli.main.main()"]
TINY = """\
name: tiny
resolution: [32, 48]
stem: {op: conv, kernel: 3, channels: 8, stride: 2, act: relu}
stages:
  - {op: mbconv, repeat: [1, 2], channels: 16, stride: 2, kernel: [3, 5], expand: [1, 3], act: [relu, h_swish]}
"""


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test works in its own folder, as results/ is made where one stands."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(TINY)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    out, err = capsys.readouterr()
    assert isinstance(stop.value.code, int)
    return stop.value.code, out, err


def images(folder: Path, classes: int, each: int) -> Path:
    rng = np.random.default_rng(0)
    for label in range(classes):
        (folder / f"class{label}").mkdir(parents=True)
        for at in range(each):
            pixels = rng.integers(0, 256, (40, 36, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"class{label}" / f"{at}.png")
    return folder


def truncated(folder: Path) -> Path:
    images(folder, 2, 30)
    for path in list((folder / "class0").iterdir())[:5]:
        path.write_bytes(path.read_bytes()[:60])
    return folder


def corrupt(folder: Path) -> Path:
    folder.mkdir()
    (folder / "run.json").write_text('{"schema": 1, "options"')
    return folder


BAD: dict[str, tuple[Callable[[Path], list[str]], str]] = {
    "unknown space": (lambda t: ["search", "--space", "mbcnov"], "no space is called 'mbcnov'; known: mbconv"),
    "broken yaml": (
        lambda t: ["search", "--space", str(_file(t / "a.yaml", "name: [\n"))],
        "a.yaml:2: broken YAML",
    ),
    "unknown gene": (
        lambda t: ["search", "--space", str(_file(t / "a.yaml", TINY.replace("kernel: [3, 5]", "kernle: [3, 5]")))],
        "a.yaml:5: row s1 has no 'kernle'; known: op, channels",
    ),
    "target zero": (lambda t: ["search", "--latency-target", "0"], "accepted: 66ms, 66, 0.066s, 66000us"),
    "target negative": (lambda t: ["search", "--latency-target=-5"], "accepted: 66ms"),
    "target nan": (lambda t: ["search", "--latency-target", "nan"], "accepted: 66ms"),
    "target fast": (lambda t: ["search", "--latency-target", "fast"], "got 'fast'; accepted: 66ms"),
    "guard fast": (
        lambda t: ["search", "--guard", "fast"],
        "a guard must be 0 to 50%, got 'fast'; accepted: 5%, 0.05, 0",
    ),
    "guard too wide": (lambda t: ["search", "--guard", "80%"], "a guard must be 0 to 50%, got '80%'"),
    "guard negative": (lambda t: ["search", "--guard=-1%"], "a guard must be 0 to 50%"),
    "guard bare": (lambda t: ["search", "--guard", "5"], "accepted: 5%, 0.05, 0"),
    "bad budget": (lambda t: ["search", "--budget", "soon"], "accepted: 10m, 90s, 1.5h, 600"),
    "bad sampler": (
        lambda t: ["search", "--space", "tiny.yaml", "--sampler", "magic"],
        "known: auto, tpe, nsga2, random",
    ),
    "bad device": (lambda t: ["search", "--space", "tiny.yaml", "--device", "pixel99"], "pixel99"),
    "bad runtime": (lambda t: ["measure", "mobilenet_v2", "--runtime", "tflite"], "known: onnxruntime, torch"),
    "bad trials": (lambda t: ["search", "--trials", "0"], "trials must be a whole number from 1, got 0"),
    "no data": (lambda t: ["search", "--space", "tiny.yaml", "--data", str(t / "nowhere")], "nowhere"),
    "empty data": (lambda t: ["search", "--space", "tiny.yaml", "--data", str(_folder(t / "empty"))], "empty"),
    "one class": (
        lambda t: ["search", "--space", "tiny.yaml", "--data", str(images(t / "one", 1, 30))],
        "needed are 2 to",
    ),
    "few images": (lambda t: ["search", "--space", "tiny.yaml", "--data", str(images(t / "few", 2, 1))], "images"),
    "truncated": (lambda t: ["search", "--space", "tiny.yaml", "--data", str(truncated(t / "cut"))], "more than 1%"),
    "unwritable results": (
        lambda t: ["search", "--space", "tiny.yaml", "--run", str(_file(t / "file", "") / "run")],
        "choose a folder you can write to",
    ),
    "corrupt run": (lambda t: ["resume", str(corrupt(t / "run"))], "run.json:1: broken JSON"),
    "corrupt run report": (lambda t: ["report", str(corrupt(t / "run"))], "run.json:1: broken JSON"),
    "not a run": (lambda t: ["resume", str(t)], "is not a run folder"),
    "unknown reference": (
        lambda t: ["measure", "mobilenet_v9"],
        "no reference is called 'mobilenet_v9'; did you mean mobilenet_v2",
    ),
    "unknown format": (lambda t: ["export", "mobilenet_v2", "--format", "tflite"], "known: onnx, python"),
    "int8 of an unknown format": (
        lambda t: ["export", "mobilenet_v2", "--format", "tflite", "--int8", "--data", "cifar10"],
        "no export format is called 'tflite'; known: onnx, python, executorch",
    ),
    "int8 of python": (
        lambda t: ["export", "mobilenet_v2", "--format", "python", "--int8", "--data", "cifar10"],
        "int8 files are of onnx or executorch; add one of these formats, got 'python'",
    ),
    "int8 without images": (lambda t: ["export", "mobilenet_v2", "--int8"], "give --data FOLDER or a data set's name"),
    "images without int8": (lambda t: ["export", "mobilenet_v2", "--data", "cifar10"], "give --int8 with them"),
    "unknown normalisation": (
        lambda t: ["export", "mobilenet_v2", "--int8", "--data", str(images(t / "d", 2, 30)), "--normalise", "mine"],
        "known: imagenet, half, nas, none",
    ),
    "unknown verb": (lambda t: ["serch"], "No such command 'serch'. Did you mean 'search'?"),
    "unknown option": (lambda t: ["search", "--spaec", "mbconv"], "No such option"),
}


def _file(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_exit_code_2(case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make, says = BAD[case]
    code, out, err = run(capsys, *make(tmp_path))
    assert code == 2
    assert out == ""
    assert says in err.splitlines()[-1]
    assert err.splitlines()[-1].startswith("nas: ")
    assert "Traceback" not in err
    assert not list(Path("results").glob("*")), "a mistype leaves no run behind"


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """One search from a shell, with real timing and training on a space so small that it is quick: folder, JSON."""
    folder = tmp_path_factory.mktemp("searched")
    (folder / "tiny.yaml").write_text(TINY)
    images(folder / "photos", 3, 30)
    command = "search --space tiny.yaml --latency-target 1s --data photos --run r --trials 2 --workers 1 --json"
    with_references = [*command.split(), "--references", "mobilenet_v3_small@width=0.5,resolution=96"]
    of_sampling = (f"sampling.{name} = {value}" for name, value in BRIEF.items())
    brief = "; ".join(
        ["from nas.latency import sampling; from nas.latency.table import build; build.BUDGET_S = 5.0", *of_sampling]
    )
    done = subprocess.run(
        [*NAS[:-1], f"{brief}; {NAS[-1]}", *with_references], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout)


@pytest.fixture
def copied(searched: tuple[Path, dict[str, Any]], tmp_path: Path) -> dict[str, Any]:
    """The searched folder, copied to where the test stands; its ``--json`` output."""
    shutil.copytree(searched[0], tmp_path, dirs_exist_ok=True)
    return searched[1]


def test_a_search_ends_in_a_report_and_a_best_within_its_target(copied: dict[str, Any]) -> None:
    assert copied["candidates"]["complete"] == 2
    assert [r["name"] for r in copied["references"]] == ["mobilenet_v3_small@width=0.5,resolution=96"]
    assert all(r["measured_ms"] > 0 and 0 < r["proxy_accuracy"] < 1 for r in copied["references"])
    assert copied["best"]["measured_ms"] <= copied["target_ms"] == 1000.0
    kept = {"run.json", "study.journal", "references.json", "measured.json", "latency_table.json"}
    drawn = {"trials.csv", "pareto.csv", "report.html", "report.md", "pareto.png", "architectures.png"}
    assert all((Path("r") / name).stat().st_size > 0 for name in kept | drawn)


def test_a_finished_run_is_resumed_longer_exported_and_reported(
    copied: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(capsys, "search", "--space", "tiny.yaml", "--run", "r")[0] == 2  # it holds a run already
    code, out, err = run(capsys, "resume", "r", "--trials", "3", "--json")
    assert code == 0, err
    again = json.loads(out)
    assert again["candidates"]["complete"] == 3
    assert again["references"][0]["seconds"] == copied["references"][0]["seconds"]  # not trained a second time
    code, out, _ = run(capsys, "export", "r", "--json")
    shipped = json.loads(out)
    assert code == 0
    assert shipped["key"] == again["best"]["key"]
    assert shipped["num_classes"] == 3
    assert run(capsys, "report", "r")[0] == 0


def test_a_target_nothing_can_meet_is_exit_code_3(copied: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    table = ["--device", "table:r/latency_table.json", "--data", "photos"]
    code, _, err = run(capsys, "search", "--space", "tiny.yaml", "--latency-target", "0.1us", "--run", "x", *table)
    assert code == 3
    assert "the fastest found" in err.splitlines()[-1]
    assert not Path("x").exists()


@pytest.mark.usefixtures("copied")
def test_an_export_over_its_target_is_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    key = json.loads(run(capsys, "export", "r", "--json")[1])["key"]
    kept = json.loads(Path("r/run.json").read_text())
    kept["options"]["target_ms"] = 1e-4  # as if the device had become slower since
    Path("r/run.json").write_text(json.dumps(kept))
    code, out, err = run(capsys, "export", "r", "--arch", key)
    assert code == 1
    assert "model.onnx" in out
    assert "more than the target of 0.0001 ms" in err


@pytest.mark.usefixtures("copied")
def test_images_that_changed_are_not_mixed_into_a_run(capsys: pytest.CaptureFixture[str]) -> None:
    next(Path("photos/class1").iterdir()).unlink()
    code, _, err = run(capsys, "resume", "r", "--trials", "4")
    assert code == 2
    assert "the images have changed since this run began" in err


@pytest.mark.usefixtures("copied")
def test_a_second_process_is_refused_with_the_pid_of_the_first(capsys: pytest.CaptureFixture[str]) -> None:
    code = "import os, sys; from nas.engine.run.lock import acquire; from pathlib import Path; "
    code += "file = acquire(Path('r')); print(os.getpid(), flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as first:
        assert first.stdout is not None
        pid = first.stdout.readline().strip()
        status, _, err = run(capsys, "resume", "r", "--trials", "9")
        first.communicate("")
    assert status == 2
    assert f"in use by process {pid}" in err


@pytest.mark.parametrize("verb", options())
def test_help_shows_an_example_of_each_verb(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--help")
    assert code == 0
    assert f"  nas {verb}" in out
    code, out, _ = run(capsys, verb, "--help")
    assert code == 0
    assert f"Example:\n    nas {verb}" in out.replace("\n\n", "\n").replace("      nas", "    nas")


def test_json_goes_to_stdout_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert {space["name"] for space in json.loads(run(capsys, "spaces", "--json")[1])} >= {"mbconv"}
    listed = json.loads(run(capsys, "references", "--device", "none", "--json")[1])
    assert {one["name"]: one["params"] for one in listed["networks"]}["mobilenet_v2"] == 3_504_872
    timed = json.loads(run(capsys, "measure", "mobilenet_v3_small@resolution=96", "--json")[1])
    assert timed["mobilenet_v3_small@resolution=96"]["source"] == "measured"


def test_a_closed_pipe_is_no_traceback() -> None:
    done = subprocess.run(
        f"{sys.executable} -c 'import nas.cli.main; nas.cli.main.main()' spaces mbconv | head -n 1",
        shell=True, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.startswith("mbconv: 1.3e40 networks")
    assert "Traceback" not in done.stderr
