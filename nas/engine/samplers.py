"""Samplers by name: this project's own, which propose whole networks within limits, and Optuna's."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
from optuna.samplers import BaseSampler, GPSampler, NSGAIIISampler, NSGAIISampler, TPESampler

from nas.arch.codes import Codes
from nas.arch.space import Space
from nas.engine.auto import AutoSampler
from nas.engine.evolution import AgingEvolution
from nas.engine.options import Objective
from nas.engine.space_sampler import STARTUP, SpaceSampler, UniformSampler
from nas.system.errors import InputError, known

if TYPE_CHECKING:
    from nas.engine.judge import Judge
    from nas.latency.limits import Limits

AUTO = "auto"
SAMPLERS = (AUTO, "random", "tpe", "nsga2", "aging-evolution", "gp")
POPULATION = 20  # Optuna's 50 would spend a whole small run on its first generation


def check_sampler(spec: str | BaseSampler) -> None:
    """Raises `InputError` if it is no sampler."""
    if not isinstance(spec, BaseSampler) and spec not in SAMPLERS:
        raise InputError(f"no sampler is called {spec!r:.60}; {known(SAMPLERS)}; or give an Optuna sampler from Python")


def unaware_of_limits(sampler: str | BaseSampler) -> str | None:
    """One line for people if a sampler neither keeps limits by itself nor learns them from constraints of trials."""
    aware = SpaceSampler | TPESampler | GPSampler | NSGAIISampler | NSGAIIISampler
    if isinstance(sampler, str | aware):
        return None
    return f"sampler {type(sampler).__name__} ignores constraints: what it proposes above a limit is never trained"


def make_sampler(
    spec: str | BaseSampler,
    space: Space,
    limits: Limits | None = None,
    seed: int = 0,
    *,
    objective: Objective = "pareto",
    judge: Judge | None = None,
    questions: int | None = None,
    parallel: bool = False,
    stored: int = 0,
    among: Codes | None = None,
) -> BaseSampler:
    """The sampler of that name, or the given one.

    Args:
        spec: one of `SAMPLERS`, or an Optuna sampler, which is used as it is.
        space: to search.
        limits: what networks must clear. Optuna's samplers learn it from the constraints of trials.
        seed: random seed.
        objective: what ``auto`` proposes for, see `AutoSampler`.
        judge: by which ``auto`` judges networks; None: it learns from the study.
        questions: networks that ``auto`` may ask a slow device about for each proposal.
        parallel: whether several candidates run at once; TPE then avoids those that are still running.
        stored: number of trials the run already holds. It changes the random numbers, so that a resumed search does not
            propose the same networks again.
        among: the only networks that ``auto`` chooses from; None is the whole space.

    NSGA-II learns from scored candidates only, not from those that are too slow, and starts over on resume.

    Raises:
        InputError: an unknown name.
    """
    check_sampler(spec)
    if isinstance(spec, BaseSampler):
        if stored:
            spec.reseed_rng()
        return spec
    number = int(np.random.SeedSequence([seed, stored]).generate_state(1)[0]) if stored else seed
    if spec == AUTO:
        return AutoSampler(space, limits, number, objective=objective, judge=judge, questions=questions, among=among)
    if spec == "random":
        return UniformSampler(space, limits, number)
    if spec == "aging-evolution":
        return AgingEvolution(space, limits, number)
    if spec == "gp":  # it models the genes that all networks have; with two objectives a proposal takes seconds
        return GPSampler(seed=number, n_startup_trials=STARTUP, warn_independent_sampling=False)
    if spec == "nsga2":
        return NSGAIISampler(population_size=POPULATION, seed=number)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # `group` is marked experimental
        # Genes of one stage or of one depth depend on each other: jointly modelled (`group`), 60 evaluations of a toy
        # objective on mbconv reached hypervolume 0.467 (mean of 4 seeds), gene by gene 0.446, random 0.348; and a
        # proposal took half the time.
        return TPESampler(seed=number, n_startup_trials=STARTUP, multivariate=True, group=True, constant_liar=parallel)
