"""Optuna samplers that propose whole networks of a space, for any Optuna study."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from nas.arch.arch import Arch
from nas.arch.genes import Scalar
from nas.arch.space import Space
from nas.latency.feasible_sampler import FeasibleSampler
from nas.system.errors import InputError

if TYPE_CHECKING:
    from nas.latency.limits import Limits

STARTUP = 10  # random networks within the limits that a sampler is given to begin with
FIXED = "fixed_params"  # system attribute of a trial that was enqueued


class SpaceSampler(BaseSampler):
    """Chooses all genes of a network before the first of them is suggested.

    The objective of the study builds the network with `Space.realise`, and ``trial.suggest_categorical`` for each gene
    it meets. Parameters that are no genes of the space, or have other choices, are sampled at random.

    Args:
        space: to search.
        limits: what networks must clear; None is no limit.
        seed: random seed; None is a random one.

    Attributes:
        exhausted: whether the last proposal found no network that is unknown and clears the limits.
    """

    def __init__(self, space: Space, limits: Limits | None = None, seed: int | None = None) -> None:
        self.space, self.limits = space, limits
        self.rng = np.random.default_rng(seed)
        self._options = {gene.name: gene.options for gene in space.genes}
        self._other = RandomSampler(seed)
        self._chosen: dict[int, Mapping[str, Scalar]] = {}
        self._archs: dict[int, Arch | None] = {}
        self._read, self._finished = 0, set[str]()  # first trials of the study, all finished, and their networks
        self._draws = FeasibleSampler(space, limits, self.rng)
        self.exhausted = False

    @property
    def startup(self) -> int:
        """Random networks that it is given to begin with."""
        return STARTUP

    @abstractmethod
    def propose(self, study: Study, trial: FrozenTrial) -> Mapping[str, Scalar] | None:
        """Genes of the next network; None if there is none that is unknown and clears the limits."""

    def reseed_rng(self) -> None:
        """Go on with other random numbers."""
        self.rng = np.random.default_rng()
        self._draws = FeasibleSampler(self.space, self.limits, self.rng)
        self._other.reseed_rng()

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Choose the network of the trial, unless its parameters were enqueued."""
        self.exhausted = False
        if FIXED not in trial.system_attrs:
            found = self.propose(study, trial)
            self.exhausted = found is None
            self._chosen[trial.number] = found or {}

    def chose(self, trial: FrozenTrial, genes: Mapping[str, Scalar]) -> None:
        """Take these genes for those of a trial, whatever was proposed for it."""
        self._chosen[trial.number] = genes

    def arch_of(self, trial: FrozenTrial) -> Arch | None:
        """The network of a trial; None if its parameters are not, or not yet, those of a network of the space."""
        if trial.number not in self._archs:
            genes = self._chosen.get(trial.number)
            if not genes:
                genes = {name: value for name, value in trial.params.items() if name in self._options}
            try:
                found: Arch | None = self.space.decode(genes)
            except InputError:
                found = None
            if found is None and not trial.state.is_finished():
                return None
            self._archs[trial.number] = found
        return self._archs[trial.number]

    def known(self, study: Study, trial: FrozenTrial) -> set[str]:
        """Keys of the networks of all trials but this one."""
        trials = study.get_trials(deepcopy=False)
        while self._read < len(trials) and trials[self._read].state.is_finished():
            if (arch := self.arch_of(trials[self._read])) is not None:
                self._finished.add(arch.key)
            self._read += 1
        later = (one for one in trials[self._read :] if one.number != trial.number)
        return self._finished | {arch.key for one in later if (arch := self.arch_of(one)) is not None}

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        """Forget the choice."""
        self._chosen.pop(trial.number, None)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Empty: which genes there are depends on others."""
        return {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Nothing, see `infer_relative_search_space`."""
        return {}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """The gene of the chosen network, or a random value of a parameter that is no gene of it."""
        genes = self._chosen.get(trial.number, {})
        if param_name in genes and _is_gene(param_distribution, self._options.get(param_name)):
            return genes[param_name]
        return self._other.sample_independent(study, trial, param_name, param_distribution)


class UniformSampler(SpaceSampler):
    """Random networks: each that is unknown and clears the limits is as probable as any other, as long as uniform draws
    find any (`nas.latency.feasible_sampler`)."""

    def propose(self, study: Study, trial: FrozenTrial) -> Mapping[str, Scalar] | None:
        """Genes of a random network."""
        found = self._draws.unseen(self.known(study, trial))
        return found[0] if found else None


def _is_gene(distribution: BaseDistribution, options: Sequence[Scalar] | None) -> bool:
    return (
        options is not None
        and isinstance(distribution, CategoricalDistribution)
        and tuple(cast(Sequence[Scalar], distribution.choices)) == tuple(options)
    )
