"""Predicts with a fitted table, tens of thousands of networks a second, by adding up the costs of their rows.

The cost of a row at its place in the network is a few numbers, computed when the row is first seen: milliseconds,
floats touched, and the cost of its weights at each step of the network's size. So predicting many networks is one walk
over their rows and one sum.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from nas.arch.arch import IMAGE_CHANNELS, Arch
from nas.arch.block import Block, PlacedBlock
from nas.latency.table.columns import CLASSIFIER, Columns, Part, group_of, parts_of_row, steps
from nas.latency.table.residuals import Residuals, point_of

AT_ONCE = 4096  # networks in one sum
MAX_SEEN = 1 << 20  # row objects; beyond, all are forgotten


@dataclass(slots=True)
class _Place:
    """A width and size that reach a row, and the rows seen there.

    Rows are found by identity, because hashing a row takes as long as everything else, and a space shares its rows
    (`nas.arch.stage`). The row objects are kept alive, so that no other object gets the same identity.
    """

    channels: int
    size: int
    known: dict[Block, int] = field(default_factory=dict)
    seen: dict[int, tuple[int, _Place, Block]] = field(default_factory=dict)


class Predictor:
    """Predicts latencies by a table's coefficients and residuals.

    Args:
        columns: the columns of the table.
        coefficients: ms per unit of each column of `Columns.all_names`.
        residuals: correction factors by kind of part.
    """

    def __init__(self, columns: Columns, coefficients: np.ndarray, residuals: Mapping[str, Residuals]) -> None:
        self._columns, self._residuals = columns, residuals
        self._coefficients = columns.unit_costs(coefficients)
        self._ms = [0, *range(2, self._coefficients.shape[1])]  # all entries but the floats touched
        self._forget()

    def _forget(self) -> None:
        self._places: dict[tuple[int, int], _Place] = {}
        self._parts: dict[Part, np.ndarray] = {}
        self._costs = np.zeros((1024, self._coefficients.shape[1]))
        self._count = self._seen = 0

    def many(self, archs: Sequence[Arch]) -> np.ndarray:
        """Predicted ms, float64 of shape ``(len(archs),)``."""
        parts = [self._together(archs[at : at + AT_ONCE]) for at in range(0, len(archs), AT_ONCE)]
        return np.concatenate(parts) if parts else np.zeros(0)

    def _together(self, archs: Sequence[Arch]) -> np.ndarray:
        if self._seen > MAX_SEEN:
            self._forget()
        rows: list[int] = []
        starts: list[int] = []
        note = rows.append
        for arch in archs:
            starts.append(len(rows))
            place = self._place(IMAGE_CHANNELS, arch.resolution)
            for row in arch.rows:
                at, place, _ = place.seen.get(id(row)) or self._add(place, row)
                note(at)
            note((place.seen.get(id(CLASSIFIER)) or self._add(place, CLASSIFIER))[0])
        sums = np.add.reduceat(self._costs[rows], starts, axis=0)
        up = steps(sums[:, 1])
        return np.asarray(sums[:, 0] + np.einsum("ij,ij->i", sums[:, 2:], up))

    def _place(self, channels: int, size: int) -> _Place:
        place = self._places.get((channels, size))
        if place is None:
            place = self._places[channels, size] = _Place(channels, size)
        return place

    def _add(self, place: _Place, row: Block) -> tuple[int, _Place, Block]:
        """Add a row object that was not seen here before: the index of its cost, and the place after it."""
        placed = PlacedBlock(row, place.channels, place.size)
        at = place.known.get(row)
        if at is None:
            at = self._count
            if at == len(self._costs):
                self._costs = np.vstack([self._costs, np.zeros_like(self._costs)])
            self._costs[at] = self._row_cost(placed)
            place.known[row] = at
            self._count += 1
        self._seen += 1
        place.seen[id(row)] = at, self._place(placed.out_channels, placed.out_size), row
        return place.seen[id(row)]

    def _row_cost(self, placed: PlacedBlock) -> np.ndarray:
        """The cost of a row, in the entries of `Columns.unit_costs`."""
        return np.asarray(np.sum([self._part_cost(part) for part in parts_of_row(placed)], axis=0))

    def _part_cost(self, part: Part) -> np.ndarray:
        """The cost of a part. Rows share parts: the same expansion precedes many depthwise convolutions."""
        cost = self._parts.get(part)
        if cost is None:
            group = self._columns.known_group(group_of(part))
            cost = self._columns.of_part(part) @ self._coefficients
            if group in self._residuals:
                cost[self._ms] *= self._residuals[group](point_of(part))
            self._parts[part] = cost
        return cost
