"""`nas accuracy check` on tiny images: interrupted and repeated, its files, and a search that uses what it found."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nas
from nas.accuracy.check import Training
from nas.api.accuracy_check import FEWEST_STEPS, CheckedImages, check_accuracy
from nas.api.check_cache import keep_recommendation, recommended_steps
from nas.api.shared import proxy_of, within_budget
from nas.arch.space_yaml import space_path
from nas.data.load import load_data
from nas.engine.options import SearchOptions
from nas.engine.progress import Silent
from nas.system.cache import entries
from nas.training import shared_training
from tests.api.pictures import two_classes
from tests.training.shared_child import SPACE

pytestmark = pytest.mark.torch

SPACE_FILE = str(space_path("nas_bench_macro", "tabular"))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of twelve noisy images."""
    return two_classes(tmp_path_factory.mktemp("photos"), noise=200, apart=20)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NAS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "check"


class Seen(Silent):
    """Notes the texts of steps, and interrupts at one of them."""

    def __init__(self, stop: str | None = None) -> None:
        self.texts: list[str] = []
        self.said: list[str] = []
        self._stop = stop

    def say(self, text: str) -> None:
        self.said.append(text)

    def step(self, done: int, total: int, text: str) -> None:
        self.texts.append(text)
        if self._stop is not None and text.startswith(self._stop) and done == total:
            raise KeyboardInterrupt


def run(photos: Path, **options: Any) -> CheckedImages:
    return check_accuracy(SPACE, photos, **{"networks": 8, "steps": FEWEST_STEPS} | options)


def cost_ms(arch: nas.Arch) -> float:
    return nas.count(arch).macs / 1e6


def without_seconds(found: CheckedImages) -> list[Training]:
    return [Training(one.steps, one.seed, 0.0, one.accuracies, one.losses) for one in found.trainings]


def test_interrupted_and_repeated(photos: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In a real process: what was finished is not trained again, and the end is that of a check in one go. Another
    band of cost scores other networks by the weights that are there."""
    command = [sys.executable, "-m", "nas", "accuracy", "check", "--space", SPACE_FILE, "--data", str(photos)]
    command += ["--networks", "8", "--steps", str(FEWEST_STEPS)]
    process = subprocess.Popen(command, env=dict(os.environ), stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not list(cache.glob("*.json")):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode == 130
    assert "the same command continues" in err.splitlines()[-1]
    finished = {path: path.stat().st_mtime_ns for path in cache.glob("*.safetensors")}
    assert 0 < len(finished) < 5
    watch = Seen()
    found = run(photos, watch=watch)
    assert not any(text == f"training 1 of 5, {FEWEST_STEPS // 8} steps" for text in watch.texts)
    assert finished.items() <= {path: path.stat().st_mtime_ns for path in cache.glob("*.safetensors")}.items()
    assert [(one.steps, one.seed) for one in found.trainings] == [(5, 0), (10, 0), (20, 0), (40, 0), (40, 1)]
    assert {len(one.accuracies) for one in found.trainings} == {8}
    again = Seen()
    assert run(photos, watch=again) == found
    assert not any(text.startswith("training") for text in again.texts)
    assert {entry.path for entry in entries(("check",))} == set(cache.iterdir())

    cheap = Seen()
    median = float(np.median([cost_ms(SPACE.sample(at)) for at in range(40)]))
    other = run(photos, watch=cheap, latency_target=0.85 * median, device=cost_ms)
    assert set(other.keys) != set(found.keys)
    assert not [text for text in cheap.texts if text.startswith("training") and "scoring" not in text]

    monkeypatch.setenv("NAS_CACHE", str(tmp_path / "other"))
    assert without_seconds(run(photos)) == without_seconds(found)


def test_damaged_files_are_made_again(photos: Path, cache: Path) -> None:
    found = run(photos)
    for path in cache.iterdir():
        path.write_bytes(b"{}" if path.suffix == ".json" else b"x" * 99)
    assert without_seconds(run(photos)) == without_seconds(found)


def test_the_search_takes_over_the_recommendation(photos: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For the same space and images, unless a length was given; still cut to its part of the budget."""
    monkeypatch.setattr(shared_training, "seconds_per_step", lambda *_: 0.1)
    data, config = load_data(photos, 24), proxy_of(SearchOptions(), SPACE, None)

    def steps(watch: Silent | None = None, space: nas.Space = SPACE, **given: Any) -> int:
        options = SearchOptions(**given)
        return within_budget(proxy_of(options, space, None), options, space, data, watch or Silent()).shared_steps

    assert steps(trials=9) == config.shared_steps
    keep_recommendation(SPACE, data, config, 1234)
    watch = Seen()
    assert steps(watch, trials=9) == 1234
    assert len(watch.said) == 1
    assert "1,234" in watch.said[0]
    assert steps(budget_s=4000.0) == 1234
    assert steps(budget_s=100.0) == 400
    assert steps(shared_steps=77) == 77
    assert steps(steps=50) == 0
    assert steps(space=nas.load_space("mbconv"), trials=9) == config.shared_steps
    keep_recommendation(SPACE, data, config, None)
    assert recommended_steps(SPACE, data, config) is None
    for bad in ("", "[]", json.dumps({"schema": 2, "steps": -4}), json.dumps({"schema": 9, "steps": 4})):
        keep_recommendation(SPACE, data, config, 1234)
        next(cache.glob("recommended-*.json")).write_text(bad)
        assert steps(trials=9) == config.shared_steps


def test_a_search_records_the_recommended_length(photos: Path, cache: Path, tmp_path: Path) -> None:
    data, config = load_data(photos, 24), proxy_of(SearchOptions(), SPACE, None)
    keep_recommendation(SPACE, data, config, 7)
    record = nas.search(SPACE_FILE, data=photos, device=cost_ms, references=(), trials=1)
    assert record.info.proxy is not None
    assert record.info.proxy["shared_steps"] == 7
