"""Plain shapes that `nas.reports.svg` and `nas.reports.png` both draw."""

from __future__ import annotations

from dataclasses import dataclass

from nas.reports.palette import INK


@dataclass(frozen=True, slots=True)
class Rect:
    x: float
    y: float
    width: float
    height: float
    fill: str
    stroke: str | None = None
    tip: str | None = None  # shown on hover, in SVG only


@dataclass(frozen=True, slots=True)
class Text:
    x: float
    y: float  # of the base line
    text: str
    size: float = 10
    colour: str = INK
    anchor: str = "start"  # start, middle, end
    bold: bool = False
    ident: str | None = None  # anchor for links, in SVG only


@dataclass(frozen=True, slots=True)
class Line:
    x1: float
    y1: float
    x2: float
    y2: float
    colour: str
    width: float = 1


Shape = Rect | Text | Line


@dataclass(frozen=True)
class Drawing:
    """Shapes with a common size. The origin is at the top left, y points down, one unit is one CSS pixel."""

    width: float
    height: float
    shapes: tuple[Shape, ...]
    label: str  # alternative text
