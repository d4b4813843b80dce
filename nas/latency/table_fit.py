"""From timings to a table: non-negative prices of columns, and what they leave of the times of parts.

The times of parts inside networks and of whole networks are equations in the same unknowns: prices, and for each part a
factor, which is alike for parts alike. They are solved together, as in universal kriging (generalised least squares
with what the Gaussian process of the factors correlates, then its posterior mean): whole networks, which were timed
without a profiler and many times over, also say what the factors of their parts amount to. Fitted to the parts alone
and corrected by the networks afterwards, as before, the same timings of mbconv left 2.2 % on unseen networks in place
of 2.0, and 3.2 % on references in place of 2.1.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nas.arch import Arch
from nas.latency.table_columns import Columns, group_of, parts_of_row, places
from nas.latency.table_residuals import MOST, Point, Residuals, covariance, point_of

PART_SIGMA, PART_FLOOR_MS = 0.25, 0.002  # of one timing of a part inside a profile, relative and absolute
LEAST_SIGMA = 0.03  # of any number of timings of one part
KIND_SIGMA = 0.1  # what a profiler is off by on all parts of a kind
NET_SIGMA = 0.015  # relative, of a whole network
TOLERATED = 1.5, 2.0  # sigmas of a part and of a network, beyond which they count for less
PASSES = 4
LEAST_MS = 1e-5


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
    counts = list(map(len, parts))
    begins, net = np.cumsum([0, *counts[:-1]]), np.repeat(np.arange(len(archs)), counts)
    raw = np.array([columns.of_part(part) for part in flat])
    matrix = columns.unfold(raw, np.add.reduceat(raw[:, -1], begins)[net])
    places_of: dict[tuple[str, Point], int] = {}  # parts that share a factor
    at = np.array([places_of.setdefault((columns.known_group(group_of(p)), point_of(p)), len(places_of)) for p in flat])
    kinds: dict[str, list[int]] = {}
    for place, (kind, _) in enumerate(places_of):
        kinds.setdefault(kind, []).append(place)
    points = [point for _, point in places_of]
    seen = np.bincount(at)
    prior, shared = np.zeros((len(points), len(points))), np.zeros((len(points), len(points)))
    for ours in kinds.values():
        prior[np.ix_(ours, ours)] = covariance([points[place] for place in ours])
        shared[np.ix_(ours, ours)] = KIND_SIGMA**2

    times = np.maximum(np.concatenate(list(parts_ms)), LEAST_MS)
    linear, logs = times, np.zeros(len(points))  # what the prices say of each part; logarithms of the factors
    trust = np.ones(len(points) + len(archs))
    for _ in range(PASSES):
        factor = np.exp(logs[at])
        bent, ms = matrix * factor[:, None], linear * factor
        of_points, of_nets = np.bincount(at, ms), np.add.reduceat(ms, begins)
        # Relative to what is thought so far: for each point the sum over its parts, and for each network over its own.
        sums = np.zeros((len(points), matrix.shape[1]))
        np.add.at(sums, at, bent)
        design = np.vstack([sums / of_points[:, None], np.add.reduceat(bent, begins, axis=0) / of_nets[:, None]])
        told = np.concatenate([np.bincount(at, times) / of_points, nets_ms / of_nets])
        shares = np.zeros((len(archs), len(points)))
        np.add.at(shares, (net, at), ms / of_nets[net])

        def of_factors(values: np.ndarray, shares: np.ndarray = shares) -> np.ndarray:
            """What each equation sees of values of the points."""
            return np.concatenate([values, shares @ values])

        once = PART_SIGMA**2 + (PART_FLOOR_MS * seen / of_points) ** 2
        noise = np.concatenate([once / seen + LEAST_SIGMA**2, np.full(len(archs), NET_SIGMA**2)]) / trust
        spread = np.hstack([of_factors(prior), of_factors(prior @ shares.T)])
        spread[: len(points), : len(points)] += shared
        found, left, whitened = _solved(design, told + of_factors(logs), spread + np.diag(noise))
        weights = whitened[: len(points)] + shares.T @ whitened[len(points) :]
        linear = np.maximum(matrix @ found, LEAST_MS)
        logs = np.clip(prior @ weights, -MOST, MOST)
        off = np.abs(left - of_factors(logs)) / np.sqrt(noise * trust)
        trust = np.minimum(1.0, np.repeat(TOLERATED, [len(points), len(archs)]) / np.maximum(off, 1e-9))
    residuals = {
        kind: Residuals(tuple(points[place] for place in ours), tuple(weights[ours].tolist()))
        for kind, ours in kinds.items()
    }
    return found, residuals


def _solved(matrix: np.ndarray, target: np.ndarray, spread: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The non-negative `c` that minimise what is left, ``r = target - matrix @ c``, by ``r' spread^-1 r``; that; and
    ``spread^-1 r``."""
    from scipy.linalg import cho_solve, cholesky, qr, solve_triangular
    from scipy.optimize import nnls

    size = np.abs(matrix).max(axis=0)
    size[size == 0] = 1.0
    root = cholesky(spread, lower=True)
    system = solve_triangular(root, np.column_stack([matrix / size, target]), lower=True)
    reduced = qr(system, mode="r")[0][: len(size) + 1]  # as many equations as unknowns, of the same least squares
    found = nnls(reduced[:, :-1], reduced[:, -1], maxiter=50 * len(size))[0] / size
    left = target - matrix @ found
    return np.asarray(found), np.asarray(left), np.asarray(cho_solve((root, True), left))
