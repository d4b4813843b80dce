"""The options of a search: checked once, and read back from plain values."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.engine.options import MAX_SEED, REFERENCES, SearchOptions
from nas.system.errors import InputError

OPTIONS = st.builds(
    SearchOptions,
    target_ms=st.none() | st.floats(1e-3, 1e6),
    guard=st.none() | st.floats(0, 0.5),
    device=st.sampled_from(["host", "pixel1", "table:a.json"]),
    data=st.none() | st.text(min_size=1),
    trials=st.none() | st.integers(1, 10**6),
    budget_s=st.none() | st.floats(1, 1e6),
    sampler=st.sampled_from(["auto", "random"]),
    seed=st.integers(0, MAX_SEED),
    steps=st.none() | st.integers(1, 10**6),
    workers=st.integers(1, 1024),
    ray=st.none() | st.sampled_from(["auto", "head:6379"]),
    cpus_per_trial=st.floats(0.1, 64),
    gpus_per_trial=st.floats(0, 4),
    accelerator=st.sampled_from(["auto", "cuda"]),
    threads=st.integers(1, 64),
    references=st.none() | st.lists(st.sampled_from(REFERENCES), unique=True),
)


@given(OPTIONS)
def test_options_survive_json(options: SearchOptions) -> None:
    assert SearchOptions.from_dict(json.loads(json.dumps(options.to_dict()))) == options


def test_objects_and_tokens_are_not_written() -> None:
    """A run folder holds no Python object and no secret: objects are named, to be given again."""
    options = SearchOptions(
        device=lambda arch: 1.0, evaluate=lambda arch: 1.0, sampler=optuna.samplers.RandomSampler(), token="secret"
    )
    text = json.dumps(options.to_dict())
    assert "secret" not in text + repr(options)
    assert options.custom == ("evaluate", "device", "sampler")
    assert (options.to_dict()["device"], options.to_dict()["sampler"]) == ("custom", "RandomSampler")
    assert SearchOptions.from_dict(json.loads(text)).custom == ()


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"seed": -1}, "seed.*-1"),
        ({"seed": 2**32}, "seed.*4294967296"),
        ({"seed": True}, "seed.*True"),
        ({"trials": 0}, "trials.*0"),
        ({"steps": 1.5}, r"steps.*1\.5"),
        ({"workers": 1025}, "workers.*1025"),
        ({"threads": "2"}, "threads.*'2'"),
        ({"cpus_per_trial": 0}, "cpus_per_trial.*0"),
        ({"gpus_per_trial": -1}, "gpus_per_trial.*-1"),
        ({"accelerator": "gpu"}, "accelerator.*'gpu'"),
        ({"references": "mobilenet_v2"}, "references.*'mobilenet_v2'"),
        ({"references": ["mobilenet_v9"]}, "mobilenet_v9"),
    ],
)
def test_a_bad_value_is_named_with_its_option(given: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError, match=named):
        SearchOptions(**given)


@pytest.mark.parametrize("bad", [{"target_ms": "8"}, {"budget_s": -1}, {"guard": 0.9}, {"sampler": 3}, {"ray": 1}])
def test_a_bad_value_on_disk_is_named_with_its_option(bad: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(bad))):
        SearchOptions.from_dict(SearchOptions().to_dict() | bad)


def test_gpus_are_reserved_only_for_those_who_can_use_them() -> None:
    """Trainings on CUDA, and a caller's own evaluation; where candidates train elsewhere, the value is named."""
    for accelerator in ("cpu", "mps"):
        with pytest.raises(InputError, match=rf"{accelerator}.*gpus_per_trial 1"):
            SearchOptions(gpus_per_trial=1, accelerator=accelerator)
        own = SearchOptions(gpus_per_trial=0.5, accelerator=accelerator, evaluate=lambda arch: 1.0)
        assert own.gpus_per_trial == 0.5
    for accelerator in ("auto", "cuda"):
        assert SearchOptions(gpus_per_trial=0.25, accelerator=accelerator).gpus_per_trial == 0.25


def test_runs_of_earlier_versions_continue_on_the_cpu() -> None:
    """They knew no accelerator; an accelerator on disk that does not exist is named."""
    old = SearchOptions(accelerator="cpu").to_dict()
    del old["accelerator"]
    assert SearchOptions.from_dict(old).accelerator == "cpu"
    for bad in ("gpu", 3, ["cpu"]):
        with pytest.raises(InputError, match="accelerator"):
            SearchOptions.from_dict(old | {"accelerator": bad})


def test_numbers_of_numpy_are_taken_and_kept_as_plain_ones() -> None:
    options = SearchOptions(seed=np.int64(3), trials=np.int32(5))  # type: ignore[arg-type]
    assert json.loads(json.dumps(options.to_dict()))["seed"] == 3


def test_texts_with_units_and_the_default_budget() -> None:
    parsed = SearchOptions.parse(latency_target="0.066s", guard="5%", budget="10m")
    assert (parsed.target_ms, parsed.guard, parsed.budget_s) == (66.0, 0.05, 600.0)
    assert SearchOptions.parse().budget_s == 180.0
    assert SearchOptions.parse(trials=5).budget_s is None
