"""What a linear model leaves of the times of parts, interpolated between parts alike.

Costs are linear in work only so far: few channels leave vector units idle, maps that outgrow a cache cost more. What
the linear model of `nas.latency.table.columns` is off by, as a factor on each part, is therefore a Gaussian process
over the logarithms of widths and size, one for each kind of part (`nas.latency.table.fit`). Far from all that was timed
the factor is 1, and the linear model stands alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from nas.latency.table.columns import Part, is_gate

SCALE = 0.8  # octaves of widths and size within which factors are alike
SPREAD = 0.3  # of the logarithm of the factor
OTHER_ACT = 0.8  # how alike parts are that differ in their activation
MOST = 1.0  # of the logarithm, either way

Point = tuple[int, int, int, str]


def point_of(part: Part) -> Point:
    """Channels in and out, side, activation: what a part's factor depends on, its kind apart."""
    first = part[0]
    return first.in_channels, first.out_channels, first.in_size, part[1].act if is_gate(part) else first.act


@dataclass(frozen=True)
class Residuals:
    """Of the parts of one kind.

    Args:
        points: that were timed (`point_of`).
        weights: of each in the sum of covariances that is the logarithm of the factor.
    """

    points: tuple[Point, ...]
    weights: tuple[float, ...]

    def __call__(self, point: Point) -> float:
        """The factor on what the linear model says."""
        log = float((_alike(_numbers([point]), self._known) @ np.array(self.weights))[0])
        return float(np.exp(np.clip(log, -MOST, MOST)))

    @cached_property
    def _known(self) -> tuple[np.ndarray, np.ndarray]:
        return _numbers(self.points)


def covariance(points: Sequence[Point]) -> np.ndarray:
    """Of the logarithms of the factors of parts of one kind before anything is timed, shape ``(n, n)``."""
    known = _numbers(points)
    return _alike(known, known)


def _numbers(points: Sequence[Point]) -> tuple[np.ndarray, np.ndarray]:
    sides = np.array([point[:3] for point in points], dtype=float)
    return np.log2(np.maximum(sides, 1.0)), np.array([point[3] for point in points])


def _alike(these: tuple[np.ndarray, np.ndarray], those: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    far = (((these[0][:, None] - those[0][None]) / SCALE) ** 2).sum(axis=-1)
    same_act = these[1][:, None] == those[1][None]
    return np.asarray(SPREAD**2 * np.exp(-far / 2) * np.where(same_act, 1.0, OTHER_ACT))
