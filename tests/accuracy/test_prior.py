"""The model as a file, and what it says of networks that its data do not cover."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.accuracy import prior
from nas.accuracy.calibrate import calibrate
from nas.accuracy.effects import AT, CHANGES, effects
from nas.accuracy.features import NAMES, SLOTS, features
from nas.accuracy.prior import PriorModel, bundled
from nas.accuracy.record import chance_above
from nas.arch.arch import Arch
from nas.arch.space_yaml import load_space
from nas.references.table import reference, reference_names
from nas.system.errors import InputError
from tests.accuracy.simulated import SPREAD, source
from tests.accuracy.simulated import effects as true_effects

REFERENCES = [reference(name) for name in reference_names()]
MODEL = bundled()
nets = st.sampled_from(REFERENCES) | st.integers(0, 10**6).map(lambda seed: load_space("mbconv").sample(seed))


@pytest.fixture(scope="module")
def own() -> PriorModel:
    """Fitted to networks with swish, kernels 3 and 5, at 224 px."""
    return calibrate([source(count=150)], "own")


def test_a_file_predicts_what_the_model_predicted(own: PriorModel, tmp_path: Path) -> None:
    """To six significant digits; a second round trip changes nothing."""
    own.save(tmp_path / "own.json")
    read = PriorModel.load(tmp_path / "own.json")
    for one, other in zip(read.many(REFERENCES), own.many(REFERENCES), strict=True):
        assert one == pytest.approx(other, rel=1e-3)
    assert PriorModel.from_json(read.to_json()).to_json() == read.to_json()
    assert (read.name, read.task, read.level, read.sources) == ("own", "flowers", "a", own.sources)
    assert [path.name for path in tmp_path.iterdir()] == ["own.json"]


def test_estimates_of_many_are_those_of_each() -> None:
    means, sds = MODEL.many(REFERENCES)
    assert means.shape == sds.shape == (len(REFERENCES),)
    for arch, mean, sd in zip(REFERENCES, means, sds, strict=True):
        accuracy = MODEL(arch)
        assert (accuracy.mean, accuracy.sd) == pytest.approx((mean, sd))
        assert accuracy.task == "ImageNet"
        assert 0 < accuracy.sd < 0.2 < accuracy.mean < 1
    logits = MODEL.logits(features(REFERENCES))
    assert 1 / (1 + np.exp(-logits)) == pytest.approx(means)
    assert MODEL.many([])[0].shape == (0,)


@settings(max_examples=50, deadline=None)
@given(nets, nets)
def test_the_chances_of_two_networks_sum_to_one(one: Arch, other: Arch) -> None:
    chance = MODEL.better(one, other)
    assert chance + MODEL.better(other, one) == pytest.approx(1)
    assert (chance > 0.5) == (MODEL(one).mean > MODEL(other).mean) or chance == pytest.approx(0.5, abs=1e-6)
    assert MODEL.better(one, one) == 0.5


def test_a_comparison_is_surer_than_two_estimates() -> None:
    """Both share the uncertain level of their family."""
    large, small = reference("mobilenet_v3_large"), reference("mobilenet_v3_small")
    one, other = MODEL(large), MODEL(small)
    apart = chance_above(one.mean - other.mean, math.hypot(one.sd, other.sd))
    assert MODEL.better(large, small) > apart > 0.9


def with_block(arch: Arch, **cells: Any) -> Arch:
    """The network with other cells in all its inverted residual blocks."""
    return replace(arch, rows=tuple(replace(row, **cells) if row.op == "mbconv" else row for row in arch.rows))


def test_estimates_outside_the_data_are_less_certain_and_say_so(own: PriorModel) -> None:
    """Kernel 7, a resolution and an activation that the data do not have."""
    inside = source(count=150).archs[0]
    assert own.outside(inside) == []
    assert "outside" not in own(inside).evidence
    for changed, name, words in [
        (with_block(inside, kernel=7), "4a.k7", "7×7"),
        (replace(inside, resolution=320), "side", "resolution"),
        (with_block(inside, act="relu"), "4a.act", "swish"),
    ]:
        assert name in own.outside(changed)
        assert words in own(changed).evidence
        assert "\n" not in own(changed).evidence
        slope = own(changed).mean * (1 - own(changed).mean) / (own(inside).mean * (1 - own(inside).mean))
        assert own(changed).sd > 1.3 * slope * own(inside).sd
    assert {"1.k7", "5b.act", "side", "other"} <= set(own.never_varied())
    assert "4a.k5" not in own.never_varied()


def test_bounds_are_inclusive_after_a_round_trip(own: PriorModel) -> None:
    """Six digits of log2(6) are less than log2(6)."""
    table = source(count=150)
    read = PriorModel.from_json(own.to_json())
    assert not any(read.outside(arch) for arch in table.archs)
    assert not MODEL.outside(reference("efficientnet_b0"))


def test_effects_are_those_of_the_simulation() -> None:
    """The true effects of kernels of a simulated table, within three standard errors (a few may be beyond two)."""
    model = calibrate([source(count=400, noise=0.02)])
    found = {(effect.slot, effect.change): effect for effect in effects(model)}
    true = dict(zip(NAMES, true_effects() / SPREAD, strict=True))
    z = [
        (found[slot, "5×5"].points - 100 * AT * (1 - AT) * true[f"{slot}.k5"]) / max(found[slot, "5×5"].sd, 1e-3)
        for slot in SLOTS
    ]
    assert np.abs(z).max() < 4
    assert np.sqrt(np.mean(np.square(z))) < 2
    assert {change for _, change in found} == set(CHANGES) - {"7×7", "h_swish"}
    assert {slot for slot, _ in found} == set(SLOTS)


Edit = Callable[[dict[str, Any]], Any]
BROKEN: dict[str, tuple[Edit, str]] = {
    "kind": (lambda d: d.update(kind="latency"), "nas accuracy calibrate"),
    "no kind": (lambda d: d.pop("kind"), "nas accuracy calibrate"),
    "schema": (lambda d: d.update(schema=99), "99"),
    "a feature of another version": (lambda d: d["features"].__setitem__(0, "1.q"), "'1.q'"),
    "features in another order": (lambda d: d["features"].reverse(), "another order"),
    "a feature less": (lambda d: d["features"].pop(), "missing"),
    "features that are no list": (lambda d: d.update(features=3), "calibrate it again"),
    "features of lists": (lambda d: d.update(features=[[1]]), "calibrate it again"),
    "a weight less": (lambda d: d["weights"].pop(), "weights"),
    "a weight that is no number": (lambda d: d["weights"].__setitem__(0, "x"), "weights"),
    "a weight that is not finite": (lambda d: d["weights"].__setitem__(0, float("nan")), "weights"),
    "a weight that is true": (lambda d: d["weights"].__setitem__(0, True), "weights"),
    "a centre that is gone": (lambda d: d.pop("centre"), "centre"),
    "a negative scale": (lambda d: d["scale"].__setitem__(0, -1), "scales"),
    "a covariance of another shape": (lambda d: d["covariance"].append(0.0), "covariance"),
    "an intercept that is a text": (lambda d: d.update(intercept="1"), "intercept"),
    "an endless intercept": (lambda d: d.update(intercept=float("inf")), "intercept"),
    "a negative sd": (lambda d: d.update(noise_sd=-0.1), "0 or more"),
    "no stretch": (lambda d: d.pop("stretch"), "stretch"),
    "no task": (lambda d: d.pop("task"), "task"),
    "a name that is a number": (lambda d: d.update(name=3), "name"),
    "no sources": (lambda d: d.update(sources=[]), "sources"),
    "too many sources": (lambda d: d.update(sources=d["sources"] * 100), "sources"),
    "a source that is a text": (lambda d: d.update(sources=["x"]), "'x'"),
    "a source without figures": (lambda d: d["sources"][0].pop("held_out"), "held_out"),
    "a figure that is a text": (lambda d: d["sources"][0]["held_out"].update(tau="high"), "'high'"),
    "half a network": (lambda d: d["sources"][0]["held_out"].update(networks=0.5), "0.5"),
    "a source without a licence": (lambda d: d["sources"][0].pop("licence"), "licence"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_field_is_one_line_with_the_file(case: str, tmp_path: Path) -> None:
    edit, says = BROKEN[case]
    data = json.loads(MODEL.to_json())
    edit(data)
    path = tmp_path / "model.json"
    path.write_text(json.dumps(data))
    with pytest.raises(InputError) as caught:
        PriorModel.load(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert says in text
    assert "\n" not in text
    assert len(text) < 300 + len(str(path))


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '"x"', "[" * 100_000, '{"kind": "accuracy"}'])
def test_other_texts_are_no_model(text: str, tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"model\.json") as caught:
        PriorModel.load(path)
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "latin.json").write_bytes("nettö".encode("latin-1"))
    for name, says in [("absent.json", "No such file"), (".", "directory"), ("latin.json", "UTF-8")]:
        with pytest.raises(InputError, match=says) as caught:
            PriorModel.load(tmp_path / name)
        assert str(tmp_path) in str(caught.value)
    MODEL.save(tmp_path / "model.json")
    monkeypatch.setattr(prior, "MAX_BYTES", 1000)
    with pytest.raises(InputError, match="larger"):
        PriorModel.load(tmp_path / "model.json")
