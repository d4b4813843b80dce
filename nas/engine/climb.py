"""Proposes networks within the limit that an accuracy model expects most of, by evolution on the model."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nas.arch.arch import Arch
from nas.arch.genes import Gene, Scalar
from nas.arch.space import Space

if TYPE_CHECKING:
    from nas.latency.devices import LatencyModel

Genes = Mapping[str, Scalar]
Scores = Callable[[Sequence[Arch]], NDArray[np.float64]]

CHILDREN = 64  # networks of a generation, at most
GENERATIONS = 4  # of a proposal, at most
QUESTIONS = CHILDREN * GENERATIONS
KEPT = 256  # networks remembered between proposals, from which the next evolution starts
PARENTS = 24
WHOLE_LIMIT = 0.7  # share of proposals that may use the whole limit; the others are for the faster part of the front
LEVELS = 16  # latencies at which the best network so far is kept


class Climber:
    """An evolution that goes on from proposal to proposal.

    Args:
        space: to search.
        model: predicts latency.
        limit_ms: slowest prediction that is proposed; None is no limit.
        rng: random numbers.
        questions: networks whose latency may be asked for each proposal, fewer where the device answers slowly.
    """

    def __init__(
        self,
        space: Space,
        model: LatencyModel,
        limit_ms: float | None,
        rng: np.random.Generator,
        questions: int = QUESTIONS,
    ) -> None:
        self._space, self._model, self._rng = space, model, rng
        self._children = min(CHILDREN, questions)
        self._generations = min(GENERATIONS, max(1, questions // CHILDREN))
        self._limit_ms = float("inf") if limit_ms is None else limit_ms
        self._known: dict[str, tuple[Genes, Arch, float]] = {}  # by key: what was met within the limit

    def add(self, genes: Genes, arch: Arch, latency_ms: float) -> None:
        """A network to evolve from."""
        if latency_ms <= self._limit_ms:
            self._known[arch.key] = (genes, arch, latency_ms)

    def propose(self, scores: Scores, seen: Collection[str]) -> Genes | None:
        """Genes of an unseen network within the limit, or None if none was met.

        Args:
            scores: networks to numbers, higher is better.
            seen: keys of networks not to propose.
        """
        limit_ms = self._level()
        for _ in range(self._generations):
            self._breed(scores, limit_ms)
        self._forget(scores)
        open_ = [known for key, known in self._known.items() if key not in seen and known[2] <= limit_ms]
        open_ = open_ or [known for key, known in self._known.items() if key not in seen]
        if not open_:
            return None
        return open_[int(np.argmax(scores([arch for _, arch, _ in open_])))][0]

    def _level(self) -> float:
        """The latency up to which this proposal may go."""
        times = [latency_ms for _, _, latency_ms in self._known.values()]
        if not times or self._rng.random() < WHOLE_LIMIT:
            return self._limit_ms
        return float(self._rng.uniform(min(times), max(times)))

    def _breed(self, scores: Scores, limit_ms: float) -> None:
        parents = self._parents(scores, limit_ms)
        born: dict[str, tuple[Genes, Arch]] = {}
        for _ in range(self._children):
            genes, arch = self._child(parents)
            if arch.key not in self._known:
                born[arch.key] = (genes, arch)
        if not born:
            return
        latencies = self._model.many([arch for _, arch in born.values()])
        for (genes, arch), latency_ms in zip(born.values(), latencies, strict=True):
            self.add(genes, arch, float(latency_ms))

    def _parents(self, scores: Scores, limit_ms: float) -> list[Genes]:
        fast = [known for known in self._known.values() if known[2] <= limit_ms] or list(self._known.values())
        if not fast:
            return []
        order = np.argsort(-scores([arch for _, arch, _ in fast]), kind="stable")
        return [fast[at][0] for at in order[:PARENTS]]

    def _child(self, parents: Sequence[Genes]) -> tuple[Genes, Arch]:
        """A mutant of one parent or a mixture of two; without parents a random network."""
        if not parents:
            return self._space.realised(lambda gene: self._any(gene))
        one, other = (parents[int(at)] for at in self._rng.integers(len(parents), size=2))
        mixed = dict(one)
        if self._rng.random() < 0.5:
            mixed |= {name: value for name, value in other.items() if self._rng.random() < 0.5}
        changes = 1 + self._rng.poisson(1.0)
        changed = set(self._rng.choice(list(one), min(changes, len(one)), replace=False)) if one else set()

        def choose(gene: Gene) -> Scalar:
            keep = gene.name in mixed and gene.name not in changed
            return mixed[gene.name] if keep else self._any(gene)

        return self._space.realised(choose)

    def _any(self, gene: Gene) -> Scalar:
        return gene.options[int(self._rng.integers(len(gene.options)))]

    def _forget(self, scores: Scores) -> None:
        """Keep the best at several latencies, in turn, up to `KEPT`."""
        if len(self._known) <= KEPT:
            return
        known = list(self._known.values())
        values = scores([arch for _, arch, _ in known])
        times = np.array([latency_ms for _, _, latency_ms in known])
        kept: set[int] = set()
        for level in np.quantile(times, np.linspace(1, 1 / LEVELS, LEVELS)):
            within = np.flatnonzero(times <= level)
            kept |= set(within[np.argsort(-values[within], kind="stable")][: KEPT // LEVELS].tolist())
        self._known = {known[at][1].key: known[at] for at in sorted(kept)}
