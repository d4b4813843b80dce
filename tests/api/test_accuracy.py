"""Accuracy models in Python: found by name or file, fitted, and used on any network."""

from pathlib import Path

import numpy as np
import pytest

import nas
from nas.accuracy.calibrate import calibrate
from nas.api.accuracy import predict
from tests.accuracy.simulated import source
from tests.cli.test_accuracy import table


def test_the_contract_of_an_accuracy_model() -> None:
    model = nas.accuracy_model("imagenet")
    archs = [nas.reference("mobilenet_v2"), nas.load_space("mbconv").sample(0)]
    means, sds = model.many(archs)
    assert means.shape == sds.shape == (2,)
    accuracy = model(archs[0])
    assert isinstance(model, nas.AccuracyModel)
    assert isinstance(accuracy, nas.Accuracy)
    assert (accuracy.mean, accuracy.sd) == pytest.approx((means[0], sds[0]))
    assert accuracy.task == model.task == "ImageNet"
    assert "imagenet" in accuracy.evidence


def test_a_model_is_found_by_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With or without ``file:``, as a text or a path, and below the home folder."""
    monkeypatch.setenv("HOME", str(tmp_path))
    calibrate([source(count=40)], "own").save(tmp_path / "own.json")
    for spec in (f"file:{tmp_path / 'own.json'}", tmp_path / "own.json", "file:~/own.json"):
        assert nas.accuracy_model(spec).task == "flowers"


@pytest.mark.parametrize("spec", ["", "file:", "nowhere", "results/nowhere", "file:nowhere.json", "a\nb"])
def test_an_unknown_model_is_one_line(spec: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(nas.InputError) as caught:
        nas.accuracy_model(spec)
    assert "\n" not in str(caught.value)


def test_calibration_writes_what_it_returns(tmp_path: Path) -> None:
    model = nas.calibrate_accuracy([table(tmp_path / "mine.csv")], tmp_path / "out.json", task="flowers")
    read = nas.accuracy_model(tmp_path / "out.json")
    archs = source(count=20, seed=3).archs
    assert np.allclose(model.many(archs)[0], read.many(archs)[0], atol=1e-4)
    assert (model.name, model.task) == ("out", "flowers")
    (tmp_path / "out.json").unlink()
    assert nas.calibrate_accuracy([str(tmp_path / "mine.csv")]).name == "own"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.csv"]


def test_published_figures_are_those_of_the_same_network() -> None:
    """Width 1.0 is the network's own; another resolution has another figure."""
    figures = {
        "mobilenet_v2": 72.0,
        "mobilenet_v2@width=1.0": 72.0,
        "mobilenet_v2@resolution=224": 72.0,
        "mobilenet_v3_small@width=0.75": 65.4,
        "mobilenet_v2@resolution=100": None,
    }
    found = predict(list(figures), nas.accuracy_model("imagenet"))
    assert {one.name: one.published.get("paper") for one in found} == figures


def test_any_accuracy_model_predicts_by_name() -> None:
    class Constant:
        task = "flowers"

        def __call__(self, arch: nas.Arch) -> nas.Accuracy:
            return nas.Accuracy(0.5, 0.1, self.task, "a guess")

        def many(self, archs: object) -> tuple[np.ndarray, np.ndarray]:
            raise NotImplementedError

    (one,) = predict(["mobilenet_v2"], Constant())  # type: ignore[arg-type]
    assert (one.accuracy.mean, one.published, one.outside, one.params) == (0.5, {}, (), 3_504_872)
