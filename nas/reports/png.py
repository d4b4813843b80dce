"""Drawings and matplotlib figures as PNG."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nas.reports.palette import PAPER
from nas.reports.shapes import Drawing, Line, Rect, Shape, Text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 160
PIXELS_PER_INCH = 96  # CSS pixels, the unit of a drawing


def drawings_png(drawings: Sequence[Drawing]) -> bytes:
    """One PNG with the drawings below each other."""
    from matplotlib.figure import Figure

    gap = 26.0
    width = max(drawing.width for drawing in drawings)
    height = sum(drawing.height for drawing in drawings) + gap * (len(drawings) - 1)
    # Agg cannot draw more than 2^16 pixels a side; a hundred block diagrams stay below that at full resolution.
    dpi = min(DPI, 60_000 * PIXELS_PER_INCH / height)
    figure = Figure(figsize=(width / PIXELS_PER_INCH, height / PIXELS_PER_INCH), dpi=dpi, facecolor=PAPER)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    axes.axis("off")
    top = 0.0
    for drawing in drawings:
        for shape in drawing.shapes:
            _shape(axes, shape, top)
        top += drawing.height + gap
    return figure_png(figure)


def _shape(axes: Axes, shape: Shape, top: float) -> None:
    from matplotlib.patches import Rectangle

    point = 72 / PIXELS_PER_INCH
    if isinstance(shape, Line):
        axes.plot(
            [shape.x1, shape.x2], [shape.y1 + top, shape.y2 + top], color=shape.colour, linewidth=shape.width * point
        )
    elif isinstance(shape, Rect):
        edge = shape.stroke or "none"
        box: dict[str, Any] = {"facecolor": shape.fill, "edgecolor": edge, "linewidth": point}
        axes.add_patch(Rectangle((shape.x, shape.y + top), shape.width, shape.height, **box))
    elif isinstance(shape, Text):
        anchor = {"start": "left", "middle": "center", "end": "right"}[shape.anchor]
        axes.text(
            shape.x, shape.y + top, literal(shape.text), fontsize=shape.size * point * 0.92, color=shape.colour,
            ha=anchor, va="baseline", fontweight="bold" if shape.bold else "normal",
        )  # fmt: skip


def literal(text: str) -> str:
    """Escape dollar signs, which matplotlib reads as mathematics."""
    return text.replace("$", r"\$")


def figure_png(figure: Figure) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    buffer = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
