"""What people's shells, folders and habits do to a command: one line and an exit code, or the right thing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import nas
from nas.cli.app import split_names
from nas.engine.progress import SearchProgress, Silent
from nas.engine.run.resolve import resolve
from tests.engine.search_toys import SPACE, cost_ms

pytestmark = pytest.mark.processes

NAS = [sys.executable, "-m", "nas"]
QUICK = "--trials 1 --workers 1 --references none --device pixel1 --steps 2"


def photos(folder: Path, seed: int = 0) -> Path:
    rng = np.random.default_rng(seed)
    for label in ("cat", "dog"):
        (folder / label).mkdir(parents=True)
        for at in range(20):
            Image.fromarray(rng.integers(0, 255, (24, 24, 3), dtype=np.uint8)).save(folder / label / f"{at}.png")
    return folder


def run(command: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*NAS, *command.split()],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(Path(nas.__file__).parents[1])} | environment,
        capture_output=True,
        text=True,
        errors="surrogateescape",
        check=False,
    )


def assert_one_line(done: subprocess.CompletedProcess[str], code: int, *named: str) -> None:
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("nas: ")
    for text in named:
        assert text in last


@pytest.mark.parametrize(
    ("command", "environment", "code", "named"),
    [
        ("search --seed 4294967296 --trials 1", {}, 2, ("seed", "4294967296")),
        ("search --data photos " + QUICK, {"NAS_CACHE": os.devnull}, 2, ("NAS_CACHE", os.devnull)),
        ("search --gpus-per-trial 1 --ray --trials 1", {"CUDA_VISIBLE_DEVICES": ""}, 2, ("--gpus-per-trial", "1")),
        ("search --accelerator cuda --trials 1", {"CUDA_VISIBLE_DEVICES": ""}, 2, ("cuda", "--accelerator cpu")),
        ("search --accelerator tpu --trials 1", {}, 2, ("tpu", "cuda")),
        ("resume results/none", {}, 2, ("run.json",)),
        ("resume kept", {}, 2, ("kept/a", "kept/b")),
        ("search --run photos/cat/1.png --trials 1", {}, 2, ("photos/cat/1.png",)),
        ("search --latency-target 66,5ms", {}, 2, ("66,5ms",)),
        ("search --space ~/none.yaml", {}, 2, ("none.yaml",)),
        ("search --device pixel1 --limit flops=300M", {}, 2, ("flops", "macs")),
        ("search --device pixel1 --limit params=4M --limit params=5M", {}, 2, ("params", "5M")),
        ("search --device pixel1 --device host --latency-target 66ms", {}, 2, ("host", "--latency-target")),
        ("search --limit params=1M", {}, 3, ("params", "1.96M")),
    ],
)
def test_a_mishap_is_one_line(
    command: str, environment: dict[str, str], code: int, named: tuple[str, ...], tmp_path: Path
) -> None:
    photos(tmp_path / "photos")
    for name in ("a", "b"):
        (tmp_path / "kept" / name).mkdir(parents=True)
        (tmp_path / "kept" / name / "run.json").touch()
    assert_one_line(run(command, tmp_path, **environment), code, *named)
    assert not list(tmp_path.glob("results/*/run.json")), "nothing is left that blocks the next try"


def test_ray_with_a_long_folder_for_its_sockets_is_one_line(tmp_path: Path) -> None:
    """AF_UNIX paths end at 107 characters."""
    long = tmp_path / ("x" * 80)
    long.mkdir()
    done = run(f"search --ray --data photos {QUICK}", photos(tmp_path / "photos").parent, TMPDIR=str(long))
    assert_one_line(done, 2, "RAY_TMPDIR")


def test_output_never_fails_on_its_encoding() -> None:
    """Signs that an encoding lacks are escaped, in results and in errors."""
    code = (
        "import typer; from nas.cli.main import app, main; from nas.system.errors import InputError\n"
        "@app.command()\ndef odd(fail: bool = False):\n"
        "    if fail: raise InputError('\\u2212 \\u00e9 \\udce9')\n"
        "    typer.echo('\\u2212 \\u00e9 \\udce9')\n"
        "main()"
    )
    for encoding in ("ascii", "latin-1", "utf-8"):
        for arguments, status in (((), 0), (("--fail",), 2)):
            command = [sys.executable, "-c", code, "odd", *arguments]
            environment = os.environ | {"PYTHONIOENCODING": encoding}
            done = subprocess.run(command, env=environment, capture_output=True, check=False)
            assert done.returncode == status, done.stderr
            assert b"Traceback" not in done.stderr


def test_a_whole_life_in_the_c_locale_through_links_with_spaces_and_accents(tmp_path: Path) -> None:
    """Search, export with weights and resume, from another folder, with a symbolic link for every path."""
    disk, desk = tmp_path / "disk é 1", tmp_path / "desk é 2"
    photos(disk / "my photos é")
    (disk / "runs é").mkdir()
    (desk / "elsewhere").mkdir(parents=True)
    for name, target in (("photos é", "my photos é"), ("results é", "runs é")):
        (desk / name).symlink_to(disk / target)
    photos(disk / "photos é", seed=1)  # beside where `results é` leads to: not to be taken for the other
    c_locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    environment = os.environ | {"PYTHONPATH": str(Path(nas.__file__).parents[1])} | c_locale

    def there(folder: Path, *command: str) -> str:
        done = subprocess.run([*NAS, *command], cwd=folder, env=environment, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode(errors="replace")
        return done.stdout.decode(errors="replace")

    run_folder = "results é/a run é"
    there(desk, "search", "--data", "photos é", "--run", run_folder, *QUICK.split())
    arch = resolve(str(desk / run_folder))
    assert isinstance(arch, nas.Arch)
    torch.save(nas.build(arch, 2).state_dict(), disk / "runs é" / "trained é.pt")
    weights = str(Path("..") / "results é" / "trained é.pt")
    out = there(
        desk / "elsewhere", "export", f"../{run_folder}", "--weights", weights, "--out", "out é", "--format", "python"
    )
    assert "model.py" in out
    (disk / "photos é").rename(disk / "decoy")
    there(desk / "elsewhere", "resume", f"../{run_folder}", "--trials", "2")
    kept = json.loads((desk / run_folder / "run.json").read_text(encoding="utf-8"))
    assert os.path.samefile(disk / "runs é" / "a run é" / kept["options"]["data"], disk / "my photos é")
    assert "a run" in (desk / run_folder / "report.md").read_text(encoding="utf-8")


def test_names_are_taken_with_spaces_and_in_any_case(tmp_path: Path) -> None:
    assert split_names("a , b@width=0.5, resolution=160,c,") == ["a", "b@width=0.5, resolution=160", "c"]
    assert split_names(" none ") == []
    done = subprocess.run(
        [*NAS, "export", "mobilenet_v3_small", "--format", " Python ,", "--out", str(tmp_path / "out")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "model.py").exists()


@pytest.mark.parametrize("bad", [None, (1.0,), {"score": 1}, "0.5", True, float("inf")], ids=repr)
def test_a_score_that_is_no_number_ends_the_search_with_its_cause(bad: Any) -> None:
    with pytest.raises(nas.NasError, match="number"):
        nas.search(SPACE, device=cost_ms, evaluate=lambda arch: bad, trials=50)


def test_an_evaluate_that_is_no_function_of_one_network_is_named() -> None:
    with pytest.raises(nas.InputError, match=r"0\.5"):
        nas.search(SPACE, device=cost_ms, evaluate=0.5, trials=5)  # type: ignore[arg-type]
    with pytest.raises(nas.NasError, match="argument"):
        nas.search(SPACE, device=cost_ms, evaluate=lambda arch, seed: 1.0, trials=50)  # type: ignore[arg-type, misc]


def test_numbers_of_numpy_are_numbers() -> None:
    record = nas.search(
        SPACE,
        latency_target=np.float32(90),  # type: ignore[arg-type]
        device=lambda arch: np.float64(cost_ms(arch)),
        evaluate=lambda arch: np.float32(arch.resolution),  # type: ignore[arg-type, return-value]
        trials=np.int64(3),  # type: ignore[arg-type]
        seed=np.int64(3),  # type: ignore[arg-type]
    )
    assert (record.target_ms, len(record.front) > 0) == (90.0, True)


def test_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    nas.search(SPACE, device=cost_ms, evaluate=cost_ms, trials=2, run="~/kept")
    assert (tmp_path / "kept" / "run.json").exists()
    assert not (tmp_path / "~").exists()
    assert len(nas.resume("~/kept", trials=3, evaluate=cost_ms, device=cost_ms).trials) >= 3
    assert nas.report("~/kept")
    space = nas.load_space("mbconv")
    (tmp_path / "space.yaml").write_text(space.text)
    assert nas.load_space("~/space.yaml").key == space.key
    arch = space.sample(0)
    (tmp_path / "net.json").write_text(arch.to_json())
    assert resolve("~/net.json") == arch
    assert resolve("~/kept") == nas.resume("~/kept", trials=3, evaluate=cost_ms, device=cost_ms).best
    nas.export("~/net.json", "~/out", formats=["python"])
    assert (tmp_path / "out" / "model.py").exists()
    pixel1 = nas.device("pixel1").table
    assert pixel1 is not None
    pixel1.save(tmp_path / "table.json")
    assert nas.device("table:~/table.json").device == pixel1.device
    assert not (tmp_path / "~").exists()


class Crash(Silent):
    """Raises in the middle of a search."""

    def __init__(self, error: BaseException, after: int) -> None:
        self._error, self._after = error, after

    def search(self, progress: SearchProgress) -> None:
        if progress.evaluated >= self._after:
            raise self._error


@pytest.mark.parametrize(
    "error", [RuntimeError("odd"), UnicodeEncodeError("ascii", "é", 0, 1, "no"), KeyboardInterrupt()]
)
def test_whatever_ends_a_search_early_leaves_nothing_that_blocks_the_next(error: BaseException, tmp_path: Path) -> None:
    """And once something was scored, everything."""
    folder = tmp_path / "run"
    for _ in range(2):
        with pytest.raises(type(error)):
            nas.search(SPACE, device=cost_ms, evaluate=cost_ms, trials=5, run=folder, watch=Crash(error, 0))
        assert not folder.exists()
    with pytest.raises(type(error)):
        nas.search(SPACE, device=cost_ms, evaluate=cost_ms, trials=5, run=folder, watch=Crash(error, 2))
    with pytest.raises(nas.InputError, match="nas resume"):
        nas.search(SPACE, device=cost_ms, evaluate=cost_ms, trials=5, run=folder)
    assert len(nas.resume(folder, trials=5, device=cost_ms, evaluate=cost_ms).trials) == 5


def test_a_search_that_was_killed_before_it_scored_anything_makes_room(tmp_path: Path) -> None:
    """kill -9 cannot be caught: the next search in this folder takes its place."""
    folder = tmp_path / "run"
    code = (
        "import os, sys, nas; from tests.engine.search_toys import SPACE, cost_ms\n"
        "nas.search(SPACE, device=cost_ms, evaluate=lambda arch: os.kill(os.getpid(), 9), trials=3, run=sys.argv[1])"
    )
    root = str(Path(nas.__file__).parents[1])
    killed = subprocess.run([sys.executable, "-c", code, str(folder)], cwd=root, check=False)
    assert killed.returncode == -9
    assert (folder / "run.json").exists()
    assert len(nas.search(SPACE, device=cost_ms, evaluate=cost_ms, trials=3, run=folder).trials) == 3


def test_the_run_folder_deleted_under_way_is_one_line(tmp_path: Path) -> None:
    import shutil

    class Delete(Silent):
        def search(self, progress: SearchProgress) -> None:
            if progress.evaluated == 2:
                shutil.rmtree(tmp_path / "run", ignore_errors=True)

    with pytest.raises(nas.NasError, match="run"):
        nas.search(SPACE, device=cost_ms, evaluate=cost_ms, trials=5, run=tmp_path / "run", watch=Delete())


def test_images_that_moved_are_found_again(tmp_path: Path) -> None:
    """With ``data`` (``--data``), if their content is the run's; without, the error says so."""
    photos(tmp_path / "photos")
    photos(tmp_path / "others", seed=1)
    run = tmp_path / "r"
    nas.search(SPACE, device=cost_ms, data=tmp_path / "photos", steps=2, references=(), trials=1, run=run)
    (tmp_path / "photos").rename(tmp_path / "moved")
    for data in (None, tmp_path / "others"):
        with pytest.raises(nas.InputError, match="--data"):
            nas.resume(run, device=cost_ms, trials=2, data=data)
    record = nas.resume(run, device=cost_ms, trials=2, data=tmp_path / "moved")
    assert len(record.trials) == 2
    assert record.info.options.data is not None
    assert os.path.samefile(record.info.options.data, tmp_path / "moved")


def test_a_run_with_spaces_in_its_path_is_advised_in_quotes(tmp_path: Path) -> None:
    folder = tmp_path / "a run"
    nas.search(SPACE, device=cost_ms, evaluate=cost_ms, trials=2, run=folder)
    with pytest.raises(nas.InputError, match=f"nas resume '{folder}'"):
        nas.search(SPACE, device=cost_ms, evaluate=cost_ms, trials=2, run=folder)
