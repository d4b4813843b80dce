"""Finds the networks of a space at which a cost is least, gene by gene, with many networks at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from nas.arch.arch import Arch
from nas.arch.codes import INACTIVE, Coder, Codes

SWEEPS = 30

Floats = NDArray[np.float64]


class SpentError(Exception):
    """No more networks may be asked about."""


class Costs:
    """A cost of networks of a space, computed once for each.

    Args:
        coder: turns genes into networks of the space.
        cost: of many networks.
        most: number of networks that it is computed for at most; then `SpentError`. None is no bound.
    """

    def __init__(self, coder: Coder, cost: Callable[[Sequence[Arch]], Floats], most: int | None = None) -> None:
        self.coder = coder
        self._cost, self._most = cost, most
        self._known: dict[bytes, float] = {}
        self._codes: dict[bytes, Codes] = {}

    def __call__(self, codes: Codes) -> Floats:
        """The costs of networks by their genes (`nas.arch.codes`), shape (n,)."""
        batch = self.coder.batch(codes)
        assert batch.codes is not None
        words = [row.tobytes() for row in batch.codes]
        new = {word: at for at, word in enumerate(words) if word not in self._known}
        if self._most is not None and len(self._known) + len(new) > self._most:
            raise SpentError
        if new:
            chosen = np.array(list(new.values()))
            found = self._cost(batch.take(chosen))
            self._known.update(zip(new, found.tolist(), strict=True))
            self._codes.update(zip(new, batch.codes[chosen], strict=True))
        return np.array([self._known[word] for word in words])

    @property
    def least(self) -> tuple[Arch, float]:
        """The network of the lowest cost so far, and that cost."""
        return self._extreme(min)

    @property
    def most(self) -> tuple[Arch, float]:
        """The network of the highest cost so far, and that cost."""
        return self._extreme(max)

    def _extreme(self, which: Callable[..., bytes]) -> tuple[Arch, float]:
        word = which(self._known, key=self._known.__getitem__)
        return self.coder.space.decode(self.coder.genes(self._codes[word])), self._known[word]

    def descend(self, start: Codes, sign: int = 1, until: float = -math.inf) -> None:
        """Improve on a network until no change of one gene improves it, or its cost is at most `until`: all changes
        that each improve it are made at once, or only the best of them if that is better.

        Args:
            start: genes to begin with, shape (genes,).
            sign: 1 to lower the cost, -1 to raise it.
            until: cost that is low enough.
        """
        here = np.maximum(start, 0)
        now = sign * float(self(here[None])[0])
        for _ in range(SWEEPS):
            active = self.coder.batch(here[None]).codes
            assert active is not None
            counts = np.where(active[0] == INACTIVE, 0, self.coder.counts)
            genes = np.repeat(np.arange(len(here)), counts)
            options = np.concatenate([np.arange(count) for count in counts]).astype(here.dtype)
            moves = options != here[genes]
            genes, options = genes[moves], options[moves]
            if not len(genes) or now <= until:
                return
            trials = np.repeat(here[None], len(genes), axis=0)
            trials[np.arange(len(genes)), genes] = options
            costs = sign * self(trials)
            order = np.argsort(costs, kind="stable")
            better = order[costs[order] < now]
            if not len(better):
                return
            together = here.copy()
            together[genes[better[::-1]]] = options[better[::-1]]  # of several options of a gene the best comes last
            joint = sign * float(self(together[None])[0])
            here, now = (together, joint) if joint <= costs[order[0]] else (trials[order[0]], float(costs[order[0]]))
