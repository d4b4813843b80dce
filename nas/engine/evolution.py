"""Aging evolution: mutants of the best of a few recent networks replace the oldest (Real et al., arXiv 1802.01548)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from nas.arch.arch import Arch
from nas.arch.genes import Gene, Scalar
from nas.arch.space import Space
from nas.engine.space_sampler import SpaceSampler
from nas.system.errors import InputError

if TYPE_CHECKING:
    from nas.latency.limits import Limits

# The paper's 100 networks and tournaments of 25 are for tens of thousands of trainings.
POPULATION = 20
TOURNAMENT = 10
TRIES, ROUNDS = 8, 32  # children of one parent: looked at together, and how often, for one that can be proposed

Genes = Mapping[str, Scalar]


class AgingEvolution(SpaceSampler):
    """Evolution for the first objective of a study, with hard limits.

    The population is the last `population` networks that were scored, whoever proposed them, so a search that is
    resumed, or that has several workers, needs nothing else. Until there are so many, networks are drawn at random. A
    child differs from its parent in one gene; it is a network that is not known yet.

    Args:
        space: to search.
        limits: what networks must clear; None is no limit.
        seed: random seed; None is a random one.
        population: number of networks that live.
        tournament: number of them, drawn at random, of which the best becomes the parent.

    Raises:
        InputError: the tournament is larger than the population, or has no network.
    """

    def __init__(
        self,
        space: Space,
        limits: Limits | None = None,
        seed: int | None = None,
        population: int = POPULATION,
        tournament: int = TOURNAMENT,
    ) -> None:
        super().__init__(space, limits, seed)
        if not 1 <= tournament <= population:
            raise InputError(f"a tournament has 1 network to the whole population of {population}, got {tournament}")
        self._population, self._tournament = population, tournament

    def propose(self, study: Study, trial: FrozenTrial) -> Genes | None:
        """A child of the winner of a tournament, or a random network; None if no unknown one is found."""
        known = self.known(study, trial)
        trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        scored = [one for one in trials if self.arch_of(one) is not None and _feasible(one)]
        population = scored[-self._population :]
        child = self._child(study, population, known) if len(population) == self._population else None
        if child is not None:
            return child
        drawn = self._draws.unseen(known)
        return drawn[0] if drawn else None

    def _child(self, study: Study, population: list[FrozenTrial], known: Collection[str]) -> Genes | None:
        """An unknown mutant of the best of a few, that clears the limits."""
        drawn = self.rng.choice(len(population), self._tournament, replace=False)
        sign = 1 if study.directions[0] == StudyDirection.MAXIMIZE else -1
        best = self.arch_of(max((population[int(at)] for at in drawn), key=lambda one: sign * one.values[0]))
        assert best is not None
        parent = self.space.encode(best)
        for _ in range(ROUNDS if parent else 0):
            mutants = [self._mutant(parent) for _ in range(TRIES)]
            new = [(genes, arch) for genes, arch in mutants if arch.key not in known]
            if self.limits and new:
                admitted = self.limits.loads([arch for _, arch in new]) <= 1
                new = [pair for pair, good in zip(new, admitted, strict=True) if good]
            if new:
                return new[0][0]
        return None

    def _mutant(self, parent: Genes) -> tuple[Genes, Arch]:
        changed = str(self.rng.choice(list(parent)))

        def choose(gene: Gene) -> Scalar:
            if gene.name in parent and gene.name != changed:
                return parent[gene.name]
            others = [option for option in gene.options if option != parent.get(gene.name)]
            return others[int(self.rng.integers(len(others)))]

        return self.space.realised(choose)


def _feasible(trial: FrozenTrial) -> bool:
    return all(value <= 0 for value in (trial.constraints or {}).values())
