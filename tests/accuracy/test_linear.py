"""The linear model: known effects are found, its covariance is honest, its gradient and closed forms are right."""

import numpy as np
import pytest
from scipy.optimize import approx_fprime
from scipy.stats import multivariate_normal

from nas.accuracy import linear
from nas.accuracy.linear import _Moments, _negative_evidence, fit


def simulated(
    seed: int, n: int = 300, sds: tuple[float, ...] = (1.0, 0.3, 0.0), each: int = 5, noise: tuple[float, ...] = (0.2,)
) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[int], np.ndarray]:
    """Features, observations, true effects, groups, and kinds of observations with their own noise."""
    rng = np.random.default_rng(seed)
    groups = [group for group in range(len(sds)) for _ in range(each)]
    effects = rng.normal(size=len(groups)) * np.array(sds)[groups]
    x = rng.normal(size=(n, len(groups)))
    kinds = rng.integers(0, len(noise), n)
    return x, x @ effects + np.array(noise)[kinds] * rng.normal(size=n), effects, groups, kinds


def test_known_effects_noise_and_sizes_of_effects_are_found() -> None:
    x, y, effects, groups, kinds = simulated(0, n=2000, each=20, noise=(0.1, 0.5))
    model = fit(x, y, groups, kinds.tolist())
    assert np.abs(model.weights - effects).max() < 0.03
    assert model.noise == pytest.approx([0.1, 0.5], rel=0.1)
    assert model.sds[:2] == pytest.approx([1.0, 0.3], rel=0.4)
    assert model.sds[2] < 0.02


def test_effects_that_are_nothing_are_not_learned_from_few_observations() -> None:
    """Twenty features without effect, thirty observations: least squares would find effects of the size of noise."""
    errors, ordinary = [], []
    for seed in range(5):
        x, y, effects, groups, _ = simulated(seed, n=30, sds=(1.0, 0.0), each=10, noise=(0.5,))
        errors.append(np.abs(fit(x, y, groups).weights - effects)[10:].max())
        ordinary.append(np.abs(np.linalg.lstsq(x, y, rcond=None)[0] - effects)[10:].max())
    assert np.mean(errors) < 0.5 * np.mean(ordinary)


def test_the_covariance_is_calibrated() -> None:
    """Standardised errors of effects and of predictions have a standard deviation of about one, over simulations."""
    rng = np.random.default_rng(9)
    z_weights, z_means = [], []
    for seed in range(40):
        x, y, effects, groups, _ = simulated(seed, n=60, sds=(1.0, 0.3), each=8)
        model = fit(x, y, groups)
        z_weights.append((model.weights - effects) / np.sqrt(np.diag(model.covariance)))
        new = rng.normal(size=(20, len(effects)))
        means, sds = model.predict(new)
        z_means.append((means - new @ effects) / sds)
    assert 0.9 < np.std(z_weights) < 1.15
    assert 0.85 < np.std(z_means) < 1.2
    assert 0.84 < np.mean(np.abs(z_means) < 1.645) < 0.95


def test_the_gradient_of_the_evidence_equals_finite_differences() -> None:
    x, y, _, groups, kinds = simulated(3, n=80, noise=(0.2, 0.6))
    moments = [_Moments.of(x[kinds == kind], y[kinds == kind]) for kind in (0, 1)]
    for seed in range(5):
        logs = np.random.default_rng(seed).normal(-1, 0.7, 5)
        gradient = _negative_evidence(logs, moments, np.array(groups))[1]
        numeric = approx_fprime(logs, lambda at: _negative_evidence(at, moments, np.array(groups))[0], 1e-6)
        assert gradient == pytest.approx(numeric, rel=1e-3, abs=1e-3)


def test_the_evidence_is_the_density_of_the_observations() -> None:
    """Up to a constant, which differences of two points do not have."""
    x, y, _, groups, _ = simulated(4, n=25)
    moments = [_Moments.of(x, y)]

    def density(logs: np.ndarray) -> float:
        prior = np.exp(2 * logs[:3])[groups]
        covariance = x @ np.diag(prior) @ x.T + np.exp(2 * logs[3]) * np.eye(len(y))
        return -float(multivariate_normal(np.zeros(len(y)), covariance).logpdf(y))

    one, other = np.array([0.0, -1.0, -2.0, -1.5]), np.array([-0.5, 0.3, -1.0, -0.7])
    difference = [_negative_evidence(logs, moments, np.array(groups))[0] for logs in (one, other)]
    assert difference[0] - difference[1] == pytest.approx(density(one) - density(other), rel=1e-6)


def test_one_group_and_one_noise_are_ridge_regression() -> None:
    x, y, _, _, _ = simulated(5, n=50, sds=(1.0,))
    model = fit(x, y, [0] * x.shape[1])
    ridge = float(model.noise[0] / model.sds[0]) ** 2
    inverse = np.linalg.inv(x.T @ x + ridge * np.eye(x.shape[1]))
    assert model.weights == pytest.approx(inverse @ x.T @ y)
    assert model.covariance == pytest.approx(float(model.noise[0]) ** 2 * inverse)


def test_noisy_observations_count_less() -> None:
    """The same feature has two values in two kinds of observations; the exact one decides."""
    rng = np.random.default_rng(6)
    x = rng.normal(size=(400, 1))
    kinds = np.repeat([0, 1], 200)
    y = np.where(kinds == 0, 1.0, 0.5) * x[:, 0] + np.where(kinds == 0, 0.05, 2.0) * rng.normal(size=400)
    assert fit(x, y, [0], kinds.tolist()).weights[0] == pytest.approx(1.0, abs=0.02)


def test_more_features_than_observations_and_equal_columns_are_no_trouble() -> None:
    rng = np.random.default_rng(7)
    x = np.repeat(rng.normal(size=(12, 10)), 3, axis=1)
    model = fit(x, x[:, 0] + 0.1 * rng.normal(size=12), [0] * 30)
    assert np.isfinite(model.weights).all()
    assert np.linalg.eigvalsh(model.covariance).min() > -1e-9
    assert model.weights[:3] == pytest.approx(np.full(3, model.weights[:3].mean()), abs=1e-6)


def test_noise_is_not_below_its_bound() -> None:
    x, _, effects, groups, _ = simulated(8)
    exact = x @ effects
    assert fit(x, exact, groups).noise[0] == pytest.approx(linear.LEAST_NOISE, rel=1e-3)
    assert fit(x, exact, groups, least_noise=0.3).noise[0] == pytest.approx(0.3, rel=1e-3)
