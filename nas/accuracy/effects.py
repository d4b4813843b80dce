"""What single choices are worth by an accuracy model, at equal size: a table for people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt

import numpy as np

from nas.accuracy.features import SLOTS, is_product
from nas.accuracy.prior import PriorModel

AT = 0.75  # accuracy at which effects are stated
CHANGES: Mapping[str, Mapping[str, float]] = {
    "5×5": {"k5": 1.0},
    "7×7": {"k7": 1.0},
    "SE": {"se": 1.0},
    "h_swish": {"act": 1.0},
    "expansion 6": {"e": 1.0},
    "a block more": {"n": 1.0},
}
"""Changes of all blocks of a slot, as changes of its features: kernel 5 or 7 in place of 3, with SE, a smooth
activation in place of ReLU, expansion 6 in place of 3, and one block more."""


@dataclass(frozen=True, slots=True)
class Effect:
    """What a change of one slot is worth.

    Args:
        slot: one of `nas.accuracy.features.SLOTS`.
        change: one of `CHANGES`.
        points: change of the accuracy in points (percent of images), at an accuracy of `AT`.
        sd: standard error of `points`.
    """

    slot: str
    change: str
    points: float
    sd: float


def effects(model: PriorModel) -> list[Effect]:
    """What each change of each slot is worth in a typical network of the data, with parameters, MACs and memory access
    kept equal; changes that no network of the data has are left out.

    >>> from nas.accuracy.prior import bundled
    >>> found = {(effect.slot, effect.change): effect for effect in effects(bundled())}
    >>> found["5a", "SE"].points > 0, ("1", "7×7") in found
    (True, False)
    """
    rows = []
    for slot in SLOTS:
        for change, delta in CHANGES.items():
            x = _contrast(model, slot, delta)
            if x is not None:
                slope = 100 * AT * (1 - AT)
                sd = sqrt(max(0.0, float(x @ model.covariance[1:, 1:] @ x)))
                rows.append(Effect(slot, change, slope * float(x @ model.weights), slope * sd))
    return rows


def _contrast(model: PriorModel, slot: str, delta: Mapping[str, float]) -> np.ndarray | None:
    """How the change moves the standardised features of a typical network; None for features that never varied."""
    at = {name: index for index, name in enumerate(model.features)}
    present = max(float(model.centre[at[f"{slot}.n>=1"]]), 1e-9)
    # Features of a slot are 0 in networks without it: this is their mean where the slot is there.
    usual = {name: float(model.centre[at[f"{slot}.{name}"]]) / present for name in ("n", "e", "e1", "k5", "k7", "se")}
    usual["d"] = max(0.0, usual["n"] - 1)
    moved = {**delta, "d": delta.get("n", 0.0)}
    change = np.zeros(len(model.features))
    for name in (name for name in model.features if name.startswith(f"{slot}.")):
        plain = name.partition(".")[2]
        one, _, other = plain.partition("*")
        if is_product(name):
            after = (usual[one] + moved.get(one, 0.0)) * (usual[other] + moved.get(other, 0.0))
            change[at[name]] = after - usual[one] * usual[other]
        elif plain.startswith("n>="):
            least = float(plain[3:])
            change[at[name]] = float(round(usual["n"]) + moved.get("n", 0.0) >= least) - float(
                round(usual["n"]) >= least
            )
        elif plain in delta:
            change[at[name]] = delta[plain]
            if model.scale[at[name]] == 0:
                return None
    change[at["depth"]] = delta.get("n", 0.0)
    return np.where(model.scale > 0, change / np.where(model.scale > 0, model.scale, 1.0), 0.0)
