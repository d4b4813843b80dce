"""Fits a device model to measurements of whole networks: the columns of a latency table, without a profiler.

Each network of a CSV is one equation in the coefficients of `nas.latency.table.columns.Columns`: a constant, MACs, and
elements read and written for each kind of operator, each kernel and stride of a depthwise convolution, and each
activation. All widths, depths and resolutions share these columns, so two dozen to a hundred networks suffice
(``benchmarks/device_measurements.py``). They should differ in resolution, or the fit cannot tell a constant from work.

The fit starts from a scaled model of another device. That helps with fewer than twenty networks, makes no difference
from forty on, and provides costs for operators that were not measured. Cross-validation finds the model's error, and
how it falls with the number of networks says how many more are worth measuring.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from nas.arch.arch import Arch
from nas.latency.held_out import HeldOut
from nas.latency.models import PRIOR, bundled
from nas.latency.table.columns import Columns
from nas.latency.table.measurements import Measured
from nas.latency.table.non_negative import non_negative
from nas.latency.table.table import LatencyTable
from nas.system.errors import InputError

FEWEST = 8
SIGMA = 0.02  # relative error of a measurement: a phone repeats within about this much
DEVIATION_SIGMA = 0.07  # of a column's deviation from the scaled prior, as a share of the mean time
FOLDS = 5
TRUSTED = 20  # networks; with fewer, cross-validation itself is too rough to show that they suffice
SHARES = (0.25, 0.5)  # shares of the networks on the curve; its last point is the cross-validation, with 4/5
DRAWS = 4
ROUNDS = 8  # rounds of reweighting
WORTH = 0.003  # a smaller fall of the error is not worth further measurements


@dataclass(frozen=True)
class Calibration:
    """A device model and the evidence for it.

    Args:
        table: the model. Its `error` comes from cross-validation: every network is predicted by a fit without it.
        curve: number of networks fitted to, in ascending order, and mean absolute error on the others.
        wanted: number of further networks after which the error would hardly fall (`WORTH`); 0 if there are enough.
    """

    table: LatencyTable
    curve: tuple[tuple[int, float], ...]
    wanted: int

    def __str__(self) -> str:
        points = ", ".join(f"{error:.1%} from {nets}" for nets, error in self.curve)
        more = (
            f"about {self.wanted} more networks are worth measuring"
            if self.wanted
            else "more networks would hardly change it"
        )
        return f"{self.table}\nmean error by number of networks: {points}; {more}"


def calibrate(
    measured: Sequence[Measured],
    device: str,
    *,
    runtime: str = "unknown runtime",
    threads: int = 1,
    source: str = "",
    licence: str = "",
    notes: Sequence[str] = (),
    prior: LatencyTable | None = None,
    seed: int = 0,
) -> Calibration:
    """Fit a model of a device to measurements of whole networks at batch 1.

    Args:
        measured: measurements of at least `FEWEST` different networks.
        device: name of the device.
        runtime: name of the runtime that ran the networks.
        threads: number of threads it used.
        source: origin of the measurements.
        licence: licence of the measurements.
        notes: what users should know about the model.
        prior: model of another device to start from; None starts from zero.
        seed: random seed of the folds.

    Raises:
        InputError: there are too few different networks.
    """
    archs, ms = _distinct(measured)
    if len(archs) < FEWEST:
        raise InputError(
            f"a device model needs at least {FEWEST} different networks, got {len(archs)}; measure references at "
            "several widths and resolutions"
        )
    columns = _columns(archs, prior)
    known_terms = prior.terms() if prior else {}
    start = np.array([known_terms.get(name, 0.0) for name in columns.all_names])
    matrix = columns.of_networks(archs)
    rng = np.random.default_rng(seed)
    predicted = _cross_validated(matrix, ms, start, rng)
    error = HeldOut(tuple(predicted.tolist()), tuple(ms.tolist()))
    curve = (*_curve(matrix, ms, start, rng), (len(archs) - len(archs) // FOLDS, error.mape))
    table = LatencyTable(
        device=device,
        runtime=runtime,
        threads=threads,
        space_key=None,
        versions={},
        groups=columns.groups,
        columns=columns.names,
        coefficients=tuple(_fit(matrix, ms, start).tolist()),
        error=error,
        fitted=len(archs),
        source=source,
        licence=licence,
        notes=tuple(notes),
    )
    return Calibration(table, curve, _wanted(curve, len(archs)))


def from_networks(held_out: Sequence[Measured], fitted: Sequence[Measured], device: str, seed: int = 0) -> LatencyTable:
    """A table of a device that times only whole networks. It is fitted to all of them, starting from a bundled model.

    Args:
        held_out: networks for the error, which is that of a fit without them.
        fitted: the other networks.
        device: name of the device.
        seed: random seed of the folds.

    Raises:
        InputError: there are too few different networks.
    """
    prior = LatencyTable.load(bundled()[PRIOR])
    predicted = np.maximum(
        calibrate(fitted, device, prior=prior, seed=seed).table.many([m.arch for m in held_out]), 1e-6
    )
    error = HeldOut(tuple(predicted.tolist()), tuple(one.ms for one in held_out))
    note = "fitted to whole networks, including the held-out ones; the error is that of a fit without them"
    return replace(calibrate([*held_out, *fitted], device, prior=prior, seed=seed).table, error=error, notes=(note,))


def _columns(archs: Sequence[Arch], prior: LatencyTable | None) -> Columns:
    seen = Columns.seen_in(archs)
    if prior is None:
        return seen
    return Columns(tuple(sorted({*seen.groups, *prior.groups})), tuple(sorted({*seen.names, *prior.columns})))


def _fit(matrix: np.ndarray, ms: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Non-negative coefficients: the scaled `start`, plus deviations from it, which are penalised."""
    if not start.any():
        return robust_fit(matrix, ms, SIGMA * ms)
    share = np.abs(matrix).mean(axis=0) / ms.mean()
    penalty = np.hstack([np.diag(share), np.zeros((len(share), 1))])
    system = np.vstack([np.hstack([matrix, (matrix @ start)[:, None]]), penalty])
    sigma = np.concatenate([SIGMA * ms, np.full(len(share), DEVIATION_SIGMA)])
    solution = robust_fit(system, np.concatenate([ms, np.zeros(len(share))]), sigma)
    return np.asarray(solution[:-1] + solution[-1] * start)


def _distinct(measured: Sequence[Measured]) -> tuple[list[Arch], np.ndarray]:
    """The distinct networks, and the median time of each."""
    times: dict[str, list[float]] = {}
    archs: dict[str, Arch] = {}
    for one in measured:
        archs[one.arch.key] = one.arch
        times.setdefault(one.arch.key, []).append(one.ms)
    return list(archs.values()), np.array([float(np.median(times[key])) for key in archs])


def _cross_validated(matrix: np.ndarray, ms: np.ndarray, start: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    fold = rng.permutation(len(ms)) % FOLDS
    predicted = np.zeros(len(ms))
    for at in range(FOLDS):
        seen = fold != at
        predicted[~seen] = matrix[~seen] @ _fit(matrix[seen], ms[seen], start)
    return np.maximum(predicted, 1e-6)


def _curve(matrix: np.ndarray, ms: np.ndarray, start: np.ndarray, rng: np.random.Generator) -> list[tuple[int, float]]:
    points = []
    for share in SHARES:
        nets = int(share * len(ms))
        if nets < FEWEST:
            continue
        errors = []
        for _ in range(DRAWS):
            order = rng.permutation(len(ms))
            seen, rest = order[:nets], order[nets:]
            predicted = matrix[rest] @ _fit(matrix[seen], ms[seen], start)
            errors.append(float(np.abs(predicted / ms[rest] - 1).mean()))
        points.append((nets, float(np.mean(errors))))
    return points


def _wanted(curve: Sequence[tuple[int, float]], nets: int) -> int:
    """Extrapolates the last two points with ``error = floor + slope / nets``, as the error of a linear fit falls."""
    enough = float(TRUSTED)
    if len(curve) >= 2:
        (few, worse), (many, better) = curve[-2:]
        enough = max(enough, (worse - better) / (1 / few - 1 / many) / WORTH)
    return max(0, int(np.ceil((min(enough, 20 * nets) - nets) / 5) * 5))


def robust_fit(matrix: np.ndarray, target: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """The `c` >= 0 that minimise Huber's loss of ``(matrix @ c - target) / sigma``, by reweighting."""
    scaled, aim = matrix / sigma[:, None], target / sigma
    weight = np.ones(len(aim))
    for _ in range(ROUNDS):
        solution = non_negative(scaled * weight[:, None], aim * weight)
        weight = np.sqrt(np.minimum(1.0, 1.5 / np.maximum(np.abs(scaled @ solution - aim), 1e-9)))
    return solution
