"""What short trainings say about long ones: learning curves of one search, carried on to their end.

Early scores mislead: larger networks start slower. How the scores at one length follow from those at the length before
is learned from the networks that were trained to both, as a line in the score and in the logarithm of MACs. Which
networks these are was decided by what was known at the shorter length, which does not bias that line.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from math import log
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from nas.accuracy.linear import fit
from nas.accuracy.posterior import FEWEST, Training
from nas.arch.cost import cost_of

Floats = NDArray[np.float64]


def extrapolated(trainings: Sequence[Training]) -> list[Training]:
    """For each network its longest training, with the accuracy and the loss that it is expected to have at the largest
    length of all.

    Args:
        trainings: of several lengths; one network may have several, and several of one length with other seeds.

    >>> from nas.arch.space_yaml import load_space
    >>> archs = [load_space("efficientnet").sample(seed) for seed in range(12)]
    >>> short = [Training(arch, 0.2 + 0.01 * at, None, 50) for at, arch in enumerate(archs)]
    >>> long = [Training(one.arch, 0.3 + 2 * one.accuracy, None, 100) for one in short[:11]]
    >>> found = extrapolated([*short, *long])
    >>> len(found), found[-1].length, round(found[-1].accuracy, 2)
    (12, 50, 0.92)
    """
    lengths = sorted({one.length for one in trainings})
    if len(lengths) < 2:
        return list(trainings)
    curves: dict[str, dict[int, list[Training]]] = defaultdict(lambda: defaultdict(list))
    for one in trainings:
        curves[one.arch.key][one.length].append(one)
    longest = [one for curve in curves.values() for one in curve[max(curve)]]
    for what in ("accuracy", "loss"):
        if any(getattr(one, what) is None for one in trainings):
            continue
        table = np.array([_row(curve, lengths, what) for curve in curves.values()])
        size = np.array([log(cost_of(curve[max(curve)][0].arch).macs) for curve in curves.values()])
        ends = dict(zip(curves, _to_the_end(table, size), strict=True))
        longest = [one if one.length == lengths[-1] else _with(one, what, ends[one.arch.key]) for one in longest]
    return longest


def _with(one: Training, what: str, value: float) -> Training:
    return replace(one, accuracy=value) if what == "accuracy" else replace(one, loss=value)


def _row(curve: dict[int, list[Training]], lengths: Sequence[int], what: str) -> list[float]:
    """Scores of a network at each length; NaN where it was not trained to that."""
    return [fmean(getattr(one, what) for one in curve[at]) if at in curve else float("nan") for at in lengths]


def _to_the_end(table: Floats, size: Floats) -> list[float]:
    """Scores at the last length, shape (n,), from those known: shape (n, lengths)."""
    for before, after in pairwise(range(table.shape[1])):
        known = np.isfinite(table[:, before])
        missing, both = known & np.isnan(table[:, after]), known & np.isfinite(table[:, after])
        if missing.any():
            table[missing, after] = _carried_on(table[:, before], size, table[both, after], both)[missing]
    ends: list[float] = table[:, -1].tolist()
    return ends


def _carried_on(score: Floats, size: Floats, later: Floats, both: NDArray[np.bool_]) -> Floats:
    """The expected scores at the next length of all networks, by those of `both`."""
    if both.sum() < FEWEST:  # too few for a line
        return score + (float(np.mean(later - score[both])) if both.any() else 0.0)
    x = np.stack([score, size], axis=1)
    centre, spread = x[both].mean(axis=0), np.maximum(x[both].std(axis=0), 1e-9)
    level, unit = float(later.mean()), max(float(later.std()), 1e-9)
    x = (x - centre) / spread
    line = fit(x[both], (later - level) / unit, [0, 1])
    expected: Floats = level + unit * (x @ line.weights)
    return expected
