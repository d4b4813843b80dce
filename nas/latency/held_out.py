"""The error of a latency model on networks that it was not fitted to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

GUARDED = 0.9  # share of future networks that the safety margin should cover
NEAR = 2.0  # factor around a target within which networks count: others say little about those that just meet it
LEAST_NEAR = 8  # pairs; fewer cannot show what covers 9 in 10


def guard_of(ratios: Sequence[float] | np.ndarray, share: float = GUARDED) -> float:
    """The safety margin g >= 0 such that the next ratio of measured to predicted time is at most ``1 + g`` with
    probability `share`.

    It is the ceil((n + 1) * share)-th smallest of the n ratios, less 1 (split conformal prediction, Vovk et al. 2005).
    That holds for any distribution, if the next network comes from the same one as these. With too few ratios it is
    the largest, which covers the next one with probability n / (n + 1).
    """
    ordered = np.sort(np.asarray(ratios, dtype=float))
    if not len(ordered):
        return 0.0
    at = min(math.ceil((len(ordered) + 1) * share - 1e-9), len(ordered))
    return max(0.0, float(ordered[max(at, 1) - 1]) - 1)


@dataclass(frozen=True)
class HeldOut:
    """Predicted and measured times of whole networks that a latency model was not fitted to.

    Args:
        predicted_ms: predictions, in the order of `measured_ms`.
        measured_ms: measurements, as `nas.latency.table.timing` times networks, all in turn.
    """

    predicted_ms: tuple[float, ...]
    measured_ms: tuple[float, ...]

    @property
    def nets(self) -> int:
        return len(self.measured_ms)

    @property
    def errors(self) -> np.ndarray:
        """``predicted / measured - 1``, shape ``(nets,)``."""
        return np.asarray(np.array(self.predicted_ms) / np.array(self.measured_ms) - 1)

    @property
    def mape(self) -> float:
        """Mean of the absolute `errors`."""
        return float(np.abs(self.errors).mean())

    @property
    def worst(self) -> float:
        """Largest of the absolute `errors`."""
        return float(np.abs(self.errors).max())

    @property
    def spearman(self) -> float | None:
        """Rank correlation; None with fewer than three networks."""
        if self.nets < 3:
            return None
        from scipy.stats import spearmanr

        value = float(spearmanr(self.predicted_ms, self.measured_ms)[0])
        return value if math.isfinite(value) else None

    @property
    def ratios(self) -> np.ndarray:
        """``measured / predicted``, shape ``(nets,)``: above 1 if a network is slower than predicted."""
        return np.asarray(np.array(self.measured_ms) / np.array(self.predicted_ms))

    def near(self, target_ms: float) -> HeldOut:
        """The pairs predicted within a factor of `NEAR` of a target; all pairs if those are too few."""
        pairs = zip(self.predicted_ms, self.measured_ms, strict=True)
        close = [pair for pair in pairs if target_ms / NEAR <= pair[0] <= target_ms * NEAR]
        return HeldOut(*map(tuple, zip(*close, strict=True))) if len(close) >= LEAST_NEAR else self

    def guard(self, share: float = GUARDED) -> float:
        """The safety margin by which `share` of the networks clear a target: `guard_of` the ratios."""
        return guard_of(self.ratios, share)

    def to_dict(self) -> dict[str, Any]:
        """Figures and pairs, for files and reports."""
        pairs = [list(pair) for pair in zip(self.predicted_ms, self.measured_ms, strict=True)]
        figures = {"mape": self.mape, "worst": self.worst, "spearman": self.spearman, "nets": self.nets}
        return figures | {"predicted_and_measured_ms": pairs}

    def __str__(self) -> str:
        rank = "" if self.spearman is None else f", Spearman {self.spearman:.3f}"
        nets = f"{self.nets} held-out network{'s' if self.nets > 1 else ''}"
        return f"mean error {self.mape:.1%}, worst {self.worst:.1%}{rank} on {nets}"
