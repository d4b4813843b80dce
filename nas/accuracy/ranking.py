"""How well one list of numbers ranks networks by another, overall and at equal cost."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

GROUPS = 10  # deciles of cost


def tau(scores: ArrayLike, truth: ArrayLike) -> float:
    """Kendall's tau-b of two lists, -1 to 1; 0 where one is constant.

    >>> round(tau([1, 2, 3, 4], [10, 20, 40, 30]), 2)
    0.67
    """
    from scipy.stats import kendalltau  # a second to import, for figures alone

    value = float(kendalltau(scores, truth).statistic)
    return 0.0 if np.isnan(value) else value


def equal_cost_tau(scores: ArrayLike, truth: ArrayLike, costs: ArrayLike, groups: int = GROUPS) -> float:
    """The mean of `tau` within groups of about equal cost: what a search under a budget lives on.

    Args:
        scores: n numbers that rank; higher is better.
        truth: n numbers to rank by.
        costs: n costs, e.g. MACs; their quantiles bound the groups.
        groups: number of groups, of at least five networks each; fewer networks make fewer groups.

    >>> costs = [1, 1, 1, 1, 1, 9, 9, 9, 9, 9]
    >>> truth = [5, 4, 3, 2, 1, 10, 9, 8, 7, 6]
    >>> tau(costs, truth) > 0.7, equal_cost_tau(costs, truth, costs, groups=2)
    (True, 0.0)
    """
    scored, true, cost = (np.asarray(values, dtype=float) for values in (scores, truth, costs))
    order = np.argsort(cost, kind="stable")
    parts = np.array_split(order, max(1, min(groups, len(order) // 5)))
    return float(np.mean([tau(scored[part], true[part]) for part in parts]))
