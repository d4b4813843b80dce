"""Networks of a space, each as probable as any other.

`Space.sample` draws every gene uniformly, so that a network with few blocks, whose genes are few, is drawn more often
than one with many, and one that several settings of the genes describe more often still. Here the networks are words of
an automaton (`nas.arch.automaton`), and every row is drawn in proportion to the number of networks that begin so.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.arch.batch import Batch, Rows, current_rows
from nas.arch.block import Block
from nas.arch.space import Space


class Uniform:
    """Draws networks uniformly.

    >>> from nas.arch.space_yaml import load_space
    >>> drawn = Uniform(load_space("mbconv")).batch(100, np.random.default_rng(0))
    >>> len(set(drawn))
    100
    """

    def __init__(self, space: Space) -> None:
        self._space = space

    def batch(self, count: int, rng: np.random.Generator) -> Batch:
        """Networks drawn independently.

        Args:
            count: number of networks.
            rng: random numbers.
        """
        rows, space = current_rows(), self._space
        starts = np.array([rows.start(side).number for side in space.resolution])
        side = rng.integers(len(starts), size=count)
        place, state = starts[side], np.zeros(count, dtype=np.int64)
        columns: list[NDArray[np.int64]] = []
        while (going := np.flatnonzero(state >= 0)).size:
            ids = np.full(count, -1)
            now = state[going]
            for one in np.unique(now):
                here = going[now == one]
                symbols, targets, shares = space.completions.of(int(one))
                chosen = np.minimum(np.searchsorted(np.cumsum(shares), rng.random(len(here)), "right"), len(shares) - 1)
                pairs, which = np.unique(place[here] * len(shares) + chosen, return_inverse=True)
                moved = [_move(rows, int(pair) // len(shares), symbols[int(pair) % len(shares)]) for pair in pairs]
                after = np.array(moved)[which]
                ids[here], place[here] = after[:, 0], after[:, 1]
                state[here] = np.array(targets)[chosen]
            columns.append(ids)
        resolution = np.array(space.resolution)[side]
        return Batch(rows, np.stack(columns[:-1], axis=1), resolution, space.arch_options)


def _move(rows: Rows, place: int, symbol: Any) -> tuple[int, int]:
    """The number of the row and of the place after it; the end of a network is no row."""
    if not isinstance(symbol, Block):
        return -1, place
    number, after, _ = rows.add(rows.places[place], symbol)
    return number, after.number
