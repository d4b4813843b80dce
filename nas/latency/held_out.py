"""How far a latency model was off on networks it had never seen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

GUARDED = 0.9  # of the networks still to come are to be within a guard
NEAR = 2.0  # times a target, or a part of it: other networks say little about those that just meet it
LEAST_NEAR = 8  # pairs; with fewer, 9 in 10 cannot be told from a pair or two


def guard_of(ratios: Sequence[float] | np.ndarray, share: float = GUARDED) -> float:
    """The margin g from 0 within which the next ratio of measured to predicted time stays, at most ``1 + g``, with
    probability `share`.

    It is the ceil((n + 1) * share)-th smallest of the n ratios, less 1 (split conformal prediction, Vovk et al. 2005):
    right for any distribution if the next network comes from where these came from. Of too few the largest is taken,
    with which the probability is n / (n + 1).
    """
    ordered = np.sort(np.asarray(ratios, dtype=float))
    if not len(ordered):
        return 0.0
    at = min(math.ceil((len(ordered) + 1) * share - 1e-9), len(ordered))
    return max(0.0, float(ordered[max(at, 1) - 1]) - 1)


@dataclass(frozen=True)
class HeldOut:
    """How well whole networks are predicted that the table was not fitted to.

    Args:
        predicted_ms: in the order of `measured_ms`.
        measured_ms: as `nas.latency.table.timing` times networks, all in turn.
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
        """Rank correlation; None below three networks."""
        if self.nets < 3:
            return None
        from scipy.stats import spearmanr

        value = float(spearmanr(self.predicted_ms, self.measured_ms)[0])
        return value if math.isfinite(value) else None

    @property
    def ratios(self) -> np.ndarray:
        """``measured / predicted``, shape ``(nets,)``: above 1 where a network is slower than it was said to be."""
        return np.asarray(np.array(self.measured_ms) / np.array(self.predicted_ms))

    def near(self, target_ms: float) -> HeldOut:
        """The pairs predicted within a factor of `NEAR` of a target; all of them where those are too few."""
        pairs = zip(self.predicted_ms, self.measured_ms, strict=True)
        close = [pair for pair in pairs if target_ms / NEAR <= pair[0] <= target_ms * NEAR]
        return HeldOut(*map(tuple, zip(*close, strict=True))) if len(close) >= LEAST_NEAR else self

    def guard(self, share: float = GUARDED) -> float:
        """How far below a target `share` of the networks must be predicted to meet it: `guard_of` the ratios."""
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
