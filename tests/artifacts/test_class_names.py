"""The names of the classes and their counts, from the folder to the report and every exported file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx
import pytest

import nas
from nas.artifacts.export import export
from nas.artifacts.int8_images import int8_images
from nas.engine.progress import Silent
from nas.references.table import reference
from tests.artifacts.test_export import model_py
from tests.data.test_layouts import fill
from tests.engine.search_toys import SPACE, cost_ms

pytestmark = pytest.mark.torch

ARCH = reference("mobilenet_v3_small", width=0.35, resolution=32)


def names_in(folder: Path, file: str = "model.onnx") -> list[str] | None:
    for entry in onnx.load(folder / file).metadata_props:
        if entry.key == "classes":
            return list(json.loads(entry.value))
    return None


@pytest.mark.parametrize(
    ("names", "lines"),
    [
        (tuple(sorted(map(str, range(1, 13)))), ["1", "10", "11", "12", "2", "3", "4", "5", "6", "7", "8", "9"]),
        (("a\nb", "caf\udce9", "\N{CAT FACE}", "'\"\\", " "), ["a\\nb", "caf\\udce9", "\N{CAT FACE}", "'\"\\", " "]),
    ],
)
def test_class_names_are_in_every_file(tmp_path: Path, names: tuple[str, ...], lines: list[str]) -> None:
    """Row 21: in the order of the outputs, whatever is in them, and gone when the next export has none."""
    done = export(ARCH, tmp_path, num_classes=len(names), classes=names, threads=None)
    assert names_in(tmp_path) == list(names)
    assert model_py((tmp_path / "model.py").read_text())["CLASSES"] == names
    assert (tmp_path / "classes.txt").read_text("utf-8").split("\n") == [*lines, ""]
    assert tmp_path / "classes.txt" in done.files
    assert done.classes == names
    export(ARCH, tmp_path, num_classes=len(names) + 1, classes=names, threads=None)
    assert names_in(tmp_path) is None
    assert "CLASSES =" not in (tmp_path / "model.py").read_text().replace("NUM_CLASSES =", "")
    assert not (tmp_path / "classes.txt").exists()


def test_class_names_survive_int8(tmp_path: Path) -> None:
    """Row 21: the int8 file has them, too; without a run they are those of its images."""
    for label in ("cat", "dog"):
        fill(tmp_path / "set" / label, 40)
    images = int8_images(tmp_path / "set", 32, "none")
    export(ARCH, tmp_path / "out", ("onnx",), num_classes=2, classes=images.class_names, images=images, threads=None)
    assert names_in(tmp_path / "out", "model.int8.onnx") == ["cat", "dog"]


class Saying(Silent):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


def test_a_run_prints_reports_and_exports_its_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows 8 and 21: the folder that was given, its classes and the images of each, in terminal, report and export."""
    monkeypatch.setenv("NAS_CACHE", str(tmp_path / "cache"))
    for label, count in (("10", 12), ("9", 14)):
        fill(tmp_path / "photos_v2" / label, count)
    watch: Any = Saying()
    run = tmp_path / "run"
    options: dict[str, Any] = {"trials": 1, "steps": 2, "references": ()}
    nas.search(SPACE, device=cost_ms, data=tmp_path / "photos_v2", run=run, watch=watch, **options)
    assert "  10 12, 9 14" in watch.said
    report = (run / "report.md").read_text()
    assert "10 12, 9 14" in report
    assert "photos\\_v2" in report
    done = nas.export(run, formats=("python",))
    assert done.classes == ("10", "9")
    assert (done.files[0].parent / "classes.txt").read_text() == "10\n9\n"
