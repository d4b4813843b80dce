"""Searches of a space of which only some networks have a known accuracy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from optuna.distributions import CategoricalDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from nas.arch.codes import Coder, Codes
from nas.arch.genes import Gene, Scalar
from nas.arch.space import Space
from nas.engine.space_sampler import FIXED, SpaceSampler


class InPool(SpaceSampler):
    """Any sampler, restricted to the networks of a pool.

    Each proposal, and each enqueued trial, is replaced by the network of the pool, not taken yet, that differs from it
    in the fewest genes; a gene that only one of them has counts as different, and ties are broken at random. Each
    sampler learns the score of the network that was taken, with that network's genes. ``auto`` judges all networks of a
    pool, as it does of a small space, so that its proposals are in the pool already.

    Args:
        inner: proposes.
        space: that the pool is part of.
        pool: genes of distinct networks, as `nas.arch.codes` numbers them, shape (n, genes).
        seed: of the ties.
    """

    def __init__(self, inner: BaseSampler, space: Space, pool: Codes, seed: int | None = None) -> None:
        super().__init__(space, seed=seed)
        self._inner, self._coder = inner, Coder(space)
        self._codes = pool
        self._free = np.ones(len(pool), bool)

    @property
    def startup(self) -> int:
        """As many as the sampler needs."""
        return self._inner.startup if isinstance(self._inner, SpaceSampler) else super().startup

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Choose the network of the trial."""
        self._inner.before_trial(study, trial)
        fixed = trial.system_attrs.get(FIXED)
        if fixed:
            trial.system_attrs[FIXED] = self._nearest(fixed) or fixed  # Optuna reads it after this
        super().before_trial(study, trial)
        if isinstance(self._inner, SpaceSampler):
            self._inner.chose(trial, self._chosen.get(trial.number, {}))

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        """Let the sampler finish the trial, too."""
        super().after_trial(study, trial, state, values)
        self._inner.after_trial(study, trial, state, values)

    def propose(self, study: Study, trial: FrozenTrial) -> Mapping[str, Scalar] | None:
        """The free network of the pool that is nearest to what the sampler proposes; None if none is free."""
        searched = self._inner.infer_relative_search_space(study, trial)
        relative = self._inner.sample_relative(study, trial, searched)

        def choose(gene: Gene) -> Scalar:
            if gene.name in relative:
                return relative[gene.name]  # type: ignore[no-any-return]
            distribution = CategoricalDistribution(gene.options)
            value: Scalar = self._inner.sample_independent(study, trial, gene.name, distribution)
            return value

        return self._nearest(self.space.realised(choose)[0])

    def _nearest(self, genes: Mapping[str, Scalar]) -> dict[str, Scalar] | None:
        free = np.flatnonzero(self._free)
        if not len(free):
            return None
        distances = (self._codes[free] != self._coder.codes(genes)).sum(axis=1)
        taken = int(self.rng.choice(free[distances == distances.min()]))
        self._free[taken] = False
        return self._coder.genes(self._codes[taken])
