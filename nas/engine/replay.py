"""Replays of searches on tables of known accuracies: the real search, with a look-up in place of each training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from optuna.samplers import BaseSampler

from nas.accuracy.ranking import equal_cost_tau
from nas.arch.arch import Arch
from nas.engine.executors.base import SerialExecutor
from nas.engine.judge import Judge
from nas.engine.loop import run_search
from nas.engine.options import Objective, SearchOptions
from nas.engine.pool import InPool
from nas.engine.samplers import make_sampler
from nas.engine.tables import NoCost, Table
from nas.latency.limits import Limits
from nas.system.errors import InputError
from nas.training.evaluate import CustomEvaluator

DRAWS = 4  # of noise, over which a tau is averaged
HALVINGS = 20

Floats = NDArray[np.float64]
Sampler = str | Callable[[int], BaseSampler]
"""Name of a sampler, or a function from a seed to an Optuna sampler."""


@dataclass(frozen=True, eq=False)
class Replay:
    """One replayed search.

    Args:
        keys: of the networks that were evaluated, in order.
        observed: the scores that the search observed, shape (n,).
        accuracies: the accuracies that the networks are judged by, shape (n,).
        costs: of the networks, in the unit of the table, shape (n,).
        chosen: index of the network that the judge holds to be the best: by the posterior over all scores if they are
            noisy, else by the scores themselves.
    """

    keys: tuple[str, ...]
    observed: Floats
    accuracies: Floats
    costs: Floats
    chosen: int


def replay(
    table: Table,
    sampler: Sampler,
    seed: int,
    evaluations: int,
    cap: float | None = None,
    noise_sd: float = 0.0,
    objective: Objective = "pareto",
) -> Replay:
    """Search a table.

    Args:
        table: what is searched.
        sampler: proposes.
        seed: of the sampler and the noise.
        evaluations: networks to evaluate; fewer are if no more are within the cap.
        cap: largest cost, in the unit of the table; None is no cap.
        noise_sd: standard deviation of the normal noise of each observed score.
        objective: ``pareto``: the samplers learn accuracy and cost. ``accuracy``: they see the same cost for all
            networks, so that accuracy alone is left to improve; the cap is kept all the same.

    Raises:
        InputError: there is no such sampler, it cannot search this space, or a function returned something else.
        InfeasibleError: no network of the table is within the cap.
    """
    within = table.under(cap)
    trials = evaluations if table.models else min(evaluations, len(within))

    def observe(arch: Arch) -> float:
        return table.observed(arch) + noise_sd * _noise(arch, seed)

    judge = Judge(table.space, None, trained=True, exact=not noise_sd)
    limits = Limits(table.model, cap)
    pool = None if table.codes is None else table.codes[within]
    if isinstance(sampler, str):
        proposing = make_sampler(sampler, table.space, limits, seed, objective=objective, judge=judge, among=pool)
    else:
        proposing = sampler(seed)
        if not isinstance(proposing, BaseSampler):
            raise InputError(f"a sampler's function must return an Optuna sampler, got {type(proposing).__name__}")
    if pool is not None:
        proposing = InPool(proposing, table.space, pool, seed)
    options = SearchOptions(
        objective=objective, target_ms=cap, trials=trials, evaluate=observe, seed=seed, references=()
    )
    evaluator = CustomEvaluator(observe)
    with SerialExecutor(evaluator) as executor:
        model = table.model if objective == "pareto" else NoCost()
        outcome = run_search(table.space, model, options, executor, proposing, limits=limits, proposer=judge)
    scored = [one for one in outcome.candidates if one.state == "COMPLETE"]
    archs = [one.arch for one in scored]
    observed = np.array([one.proxy_accuracy for one in scored], dtype=float)
    # Exact scores need no estimates; from noisy ones the judge has learned.
    estimates = judge.model.many(archs)[0] if noise_sd and judge.model else observed
    return Replay(
        keys=tuple(arch.key for arch in archs),
        observed=observed,
        accuracies=table.judged(archs),
        costs=np.asarray(table.model.many(archs), dtype=float),
        chosen=int(np.argmax(estimates)),
    )


def noise_sd_of(table: Table, tau: float) -> float:
    """The standard deviation of noise with which one observation of each network ranks the networks of a table with
    this equal-cost tau.

    Raises:
        InputError: tau is not between 0 and 1.
    """
    if not 0 < tau < 1:
        raise InputError(f"the tau of noisy scores must be between 0 and 1, got {tau:g}")
    draws = np.random.default_rng(0).normal(size=(DRAWS, len(table.archs)))
    unit = float(table.accuracies.std())
    low, high = np.log(1e-3 * unit), np.log(1e3 * unit)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        noisy = table.accuracies + np.exp(middle) * draws
        found = np.mean([equal_cost_tau(scores, table.accuracies, table.costs) for scores in noisy])
        low, high = (middle, high) if found > tau else (low, middle)
    return float(np.exp((low + high) / 2))


def _noise(arch: Arch, seed: int) -> float:
    """Standard normal, a function of the network and the seed alone."""
    return float(np.random.default_rng([seed, int(arch.key, 16)]).normal())
