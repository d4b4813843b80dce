"""Pareto dominance and hypervolume of (accuracy up, latency down)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def front_mask(accuracy: Sequence[float], latency_ms: Sequence[float]) -> np.ndarray:
    """Which points no other point dominates.

    A point dominates another if it is at least as accurate and at least as fast, and better in one of the two. Of equal
    points all are kept. NaN is never on the front.

    Args:
        accuracy: n scores, higher is better.
        latency_ms: n costs, lower is better.

    Returns:
        bool array of shape (n,).

    >>> front_mask([0.7, 0.8, 0.6], [5.0, 9.0, 6.0])
    array([ True,  True, False])
    """
    scores, costs = np.asarray(accuracy, dtype=float), np.asarray(latency_ms, dtype=float)
    mask: np.ndarray = ~(np.isnan(scores) | np.isnan(costs))
    best = best_cost = -np.inf
    order = np.lexsort((-scores, costs))
    for at in order[mask[order]]:
        twin = mask[at] and scores[at] == best and costs[at] == best_cost
        if scores[at] > best:
            best, best_cost = scores[at], costs[at]
        elif not twin:
            mask[at] = False
    return mask


def hypervolume(accuracy: Sequence[float], latency_ms: Sequence[float], reference_ms: float) -> float | None:
    """The share of the box accuracy 0..1, latency 0..`reference_ms` that the points dominate, 0..1.

    None where there is no such box: a score outside 0..1, or no latency to bound it by.

    >>> hypervolume([0.5, 1.0], [5.0, 8.0], 10.0)
    0.35
    """
    if reference_ms <= 0 or not all(0 <= score <= 1 for score in accuracy):
        return None
    mask = front_mask(accuracy, latency_ms)
    points = sorted({(float(c), float(a)) for a, c, m in zip(accuracy, latency_ms, mask, strict=True) if m})
    area, previous = 0.0, 0.0
    for cost, score in points:
        if cost < reference_ms:
            area += (score - previous) * (reference_ms - cost)
            previous = score
    return area / reference_ms
