"""Predicts with a fitted table, hundreds of thousands of networks a second, by adding up the costs of their rows.

The cost of a row at its place in the network is a few numbers, computed when the row is first seen: milliseconds,
floats touched, and the cost of its weights at each step of the network's size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from nas.arch.arch import Arch
from nas.arch.batch import Batch
from nas.arch.block import PlacedBlock
from nas.latency.table.columns import CLASSIFIER, Columns, Part, group_of, parts_of_row, steps
from nas.latency.table.residuals import Residuals, point_of


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
        self._parts: dict[Part, np.ndarray] = {}
        self._describe = self._row_cost  # one object: batches remember the costs of rows by it

    def many(self, archs: Sequence[Arch]) -> np.ndarray:
        """Predicted ms, float64 of shape ``(len(archs),)``."""
        batch = Batch.of(archs)
        if not len(batch):
            return np.zeros(0)
        channels, which = np.unique(batch.out_channels, return_inverse=True)
        heads = [self._row_cost(PlacedBlock(CLASSIFIER, int(width), 1)) for width in channels]
        sums = batch.sums(self._describe) + np.array(heads)[which]
        up = steps(sums[:, 1])
        return np.asarray(sums[:, 0] + np.einsum("ij,ij->i", sums[:, 2:], up))

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
