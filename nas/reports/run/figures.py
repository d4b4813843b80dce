"""The interactive figures as plain dictionaries, which plotly.js draws."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nas.reports.formatting import Score, escape_html, target
from nas.reports.palette import CANDIDATE, ERROR_OPACITY, FAINT, FRONT, INFEASIBLE, INK, MUTED, PAPER, REFERENCE
from nas.reports.run.pareto_view import Mark, ParetoView
from nas.reports.run.tables import SearchState

SYMBOLS = ("square", "diamond", "triangle-up", "triangle-down", "cross", "x", "pentagon", "star")
X_ANCHORS = {-1: "right", 0: "center", 1: "left"}
Y_ANCHORS = {-1: "top", 0: "middle", 1: "bottom"}
FONT = {"family": "system-ui, -apple-system, Segoe UI, Roboto, sans-serif", "size": 13, "color": INK}

Figure = dict[str, Any]


def pareto_figure(view: ParetoView) -> Figure:
    """The Pareto plot; the ``customdata`` of a mark is the key of its network."""
    data: list[dict[str, Any]] = []
    if view.too_slow:
        marker = {"symbol": "line-ns-open", "size": 9, "color": CANDIDATE, "opacity": 0.5, "line": {"width": 1.5}}
        data.append(_marks(view.label("too_slow"), view.too_slow, marker))
    if view.candidates:
        marker = {"symbol": "circle", "size": 8, "color": CANDIDATE, "opacity": view.opacity}
        data.append(_marks(view.label("candidates"), view.candidates, marker))
    if view.missed:
        marker = {"symbol": "x-thin-open", "size": 9, "color": FRONT, "line": {"width": 2}}
        data.append(_marks(view.label("missed"), view.missed, marker))
    if view.front:
        data += _front(view)
    for at, mark in enumerate(view.references):
        marker = {"symbol": SYMBOLS[at % len(SYMBOLS)], "size": 11, "color": REFERENCE, "line": _rim()}
        errors = _errors(view, [mark], REFERENCE)
        data.append(_marks(escape_html(mark.name), [mark], marker) | errors | {"showlegend": False})
    layout = _layout(escape_html(view.x_title), escape_html(view.y_title), view.x_range, view.y_range)
    layout |= {"shapes": _target(view), "annotations": _notes(view)}
    layout |= {"height": 540, "hovermode": "closest", "showlegend": True}
    layout["legend"] = {"orientation": "h", "x": 0, "xanchor": "left", "y": 1.02, "yanchor": "bottom"}
    return {"data": data, "layout": layout}


def _rim() -> dict[str, Any]:
    return {"color": PAPER, "width": 1}


def _marks(name: str, marks: Sequence[Mark], marker: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": [mark.x for mark in marks],
        "y": [mark.y for mark in marks],
        "customdata": [mark.key for mark in marks],
        # No <b>: plotly would set a style attribute, which the policy of the page forbids.
        "hovertext": ["<br>".join(map(escape_html, mark.hover)) for mark in marks],
        "hoverinfo": "text",
        "marker": marker,
        "cliponaxis": False,
    }


def _errors(view: ParetoView, marks: Sequence[Mark], colour: str) -> dict[str, Any]:
    bars = [mark.sd if mark in view.errors else None for mark in marks]
    if not any(bars):
        return {}
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    faded = f"rgba({red},{green},{blue},{ERROR_OPACITY})"
    style = {"type": "data", "color": faded, "thickness": 1.2, "width": 0}
    return {"error_y": style | {"array": [bar or 0.0 for bar in bars]}}


def _front(view: ParetoView) -> list[dict[str, Any]]:
    xs, ys = zip(*view.step_line, strict=True)
    line = {"shape": "hv", "color": FRONT, "width": 2}
    steps = {"type": "scatter", "mode": "lines", "x": list(xs), "y": list(ys), "line": line, "showlegend": False}
    best = {"symbol": "circle-open", "size": 19, "color": FRONT, "line": {"width": 2}}
    solid = {"symbol": "circle", "size": 11, "color": FRONT, "line": _rim()}
    return [
        steps | {"hoverinfo": "skip", "name": "front"},
        _marks(view.label("front"), view.front, solid) | _errors(view, view.front, FRONT),
        _marks("best", view.front[-1:], best),
    ]


def _target(view: ParetoView) -> list[dict[str, Any]]:
    if view.target_ms is None:
        return []
    line = {
        "type": "line",
        "x0": view.target_ms,
        "x1": view.target_ms,
        "line": {"color": MUTED, "width": 1.5, "dash": "dash"},
    }
    side = {"type": "rect", "x0": view.target_ms, "x1": view.x_range[1], "fillcolor": INFEASIBLE, "line": {"width": 0}}
    tall = {"y0": 0, "y1": 1, "yref": "paper"}
    return [side | tall | {"layer": "below"}, line | tall | {"layer": "above"}]


def _notes(view: ParetoView) -> list[dict[str, Any]]:
    """Labels of the references and the target, on a white background that is partly transparent."""
    notes: list[dict[str, Any]] = []
    for mark in view.references:
        right, up = mark.position
        reach = 6 if right and up else 9
        place = {"x": mark.x, "y": mark.y, "xanchor": X_ANCHORS[right], "yanchor": Y_ANCHORS[up]}
        shift = {"xshift": reach * right, "yshift": reach * up, "showarrow": False, "bgcolor": "rgba(255,255,255,0.65)"}
        notes.append(
            place | shift | {"text": escape_html(mark.name), "font": {"size": 12, "color": REFERENCE}, "borderpad": 1}
        )
    if view.target_ms is not None:
        place = {
            "x": view.target_ms,
            "y": 1,
            "yref": "paper",
            "xanchor": view.target_side,
            "yanchor": "top",
            "showarrow": False,
            "xshift": -4 if view.target_side == "right" else 4,
        }
        notes.append(place | {"text": f"target {target(view.target_ms)}", "font": {"size": 12, "color": MUTED}})
    return notes


def _layout(x_title: str, y_title: str, x_range: Sequence[float], y_range: Sequence[float]) -> dict[str, Any]:
    axis = {"gridcolor": FAINT, "linecolor": FAINT, "zeroline": False, "tickfont": {"color": MUTED, "size": 12}}

    def of(title: str, limits: Sequence[float]) -> dict[str, Any]:
        return axis | {"title": {"text": title, "font": {"size": 12}, "standoff": 12}} | {"range": list(limits)}

    return {
        "font": FONT,
        "paper_bgcolor": PAPER,
        "plot_bgcolor": PAPER,
        "margin": {"l": 64, "r": 24, "t": 16, "b": 56},
        "xaxis": of(x_title, x_range),
        "yaxis": of(y_title, y_range) | {"automargin": True},
        "hoverlabel": {"bgcolor": PAPER, "bordercolor": MUTED, "font": FONT | {"size": 11.5}, "align": "left"},
    }


def history_figures(history: Sequence[SearchState], score: Score) -> list[tuple[str, Figure]]:
    """Named figures of the best score so far and of the hypervolume, each if it is known."""
    best = [(step.finished, score.shown(step.best)) for step in history if step.best is not None]
    volume = [(step.finished, step.hypervolume) for step in history if step.hypervolume is not None]
    unit = ", %" if score.percent else ""
    figures = []
    for name, title, points in (("best", f"Best {score.name}{unit}", best), ("volume", "Hypervolume", volume)):
        if points:
            xs, ys = zip(*points, strict=True)
            line = {"shape": "hv", "color": FRONT, "width": 2}
            mode = "lines" if len(points) > 1 else "markers"
            trace = {
                "type": "scatter",
                "mode": mode,
                "x": list(xs),
                "y": list(ys),
                "line": line,
                "marker": {"color": FRONT},
            }
            span = max(max(ys) - min(ys), 0.02 * abs(max(ys)), 1e-6)
            limits = (min(ys) - 0.08 * span, max(ys) + 0.08 * span)
            layout = _layout("candidates finished", title, (0, len(history) + 0.5), limits)
            data = [trace | {"hovertemplate": "after %{x}: %{y:.4~g}<extra></extra>"}]
            figures.append((name, {"data": data, "layout": layout | {"height": 260, "showlegend": False}}))
    return figures
