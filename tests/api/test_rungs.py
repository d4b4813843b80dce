"""Searches in rungs: who has them, and what is left of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import nas
from nas.api.rungs import in_rungs
from nas.arch.space_yaml import space_path
from nas.engine.fidelity import default_rungs
from nas.engine.options import SearchOptions
from nas.system.errors import InputError
from nas.training.config import ProxyConfig
from tests.api.pictures import two_classes

pytestmark = pytest.mark.torch

SCRATCH = ProxyConfig(shared_steps=0, steps=400)


def cost_ms(arch: nas.Arch) -> float:
    return float(nas.count(arch).macs)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of twelve images."""
    return two_classes(tmp_path_factory.mktemp("photos"), noise=128, apart=100)


def test_who_has_rungs(photos: Path) -> None:
    """Trainings from scratch that count, unless they are turned off; not shared weights, nor generated images."""
    rungs = default_rungs(400)
    assert rungs
    assert in_rungs(SCRATCH, SearchOptions(data=photos)).rungs == rungs
    assert in_rungs(SCRATCH, SearchOptions(accuracy="train")).rungs == rungs
    assert in_rungs(SCRATCH, SearchOptions(data=photos, rungs=[100, 200], steps=400)).rungs == (100, 200)
    without = [SearchOptions(data=photos, rungs="off"), SearchOptions()]
    assert not any(in_rungs(SCRATCH, options).rungs for options in without)
    assert not in_rungs(replace(SCRATCH, shared_steps=9), SearchOptions(data=photos)).rungs


@pytest.mark.parametrize(("data", "rungs", "wrong"), [(None, [50], "--data"), ("x", [399], "399"), ("x", [800], "800")])
def test_rungs_that_cannot_be(data: str | None, rungs: list[int], wrong: str) -> None:
    """On generated images, too close to the end, and beyond it."""
    with pytest.raises(InputError, match=wrong):
        in_rungs(SCRATCH, SearchOptions(data=data, rungs=rungs, steps=400))


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_search_leaves_no_checkpoints(in_memory: bool, photos: Path, tmp_path: Path, monkeypatch: Any) -> None:
    """Ten candidates in rungs, in memory and in a folder: some are stopped, with the steps that they reached; no
    checkpoint is left."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    record = nas.search(
        str(space_path("nas_bench_macro", "tabular")),
        device=cost_ms,
        data=photos,
        trials=16,
        steps=6,
        rungs=[2],
        references=(),
        run=None if in_memory else tmp_path / "run",
    )
    steps = dict(zip(record.trials["key"], record.trials["steps"], strict=True))
    states = dict(zip(record.trials["key"], record.trials["state"], strict=True))
    assert set(states.values()) == {"COMPLETE", "STOPPED"}
    assert all(steps[key] == (2 if state == "STOPPED" else 6) for key, state in states.items())
    assert set(record.pareto["state"]) == {"COMPLETE"}
    assert not [*tmp_path.rglob("*checkpoint*"), *(tmp_path / "temporary").iterdir()]
