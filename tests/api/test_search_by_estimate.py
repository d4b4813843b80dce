"""Searches that an accuracy model decides: nothing is trained, and the folder alone tells what decided."""

from __future__ import annotations

import inspect
from dataclasses import fields
from pathlib import Path

import pytest

import nas
from nas.accuracy.prior import bundled
from nas.api.search import search
from nas.cli.main import main
from nas.engine.options import SearchOptions


def macs(arch: nas.Arch) -> float:
    return nas.count(arch).macs / 1e6


def test_every_option_of_a_search_reaches_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """`nas.search` passes each argument on under its own name: an argument that is dropped would go unnoticed."""
    taken: dict[str, object] = {}
    monkeypatch.setattr(SearchOptions, "parse", lambda **given: taken.update(given))
    monkeypatch.setattr("nas.api.search.search_with", lambda *_: None)
    given = {name: object() for name in inspect.signature(search).parameters if name not in ("space", "run", "watch")}
    search("mbconv", **given)  # type: ignore[arg-type]
    assert taken == given
    renamed = {"target_ms": "latency_target", "budget_s": "budget"}
    from_device = {"further"}  # read from `device` and `latency_target`
    assert {renamed.get(one.name, one.name) for one in fields(SearchOptions)} == set(given) | from_device


def test_the_bundled_model_alone_decides() -> None:
    """What is found is within the cap and better, by the model, than random networks within it; nothing was trained."""
    space = nas.load_space("efficientnet")
    found = nas.search(space, accuracy="imagenet", device=macs, latency_target=300, trials=40, references=[])
    assert found.best is not None
    assert macs(found.best) <= 300
    assert found.trials["proxy_accuracy"].isna().all()
    means, sds = bundled().many([found.best])
    best = found.pareto.iloc[-1]
    assert (best["accuracy"], best["accuracy_sd"]) == pytest.approx((means[0], sds[0]))
    drawn = [arch for arch in map(space.sample, range(400)) if macs(arch) <= 300]
    assert means[0] > bundled().many(drawn)[0].max()


def test_an_own_model_is_kept_in_the_folder(tmp_path: Path) -> None:
    """A run that estimates with a file is resumed and reported after the file has gone."""
    model = nas.accuracy_model("imagenet")
    assert isinstance(model, nas.PriorModel)
    model.save(tmp_path / "own.json")
    options = {"device": macs, "references": []}
    space, run = "efficientnet", tmp_path / "run"
    first = nas.search(space, accuracy=f"file:{tmp_path / 'own.json'}", trials=4, run=run, **options)
    (tmp_path / "own.json").unlink()
    longer = nas.resume(run, trials=6, device=macs)
    assert list(longer.trials["key"][:4]) == list(first.trials["key"])
    assert longer.trials["accuracy_sd"].notna().all()
    assert nas.accuracy_model(run)(longer.best).mean == pytest.approx(longer.pareto.iloc[-1]["accuracy"])


def test_a_function_decides_and_is_given_again(tmp_path: Path) -> None:
    """A function in place of a model: its values are the scores; a resumed run asks for it."""
    run = tmp_path / "run"
    found = nas.search("shufflenet", accuracy=macs, device=macs, trials=5, run=run)
    assert found.best is not None
    assert found.pareto.iloc[-1]["accuracy"] == pytest.approx(macs(found.best))
    with pytest.raises(nas.InputError, match="accuracy"):
        nas.resume(run, trials=6, device=macs)
    assert len(nas.resume(run, trials=6, accuracy=macs, device=macs).trials) >= 6


@pytest.mark.parametrize(
    ("accuracy", "named"),
    [("imagenot", "imagenot"), ("file:", "file:PATH"), ("file:absent.json", "absent.json"), (3, "3")],
)
def test_an_accuracy_that_is_none_is_one_line(accuracy: object, named: str) -> None:
    with pytest.raises(nas.InputError) as caught:
        nas.search("shufflenet", accuracy=accuracy, device=macs, trials=1)  # type: ignore[arg-type]
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_model_of_another_schema_leaves_nothing_behind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2, one line that names the file, and no run folder."""
    (tmp_path / "old.json").write_text('{"kind": "accuracy", "schema": 99}')
    run = tmp_path / "run"
    argv = ["search", "--accuracy", f"file:{tmp_path / 'old.json'}", "--device", "pixel1", "--trials", "1"]
    with pytest.raises(SystemExit) as left:
        main([*argv, "--run", str(run)])
    assert left.value.code == 2
    assert "old.json" in capsys.readouterr().err
    assert not run.exists()


def test_evaluate_and_a_model_are_not_both_given() -> None:
    with pytest.raises(nas.InputError, match="evaluate"):
        nas.search("shufflenet", accuracy="imagenet", evaluate=macs, device=macs, trials=1)


def test_trainings_of_a_run_make_a_model(tmp_path: Path) -> None:
    """A run folder is an accuracy model where trainings count; a caller's own scores are none."""
    nas.search("shufflenet", evaluate=macs, device=macs, trials=3, run=tmp_path / "own")
    with pytest.raises(nas.InputError, match="own"):
        nas.accuracy_model(tmp_path / "own")
