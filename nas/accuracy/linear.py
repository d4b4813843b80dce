"""A Bayesian linear model that learns from the data how large the effects of each group of features are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_solve, cholesky
from scipy.optimize import minimize

_LOG_SD = (-7.0, 4.0)  # bounds of the logarithm of an effect's standard deviation
LEAST_NOISE = 1e-3
_START = np.log(0.1)
_ITERATIONS = 60

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Linear:
    """A fitted model ``y = X w + noise`` with a normal posterior of w.

    Attributes:
        weights: mean of w, shape (p,).
        covariance: covariance of w, shape (p, p).
        sds: standard deviation of the effects of each group before the data were seen.
        noise: standard deviation of the noise of each kind of observation.
        evidence: logarithm of the marginal likelihood, up to a constant.
    """

    weights: Floats
    covariance: Floats
    sds: Floats
    noise: Floats
    evidence: float

    def predict(self, x: Floats) -> tuple[Floats, Floats]:
        """Means and standard deviations of ``x w``, without noise, each of shape (n,)."""
        variance = np.einsum("ij,ij->i", x @ self.covariance, x)
        return x @ self.weights, np.sqrt(np.maximum(variance, 0.0))


def fit(
    x: Floats,
    y: Floats,
    groups: Sequence[int],
    kinds: Sequence[int] | None = None,
    least_noise: float = LEAST_NOISE,
) -> Linear:
    """Fit by maximising the evidence (type-II maximum likelihood; Bishop, Pattern Recognition and Machine Learning,
    section 3.5): every group of columns has its own variance of effects, every kind of observation its own noise.

    Args:
        x: features, shape (n, p), of about unit scale.
        y: observations, shape (n,), of about unit scale.
        groups: group of each column, 0 to the number of groups - 1.
        kinds: kind of each observation, likewise; None is one kind.
        least_noise: smallest standard deviation of noise that is considered.

    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=(200, 3))
    >>> model = fit(x, x @ [1.0, -2.0, 0.0] + 0.1 * rng.normal(size=200), groups=[0, 0, 1])
    >>> np.round(model.weights, 1) + 0.0, round(float(model.noise[0]), 1)
    (array([ 1., -2.,  0.]), 0.1)
    """
    group, kind = np.asarray(groups), np.zeros(len(y), int) if kinds is None else np.asarray(kinds)
    moments = [_Moments.of(x[kind == one], y[kind == one]) for one in range(kind.max() + 1)]
    count = int(group.max()) + 1
    start = np.concatenate([np.full(count, _START), [np.log(max(0.3 * m.spread, least_noise)) for m in moments]])
    bounds = [_LOG_SD] * count + [(np.log(least_noise), 3.0)] * len(moments)
    found = minimize(
        lambda logs: _negative_evidence(logs, moments, group)[:2],
        start,
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        options={"maxiter": _ITERATIONS},
    )
    _, _, weights, covariance = _negative_evidence(found.x, moments, group)
    sds = np.exp(found.x)
    return Linear(weights, covariance, sds[:count], sds[count:], -float(found.fun))


@dataclass(frozen=True)
class _Moments:
    """What the evidence needs to know of the observations of one kind."""

    count: int
    xx: Floats
    xy: Floats
    yy: float
    spread: float

    @staticmethod
    def of(x: Floats, y: Floats) -> _Moments:
        return _Moments(len(y), x.T @ x, x.T @ y, float(y @ y), float(y.std()) if len(y) else 1.0)


def _negative_evidence(
    logs: Floats, moments: Sequence[_Moments], group: NDArray[np.int_]
) -> tuple[float, Floats, Floats, Floats]:
    """Minus the log evidence, its gradient by the logarithms of the standard deviations, and the posterior of w."""
    count, p = len(logs) - len(moments), len(group)
    prior = np.exp(2 * logs[:count])[group]
    noise = np.exp(2 * logs[count:])
    xx, xy = np.zeros((p, p)), np.zeros(p)
    for m, v in zip(moments, noise, strict=True):
        xx += m.xx / v
        xy += m.xy / v
    root = np.sqrt(prior)  # I + D X'X D is well conditioned where X'X is not
    try:
        factor = cholesky(np.eye(p) + root[:, None] * xx * root, lower=True)
    except LinAlgError:
        return 1e12, np.zeros_like(logs), np.zeros(p), np.diag(prior)
    inner = cho_solve((factor, True), np.eye(p))
    covariance = root[:, None] * inner * root
    weights = covariance @ xy
    value = 2 * float(np.log(np.diag(factor)).sum()) - float(xy @ weights)
    gradient = np.empty_like(logs)
    shrunk = (np.diag(covariance) + weights**2) / prior
    gradient[:count] = np.bincount(group, 1 - shrunk, count)
    for at, (m, v) in enumerate(zip(moments, noise, strict=True)):
        value += m.count * float(np.log(v)) + m.yy / v
        left = m.yy - 2 * weights @ m.xy + weights @ m.xx @ weights
        gradient[count + at] = m.count - float(np.sum(covariance * m.xx) + left) / v
    return 0.5 * value, gradient, weights, covariance
