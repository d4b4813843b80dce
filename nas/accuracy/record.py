"""What an accuracy model answers: an estimate that says how sure it is and what it rests on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import erf, sqrt
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from nas.arch.arch import Arch

INTERVAL = 1.645  # standard deviations on each side of the mean that hold 90 % of a normal distribution


@dataclass(frozen=True, slots=True)
class Accuracy:
    """An estimated accuracy.

    Args:
        mean: expected accuracy: the share of images classified correctly, 0 to 1, or a custom score; higher is better.
        sd: standard deviation of the estimate, in the unit of `mean`.
        task: what the accuracy is of, e.g. ``ImageNet``.
        evidence: what it rests on, one line.

    >>> print(Accuracy(0.724, 0.006, "ImageNet", "1,002 trained networks"))
    72.4 ± 0.6 %
    """

    mean: float
    sd: float
    task: str
    evidence: str

    @property
    def interval(self) -> tuple[float, float]:
        """The central 90 % interval."""
        return self.mean - INTERVAL * self.sd, self.mean + INTERVAL * self.sd

    def __str__(self) -> str:
        return f"{100 * self.mean:.1f} ± {100 * self.sd:.1f} %"


def chance_above(mean: float, sd: float) -> float:
    """The probability that a normal variable of this mean and standard deviation is above zero.

    >>> round(chance_above(1.645, 1), 2), chance_above(0, 0)
    (0.95, 0.5)
    """
    if sd == 0:
        return 0.5 if mean == 0 else float(mean > 0)
    return 0.5 * (1 + erf(mean / sd / sqrt(2)))


@runtime_checkable
class AccuracyModel(Protocol):
    """How accurate networks will be on one task."""

    @property
    def task(self) -> str:
        """What its accuracies are of."""
        ...

    @property
    def evidence(self) -> str:
        """What its estimates rest on, one line."""
        ...

    def __call__(self, arch: Arch) -> Accuracy:
        """The estimate for one network."""
        ...

    def many(self, archs: Sequence[Arch]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Means and standard deviations, each of shape ``(len(archs),)``."""
        ...

    def better(self, one: Arch, other: Arch) -> float:
        """The probability that `one` is more accurate than `other` if both are trained by the same recipe."""
        ...
