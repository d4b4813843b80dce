"""Unseen networks that clear all limits, drawn uniformly as long as that finds any."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from nas.arch.arch import Arch
from nas.arch.batch import Batch
from nas.arch.codes import Coder, Codes
from nas.arch.genes import Scalar, every
from nas.arch.space import Space
from nas.arch.uniform import Uniform

if TYPE_CHECKING:
    from nas.latency.limits import Limits

Genes = Mapping[str, Scalar]

SMALL = 4096  # spaces up to this size are listed
MAX_LISTED = 16 * SMALL  # gene settings tried for that; several may describe one network
FIRST_CHUNK, CHUNK = 16, 2048  # of uniform draws: the first, and the largest
DRAWS = 1 << 15  # uniform draws before a descent
LISTED_CHUNK = 256  # networks of a list that are looked at together
SLOW_FIRST_CHUNK, SLOW_CHUNK, SLOW_DRAWS = 4, 64, 1024  # likewise, of a model that answers one network after the other
MAX_GENERATIONS = 120  # of a descent
MAX_STALLED = 12  # generations without a network nearer to the limits before a descent is given up
MAX_FAILED = 3  # descents given up before the space is believed to hold nothing more


class _SpentError(Exception):
    """The model may not be asked about any more networks."""


class FeasibleSampler:
    """Draws from the networks of a space that clear limits.

    Args:
        space: to draw from.
        limits: what networks must clear; None admits everything.
        rng: random numbers.
    """

    def __init__(self, space: Space, limits: Limits | None, rng: np.random.Generator) -> None:
        self._space, self._limits, self._rng = space, limits or None, rng
        self._coder = Coder(space)
        self._fast = limits is None or limits.fast
        self._left: int | None = None  # networks that the model may still be asked about; None is no bound
        self._spare: list[Genes] = []  # uniform draws that clear the limits and were not needed yet

    def unseen(self, seen: Collection[str], wanted: int = 1, most: int | None = None) -> list[Genes]:
        """Genes of distinct networks within the limits.

        In a space of at most `SMALL` networks none is overlooked, unless `most` cuts the search short. In a larger one
        the effort is bounded: uniform draws, then an evolution towards the limits from the nearest draws.

        Args:
            seen: keys of networks not to return.
            wanted: number of networks; fewer are returned if fewer can be found.
            most: networks that the model is asked about; None is no bound.
        """
        self._left = most
        found: dict[str, Genes] = {}
        try:
            if self.listed is not None:
                self._search_listed(self.listed, seen, wanted, found)
            else:
                self._draw(seen, wanted, found)
        except _SpentError:
            pass
        finally:
            self._left = None
        return list(found.values())[:wanted]

    @cached_property
    def listed(self) -> Batch | None:
        """All networks of a small space, with their codes; None if the space is not small."""
        return listed(self._space)

    def _search_listed(self, everything: Batch, seen: Collection[str], wanted: int, found: dict[str, Genes]) -> None:
        order = self._rng.permutation([at for at, arch in enumerate(everything) if arch.key not in seen])
        size = LISTED_CHUNK if self._fast else SLOW_CHUNK if self._left is None else max(1, min(64, self._left // 4))
        for start in range(0, len(order), max(1, size)):
            self._sift(everything.take(order[start : start + size]), seen, found)
            if len(found) >= wanted:
                return

    def _draw(self, seen: Collection[str], wanted: int, found: dict[str, Genes]) -> None:
        while self._spare and len(found) < wanted:
            genes = self._spare.pop()
            key = self._space.decode(genes).key
            if key not in seen:
                found[key] = genes
        drawn: list[tuple[float, Arch]] = []
        asked, size = 0, FIRST_CHUNK if self._fast else SLOW_FIRST_CHUNK
        while len(found) < wanted and asked < (DRAWS if self._fast else SLOW_DRAWS):
            size = size if self._left is None else max(1, min(size, self._left))
            batch = self._uniform.batch(size, self._rng)
            loads = self._sift(batch, seen, found)
            nearest = np.argsort(loads, kind="stable")[: 2 * wanted]
            drawn += [(float(loads[at]), batch[at]) for at in nearest.tolist() if loads[at] > 1]
            asked, size = asked + size, min(4 * size, CHUNK if self._fast else SLOW_CHUNK)
        if len(found) < wanted:
            failed = 0
            for _, arch in sorted(drawn, key=lambda pair: pair[0])[: 2 * wanted]:
                if len(found) < wanted and failed < MAX_FAILED:
                    failed += not self._descend(self._coder.encoded([arch]), seen, found)
        else:
            self._spare += list(found.values())[wanted:]

    @cached_property
    def _uniform(self) -> Uniform:
        return Uniform(self._space)

    def _sift(self, batch: Batch, seen: Collection[str], found: dict[str, Genes]) -> np.ndarray:
        """Put those within the limits and unseen into `found`; the loads of all."""
        if self._left is not None and self._limits is not None:
            self._left -= len(batch)
            if self._left < 0:
                raise _SpentError
        loads = np.zeros(len(batch)) if self._limits is None else self._limits.loads(batch)
        for at in np.flatnonzero(loads <= 1):
            if batch[int(at)].key not in seen:
                genes = (
                    self._space.encode(batch[int(at)]) if batch.codes is None else self._coder.genes(batch.codes[at])
                )
                found.setdefault(batch[int(at)].key, genes)
        return loads

    def _descend(self, parent: Codes, seen: Collection[str], found: dict[str, Genes]) -> bool:
        """Mutate towards the limits, within them freely, until something new is found; returns whether it was."""
        least, stalled, before = float("inf"), 0, len(found)
        for _ in range(MAX_GENERATIONS):
            batch = self._coder.batch(self._coder.children(parent, SLOW_CHUNK // 4, self._rng))
            loads = self._sift(batch, seen, found)
            if len(found) > before:
                return True
            at = int(np.argmin(loads))
            stalled = 0 if loads[at] < least else stalled + 1
            if stalled == MAX_STALLED:
                return False
            if loads[at] <= max(least, 1.0):
                assert batch.codes is not None
                parent, least = batch.codes[at : at + 1], float(loads[at])
        return False


def listed(space: Space) -> Batch | None:
    """All networks of a space of at most `SMALL`, with their codes; None if it is larger, or if its genes have so many
    more settings that listing them takes too long."""
    if space.size > SMALL:
        return None
    coder = Coder(space)
    settings = int(np.prod(coder.counts, dtype=object))
    if settings <= MAX_LISTED:
        grid = np.indices(tuple(coder.counts), dtype=np.int16).reshape(len(coder.counts), settings)
        codes = np.ascontiguousarray(grid.T)
    else:  # most genes are inactive in most networks
        genes = [found for _, (_, found, _) in zip(range(MAX_LISTED), every(space.realise), strict=False)]
        codes = np.array([coder.codes(one) for one in genes])
    batch = coder.batch(codes)
    first = {word: at for at, word in reversed(list(enumerate(batch.words())))}
    if len(first) < space.size:
        return None
    archs = [batch[at] for at in sorted(first.values())]
    return coder.batch(coder.encoded(archs))
