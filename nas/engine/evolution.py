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
TRIES = 64  # children, or random networks, looked at together for one that is unknown and clears the limits
ROUNDS = 16

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
        self._networks: dict[int, tuple[Genes, str] | None] = {}  # by trial: genes and key

    def propose(self, study: Study, trial: FrozenTrial) -> Genes | None:
        """A child of the winner of a tournament, or a random network; None if no unknown one is found."""
        trials = study.get_trials(deepcopy=False)
        known = {found[1] for one in trials if one.number != trial.number and (found := self._network(one))}
        known |= {self.space.decode(genes).key for genes in self._chosen.values() if genes}
        scored = [one for one in trials if one.state == TrialState.COMPLETE and self._network(one) and _feasible(one)]
        population = scored[-self._population :]
        if len(population) < self._population:
            return self._new(None, known) or (self._child(study, population, known) if population else None)
        return self._child(study, population, known) or self._new(None, known)

    def _child(self, study: Study, population: list[FrozenTrial], known: Collection[str]) -> Genes | None:
        drawn = self.rng.choice(len(population), min(self._tournament, len(population)), replace=False)
        sign = 1 if study.directions[0] == StudyDirection.MAXIMIZE else -1
        best = max((population[int(at)] for at in drawn), key=lambda one: sign * one.values[0])
        found = self._network(best)
        assert found is not None
        return self._new(found[0], known)

    def _new(self, parent: Genes | None, known: Collection[str]) -> Genes | None:
        """An unknown mutant of `parent`, or without one a random network, that clears the limits."""
        for _ in range(ROUNDS):
            drawn = [self._mutant(parent) for _ in range(1 if self.limits is None else TRIES)]
            drawn = [(genes, arch) for genes, arch in drawn if arch.key not in known]
            if self.limits and drawn:
                loads = self.limits.loads([arch for _, arch in drawn])
                drawn = [pair for pair, load in zip(drawn, loads, strict=True) if load <= 1]
            if drawn:
                return drawn[0][0]
        return None

    def _mutant(self, parent: Genes | None) -> tuple[Genes, Arch]:
        changed = str(self.rng.choice(list(parent))) if parent else None

        def choose(gene: Gene) -> Scalar:
            if parent is None or gene.name not in parent:
                return self._any(gene.options)
            if gene.name == changed:
                return self._any([option for option in gene.options if option != parent[gene.name]])
            return parent[gene.name]

        return self.space.realised(choose)

    def _any(self, options: tuple[Scalar, ...] | list[Scalar]) -> Scalar:
        return options[int(self.rng.integers(len(options)))]

    def _network(self, trial: FrozenTrial) -> tuple[Genes, str] | None:
        """Genes and key of the network of a trial; None if its parameters are not those of a network of the space."""
        if trial.number in self._networks:
            return self._networks[trial.number]
        genes = {name: value for name, value in trial.params.items() if name in self._options}
        found: tuple[Genes, str] | None = None
        try:
            found = genes, self.space.decode(genes).key
        except InputError:
            if not trial.state.is_finished():
                return None
        self._networks[trial.number] = found
        return found


def _feasible(trial: FrozenTrial) -> bool:
    return all(value <= 0 for value in (trial.constraints or {}).values())
