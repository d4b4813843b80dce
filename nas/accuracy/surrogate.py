"""What exact scores of a few networks say about all others of the space: a Gaussian process over genes.

The scores of short trainings say little about single networks, so `nas.accuracy.posterior` adds up effects and counts
the rest as noise. A score that a caller's own function or a table returns is that network's own, and networks that
differ from it in few genes and are about as large score alike. So the covariance of two networks is the sum of

- that of linear effects: of capacity, of the genes one-hot, of what other models expect, each group with its own size;
- a residual, ``exp(-d / l) exp(-m^2 / 2)``, for d genes that differ, and m the difference of log MACs in units of its
  spread over the trained networks.

Sizes, the length l and the noise maximise the posterior density under broad log-normal priors (type-II MAP; Rasmussen
and Williams, Gaussian Processes for Machine Learning, chapter 5).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize

from nas.accuracy.features import CAPACITY as CAPACITIES
from nas.accuracy.posterior import CAPACITY, GENES, Effects
from nas.accuracy.record import Accuracy, chance_above
from nas.arch.arch import Arch
from nas.system.errors import InputError

MOST = 400  # scores that are taken into account; more would make a proposal slow
MOST_FITTED = 200  # scores that sizes are learned from; more change them little and take long
REFIT = 1.2  # growth of the number of scores after which sizes are learned again
_JITTER = 1e-6
_MACS = list(CAPACITIES).index("macs")  # among the effects of capacity

# Medians and spreads of the log-normal priors: effects explain most of the scores, noise little.
_EFFECT, _RESIDUAL, _NOISE, _LENGTH = 0.5, 0.2, 0.02, 2.0
_SPREAD = 1.5
_LENGTH_SPREAD = 0.7
_NOISE_SPREAD = 3.0  # whether scores are noisy is for the scores to say
_BOUNDS = (-7.0, 3.0)
_LENGTHS = (0.0, 3.0)  # a residual that not even neighbours share is no different from noise
_NOISES = (-6.0, 1.0)

Floats = NDArray[np.float64]


class Surrogate:
    """A Gaussian process over networks of a space, for scores that are exact or nearly so.

    Args:
        effects: numbers of the networks.
        archs: networks that were scored, all of the space.
        scores: their scores, shape ``(len(archs),)``, in any unit; higher is better.
        task: what the scores are of.
        before: of fewer of these scores, whose sizes are used again unless the number has grown by a fifth.

    Raises:
        InputError: there are no scores.

    >>> from nas.arch.space_yaml import load_space
    >>> space = load_space("efficientnet")
    >>> archs = [space.sample(seed) for seed in range(120)]
    >>> scores = np.array([sum(row.se > 0 for row in arch.rows) / len(arch.rows) for arch in archs])
    >>> model = Surrogate(Effects(space, None), archs[:90], scores[:90], "toy")
    >>> means, sds = model.many(archs)
    >>> bool(np.abs(means[:90] - scores[:90]).max() < 0.01), bool(np.corrcoef(means[90:], scores[90:])[0, 1] > 0.8)
    (True, True)
    """

    def __init__(
        self,
        effects: Effects,
        archs: Sequence[Arch],
        scores: Sequence[float] | Floats,
        task: str,
        before: Surrogate | None = None,
    ) -> None:
        if not len(archs):
            raise InputError("a surrogate needs at least one score")
        self.task, self._effects = task, effects
        values, y = effects.of(archs), np.asarray(scores, dtype=float)
        self._centre, spread = values.mean(axis=0), values.std(axis=0)
        self._scale = np.where(spread > 1e-9, spread, 1.0)
        self._offset, self._unit = float(y.mean()), max(float(y.std()), 1e-12)
        groups = np.array(effects.groups())
        kinds = sorted(set(groups.tolist()))
        self._columns = [groups == kind for kind in kinds]
        self._genes, self._macs = groups == GENES, int(np.flatnonzero(groups == CAPACITY)[_MACS])
        self._count = len(y)
        kept = _some(y, MOST)
        self._x, self._y = values[kept], (y[kept] - self._offset) / self._unit
        self.fitted_on: int
        self._logs: Floats
        if before is not None and len(y) < REFIT * before.fitted_on and len(before._columns) == len(self._columns):
            self.fitted_on, self._logs = before.fitted_on, before._logs
        else:
            self.fitted_on = len(y)
            self._logs = self._fitted(None if before is None else before._logs)
        self._factor = _factor(self._covariance(self._logs, self._x))
        self._weights = cho_solve((self._factor, True), self._y)

    def many(self, archs: Sequence[Arch]) -> tuple[Floats, Floats]:
        """Means and standard deviations of the scores without noise, each of shape ``(len(archs),)``."""
        values = self._effects.of(archs)
        cross = self._kernel(self._logs, values, self._x)
        explained = solve_triangular(self._factor, cross.T, lower=True, check_finite=False)
        variance = self._variance(values) - np.einsum("ij,ij->j", explained, explained)
        mean = cross @ self._weights
        return self._offset + self._unit * mean, self._unit * np.sqrt(np.maximum(variance, 1e-12))

    def better(self, one: Arch, other: Arch) -> float:
        """The probability that `one` scores better than `other`: what both share cancels."""
        values = self._effects.of([one, other])
        explained = solve_triangular(self._factor, self._kernel(self._logs, values, self._x).T, lower=True)
        covariance = self._kernel(self._logs, values, values) - explained.T @ explained
        variance = float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
        means, _ = self.many([one, other])
        return chance_above(float(means[0] - means[1]), self._unit * max(variance, 1e-12) ** 0.5)

    def __call__(self, arch: Arch) -> Accuracy:
        means, sds = self.many([arch])
        return Accuracy(float(means[0]), float(sds[0]), self.task, self.evidence)

    @property
    def evidence(self) -> str:
        """What the estimates rest on, one line."""
        return f"{self._count} scores"

    def _fitted(self, start: Floats | None) -> Floats:
        """The logarithms of the effects' sizes, of the residual's size and length, and of the noise."""
        count = len(self._columns)
        centre = np.log([*([_EFFECT] * count), _RESIDUAL, _LENGTH, _NOISE])
        spread = np.array([*([_SPREAD] * count), _SPREAD, _LENGTH_SPREAD, _NOISE_SPREAD])
        rows = _some(self._y, MOST_FITTED)
        x, y = self._x[rows], self._y[rows]
        parts, apart, alike = self._parts(x, x)

        def objective(logs: Floats) -> tuple[float, Floats]:
            sizes, length = np.exp(2 * logs[: count + 1]), np.exp(logs[-2])
            residual = sizes[-1] * alike * np.exp(-apart / length)
            noise = np.exp(2 * logs[-1])
            covariance = sum((size * part for size, part in zip(sizes, parts, strict=False)), residual)
            try:
                factor = _factor(covariance + noise * np.eye(len(y)))
            except LinAlgError:
                return 1e12, np.zeros_like(logs)
            weights = cho_solve((factor, True), y)
            inverse = cho_solve((factor, True), np.eye(len(y)))
            slope = np.outer(weights, weights) - inverse
            changes = [2 * size * part for size, part in zip(sizes, parts, strict=False)]
            changes += [2 * residual, residual * apart / length]
            gradient = np.array([np.sum(slope * change) for change in changes] + [2 * noise * np.trace(slope)])
            off = (logs - centre) / spread
            value = 0.5 * y @ weights + np.log(np.diag(factor)).sum() + 0.5 * off @ off
            return float(value), -0.5 * gradient + off / spread

        bounds = [_BOUNDS] * (count + 1) + [_LENGTHS, _NOISES]
        first = centre if start is None or len(start) != len(centre) else start
        return np.asarray(
            minimize(objective, first, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 40}).x
        )

    def _parts(self, one: Floats, other: Floats) -> tuple[list[Floats], Floats, Floats]:
        """For each group of effects the covariance of unit effects; the number of genes that differ, and the
        likeness of the sizes, each of shape ``(len(one), len(other))``."""
        a, b = (one - self._centre) / self._scale, (other - self._centre) / self._scale
        parts = [a[:, columns] @ b[:, columns].T / columns.sum() for columns in self._columns]
        same = one[:, self._genes] @ other[:, self._genes].T
        active = one[:, self._genes].sum(axis=1)[:, None] + other[:, self._genes].sum(axis=1)[None]
        away = a[:, self._macs][:, None] - b[:, self._macs][None]
        return parts, active / 2 - same, np.exp(-0.5 * away**2)

    def _kernel(self, logs: Floats, one: Floats, other: Floats) -> Floats:
        """The covariance that `_parts` adds up to, in one product instead of one for each group."""
        sizes, length = np.exp(2 * logs[: len(self._columns) + 1]), np.exp(logs[-2])
        weights = np.zeros(one.shape[1])
        for size, columns in zip(sizes, self._columns, strict=False):
            weights[columns] = size / columns.sum()
        a, b = (one - self._centre) / self._scale, (other - self._centre) / self._scale
        genes, others = one[:, self._genes], other[:, self._genes]
        power = genes @ others.T
        power -= 0.5 * genes.sum(axis=1)[:, None]
        power -= 0.5 * others.sum(axis=1)
        power /= length
        power -= 0.5 * (a[:, self._macs][:, None] - b[:, self._macs]) ** 2
        found: Floats = (a * weights) @ b.T
        found += sizes[-1] * np.exp(power, out=power)
        return found

    def _covariance(self, logs: Floats, x: Floats) -> Floats:
        covariance: Floats = self._kernel(logs, x, x) + np.exp(2 * logs[-1]) * np.eye(len(x))
        return covariance

    def _variance(self, values: Floats) -> Floats:
        """The variance of each network before any score."""
        a = (values - self._centre) / self._scale
        sizes = np.exp(2 * self._logs[: len(self._columns) + 1])
        found: Floats = np.full(len(values), sizes[-1])
        for size, columns in zip(sizes, self._columns, strict=False):
            found += size * np.einsum("ij,ij->i", a[:, columns], a[:, columns]) / columns.sum()
        return found


def _some(y: Floats, most: int) -> NDArray[np.int64]:
    """At most so many scores: the best, and as many of the others at even distances."""
    order = np.argsort(-y, kind="stable")
    if len(y) <= most:
        return np.sort(order)
    rest = order[most // 2 :]
    return np.sort(np.concatenate([order[: most // 2], rest[:: -(-len(rest) // (most // 2))]]))


def _factor(covariance: Floats) -> Floats:
    """Cholesky factor, lower."""
    found: Floats = cholesky(covariance + _JITTER * np.eye(len(covariance)), lower=True, check_finite=False)
    return found
