"""Fits a table to timings: non-negative coefficients of the columns, and correction factors for the parts.

The times of parts inside networks and of whole networks are equations in the same unknowns: the coefficients, and a
factor for each part, which is similar for similar parts. They are solved together, as in universal kriging: generalised
least squares with the covariance of the Gaussian process of the factors, then the posterior mean of the factors. Whole
networks are timed without a profiler and several times, so they also determine the factors of their parts.

With factors from the profiles alone, the same timings of mbconv (two tables of 68 networks, 4 rounds) gave errors of
2.2 % instead of 2.1 on 60 unseen networks, and of 3.2 % instead of 2.1 on 21 references.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from nas.arch.arch import Arch
from nas.latency.table.columns import Columns, group_of, parts_of_row, places
from nas.latency.table.non_negative import non_negative
from nas.latency.table.residuals import MOST, Point, Residuals, covariance, point_of

PART_SIGMA, PART_FLOOR_MS = 0.25, 0.002  # error of one timing of a part in a profile, relative and absolute
LEAST_SIGMA = 0.03  # error of any number of timings of one part
KIND_SIGMA = 0.1  # the profiler's common error for all parts of a kind
NET_SIGMA = 0.015  # relative error of a whole network
TOLERATED = 1.5, 2.0  # sigmas of a part and of a network beyond which they weigh less
PASSES = 4
LEAST_MS = 1e-5


def fit(
    columns: Columns, archs: Sequence[Arch], parts_ms: Sequence[np.ndarray], nets_ms: np.ndarray
) -> tuple[np.ndarray, dict[str, Residuals]]:
    """Non-negative coefficients, ms per unit of each column of `Columns.all_names`, and the residuals of parts by kind.

    Args:
        columns: columns of `archs`.
        archs: the timed networks.
        parts_ms: for each network, the times of its parts inside it, in order; they sum to its time.
        nets_ms: median time of each whole network, shape ``(n,)``.
    """
    timings = _Timings.of(columns, archs, parts_ms, nets_ms)
    linear_ms = timings.times  # after the first pass: what the coefficients alone predict
    logs = np.zeros(len(timings.points))  # logarithms of the factors
    trust = np.ones(len(timings.points) + len(archs))
    for _ in range(PASSES):
        equations = timings.equations(linear_ms, logs)
        noise = equations.noise / trust
        coefficients, left = least_squares(equations.design, equations.observed, equations.spread + np.diag(noise))
        weights = equations.of_factors.T @ left
        linear_ms = np.maximum(timings.matrix @ coefficients, LEAST_MS)
        logs = np.clip(timings.prior @ weights, -MOST, MOST)
        off = np.abs(noise * left) / np.sqrt(equations.noise)  # the part of the residual that is noise, in sigmas
        tolerated = np.repeat(TOLERATED, [len(timings.points), len(archs)])
        trust = np.minimum(1.0, tolerated / np.maximum(off, 1e-9))
    return coefficients, {
        kind: Residuals(tuple(timings.points[at] for at in ours), tuple(weights[ours].tolist()))
        for kind, ours in timings.kinds.items()
    }


@dataclass(frozen=True)
class _Equations:
    """``observed = design @ coefficients + of_factors @ logs + noise``, one equation for each point and
    one for each network, relative to the previous prediction.

    Args:
        design: coefficients' share in each equation.
        of_factors: share of the logarithm of each point's factor in each equation.
        observed: the timings.
        spread: covariance of all unknowns except the coefficients, without `noise`.
        noise: variance of each timing.
    """

    design: np.ndarray
    of_factors: np.ndarray
    observed: np.ndarray
    spread: np.ndarray
    noise: np.ndarray


@dataclass(frozen=True)
class _Timings:
    """The timed parts and networks.

    Args:
        matrix: columns of each part of each network.
        times: milliseconds of these parts.
        nets_ms: milliseconds of the networks.
        net: index of the network of each part.
        at: index of the point of each part; parts at one point share a factor.
        points: the distinct points of all parts.
        kinds: indices of the points of each kind.
    """

    matrix: np.ndarray
    times: np.ndarray
    nets_ms: np.ndarray
    net: np.ndarray
    at: np.ndarray
    points: tuple[Point, ...]
    kinds: dict[str, list[int]]

    @staticmethod
    def of(columns: Columns, archs: Sequence[Arch], parts_ms: Sequence[np.ndarray], nets_ms: np.ndarray) -> _Timings:
        parts = [[part for placed in places(arch) for part in parts_of_row(placed)] for arch in archs]
        flat = [part for one in parts for part in one]
        net = np.repeat(np.arange(len(archs)), list(map(len, parts)))
        raw = np.array([columns.of_part(part) for part in flat])
        index_of: dict[tuple[str, Point], int] = {}
        at = [
            index_of.setdefault((columns.known_group(group_of(part)), point_of(part)), len(index_of)) for part in flat
        ]
        kinds: dict[str, list[int]] = {}
        for place, (kind, _) in enumerate(index_of):
            kinds.setdefault(kind, []).append(place)
        return _Timings(
            matrix=columns.with_steps(raw, np.bincount(net, raw[:, -1])[net]),
            times=np.maximum(np.concatenate(list(parts_ms)), LEAST_MS),
            nets_ms=nets_ms,
            net=net,
            at=np.array(at),
            points=tuple(point for _, point in index_of),
            kinds=kinds,
        )

    @cached_property
    def prior(self) -> np.ndarray:
        """Prior covariance of the logarithms of the factors of the points."""
        blocks = np.zeros((len(self.points), len(self.points)))
        for ours in self.kinds.values():
            blocks[np.ix_(ours, ours)] = covariance([self.points[at] for at in ours])
        return blocks

    @cached_property
    def profiler_bias(self) -> np.ndarray:
        """Covariance of the profiler's common errors for kinds of parts."""
        blocks = np.zeros((len(self.points), len(self.points)))
        for ours in self.kinds.values():
            blocks[np.ix_(ours, ours)] = KIND_SIGMA**2
        return blocks

    def equations(self, linear_ms: np.ndarray, logs: np.ndarray) -> _Equations:
        """The equations, linearised around the predicted times of the parts and the current log factors."""
        count, nets = len(self.points), len(self.nets_ms)
        factor = np.exp(logs[self.at])
        bent, ms = self.matrix * factor[:, None], linear_ms * factor
        of_points, of_nets = np.bincount(self.at, ms), np.bincount(self.net, ms)
        design = np.zeros((count + nets, bent.shape[1]))
        np.add.at(design, self.at, bent / of_points[self.at, None])
        np.add.at(design, count + self.net, bent / of_nets[self.net, None])
        shares = np.zeros((nets, count))
        np.add.at(shares, (self.net, self.at), ms / of_nets[self.net])
        seen = np.bincount(self.at)
        once = PART_SIGMA**2 + (PART_FLOOR_MS * seen / of_points) ** 2
        of_factors = np.vstack([np.eye(count), shares])
        across = self.prior @ shares.T
        return _Equations(
            design=design,
            of_factors=of_factors,
            observed=np.concatenate([np.bincount(self.at, self.times) / of_points, self.nets_ms / of_nets])
            + of_factors @ logs,
            spread=np.block([[self.prior + self.profiler_bias, across], [across.T, shares @ across]]),
            noise=np.concatenate([once / seen + LEAST_SIGMA**2, np.full(nets, NET_SIGMA**2)]),
        )


def least_squares(matrix: np.ndarray, target: np.ndarray, spread: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Generalised least squares: the `c` >= 0 that minimise ``r' spread^-1 r`` for ``r = target - matrix @ c``, and
    ``spread^-1 r``."""
    from scipy.linalg import cho_solve, cholesky, qr, solve_triangular

    root = cholesky(spread, lower=True)
    system = solve_triangular(root, np.column_stack([matrix, target]), lower=True)
    reduced = qr(system, mode="r")[0][: matrix.shape[1] + 1]  # equivalent, with as many equations as unknowns
    solution = non_negative(reduced[:, :-1], reduced[:, -1])
    return solution, np.asarray(cho_solve((root, True), target - matrix @ solution))
