"""Runs that begin with networks and trainings of earlier ones, and runs whose best networks are trained again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import nas
from nas.arch.arch import Arch
from nas.engine.progress import Silent
from nas.engine.run.record import Repeat
from nas.engine.run.store import Store
from nas.system.errors import InputError
from tests.api.pictures import two_classes
from tests.api.test_search import SPACE, cost, score

PARTS: dict[str, Any] = {"device": cost, "evaluate": score}


def counting(asked: list[str]) -> Callable[[Arch], float]:
    def device(arch: Arch) -> float:
        asked.append(arch.key)
        return cost(arch)

    return device


class Listening(Silent):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("old") / "run"
    nas.search(SPACE, trials=12, run=folder, **PARTS)
    return folder


def test_given_networks_come_first_and_the_others_are_references(tmp_path: Path) -> None:
    """Names, files and `Arch` objects; one that breaks a limit is named and not evaluated."""
    archs = sorted((SPACE.sample(seed) for seed in range(20)), key=cost)
    fast, faster, slow = archs[3], archs[0], archs[-1]
    (tmp_path / "fast.json").write_text(fast.to_json())
    evaluated: list[str] = []

    def spy(arch: Arch) -> float:
        evaluated.append(arch.key)
        return score(arch)

    watch = Listening()
    start = [str(tmp_path / "fast.json"), faster, slow, "mobilenet_v2"]
    found = nas.search(
        SPACE, latency_target=cost(fast), guard=0, trials=4, start=start, device=cost, evaluate=spy, watch=watch
    )
    assert evaluated[:3] == [nas.reference("mobilenet_v2").key, fast.key, faster.key]
    assert slow.key not in evaluated
    assert any(slow.key in text and "latency" in text for text in watch.said)
    assert [one.name for one in found.references] == ["mobilenet_v2"]
    assert list(found.trials.key[:2]) == [fast.key, faster.key]


def test_a_network_that_the_device_does_not_know_is_left_out() -> None:
    """Also one of --start outside the space, before anything is evaluated."""

    def device(arch: Arch) -> float:
        if arch not in SPACE:
            raise InputError("no such operator")
        return cost(arch)

    watch = Listening()
    found = nas.search(
        SPACE, trials=2, start=["mobilenet_v2"], references=[], device=device, evaluate=score, watch=watch
    )
    assert list(found.references) == []
    assert any("mobilenet_v2" in text and "no such operator" in text for text in watch.said)


def test_a_resumed_run_asks_the_device_about_no_stored_network_again(tmp_path: Path) -> None:
    asked: list[str] = []
    run, references = tmp_path / "run", ["mobilenet_v2"]
    options: dict[str, Any] = {"device": counting(asked), "evaluate": score}
    first = nas.search(SPACE, trials=9, latency_target=60, guard=0, references=references, run=run, **options)
    stored = {one.key for one in [*first.candidates, *first.references]}
    assert len(stored) >= 10
    asked.clear()
    again = nas.resume(run, trials=14, **options)
    assert len(again.candidates) > len(first.candidates)
    assert asked
    assert not stored & set(asked)


def test_a_resumed_run_has_time_to_search_whatever_was_spent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reserve for training the best networks again is a share of the time that is left."""
    (tmp_path / "photos").mkdir()
    photos = two_classes(tmp_path / "photos", 200, 20)
    options: dict[str, Any] = {"data": photos, "accuracy": "train", "steps": 1, "references": [], "device": cost}
    nas.search(SPACE, trials=1, run=tmp_path / "run", **options)
    with Store.open(tmp_path / "run") as store:
        (one,), _ = store.load()
        store.append_repeat(one.key, Repeat(1, 0.5, None), 10_000.0)
    limits: list[float] = []

    def searching(*given: Any, **_: Any) -> None:
        limits.append(given[2].budget_s)
        raise KeyboardInterrupt

    monkeypatch.setattr("nas.engine.loop.run_search", searching)
    with pytest.raises(KeyboardInterrupt):
        nas.resume(tmp_path / "run", budget=100, device=cost)
    assert limits == [pytest.approx(10_090)]


def test_a_run_with_a_warm_start_is_resumed_from_its_folder_alone(old: Path, tmp_path: Path) -> None:
    """What the run knows is kept: the earlier run and the files may be gone."""
    gone = tmp_path / "gone"
    shutil.copytree(old, gone)
    given = SPACE.sample(3)
    (tmp_path / "arch.json").write_text(given.to_json())
    watch, run = Listening(), tmp_path / "run"
    first = nas.search(
        SPACE, trials=2, warm_start=[gone], start=[tmp_path / "arch.json"], run=run, watch=watch, **PARTS
    )
    assert any("12" in text and "gone" in text for text in watch.said)
    assert first.trials.key[0] == given.key
    shutil.rmtree(gone)
    (tmp_path / "arch.json").unlink()
    again = nas.resume(run, trials=5, **PARTS)
    assert list(again.trials.key[:2]) == list(first.trials.key)
    assert len(again.trials) == 5
    with Store.open(run, read_only=True) as store:
        assert len(store.warm_start().runs[0].trainings) == 12


def broken(old: Path, folder: Path) -> Path:
    shutil.copytree(old, folder)
    with (folder / "study.journal").open("a") as file:
        file.write("{\n")
    return folder


def of_another_schema(old: Path, folder: Path) -> Path:
    shutil.copytree(old, folder)
    data = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(data | {"schema": 99}))
    return folder


def without_trainings(old: Path, folder: Path) -> Path:
    shutil.copytree(old, folder)
    (folder / "study.journal").unlink()
    return folder


def no_run(old: Path, folder: Path) -> Path:
    return folder


@pytest.mark.parametrize(
    ("make", "named"),
    [(broken, "study.journal"), (of_another_schema, "99"), (without_trainings, "no trainings"), (no_run, "run.json")],
)
def test_a_run_that_cannot_be_used_is_one_line(
    make: Callable[[Path, Path], Path], named: str, old: Path, tmp_path: Path
) -> None:
    folder = make(old, tmp_path / "bad")
    with pytest.raises(InputError, match=named) as error:
        nas.search(SPACE, trials=2, warm_start=[folder], run=tmp_path / "new", **PARTS)
    assert "\n" not in str(error.value)
    assert str(folder) in str(error.value)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("start", ["no_such_net", "missing.json", "torchvision:vgg16"])
def test_a_network_that_cannot_be_read_is_one_line(start: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=start) as error:
        nas.search(SPACE, trials=2, start=[start], run=tmp_path / "new", **PARTS)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "new").exists()


def test_other_values_are_refused(old: Path) -> None:
    for given in ({"start": "mobilenet_v2"}, {"start": [3]}, {"warm_start": str(old)}):
        with pytest.raises(InputError, match="list"):
            nas.search(SPACE, trials=2, **PARTS, **given)
    with pytest.raises(InputError, match="--warm-start"):
        nas.search(SPACE, trials=2, device=cost, accuracy="imagenet", warm_start=[old])


def test_the_best_networks_are_trained_again_and_it_is_kept(tmp_path: Path) -> None:
    """With trainings from scratch a tenth of them is added, with other seeds; the folder keeps them, and a resumed run
    makes none twice."""
    (tmp_path / "photos").mkdir()
    photos = two_classes(tmp_path / "photos", 200, 20)
    run = tmp_path / "run"
    options: dict[str, Any] = {"data": photos, "accuracy": "train", "steps": 1, "references": [], "device": cost}
    found = nas.search(SPACE, trials=20, run=run, **options)
    repeats = json.loads((run / "repeats.json").read_text())["repeats"]
    assert len(repeats) == 2
    assert {one["seed"] for one in repeats} <= {1, 2}
    assert sum(len(one.repeats) for one in found.candidates) == 2
    assert "Trainings" in (run / "report.md").read_text()
    again = nas.resume(run, trials=20, device=cost)
    assert json.loads((run / "repeats.json").read_text())["repeats"] == repeats
    assert [one.score for one in again.front] == pytest.approx([one.score for one in found.front])
    (run / "repeats.json").write_text('{"schema": 1, "repeats": [{"key": "a", "seed": -1}]}')
    with pytest.raises(InputError, match=r"repeats.json.*-1"):
        nas.resume(run, device=cost)
