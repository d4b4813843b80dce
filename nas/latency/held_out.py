"""How far a latency model was off on networks it had never seen."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class HeldOut:
    """How well whole networks are predicted that the table was not fitted to.

    Args:
        predicted_ms: in the order of `measured_ms`.
        measured_ms: `nas.latency.table_sample.typical_ms` of rounds in which all were timed in turn.
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

    def to_dict(self) -> dict[str, Any]:
        """Figures and pairs, for files and reports."""
        pairs = [list(pair) for pair in zip(self.predicted_ms, self.measured_ms, strict=True)]
        figures = {"mape": self.mape, "worst": self.worst, "spearman": self.spearman, "nets": self.nets}
        return figures | {"predicted_and_measured_ms": pairs}

    def __str__(self) -> str:
        rank = "" if self.spearman is None else f", Spearman {self.spearman:.3f}"
        nets = f"{self.nets} held-out network{'s' if self.nets > 1 else ''}"
        return f"mean error {self.mape:.1%}, worst {self.worst:.1%}{rank} on {nets}"
