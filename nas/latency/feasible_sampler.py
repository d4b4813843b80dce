"""Unseen networks within the target, found without Optuna: to start with, and when the sampler is stuck."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from nas.arch.arch import Arch
from nas.arch.genes import Gene, Scalar, every
from nas.arch.space import Space

if TYPE_CHECKING:
    from nas.latency.devices import LatencyModel

Genes = Mapping[str, Scalar]

SMALL = 4096  # spaces up to this size are listed
MAX_LISTED = 16 * SMALL  # gene settings tried for that; several may describe one network
CHUNK = 64
MAX_CHUNKS = 16  # of uniform draws
MAX_GENERATIONS = 120  # of the descent that follows if those find nothing
MAX_STALLED = 12  # generations without a faster network before a descent is given up
MAX_FAILED = 3  # descents given up before the space is believed to hold nothing more
MUTATED_GENES = 2


class _SpentError(Exception):
    """The model may not be asked about any more networks."""


class FeasibleSampler:
    """Draws from the networks of a space that are predicted within a target.

    Args:
        space: to draw from.
        model: predicts latency.
        target_ms: latency target; None admits everything.
        rng: random numbers.
    """

    def __init__(self, space: Space, model: LatencyModel, target_ms: float | None, rng: np.random.Generator) -> None:
        self._space = space
        self._model = model
        self._target_ms = float("inf") if target_ms is None else target_ms
        self._rng = rng
        self._left: int | None = None  # networks that the model may still be asked about; None is no bound

    def unseen(self, seen: Collection[str], wanted: int = 1, most: int | None = None) -> list[Genes]:
        """Genes of distinct networks within the target.

        In a space of at most `SMALL` networks none is overlooked, unless `most` cuts the search short. In a larger one
        the effort is bounded: uniform draws, then an evolution towards lower latency from the fastest drawn.

        Args:
            seen: keys of networks not to return.
            wanted: number of networks; fewer are returned if fewer can be found.
            most: networks that the model is asked about; None is no bound.
        """
        self._left = most
        found: dict[str, Genes] = {}
        try:
            if self._listed is None:
                self._search(seen, wanted, found)
            else:
                unseen = [pair for pair in self._listed if pair[1].key not in seen]
                self._rng.shuffle(unseen)
                size = CHUNK if most is None else max(1, min(CHUNK, most // 4))
                for start in range(0, len(unseen), size):
                    self._sift(unseen[start : start + size], seen, found)
                    if len(found) >= wanted:
                        break
        except _SpentError:
            pass
        finally:
            self._left = None
        return list(found.values())[:wanted]

    def _search(self, seen: Collection[str], wanted: int, found: dict[str, Genes]) -> None:
        drawn: list[tuple[float, Genes]] = []
        for _ in range(MAX_CHUNKS):
            drawn += self._sift(list(self._chunk()), seen, found)
            if len(found) >= wanted:
                return
        fastest = sorted(drawn, key=lambda pair: pair[0])[: 2 * wanted]
        failed = 0
        for _, genes in fastest:
            if len(found) < wanted and failed < MAX_FAILED:
                failed += not self._descend(genes, seen, found)

    @cached_property
    def _listed(self) -> list[tuple[Genes, Arch]] | None:
        """All networks of a small space; None if the space is not small."""
        if self._space.size > SMALL:
            return None
        listed: dict[Arch, Genes] = {}
        for count, (_, genes, arch) in enumerate(every(self._space.realise)):
            listed.setdefault(arch, genes)
            if len(listed) == self._space.size:
                break
            if count == MAX_LISTED:
                return None
        return [(genes, arch) for arch, genes in listed.items()]

    def _chunk(self) -> Iterator[tuple[Genes, Arch]]:
        for _ in range(CHUNK if self._left is None else max(1, min(CHUNK, self._left))):
            yield self._space.realised(lambda gene: self._any(gene))

    def _any(self, gene: Gene) -> Scalar:
        return gene.options[int(self._rng.integers(len(gene.options)))]

    def _latencies(self, archs: Sequence[Arch]) -> np.ndarray:
        if self._left is not None:
            self._left -= len(archs)
            if self._left < 0:
                raise _SpentError
        return np.asarray(self._model.many(archs), dtype=float)

    def _sift(
        self, pairs: list[tuple[Genes, Arch]], seen: Collection[str], found: dict[str, Genes]
    ) -> list[tuple[float, Genes]]:
        """Put those within the target and unseen into `found`; all with their latencies."""
        latencies = self._latencies([arch for _, arch in pairs])
        for (genes, arch), latency in zip(pairs, latencies, strict=True):
            if latency <= self._target_ms and arch.key not in seen:
                found.setdefault(arch.key, genes)
        return [(float(latency), genes) for (genes, _), latency in zip(pairs, latencies, strict=True)]

    def _descend(self, genes: Genes, seen: Collection[str], found: dict[str, Genes]) -> bool:
        """Mutate towards lower latency, within the target freely, until something new is found; returns whether it
        was."""
        parent, best_ms, stalled, before = genes, float("inf"), 0, len(found)
        for _ in range(MAX_GENERATIONS):
            sifted = self._sift([self._mutant(parent) for _ in range(CHUNK // 4)], seen, found)
            if len(found) > before:
                return True
            fastest_ms, fastest = min(sifted, key=lambda pair: pair[0])
            stalled = 0 if fastest_ms < best_ms else stalled + 1
            if stalled == MAX_STALLED:
                return False
            if fastest_ms <= max(best_ms, self._target_ms):
                parent, best_ms = fastest, fastest_ms
        return False

    def _mutant(self, parent: Genes) -> tuple[Genes, Arch]:
        changed = set(self._rng.choice(list(parent), min(MUTATED_GENES, len(parent)), replace=False))

        def choose(gene: Gene) -> Scalar:
            keep = gene.name in parent and gene.name not in changed
            return parent[gene.name] if keep else self._any(gene)

        return self._space.realised(choose)
