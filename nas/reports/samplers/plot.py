"""Best accuracy and hypervolume against evaluations as a PNG: a row for each table, a band for each sampler."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nas.reports.palette import FAINT, INK, MUTED, PAPER
from nas.reports.png import DPI, figure_png, literal
from nas.reports.samplers.data import BAND, Comparison

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Hues after Okabe and Ito; known samplers keep theirs from plot to plot.
HUES = ("#0072b2", "#5f6c7b", "#c4500a", "#2a7f62", "#8c3b74", "#b07a00", "#3a9ad9")
KNOWN = ("auto", "random", "tpe", "nsga2", "aging-evolution", "gp")
START = 9  # the axes begin at what is reached by then: earlier values would hide the differences
LABEL_GAP = 0.055  # between labels, as a share of the height
LABEL_ROOM = 0.3  # to the right of the curves, as a share of their width


def samplers_png(comparisons: Sequence[Comparison]) -> bytes:
    """The comparison of samplers as a PNG."""
    from matplotlib.figure import Figure

    rows = len(comparisons)
    figure = Figure(figsize=(11.5, 4.2 * rows), dpi=DPI, facecolor=PAPER, layout="constrained")
    axes = figure.subplots(rows, 2, squeeze=False)
    for row, one in zip(axes, comparisons, strict=True):
        scale = 100.0 if one.percent else 1.0
        _curves(row[0], {name: scale * values for name, values in one.best.items()}, scale * one.optimum)
        _curves(row[1], one.hypervolume, 1.0)
        row[0].set_title(literal(one.title), loc="left", color=INK, fontsize=11, pad=12)
        row[0].set_ylabel("accuracy of the best, %" if one.percent else "score of the best", color=INK, fontsize=9)
        row[1].set_ylabel(literal(f"hypervolume of accuracy and {one.unit}, relative"), color=INK, fontsize=9)
    for at in (0, 1):
        seeds = ", ".join(sorted({f"{len(some)}" for one in comparisons for some in one.best.values()}))
        text = f"evaluations; mean and {BAND[0]:.0%} to {BAND[1]:.0%} of {seeds} seeds" if at == 0 else "evaluations"
        axes[-1][at].set_xlabel(text.replace("% to", " to", 1), color=INK, fontsize=9)
    return figure_png(figure)


def _curves(axes: Axes, curves: Mapping[str, NDArray[np.float64]], top: float) -> None:
    length = next(iter(curves.values())).shape[1]
    at = np.arange(1, length + 1)
    others = [name for name in curves if name not in KNOWN]
    order = [*KNOWN, *others]
    hues = {name: HUES[order.index(name) % len(HUES)] for name in curves}
    means = {name: values.mean(axis=0) for name, values in curves.items()}
    bands = {name: np.quantile(values, BAND, axis=0) for name, values in curves.items()}
    for name in reversed(list(curves)):  # the first one is on top
        axes.fill_between(at, *bands[name], color=hues[name], alpha=0.12, linewidth=0)
        axes.plot(at, means[name], color=hues[name], linewidth=2.2 if name == "auto" else 1.5)
    axes.axhline(top, color=MUTED, linewidth=1.0, linestyle=(0, (5, 3)))
    bottom = min(float(low[min(START, length - 1)]) for low, _ in bands.values())
    highest = max(top, *(float(high.max()) for _, high in bands.values()))
    bottom = min(bottom, highest - 1e-6 * max(1.0, abs(highest)))
    axes.set_ylim(bottom, highest + 0.06 * (highest - bottom))
    axes.set_xlim(1, length * (1 + LABEL_ROOM))
    gap = LABEL_GAP * float(np.ptp(axes.get_ylim()))
    for name, y in spread({name: float(mean[-1]) for name, mean in means.items()}, gap).items():
        line = {"arrowstyle": "-", "color": hues[name], "linewidth": 0.6, "shrinkA": 0, "shrinkB": 0}
        axes.annotate(
            literal(name), (length, float(means[name][-1])), (length * 1.04, y), color=hues[name], fontsize=9,
            va="center", arrowprops=line,
        )  # fmt: skip
    axes.set_xticks([tick for tick in axes.get_xticks() if 1 <= tick <= length] or [length])
    axes.tick_params(colors=MUTED, labelsize=9, length=3)
    axes.grid(True, color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(FAINT)


def spread(heights: Mapping[str, float], gap: float) -> dict[str, float]:
    """Heights for labels, at least `gap` apart, in the same order, about as high on the whole.

    >>> spread({"a": 1.0, "b": 1.1, "c": 5.0}, 1.0)
    {'c': 5.0, 'b': 1.55, 'a': 0.55}
    """
    names = sorted(heights, key=lambda name: -heights[name])
    groups: list[list[str]] = []
    centres: list[float] = []
    for name in names:
        groups.append([name])
        centres.append(heights[name])
        while len(groups) > 1 and centres[-2] - centres[-1] < gap * (len(groups[-2]) + len(groups[-1])) / 2:
            group = groups.pop(-2) + groups.pop()
            groups.append(group)
            centres[-2:] = [sum(heights[one] for one in group) / len(group)]
    found = {}
    for group, centre in zip(groups, centres, strict=True):
        for at, name in enumerate(group):
            found[name] = round(centre + gap * ((len(group) - 1) / 2 - at), 12)
    return found
