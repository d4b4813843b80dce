"""The command line: exit codes, one-line errors, machine-readable output."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nas.cli.main import _with_ray_address, main
from tests.check_docs import commands, options
from tests.conftest import BRIEF
from tests.packages import beyond_required

pytestmark = pytest.mark.processes

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
    """Each test works in its own folder, since runs go to ./results."""
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
    for path in list((folder / "class0").iterdir())[:15]:
        path.write_bytes(path.read_bytes()[:60])
    return folder


def corrupt(folder: Path) -> Path:
    folder.mkdir()
    (folder / "run.json").write_text('{"schema": 1, "options"')
    return folder


Case = tuple[Callable[[Path], list[str]], tuple[str, ...]]
TINY_SEARCH = ["search", "--space", "tiny.yaml"]
BAD: dict[str, Case] = {  # the command, and what its error names: the offending value, and what to do
    "unknown space": (lambda t: ["search", "--space", "mbcnov"], ("'mbcnov'", "known: efficientnet, mbconv")),
    "broken yaml": (lambda t: ["search", "--space", str(_file(t / "a.yaml", "name: [\n"))], ("a.yaml:2:",)),
    "unknown gene": (
        lambda t: ["search", "--space", str(_file(t / "a.yaml", TINY.replace("kernel: [3, 5]", "kernle: [3, 5]")))],
        ("a.yaml:5:", "'kernle'", "known: op, channels"),
    ),
    "target zero": (lambda t: ["search", "--latency-target", "0"], ("'0'", "66ms, 66, 0.066s, 66000us")),
    "target negative": (lambda t: ["search", "--latency-target=-5"], ("'-5'", "66ms")),
    "target nan": (lambda t: ["search", "--latency-target", "nan"], ("'nan'", "66ms")),
    "target fast": (lambda t: ["search", "--latency-target", "fast"], ("'fast'", "66ms")),
    "guard fast": (lambda t: ["search", "--guard", "fast"], ("'fast'", "0 to 50%", "5%, 0.05, 0")),
    "guard too wide": (lambda t: ["search", "--guard", "80%"], ("'80%'", "0 to 50%")),
    "guard negative": (lambda t: ["search", "--guard=-1%"], ("'-1%'", "0 to 50%")),
    "guard bare": (lambda t: ["search", "--guard", "5"], ("'5'", "5%, 0.05, 0")),
    "bad budget": (lambda t: ["search", "--budget", "soon"], ("'soon'", "10m, 90s, 1.5h, 600")),
    "bad sampler": (lambda t: [*TINY_SEARCH, "--sampler", "magic"], ("'magic'", "aging-evolution")),
    "bad device": (lambda t: [*TINY_SEARCH, "--device", "pixel99"], ("pixel99", "pixel1")),
    "bad runtime": (lambda t: ["measure", "mobilenet_v2", "--runtime", "tflite"], ("'tflite'", "onnxruntime, torch")),
    "bad trials": (lambda t: ["search", "--trials", "0"], ("trials", "from 1", "got 0")),
    "no data": (lambda t: [*TINY_SEARCH, "--data", str(t / "nowhere")], ("nowhere", "known: cifar10")),
    "empty data": (lambda t: [*TINY_SEARCH, "--data", str(_folder(t / "empty"))], ("empty",)),
    "one class": (lambda t: [*TINY_SEARCH, "--data", str(images(t / "one", 1, 30))], ("one", "2 to")),
    "few images": (lambda t: [*TINY_SEARCH, "--data", str(images(t / "few", 2, 1))], ("class0", "10")),
    "truncated": (lambda t: [*TINY_SEARCH, "--data", str(truncated(t / "cut"))], ("cut", "15 of 60")),
    "unwritable results": (lambda t: [*TINY_SEARCH, "--run", str(_file(t / "file", "") / "run")], ("file/run",)),
    "corrupt run": (lambda t: ["resume", str(corrupt(t / "run"))], ("run.json:1:",)),
    "corrupt run report": (lambda t: ["report", str(corrupt(t / "run"))], ("run.json:1:",)),
    "not a run": (lambda t: ["resume", str(t)], ("run folder",)),
    "unknown reference": (lambda t: ["measure", "mobilenet_v9"], ("'mobilenet_v9'", "mobilenet_v2")),
    "plot without latency": (
        lambda t: ["references", "--device", "none", "--png", "a.png"],
        ("--png", "--device none"),
    ),
    "model of the host": (lambda t: ["devices", "show", "host"], ("host", "known: pixel1, table:PATH")),
    "prior that is no model": (
        lambda t: ["devices", "calibrate", "a.csv", "--prior", "host"],
        ("host", "known: pixel1, table:PATH, none"),
    ),
    "threads of a calibration": (lambda t: ["devices", "calibrate", "a.csv", "--threads", "0"], ("--threads", "got 0")),
    "unknown format": (
        lambda t: ["export", "mobilenet_v2", "--format", "tflite"],
        ("'tflite'", "onnx, python, executorch"),
    ),
    "int8 of an unknown format": (
        lambda t: ["export", "mobilenet_v2", "--format", "tflite", "--int8", "--data", "cifar10"],
        ("'tflite'", "onnx, python, executorch"),
    ),
    "int8 of python": (
        lambda t: ["export", "mobilenet_v2", "--format", "python", "--int8", "--data", "cifar10"],
        ("int8", "onnx", "executorch", "python"),
    ),
    "int8 without images": (lambda t: ["export", "mobilenet_v2", "--int8"], ("--data",)),
    "images without int8": (lambda t: ["export", "mobilenet_v2", "--data", "cifar10"], ("--int8",)),
    "unknown normalisation": (
        lambda t: ["export", "mobilenet_v2", "--int8", "--data", str(images(t / "d", 2, 30)), "--normalise", "mine"],
        ("mine", "imagenet, half, nas, none"),
    ),
    "unknown verb": (lambda t: ["serch"], ("'serch'", "'search'")),
    "unknown option": (lambda t: ["search", "--spaec", "mbconv"], ("--spaec",)),
}


def _file(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_exit_code_2(case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make, named = BAD[case]
    code, out, err = run(capsys, *make(tmp_path))
    assert code == 2
    assert out == ""
    line = err.splitlines()[-1]
    assert line.startswith("nas: ")
    assert all(part in line for part in named), line
    assert "Traceback" not in err
    assert not list(Path("results").glob("*")), "a mistype leaves no run behind"


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """One search from a shell, with real timing and training on a space so small that it is quick: folder, JSON.

    It cannot import what a plain ``pip install .`` would not install."""
    folder = tmp_path_factory.mktemp("searched")
    (folder / "tiny.yaml").write_text(TINY)
    images(folder / "photos", 3, 30)
    command = "search --space tiny.yaml --latency-target 1s --data photos --run r --trials 2 --workers 1 --json"
    small = "--shared-steps 9 --references mobilenet_v3_small@width=0.5,resolution=96"
    with_references = [*command.split(), *small.split()]
    of_sampling = (f"sampling.{name} = {value}" for name, value in BRIEF.items())
    setup = [
        f"import sys; sys.modules.update(dict.fromkeys({beyond_required()}))",
        "from nas.latency import sampling; from nas.latency.table import build, sample_networks",
        "build.BUDGET_S = 1.0; sample_networks.FITTED = (8, 8); sample_networks.HELD_OUT = 4",
    ]
    brief = "; ".join([*setup, *of_sampling])
    done = subprocess.run(
        [*NAS[:-1], f"{brief}; {NAS[-1]}", *with_references], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout)


@pytest.fixture
def copied(searched: tuple[Path, dict[str, Any]], tmp_path: Path) -> dict[str, Any]:
    """The searched folder, copied to the test's own; its ``--json`` output."""
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
    assert again["references"][0]["seconds"] == copied["references"][0]["seconds"], "not trained twice"
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
    assert "0.0001 ms" in err.splitlines()[-1]
    assert not Path("x").exists()


@pytest.mark.usefixtures("copied")
def test_an_export_over_its_target_is_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    key = json.loads(run(capsys, "export", "r", "--json")[1])["key"]
    kept = json.loads(Path("r/run.json").read_text())
    kept["options"]["target_ms"] = kept["admitted_ms"] = 1e-4  # as if the device had become slower since
    Path("r/run.json").write_text(json.dumps(kept))
    code, out, err = run(capsys, "export", "r", "--arch", key)
    assert code == 1
    assert "model.onnx" in out
    assert "0.0001 ms" in err
    assert "--arch KEY" in err


@pytest.mark.usefixtures("copied")
def test_images_that_changed_are_not_mixed_into_a_run(capsys: pytest.CaptureFixture[str]) -> None:
    next(Path("photos/class1").iterdir()).unlink()
    code, _, err = run(capsys, "resume", "r", "--trials", "4")
    assert code == 2
    assert "images" in err.splitlines()[-1]


@pytest.mark.usefixtures("copied")
def test_a_second_process_is_refused_and_shown_the_pid_of_the_first(capsys: pytest.CaptureFixture[str]) -> None:
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
    assert f"process {pid}" in err


@pytest.mark.parametrize(
    ("arguments", "expanded"),
    [
        (["search", "--ray"], ["search", "--ray", "auto"]),
        (["search", "--ray", "--trials", "3"], ["search", "--ray", "auto", "--trials", "3"]),
        (["search", "--ray", "10.0.0.1:6379"], ["search", "--ray", "10.0.0.1:6379"]),
        (["search", "--ray", "ray://head:10001"], ["search", "--ray", "ray://head:10001"]),
        (["resume", "--ray", "results/r"], ["resume", "--ray", "auto", "results/r"]),
        (["resume", "results/r", "--ray", "auto"], ["resume", "results/r", "--ray", "auto"]),
    ],
)
def test_ray_needs_no_address_and_takes_no_run_folder_for_one(arguments: list[str], expanded: list[str]) -> None:
    assert _with_ray_address(arguments) == expanded


@pytest.mark.parametrize("verb", commands())
def test_help_of_an_option_starts_with_what_it_is_and_ends_with_a_full_stop(verb: str) -> None:
    """After the full stop there may be a default."""
    texts = [parameter.help for command in commands()[verb] for parameter in command.params if parameter.help]
    assert texts
    for text in texts:
        assert re.fullmatch(r"(?s)(?!(Of|That|Where|Whose|With) )[A-Z].*\.(  \[default: [^\]]+\])?", text), text


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
