"""Searches that score by shared weights: how long those are trained, that they are resumed, what they cost."""

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
from nas.api import shared as wiring
from nas.api.shared import proxy_of, shared_weights, within_budget
from nas.arch.space_yaml import space_path
from nas.data.load import load_data
from nas.engine.options import SearchOptions
from nas.engine.progress import SearchProgress, Silent
from nas.system.errors import InputError
from nas.training import shared_training
from nas.training.config import ProxyConfig
from tests.api.pictures import two_classes
from tests.training.shared_child import SPACE
from tests.training.test_proxy import stripes

pytestmark = pytest.mark.torch

SPACE_FILE = str(space_path("nas_bench_macro", "tabular"))


def cost_ms(arch: nas.Arch) -> float:
    return len(arch.rows)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of twelve images."""
    return two_classes(tmp_path_factory.mktemp("photos"), noise=128, apart=100)


def search(photos: Path, **options: Any) -> nas.Record:
    given: dict[str, Any] = {"device": cost_ms, "references": (), "trials": 2, "data": photos, "shared_steps": 6}
    return nas.search(SPACE_FILE, **given | options)


def proxy(**options: Any) -> ProxyConfig:
    return proxy_of(SearchOptions(**options), SPACE, None)


def test_lengths() -> None:
    """Shared by default; `steps` alone trains from scratch; both are a contradiction."""
    assert proxy().shared_steps == ProxyConfig().shared_steps > 0
    assert (proxy(steps=7).steps, proxy(steps=7).shared_steps) == (7, 0)
    assert proxy(shared_steps=9).shared_steps == 9
    assert proxy(steps=7, shared_steps=0).steps == 7
    with pytest.raises(InputError, match=r"--steps.*--shared-steps 9"):
        SearchOptions(steps=7, shared_steps=9)
    for given in (None, 0, 9):
        options = SearchOptions(shared_steps=given)
        assert SearchOptions.from_dict(json.loads(json.dumps(options.to_dict()))) == options
    for bad in (-1, 1.5, 10**8):
        with pytest.raises(InputError, match="shared_steps"):
            SearchOptions(shared_steps=bad)  # type: ignore[arg-type]


def test_an_old_run_continues_from_scratch() -> None:
    """Its proxy knows no shared steps; a broken one is named."""
    old = ProxyConfig(steps=50).to_dict()
    del old["shared_steps"], old["tune"]
    assert proxy_of(SearchOptions(), SPACE, old) == ProxyConfig(steps=50, shared_steps=0)
    with pytest.raises(InputError, match=r"run\.json.*stepz"):
        proxy_of(SearchOptions(), SPACE, {"stepz": 1})


@pytest.mark.parametrize(
    ("options", "generated", "steps"),
    [
        ({"budget_s": 100.0}, False, 800),
        ({"budget_s": 10.0}, False, 200),
        ({"budget_s": 1e5}, False, 4000),
        ({"trials": 9}, False, 4000),
        ({"budget_s": 10.0, "shared_steps": 1234}, False, 1234),
        ({"budget_s": 100.0}, True, 0),
        ({"steps": 9, "budget_s": 100.0}, False, 0),
    ],
)
def test_the_shared_training_takes_at_most_its_part_of_the_budget(
    options: dict[str, Any], generated: bool, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At 50 ms a step: 40 % of the budget, but some steps at least, and none on generated images."""
    from dataclasses import replace

    monkeypatch.setattr(shared_training, "seconds_per_step", lambda *_: 0.05)
    given = SearchOptions(**options)
    found = within_budget(proxy_of(given, SPACE, None), given, SPACE, replace(stripes(), generated=generated), Silent())
    assert found.shared_steps == steps


def test_references_are_drawn_as_well() -> None:
    """About every tenth network is one."""
    draw = wiring.draw_of(SPACE, SearchOptions(references=("mobilenet_v2",)))
    rng = np.random.default_rng(0)
    fixed = [draw(rng) == nas.reference("mobilenet_v2") for _ in range(400)]
    assert 20 < sum(fixed) < 60
    alone = wiring.draw_of(SPACE, SearchOptions(references=()))
    assert not any(alone(rng) == nas.reference("mobilenet_v2") for _ in range(100))


def test_a_search_on_own_images_scores_by_shared_weights(photos: Path, tmp_path: Path) -> None:
    """In this process, in workers, and resumed: the same scores. The seconds count as search time."""
    record = search(photos, run=tmp_path / "run")
    kept = json.loads((tmp_path / "run" / "run.json").read_text())
    assert kept["proxy"]["shared_steps"] == 6
    assert (tmp_path / "run" / "shared.safetensors").exists()
    longer = nas.resume(tmp_path / "run", device=cost_ms, trials=3)
    once = search(photos, trials=3, run=tmp_path / "once", workers=2)
    scores = dict(zip(longer.trials["key"], longer.trials["proxy_accuracy"], strict=True))
    again = dict(zip(once.trials["key"], once.trials["proxy_accuracy"], strict=True))
    common = scores.keys() & again.keys()
    assert len(record.trials) >= 2
    assert common
    assert {key: scores[key] for key in common} == {key: again[key] for key in common}
    from nas.training.shared_file import read_shared

    shared = read_shared(tmp_path / "run" / "shared.safetensors", {})
    assert shared.step == 6
    assert longer.info.spent_s is not None
    assert longer.info.spent_s >= shared.seconds


class Stop(Silent):
    """Interrupts when so many shared steps are done; says how much of the budget is used when the search begins."""

    def __init__(self, after: int | None = None) -> None:
        self.after = after
        self.began_at: float | None = None

    def step(self, done: int, total: int, text: str) -> None:
        if text == shared_training.TEXT and done == self.after:
            raise KeyboardInterrupt

    def search(self, progress: SearchProgress) -> None:
        if self.began_at is None:
            self.began_at = progress.elapsed_s


def test_an_interrupted_shared_training_is_resumed(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C in the middle keeps the run and what was saved; its seconds count once."""
    monkeypatch.setattr(shared_training, "SAVE_EVERY_S", 0.0)
    run = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        search(photos, run=run, watch=Stop(after=4))
    with pytest.raises(InputError, match="nas resume"):
        search(photos, run=run)
    watch = Stop()
    record = nas.resume(run, device=cost_ms, watch=watch)
    whole = search(photos, run=tmp_path / "whole")
    columns = ["key", "proxy_accuracy"]
    assert record.trials[columns].equals(whole.trials[columns])
    assert (run / "shared.safetensors").stat().st_size == (tmp_path / "whole" / "shared.safetensors").stat().st_size
    from nas.training.shared_file import read_shared

    seconds = read_shared(run / "shared.safetensors", {}).seconds
    assert watch.began_at is not None
    assert watch.began_at >= seconds
    later = Stop()
    nas.resume(run, device=cost_ms, trials=3, watch=later)
    assert later.began_at is not None
    assert record.info.spent_s is not None
    assert later.began_at < record.info.spent_s + seconds + 5


def test_a_search_killed_in_the_shared_training_is_resumed(photos: Path, tmp_path: Path) -> None:
    """SIGKILL, as it comes."""
    code = (
        "import sys, nas\n"
        "from nas.training import shared_training\n"
        "shared_training.SAVE_EVERY_S = 0.0\n"
        f"nas.search({SPACE_FILE!r}, device=len_of, references=(), trials=1, data=sys.argv[1], shared_steps=60, "
        "run=sys.argv[2])\n"
    ).replace("len_of", "lambda arch: len(arch.rows)")
    run = tmp_path / "run"
    process = subprocess.Popen([sys.executable, "-c", code, str(photos), str(run)], env=dict(os.environ))
    while process.poll() is None and not (run / "shared.safetensors").exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    record = nas.resume(run, device=cost_ms)
    assert record.info.proxy is not None
    assert record.info.proxy["shared_steps"] == 60
    assert record.trials["proxy_accuracy"].notna().sum() == 1


def test_foreign_weights_in_a_run_are_one_line(photos: Path, tmp_path: Path) -> None:
    """Those of another space, and a damaged file."""
    run = tmp_path / "run"
    search(photos, run=run)
    data = load_data(photos, 24)
    options = SearchOptions(data=photos, shared_steps=2, references=())
    other = nas.load_space("mbconv")
    shared_weights(proxy_of(options, other, None), options, other, data, tmp_path / "other.safetensors", Silent())
    (tmp_path / "other.safetensors").rename(run / "shared.safetensors")
    with pytest.raises(InputError, match=r"shared\.safetensors.*another space") as error:
        nas.resume(run, device=cost_ms, trials=3)
    assert "\n" not in str(error.value)
    (run / "shared.safetensors").write_bytes(b"x" * 100)
    with pytest.raises(InputError, match=r"shared\.safetensors.*delete"):
        nas.resume(run, device=cost_ms, trials=3)
    (run / "shared.safetensors").unlink()
    assert len(nas.resume(run, device=cost_ms, trials=3).trials) >= 3
