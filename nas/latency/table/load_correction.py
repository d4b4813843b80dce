"""Corrects the timings of a latency table for the background load of a shared machine.

Each network is timed only a few times, too few to find its own share of the anchors' slowdown. Together they are
hundreds of visits, so how networks slow down with the anchors is found from all at once. Load that lasts for a round is
treated apart from load that comes and goes within it: a network is timed some tenths of a second away from its anchors,
so a short burst that hit them hit it only in part.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from nas.latency.sampling import expected_share
from nas.latency.table.cache import Round

# Slopes of the networks' times over the anchor's bursts, the far anchor's lasting slowdown and its bursts; the latter
# two are multiplied by `expected_share`. Over 14 rounds of 249 networks, six minutes: 0.40, 0.96 and 0.47.
EXPECTED_SLOPES = np.array([0.5, 1.0, 0.5])
SLOPE_SIGMA = np.array([0.3, 0.2, 0.3])
PASSES = 20
OUTLYING = 1.5  # standard deviations beyond which a visit weighs less


@dataclass(frozen=True)
class Visits:
    """All visits of some rounds, as logarithms of milliseconds, each of shape ``(visits,)``.

    Args:
        names: names of the networks.
        net: index into `names` of the visited network.
        taken: time of the network.
        near: time of the anchor around the visit.
        far: time of the far anchor over the anchor; zeros without a far anchor.
        lasting_near: median of `near` in the round.
        lasting_far: median of `far` in the round.
        has_far: whether there was a far anchor.
    """

    names: tuple[str, ...]
    net: np.ndarray
    taken: np.ndarray
    near: np.ndarray
    far: np.ndarray
    lasting_near: np.ndarray
    lasting_far: np.ndarray
    has_far: bool

    @staticmethod
    def of(rounds: Sequence[Round]) -> Visits:
        """The visits of one or more rounds."""
        visits = [visit for one in rounds for visit in one]
        lengths = [len(one) for one in rounds]
        names = tuple(dict.fromkeys(visit.name for visit in visits))
        place = {name: at for at, name in enumerate(names)}
        has_far = all(visit.far_ms is not None for visit in visits)
        near = np.log([visit.near_ms for visit in visits])
        far = np.log([visit.far_ms or 1.0 for visit in visits]) - near if has_far else np.zeros(len(visits))

        def lasting(values: np.ndarray) -> np.ndarray:
            return np.repeat([np.median(one) for one in np.split(values, np.cumsum(lengths)[:-1])], lengths)

        return Visits(
            names=names,
            net=np.array([place[visit.name] for visit in visits]),
            taken=np.log([visit.ms for visit in visits]),
            near=near,
            far=far,
            lasting_near=lasting(near),
            lasting_far=lasting(far),
            has_far=has_far,
        )

    @property
    def anchor_ms(self) -> float:
        """Median of the anchor in milliseconds."""
        return float(np.exp(np.median(self.near)))

    @property
    def state(self) -> float:
        """Median of the far anchor over the anchor; 1 without a far anchor."""
        return float(np.exp(np.median(self.far)))

    def at_baseline(self, anchor_ms: float, state: float = 1.0) -> dict[str, float]:
        """Milliseconds of each network by name, if the anchor took `anchor_ms` in this `state`."""
        far_ms = self.state * self.anchor_ms
        typical = self._each(self.taken, np.median)
        share = np.array([expected_share(float(ms), far_ms) for ms in np.exp(typical)])[self.net]
        # Lasting load slows a network down as much as the anchor.
        taken = self.taken - (self.lasting_near - np.log(anchor_ms))
        causes = [self.near - self.lasting_near]
        if self.has_far:
            causes += [share * (self.lasting_far - np.log(state)), share * (self.far - self.lasting_far)]
        matrix = np.column_stack(causes)
        slopes = self._slopes(matrix, taken)
        return dict(zip(self.names, np.exp(self._each(taken - matrix @ slopes, np.median)).tolist(), strict=True))

    def _slopes(self, matrix: np.ndarray, taken: np.ndarray) -> np.ndarray:
        """Bayesian linear regression on the differences between visits of the same network; outliers weigh less."""
        matrix = np.column_stack([self._centred(column) for column in matrix.T])
        taken = self._centred(taken)
        expected, sigma = EXPECTED_SLOPES[: matrix.shape[1]], SLOPE_SIGMA[: matrix.shape[1]]
        slopes = expected
        for _ in range(PASSES):
            left = np.abs(taken - matrix @ slopes)
            spread = 1.4826 * max(float(np.median(left)), 1e-4)
            weight = 1 / np.maximum(1.0, left / (OUTLYING * spread)) / spread**2
            known = matrix.T @ (matrix * weight[:, None]) + np.diag(sigma**-2)
            slopes = np.linalg.solve(known, matrix.T @ (weight * taken) + expected / sigma**2)
        return np.asarray(slopes)

    def _each(self, values: np.ndarray, of: Callable[[np.ndarray], float | np.floating]) -> np.ndarray:
        """`of` applied to the values of each network, shape ``(names,)``."""
        order = np.argsort(self.net, kind="stable")
        ends = np.cumsum(np.bincount(self.net))[:-1]
        return np.array([float(of(one)) for one in np.split(values[order], ends)])

    def _centred(self, values: np.ndarray) -> np.ndarray:
        return np.asarray(values - self._each(values, np.median)[self.net])
