"""Correction factors for the parts of a network, interpolated between similar parts.

Costs are only roughly linear in work: few channels leave vector units idle, and maps that outgrow a cache cost more. So
the linear model of `nas.latency.table.columns` gets a factor for each part. Its logarithm is a Gaussian process over
the logarithms of widths and size, one process for each kind of part (`nas.latency.table.fit`). Far from all timed parts
the factor is 1, and the linear model predicts alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from nas.latency.table.columns import Part, is_gate

SCALE = 0.8  # length scale: octaves of widths and size over which factors stay similar
SPREAD = 0.3  # standard deviation of the logarithm of the factor
OTHER_ACT = 0.8  # correlation of parts that differ only in their activation
MOST = 1.0  # bound of the logarithm, in both directions

Point = tuple[int, int, int, str]


def point_of(part: Part) -> Point:
    """Channels in and out, side, activation: with its kind, these determine a part's factor."""
    first = part[0]
    return first.in_channels, first.out_channels, first.in_size, part[1].act if is_gate(part) else first.act


@dataclass(frozen=True)
class Residuals:
    """The factors of the parts of one kind.

    Args:
        points: the timed points (`point_of`).
        weights: weight of each point in the sum of covariances that is the logarithm of the factor.
    """

    points: tuple[Point, ...]
    weights: tuple[float, ...]

    def __call__(self, point: Point) -> float:
        """The factor for the linear model's prediction at a point."""
        log = float((_kernel(_numbers([point]), self._known) @ np.array(self.weights))[0])
        return float(np.exp(np.clip(log, -MOST, MOST)))

    @cached_property
    def _known(self) -> tuple[np.ndarray, np.ndarray]:
        return _numbers(self.points)


def covariance(points: Sequence[Point]) -> np.ndarray:
    """Prior covariance of the logarithms of the factors of parts of one kind, shape ``(n, n)``."""
    known = _numbers(points)
    return _kernel(known, known)


def _numbers(points: Sequence[Point]) -> tuple[np.ndarray, np.ndarray]:
    sides = np.array([point[:3] for point in points], dtype=float)
    return np.log2(np.maximum(sides, 1.0)), np.array([point[3] for point in points])


def _kernel(these: tuple[np.ndarray, np.ndarray], those: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    distance = (((these[0][:, None] - those[0][None]) / SCALE) ** 2).sum(axis=-1)
    same_act = these[1][:, None] == those[1][None]
    return np.asarray(SPREAD**2 * np.exp(-distance / 2) * np.where(same_act, 1.0, OTHER_ACT))
