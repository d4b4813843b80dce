"""Samplers by name: evolution on the accuracy model, or Optuna's, set up to learn from a few dozen evaluations."""

from __future__ import annotations

import warnings

import numpy as np
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler

from nas.system.errors import InputError, known

AUTO = "auto"
SAMPLERS = (AUTO, "tpe", "nsga2", "random")
STARTUP = 10  # feasible random networks before a sampler decides by itself
POPULATION = 20  # Optuna's 50 would spend a whole small run on its first generation


class Climbing(RandomSampler):
    """Stands for ``auto``: `nas.engine.climb` proposes by the accuracy model, and at random until it can."""


def make_sampler(
    spec: str | BaseSampler = "auto", seed: int = 0, parallel: bool = False, stored: int = 0, startup: int = STARTUP
) -> BaseSampler:
    """The sampler of that name, or the given one.

    Args:
        spec: ``auto`` (evolution on the accuracy model: `nas.engine.climb`), ``tpe``, ``nsga2``, ``random``, or an
            Optuna sampler, which is used as it is.
        seed: random seed.
        parallel: whether several candidates run at once; TPE then avoids those that are still running.
        stored: number of trials the run already holds. It changes the random numbers, so that a resumed search does not
            propose the same networks again.
        startup: number of random proposals before TPE models anything.

    NSGA-II learns from scored candidates only, not from those that are too slow, and starts over on resume.

    Raises:
        InputError: an unknown name.
    """
    if isinstance(spec, BaseSampler):
        if stored:
            spec.reseed_rng()
        return spec
    if spec not in SAMPLERS:
        raise InputError(f"no sampler is called {spec!r}; {known(SAMPLERS)}; or give an Optuna sampler from Python")
    number = int(np.random.SeedSequence([seed, stored]).generate_state(1)[0]) if stored else seed
    if spec == AUTO:
        return Climbing(seed=number)
    if spec == "random":
        return RandomSampler(seed=number)
    if spec == "nsga2":
        return NSGAIISampler(population_size=POPULATION, seed=number)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # `group` is marked experimental
        # Genes of one stage or of one depth depend on each other: jointly modelled (`group`), 60 evaluations of a toy
        # objective on mbconv reached hypervolume 0.467 (mean of 4 seeds), gene by gene 0.446, random 0.348; and a
        # proposal took half the time.
        return TPESampler(seed=number, n_startup_trials=startup, multivariate=True, group=True, constant_liar=parallel)
