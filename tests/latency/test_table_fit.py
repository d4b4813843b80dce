"""A table is fitted to times of parts and of whole networks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.arch.arch import Arch
from nas.arch.space_yaml import load_space, names, parse_space
from nas.latency.table.calibrate import robust_fit
from nas.latency.table.columns import parts_of_row, places, steps
from nas.latency.table.fit import fit, least_squares
from nas.latency.table.predict import Predictor
from nas.latency.table.residuals import MOST, SPREAD, Point, Residuals, covariance
from nas.latency.table.sample_networks import draw_sets
from nas.references.table import reference
from nas.system.errors import InputError
from tests.latency.tables import ONE, made_up

CHANNELS = st.integers(1, 4096)


@pytest.mark.parametrize("name", names())
def test_a_linear_device_is_recovered_from_parts_and_networks(name: str) -> None:
    """Fitted to exact times of a device that the model can represent, the table predicts unseen networks to 1 %."""
    space = load_space(name)
    held_out, archs = draw_sets(space, 1)
    columns, truth = made_up(archs)
    nets_ms = columns.of_networks(archs) @ truth
    sizes = columns.raw(archs)[:, -1]
    parts_ms = []
    for arch, size in zip(archs, sizes, strict=True):
        raw = np.array([columns.of_part(part) for placed in places(arch) for part in parts_of_row(placed)])
        parts_ms.append(columns.with_steps(raw, np.full(len(raw), size)) @ truth)
    for arch_ms, whole_ms in zip(parts_ms, nets_ms, strict=True):
        assert arch_ms.sum() == pytest.approx(whole_ms)
    found, residuals = fit(columns, archs, parts_ms, nets_ms)
    assert (found >= 0).all()
    truly = columns.of_networks(held_out) @ truth
    np.testing.assert_allclose(Predictor(columns, found, residuals).many(held_out), truly, rtol=0.01)


def bent(part_ms: float, size: int, channels: int) -> float:
    """A cost that is not linear in work: few channels leave lanes idle, maps from 28 on leave a cache."""
    return part_ms * (1 + (size >= 28)) * (1 + 16 / channels)


def test_deviations_from_linear_costs_are_learned_from_parts() -> None:
    """On a device whose parts cost up to four times a linear function of their work, residuals reduce the error on
    held-out networks to less than 1.5 %."""
    space = load_space("mbconv")
    held_out, archs = draw_sets(space, 2)
    columns, truth = made_up([*archs, *held_out])

    def timed(arch: Arch) -> np.ndarray:
        parts = [part for placed in places(arch) for part in parts_of_row(placed)]
        size = columns.raw([arch])[0, -1]
        linear = (
            columns.with_steps(np.array([columns.of_part(part) for part in parts]), np.full(len(parts), size)) @ truth
        )
        return np.array([bent(ms, p[0].in_size, p[0].in_channels) for ms, p in zip(linear, parts, strict=True)])

    parts_ms = [timed(arch) for arch in archs]
    nets_ms = np.array([parts.sum() for parts in parts_ms])
    coefficients, residuals = fit(columns, archs, parts_ms, nets_ms)
    truly = np.array([timed(arch).sum() for arch in held_out])
    error = np.abs(Predictor(columns, coefficients, residuals).many(held_out) / truly - 1).mean()
    plain = robust_fit(columns.of_networks(archs), nets_ms, 0.01 * nets_ms)
    without = np.abs(columns.of_networks(held_out) @ plain / truly - 1).mean()
    assert error < 0.015
    assert error < without * 0.9


def test_residuals_fade_away_from_timed_parts() -> None:
    """The factor is the learned one at a timed part, smaller nearby, 1 far off, and never beyond e either way."""
    weight = 0.2 / SPREAD**2
    found = Residuals(((64, 128, 14, "relu"),), (weight,))
    assert np.log(found((64, 128, 14, "relu"))) == pytest.approx(0.2)
    assert 0.1 < np.log(found((90, 128, 14, "relu"))) < 0.2
    assert 0.1 < np.log(found((64, 128, 14, "h_swish"))) < 0.2
    assert found((512, 1024, 112, "relu")) == pytest.approx(1, abs=1e-6)
    assert Residuals(((8, 8, 8, "relu"),), (999.0,))((8, 8, 8, "relu")) == pytest.approx(np.exp(MOST))


@given(st.lists(st.tuples(CHANNELS, CHANNELS, st.integers(1, 300), st.sampled_from(["relu", "swish"])), max_size=30))
def test_factors_have_a_covariance(points: list[Point]) -> None:
    """It is symmetric and positive semidefinite, and no two parts are more alike than a part is to itself."""
    found = covariance(points) if points else np.zeros((1, 1))
    np.testing.assert_array_equal(found, found.T)
    assert np.linalg.eigvalsh(found).min() > -1e-9
    assert (found <= SPREAD**2 + 1e-12).all()


def test_whole_networks_correct_the_profiler() -> None:
    """If a profiler makes all depthwise convolutions half as slow again, whole networks, timed without it, correct
    that."""
    space = load_space("mbconv")
    held_out, archs = draw_sets(space, 3)
    columns, truth = made_up([*archs, *held_out])
    rng = np.random.default_rng(0)

    def profiled(arch: Arch) -> tuple[np.ndarray, float]:
        """Times of parts with depthwise ones too slow, scaled to the network's own time, as a profile is."""
        parts = [part for placed in places(arch) for part in parts_of_row(placed)]
        size = columns.raw([arch])[0, -1]
        ms = columns.with_steps(np.array([columns.of_part(part) for part in parts]), np.full(len(parts), size)) @ truth
        profile = ms * [1.5 if part[0].kind == "depthwise" else 1.0 for part in parts] * rng.normal(1, 0.1, len(parts))
        return profile * ms.sum() / profile.sum(), float(ms.sum())

    parts_ms, nets_ms = zip(*map(profiled, archs), strict=True)
    coefficients, residuals = fit(columns, archs, parts_ms, np.array(nets_ms))
    truly = np.array([profiled(arch)[1] for arch in held_out])
    assert np.abs(Predictor(columns, coefficients, residuals).many(held_out) / truly - 1).mean() < 0.01


def test_one_outlying_network_weighs_less() -> None:
    """A network timed half as slow again, because its machine stalled, moves others by less than 1 %."""
    space = load_space("mbconv")
    held_out, archs = draw_sets(space, 1)
    columns, truth = made_up(archs)
    sizes = columns.raw(archs)[:, -1]
    parts_ms = []
    for arch, size in zip(archs, sizes, strict=True):
        raw = np.array([columns.of_part(part) for placed in places(arch) for part in parts_of_row(placed)])
        parts_ms.append(columns.with_steps(raw, np.full(len(raw), size)) @ truth)
    parts_ms[10] = parts_ms[10] * 1.5
    coefficients, residuals = fit(columns, archs, parts_ms, np.array([parts.sum() for parts in parts_ms]))
    error = Predictor(columns, coefficients, residuals).many(held_out) / (columns.of_networks(held_out) @ truth) - 1
    assert np.abs(error).mean() < 0.01


def test_the_solution_is_that_of_generalised_least_squares() -> None:
    """It is the closed form if no coefficient is bounded by zero; a coefficient that would be negative is zero."""
    rng = np.random.default_rng(0)
    matrix, half = rng.uniform(0, 1, (40, 5)), rng.normal(size=(40, 40))
    spread = half @ half.T / 40 + 0.1 * np.eye(40)
    target = matrix @ [3.0, 2.0, 5.0, 1.0, 4.0] + 0.1 * rng.normal(size=40)
    inverse = np.linalg.inv(spread)
    closed = np.linalg.solve(matrix.T @ inverse @ matrix, matrix.T @ inverse @ target)
    assert (closed > 0).all()
    found, left = least_squares(matrix, target, spread)
    np.testing.assert_allclose(found, closed, rtol=1e-8)
    np.testing.assert_allclose(left, inverse @ (target - matrix @ closed), rtol=1e-6, atol=1e-9)
    negative = least_squares(matrix, target - 9 * matrix[:, 0], spread)[0]
    assert negative[0] == 0
    assert (negative >= 0).all()


def test_steps_climb_with_size() -> None:
    """They go from none to all and never down."""
    up = steps(np.geomspace(1e5, 1e8, 50))
    assert (np.diff(up, axis=0) >= 0).all()
    assert up[0].sum() == 0
    assert (up[-1] == 1).all()


def test_unknown_kernels_and_activations_are_predicted_as_the_nearest_known() -> None:
    """Any kernel and stride is predicted by the nearest known one; an unknown kind of operator is an error that names
    it."""
    one = parse_space(ONE, "one").sample(0)
    columns, coefficients = made_up([one])
    wide = Arch.from_json(
        one.to_json().replace('"kernel": 3, "stride": 2, "expand": 3', '"kernel": 7, "stride": 1, "expand": 3')
    )
    assert wide != one
    assert float((columns.of_networks([wide]) @ coefficients)[0]) > float(
        (columns.of_networks([one]) @ coefficients)[0]
    )
    with pytest.raises(InputError, match=r"\bse\b"):
        columns.of_networks([reference("mobilenet_v3_small")])
