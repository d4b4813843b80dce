"""Drawings as inline SVG."""

from __future__ import annotations

from nas.reports.formatting import escape_html
from nas.reports.shapes import Drawing, Line, Rect, Shape, Text


def svg(drawing: Drawing) -> str:
    """One ``<svg>`` element that scales with its width; every text is escaped."""
    size = f'viewBox="0 0 {drawing.width:g} {drawing.height:g}" width="{drawing.width:g}" height="{drawing.height:g}"'
    label, shapes = escape_html(drawing.label), "".join(map(_shape, drawing.shapes))
    return f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{label}" {size}>{shapes}</svg>'


def _shape(shape: Shape) -> str:
    if isinstance(shape, Line):
        ends = f'x1="{shape.x1:.4g}" y1="{shape.y1:.6g}" x2="{shape.x2:.4g}" y2="{shape.y2:.6g}"'
        return f'<line {ends} stroke="{shape.colour}" stroke-width="{shape.width:g}"/>'
    if isinstance(shape, Rect):
        box = f'x="{shape.x:.5g}" y="{shape.y:.6g}" width="{shape.width:.5g}" height="{shape.height:.6g}"'
        stroke = f' stroke="{shape.stroke}"' if shape.stroke else ""
        rect = f'<rect {box} fill="{shape.fill}"{stroke}'
        return rect + (f"><title>{escape_html(shape.tip)}</title></rect>" if shape.tip else "/>")
    return _text(shape)


def _text(text: Text) -> str:
    place = f'x="{text.x:.5g}" y="{text.y:.6g}" font-size="{text.size:g}" fill="{text.colour}"'
    anchor = f' text-anchor="{text.anchor}"' if text.anchor != "start" else ""
    weight = ' font-weight="600"' if text.bold else ""
    ident = f' id="{escape_html(text.ident)}"' if text.ident else ""
    return f"<text {place}{anchor}{weight}{ident}>{escape_html(text.text)}</text>"
