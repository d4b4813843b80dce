"""A fitted table at work: tens of thousands of networks a second, by what each row in its place is charged.

A row's charge is a handful of numbers, settled when the row is first met: milliseconds, floats touched, and the price
of its weights at each step of the network's size. A network is the sum of its rows' charges, so that predicting many is
one walk over their rows and one sum.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from nas.arch.arch import IMAGE_CHANNELS, Arch
from nas.arch.block import Block, PlacedBlock
from nas.latency.table.columns import CLASSIFIER, Columns, Part, group_of, parts_of_row, steps
from nas.latency.table.residuals import Residuals, point_of

AT_ONCE = 4096  # networks whose charges are gathered together
MAX_MET = 1 << 20  # row objects in their places; forgotten beyond


@dataclass(slots=True)
class _Place:
    """Where a row may stand: the width and size that reach it, and every row met there.

    Rows are found by identity: hashing a row takes as long as all else, and those of a space are shared
    (`nas.arch.stage`). An object that was met is kept, so that its identity stays its own.
    """

    channels: int
    size: int
    charged: dict[Block, int] = field(default_factory=dict)
    met: dict[int, tuple[int, _Place, Block]] = field(default_factory=dict)


class Predictor:
    """Predicts by a table's parts.

    Args:
        columns: names of what is charged.
        coefficients: ms per unit of each realised column.
        residuals: by kind of part; the linear model's factors.
    """

    def __init__(self, columns: Columns, coefficients: np.ndarray, residuals: Mapping[str, Residuals]) -> None:
        self._columns, self._residuals = columns, residuals
        self._coefficients = columns.unit_costs(coefficients)
        self._ms = [0, *range(2, self._coefficients.shape[1])]  # all but the floats touched
        self._forget()

    def _forget(self) -> None:
        self._places: dict[tuple[int, int], _Place] = {}
        self._parts: dict[Part, np.ndarray] = {}
        self._costs = np.zeros((1024, self._coefficients.shape[1]))
        self._count = self._met = 0

    def many(self, archs: Sequence[Arch]) -> np.ndarray:
        """Predicted ms, float64 of shape ``(len(archs),)``."""
        parts = [self._together(archs[at : at + AT_ONCE]) for at in range(0, len(archs), AT_ONCE)]
        return np.concatenate(parts) if parts else np.zeros(0)

    def _together(self, archs: Sequence[Arch]) -> np.ndarray:
        if self._met > MAX_MET:
            self._forget()
        met: list[int] = []
        starts: list[int] = []
        note = met.append
        for arch in archs:
            starts.append(len(met))
            place = self._place(IMAGE_CHANNELS, arch.resolution)
            for row in arch.rows:
                at, place, _ = place.met.get(id(row)) or self._meet(place, row)
                note(at)
            note((place.met.get(id(CLASSIFIER)) or self._meet(place, CLASSIFIER))[0])
        sums = np.add.reduceat(self._costs[met], starts, axis=0)
        up = steps(sums[:, 1])
        return np.asarray(sums[:, 0] + np.einsum("ij,ij->i", sums[:, 2:], up))

    def _place(self, channels: int, size: int) -> _Place:
        place = self._places.get((channels, size))
        if place is None:
            place = self._places[channels, size] = _Place(channels, size)
        return place

    def _meet(self, place: _Place, row: Block) -> tuple[int, _Place, Block]:
        """Where a row's charge stands that was not met before as this object, and the place after it."""
        placed = PlacedBlock(row, place.channels, place.size)
        at = place.charged.get(row)
        if at is None:
            at = self._count
            if at == len(self._costs):
                self._costs = np.vstack([self._costs, np.zeros_like(self._costs)])
            self._costs[at] = self._row_cost(placed)
            place.charged[row] = at
            self._count += 1
        self._met += 1
        place.met[id(row)] = at, self._place(placed.out_channels, placed.out_size), row
        return place.met[id(row)]

    def _row_cost(self, placed: PlacedBlock) -> np.ndarray:
        """What a row costs, in the entries of `Columns.unit_costs`."""
        return np.asarray(np.sum([self._part_cost(part) for part in parts_of_row(placed)], axis=0))

    def _part_cost(self, part: Part) -> np.ndarray:
        """Rows share parts: an expansion is followed by many depthwise convolutions."""
        cost = self._parts.get(part)
        if cost is None:
            group = self._columns.known_group(group_of(part))
            cost = self._columns.of_part(part) @ self._coefficients
            if group in self._residuals:
                cost[self._ms] *= self._residuals[group](point_of(part))
            self._parts[part] = cost
        return cost
