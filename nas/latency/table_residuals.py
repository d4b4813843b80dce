"""What a linear model leaves of the times of parts, smoothed over parts alike.

Costs are linear in work only so far: few channels leave vector units idle, maps that outgrow a cache cost more. What
the linear model of `nas.latency.table_columns` is off by, as a factor, is therefore interpolated between the parts
that were timed, by a Gaussian process over the logarithms of widths and size, one for each kind of part. Far from all
of them the factor is 1, and the linear model stands alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from nas.latency.table_columns import Part, is_gate

SCALE = 0.8  # octaves of widths and size within which factors are alike
SPREAD = 0.4  # of the logarithm of the factor
OTHER_ACT = 0.6  # how alike parts are that differ in their activation
NOISE = 0.15  # of one timing of a part inside a profile
FLOOR = 0.03  # of any number of timings
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
        weights: of each in the sum of kernels that is the logarithm of the factor.
    """

    points: tuple[Point, ...]
    weights: tuple[float, ...]

    def __call__(self, point: Point) -> float:
        """The factor on what the linear model says."""
        numbers, acts = _numbers([point])
        log = float((_alike(numbers, acts, *self._known) @ np.array(self.weights))[0])
        return float(np.exp(np.clip(log, -MOST, MOST)))

    @cached_property
    def _known(self) -> tuple[np.ndarray, np.ndarray]:
        return _numbers(self.points)


def _numbers(points: Sequence[Point]) -> tuple[np.ndarray, np.ndarray]:
    sides = np.array([point[:3] for point in points], dtype=float)
    return np.log2(np.maximum(sides, 1.0)), np.array([point[3] for point in points])


def _alike(numbers: np.ndarray, acts: np.ndarray, others: np.ndarray, other_acts: np.ndarray) -> np.ndarray:
    far = (((numbers[:, None] - others[None]) / SCALE) ** 2).sum(axis=-1)
    return np.asarray(SPREAD**2 * np.exp(-far / 2) * np.where(acts[:, None] == other_acts[None], 1.0, OTHER_ACT))


def smooth(points: Sequence[Point], logs: Sequence[float]) -> Residuals:
    """The posterior mean of a Gaussian process, parts timed more than once with the median of what they said.

    Args:
        points: of the timed parts of one kind.
        logs: logarithm of the measured over the predicted time, of each.
    """
    seen: dict[Point, list[float]] = {}
    for point, log in zip(points, logs, strict=True):
        seen.setdefault(point, []).append(float(np.clip(log, -MOST, MOST)))
    numbers, acts = _numbers(list(seen))
    noise = [NOISE**2 / len(values) + FLOOR**2 for values in seen.values()]
    system = _alike(numbers, acts, numbers, acts) + np.diag(noise)
    weights = np.linalg.solve(system, [float(np.median(values)) for values in seen.values()])
    return Residuals(tuple(seen), tuple(weights.tolist()))


def factors(residuals: Mapping[str, Residuals], groups: Sequence[str], points: Sequence[Point]) -> np.ndarray:
    """The factor of each part, shape ``(len(points),)``; 1 for kinds without residuals."""
    known: dict[tuple[str, Point], float] = {}
    for pair in zip(groups, points, strict=True):
        if pair not in known:
            known[pair] = residuals[pair[0]](pair[1]) if pair[0] in residuals else 1.0
    return np.array([known[pair] for pair in zip(groups, points, strict=True)])
