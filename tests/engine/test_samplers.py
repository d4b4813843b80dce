"""Samplers by name."""

from __future__ import annotations

import optuna
import pytest

from nas.engine.samplers import SAMPLERS, make_sampler
from nas.engine.space_sampler import SpaceSampler
from nas.system.errors import InputError
from tests.engine.search_toys import SPACE, TINY


def proposals(sampler: optuna.samplers.BaseSampler) -> list[dict[str, object]]:
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
    found = []
    for _ in range(5):
        trial = study.ask()
        SPACE.realise(lambda gene: trial.suggest_categorical(gene.name, gene.options))  # type: ignore[arg-type, return-value] # noqa: B023
        found.append(trial.params)
    return found


@pytest.mark.parametrize("name", SAMPLERS)
def test_seeded_and_new_on_resume(name: str) -> None:
    """The same seed proposes the same; after a resume none of the first proposals comes again."""
    first = proposals(make_sampler(name, SPACE, seed=1))
    assert first == proposals(make_sampler(name, SPACE, seed=1))
    resumed = proposals(make_sampler(name, SPACE, seed=1, stored=5))
    assert not any(genes in first for genes in resumed)


def test_instance_is_kept() -> None:
    """A sampler made by the caller is used as it is."""
    sampler = optuna.samplers.RandomSampler()
    assert make_sampler(sampler, SPACE) is sampler


def test_unknown_name() -> None:
    """An unknown name is refused with the known ones."""
    with pytest.raises(InputError, match=r"'bayes'.*auto"):
        make_sampler("bayes", SPACE)


def test_networks_that_are_enqueued_after_the_last_are_taken() -> None:
    """A space that was used up says so only of its own proposals."""
    sampler = make_sampler("random", TINY, seed=0)
    assert isinstance(sampler, SpaceSampler)
    study = optuna.create_study(sampler=sampler)
    for _ in range(TINY.size + 1):
        trial = study.ask()
        TINY.realise(lambda gene: trial.suggest_categorical(gene.name, gene.options))  # type: ignore[arg-type, return-value] # noqa: B023
    assert sampler.exhausted
    study.enqueue_trial(TINY.encode(TINY.sample(0)))
    study.ask()
    assert not sampler.exhausted
