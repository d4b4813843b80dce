"""Who decides how accurate the networks of a run are."""

from __future__ import annotations

from typing import Any

import pytest

from nas.accuracy.prior import bundled
from nas.arch.space_yaml import load_space
from nas.engine.judge import judge_of, trains_for_nothing
from nas.engine.options import SearchOptions
from nas.engine.run.info import RunInfo
from nas.engine.run.record import Candidate
from nas.latency.record import Latency
from nas.references.table import reference
from nas.system.errors import InputError

LATENCY = Latency(5.0, None, None, "box", "onnxruntime", 1, 1, "predicted")


@pytest.mark.parametrize(
    ("options", "nothing", "word"),
    [
        ({}, True, "trained"),
        ({"data": "photos"}, False, "trained"),
        ({"accuracy": "train"}, False, "trained"),
        ({"accuracy": "imagenet"}, False, "estimated"),
        ({"accuracy": "file:own.json", "data": "photos"}, False, "estimated"),
        ({"evaluate": lambda arch: 0.5}, False, "scored"),
    ],
)
def test_how_candidates_get_their_score(options: dict[str, Any], nothing: bool, word: str) -> None:
    """Trainings on generated images are no evidence, except where they alone decide."""
    chosen = SearchOptions(**options)
    assert trains_for_nothing(chosen) == nothing
    assert RunInfo(chosen, load_space("mbconv"), "run").scored_word == word


def test_shared_weights_score_without_a_training() -> None:
    """Unless each network is trained further."""
    info = RunInfo(SearchOptions(), load_space("mbconv"), "run", proxy={"shared_steps": 4000, "tune": 0})
    assert info.scored_word == "scored"
    assert RunInfo(SearchOptions(), info.space, "run", proxy={"shared_steps": 4000, "tune": 9}).scored_word == "trained"


def test_evidence_does_not_depend_on_the_order_of_candidates() -> None:
    """What one network has outside the data of the model is not said of the others."""
    judge = judge_of(RunInfo(SearchOptions(accuracy="imagenet"), load_space("mbconv"), "run"))
    assert judge is not None
    odd = next(arch for arch in map(load_space("mbconv").sample, range(50)) if bundled().outside(arch))
    archs = [odd, reference("efficientnet_b0")]
    networks = [Candidate(arch, "COMPLETE", LATENCY, 1, 1, 1, proxy_accuracy=0.5) for arch in archs]
    for some in (networks, networks[::-1]):
        assert {one.estimate and one.estimate.evidence for one in judge.estimated(some)} == {bundled().evidence}


def test_a_run_of_an_earlier_version_is_judged_as_it_began() -> None:
    """Its run.json names no accuracy model: observed scores decide, and its trainings count."""
    old = SearchOptions.from_dict({"target_ms": None, "data": None})
    assert judge_of(RunInfo(old, load_space("efficientnet"), "old")) is None
    assert not old.estimates_only
    assert not trains_for_nothing(old)
    assert SearchOptions.from_dict(old.to_dict()) == old
    with pytest.raises(InputError, match="observed"):
        SearchOptions.parse(accuracy=old.accuracy)
