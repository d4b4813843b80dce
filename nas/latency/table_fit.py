"""From timings to a table: non-negative prices of columns, and what they leave of the times of parts.

The times of parts inside networks and of whole networks are equations in the same unknowns, solved together. Parts
shape the model, whole networks, which were timed without a profiler, settle it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nas.arch import Arch
from nas.latency.table_columns import Columns, group_of, parts_of_row, places
from nas.latency.table_residuals import Point, Residuals, factors, point_of, smooth

PART_SIGMA = 0.7  # relative
PART_FLOOR_MS = 0.002
NET_SIGMA = 0.01
PASSES = 3  # of prices, with smoothing between them
ROUNDS = 8


def fit(
    columns: Columns, archs: Sequence[Arch], parts_ms: Sequence[np.ndarray], nets_ms: np.ndarray
) -> tuple[np.ndarray, dict[str, Residuals]]:
    """Prices, ms per unit of each unfolded column, none negative; and the residuals of parts by kind.

    Args:
        columns: made of `archs`.
        archs: that were timed.
        parts_ms: of each, the times of its parts inside it, in order; their sum is its time.
        nets_ms: of each, the median as a whole, shape ``(n,)``.
    """
    parts = [[part for placed in places(arch) for part in parts_of_row(placed)] for arch in archs]
    flat = [part for one in parts for part in one]
    begins = np.cumsum([0, *map(len, parts[:-1])])
    raw = np.array([columns.of_part(part) for part in flat])
    touched = np.repeat(np.add.reduceat(raw[:, -1], begins), list(map(len, parts)))
    matrix = columns.unfold(raw, touched)
    groups, points = [columns.known_group(group_of(part)) for part in flat], [point_of(part) for part in flat]
    times = np.concatenate(list(parts_ms))
    sigma = np.concatenate([PART_SIGMA * times + PART_FLOOR_MS, NET_SIGMA * nets_ms])
    residuals: dict[str, Residuals] = {}
    for at in range(PASSES):
        bent = matrix * factors(residuals, groups, points)[:, None]
        nets = np.add.reduceat(bent, begins, axis=0)
        prices = solve(np.vstack([bent, nets]), np.concatenate([times, nets_ms]), sigma)
        if at < PASSES - 1:
            residuals = _smoothed(groups, points, times, matrix @ prices)
    return prices, residuals


def _smoothed(
    groups: Sequence[str], points: Sequence[Point], times: np.ndarray, linear: np.ndarray
) -> dict[str, Residuals]:
    logs = np.log(np.maximum(times, 1e-6) / np.maximum(linear, 1e-6))
    kinds: dict[str, list[int]] = {}
    for at, group in enumerate(groups):
        kinds.setdefault(group, []).append(at)
    return {group: smooth([points[at] for at in ats], logs[ats].tolist()) for group, ats in kinds.items()}


def solve(matrix: np.ndarray, target: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """Non-negative `c` that minimise Huber's loss of ``(matrix @ c - target) / sigma``, by reweighting."""
    from scipy.optimize import nnls

    size = np.abs(matrix).max(axis=0)
    size[size == 0] = 1.0
    scaled, aim = matrix / size / sigma[:, None], target / sigma
    weight = np.ones(len(aim))
    for _ in range(ROUNDS):
        solution = nnls(scaled * weight[:, None], aim * weight, maxiter=50 * len(size))[0]
        weight = np.sqrt(np.minimum(1.0, 1.5 / np.maximum(np.abs(scaled @ solution - aim), 1e-9)))
    return np.asarray(solution / size)
