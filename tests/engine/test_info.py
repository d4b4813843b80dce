"""``run.json``: read back as written, from wherever one stands, and what version 0.1 wrote is still read."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nas.engine.options import SearchOptions
from nas.engine.run.info import DataInfo, DeviceInfo, RunInfo
from nas.latency.margin import SafetyMargin
from nas.system.errors import InputError
from tests.engine.search_toys import SPACE, info_of

WHOLE = info_of(
    30.0,
    versions={"torch": "2"},
    resumed_with={"torch": "3"},
    finished="2026-01-01T00:00:00+00:00",
    spent_s=1.5,
    stopped_because="budget",
    device=DeviceInfo("CPU, 2 cores", runtime="onnxruntime", threads=1, identity={"node": "a", "cores": 2}),
    data=DataInfo("photos", "00ff", ("cat", "dog"), 80, 20, notes=("one file left out",), counts=(60, 40)),
    proxy={"steps": 140},
    table_error={"mape": 0.02},
    margin=SafetyMargin(0.03, 1.02, "near", ((5.0, 5.1),)),
    admitted_ms=29.0,
    feasibility={"binds": True},
    measured_only=True,
)


@pytest.mark.parametrize("info", [info_of(), WHOLE])
def test_reads_back_what_was_written(info: RunInfo, tmp_path: Path) -> None:
    read = RunInfo.from_dict(json.loads(json.dumps(info.to_dict(tmp_path))), tmp_path)
    assert replace(read, space=info.space) == info
    assert read.space.key == info.space.key


@pytest.mark.parametrize(
    "bad",
    [
        {"space": {}},
        {"options": {"target_ms": 8}, "admitted_ms": 9},
        {"admitted_ms": "8"},
        {"stopped_because": "boredom"},
        {"data": {"name": "a", "train": -1, "val": 1}},
        {"data": {"name": "a", "train": 1, "val": 1, "classes": "cat"}},
        {"data": {"name": "a", "train": 1, "val": 1, "classes": ["cat"], "counts": [1, 1]}},
        {"device": {"name": 3}},
        {"device": {"name": "a", "threads": 0}},
        {"margin": {"guard": 7}},
        {"spent_s": float("nan")},
        {"custom": [1]},
    ],
)
def test_a_bad_field_is_named(bad: dict[str, Any], tmp_path: Path) -> None:
    field = list(bad)[-1]
    with pytest.raises(InputError, match=field):
        RunInfo.from_dict(WHOLE.to_dict(tmp_path) | bad, tmp_path)


def test_paths_lead_to_the_same_place_through_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`results/` is a symbolic link, and another folder of the data's name lies beside where it leads to."""
    work, elsewhere = tmp_path / "work", tmp_path / "disk" / "deep"
    for folder in (work / "photos", elsewhere / "results" / "run", elsewhere / "photos", tmp_path / "other"):
        folder.mkdir(parents=True)
    (work / "table.json").touch()
    (work / "results").symlink_to(elsewhere / "results")
    monkeypatch.chdir(work)
    run = Path("results/run")
    for options, name in (
        (SearchOptions(data="photos", references=()), "photos"),
        (SearchOptions(device="table:table.json", references=()), "table.json"),
    ):
        written = json.loads(json.dumps(RunInfo(options, SPACE, "run").to_dict(run)))
        for here in (work, tmp_path / "other", run.resolve()):
            monkeypatch.chdir(here)
            read = RunInfo.from_dict(written, Path(os.path.relpath(elsewhere / "results" / "run"))).options
            path = read.data if name == "photos" else str(read.device).partition(":")[2]
            assert path is not None
            assert os.path.samefile(path, work / name), here
        monkeypatch.chdir(work)


def test_the_name_of_a_data_set_stays_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a folder happens to be called like it."""
    (tmp_path / "cifar10").mkdir()
    monkeypatch.chdir(tmp_path)
    info = RunInfo(SearchOptions(data="cifar10", references=()), SPACE, "run")
    assert info.to_dict(tmp_path / "run")["options"]["data"] == "cifar10"


def test_version_0_1_is_read(tmp_path: Path) -> None:
    """Its one flat dictionary holds the same under other names."""
    old = {
        "schema": 1,
        "space": {"name": "toy", "key": SPACE.key, "text": SPACE.text},
        "options": {
            **{"started": "2026-01-01T00:00:00+00:00", "finished": None, "target_ms": 30.0, "guard": None, "seed": 4},
            **{"device": "host", "runtime": "onnxruntime", "threads": 1, "images": "cifar10", "references": []},
            **{"custom": ["evaluate"], "name": "old", "versions": {"torch": "2"}, "seconds": 9.5, "admitted_ms": 29.0},
            **{"device_name": "CPU, 2 cores", "modelled": False, "timed_with": {"runtime": "torch", "threads": 2}},
            "data": {"name": "photos", "classes": ["cat"], "train": 8, "val": 2, "key": "00ff", "notes": ["a note"]},
            "admission": SafetyMargin(0.03, 1.02, "near", ((5.0, 5.1),)).to_dict(),
            "feasibility": {"binds": True},
            "stopped_because": "trials",
        },
    }
    info = RunInfo.from_dict(json.loads(json.dumps(old)), tmp_path)
    assert (info.options.target_ms, info.options.seed, info.options.data) == (30.0, 4, "cifar10")
    assert (info.name, info.custom, info.spent_s, info.admitted_ms) == ("old", ("evaluate",), 9.5, 29.0)
    assert info.device == DeviceInfo("CPU, 2 cores", False, "torch", 2)
    assert info.data == DataInfo("photos", "00ff", ("cat",), 8, 2, notes=("a note",))
    assert info.margin == SafetyMargin(0.03, 1.02, "near", ((5.0, 5.1),))
    assert (info.stopped_because, info.feasibility) == ("trials", {"binds": True})
