"""The Pareto plot as a PNG, for readers without a browser."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nas.reports.formatting import target
from nas.reports.palette import CANDIDATE, ERROR_OPACITY, FAINT, FRONT, INFEASIBLE, INK, MUTED, PAPER, REFERENCE
from nas.reports.png import DPI, figure_png, literal
from nas.reports.run.pareto_view import Mark, ParetoView

if TYPE_CHECKING:
    from matplotlib.axes import Axes

REFERENCE_MARKS = "sD^vPXp*"
ALIGN = {-1: ("right", "top"), 0: ("center", "center"), 1: ("left", "bottom")}


def pareto_png(view: ParetoView, title: str) -> bytes:
    """The Pareto plot as a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.6, 6.0), dpi=DPI, facecolor=PAPER, layout="constrained")
    axes = figure.add_subplot()
    _target(axes, view)
    if view.too_slow:
        _marks(axes, view.too_slow, view.label("too_slow"), marker="|", markersize=9, color=CANDIDATE, alpha=0.5)
    if view.candidates:
        dot: dict[str, Any] = {"marker": "o", "markersize": 5, "color": CANDIDATE, "markeredgewidth": 0}
        _marks(axes, view.candidates, view.label("candidates"), alpha=view.opacity, **dot)
    if view.missed:
        _marks(axes, view.missed, view.label("missed"), marker="x", markersize=7, color=FRONT)
    _errors(axes, [mark for mark in view.errors if mark not in view.references], FRONT)
    _errors(axes, view.references, REFERENCE)
    if view.front:
        xs, ys = zip(*view.step_line, strict=True)
        axes.plot(xs, ys, drawstyle="steps-post", color=FRONT, linewidth=1.6)
        dot = {"marker": "o", "markersize": 7, "color": FRONT, "markeredgecolor": PAPER, "zorder": 4}
        _marks(axes, view.front, view.label("front"), **dot)
        ring = {"markerfacecolor": "none", "markeredgecolor": FRONT, "markeredgewidth": 1.6}
        _marks(axes, view.front[-1:], "best", marker="o", markersize=14, **ring)
    for at, mark in enumerate(view.references):
        _reference(axes, mark, REFERENCE_MARKS[at % len(REFERENCE_MARKS)])
    _frame(axes, view, title)
    return figure_png(figure)


def _marks(axes: Axes, marks: Sequence[Mark], label: str, **style: Any) -> None:
    xs, ys = [mark.x for mark in marks], [mark.y for mark in marks]
    axes.plot(xs, ys, linestyle="none", clip_on=False, label=label, **style)


def _errors(axes: Axes, marks: Sequence[Mark], color: str) -> None:
    bars = [(mark.x, mark.y - mark.sd, mark.y + mark.sd) for mark in marks if mark.sd is not None]
    if bars:
        axes.vlines(*zip(*bars, strict=True), color=color, linewidth=1, alpha=ERROR_OPACITY, zorder=2)


def _reference(axes: Axes, mark: Mark, shape: str) -> None:
    from matplotlib.patheffects import withStroke

    _marks(axes, [mark], "_", marker=shape, markersize=8, color=REFERENCE, markeredgecolor=PAPER, zorder=5)
    right, up = mark.position
    reach = 6 if right and up else 8
    axes.annotate(
        literal(mark.name), (mark.x, mark.y), (reach * right, reach * up), textcoords="offset points", color=REFERENCE,
        fontsize=9, ha=ALIGN[right][0], va=ALIGN[up][1], zorder=6,
        path_effects=[withStroke(linewidth=3, foreground=PAPER)],
    )  # fmt: skip


def _target(axes: Axes, view: ParetoView) -> None:
    if view.target_ms is None:
        return
    aside = -5 if view.target_side == "right" else 5
    axes.axvspan(view.target_ms, view.x_range[1], color=INFEASIBLE, linewidth=0, zorder=0)
    axes.axvline(view.target_ms, color=MUTED, linewidth=1.2, linestyle=(0, (5, 3)))
    axes.annotate(
        f"target {target(view.target_ms)}", (view.target_ms, 1), (aside, -6), xycoords=("data", "axes fraction"),
        textcoords="offset points", ha=view.target_side, va="top", fontsize=9, color=MUTED,
    )  # fmt: skip


def _frame(axes: Axes, view: ParetoView, title: str) -> None:
    axes.set_xlim(*view.x_range)
    axes.set_ylim(*view.y_range)
    axes.set_xlabel(literal(view.x_title), color=INK, fontsize=9)
    axes.set_ylabel(literal(view.y_title), color=INK, fontsize=10)
    axes.set_title(literal(title), loc="left", color=INK, fontsize=12, pad=34)
    axes.tick_params(colors=MUTED, labelsize=9, length=3)
    axes.grid(True, color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(FAINT)
    if axes.get_legend_handles_labels()[1]:
        axes.legend(
            loc="lower left", bbox_to_anchor=(-0.01, 1.0), ncols=5, frameon=False, fontsize=9, labelcolor=INK,
            handletextpad=0.4, columnspacing=1.4, borderaxespad=0.2,
        )  # fmt: skip
