"""Published top-1 against latency with every network labelled, as shapes for SVG and PNG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nas.reports.formatting import ms
from nas.reports.names import reference_name
from nas.reports.palette import FAINT, INK, MUTED, PAPER
from nas.reports.png import drawings_png
from nas.reports.references.table import ReferenceRow, ReferenceTable
from nas.reports.shapes import Drawing, Line, Rect, Shape, Text

WIDTH, HEIGHT = 1040.0, 660.0
LEFT, RIGHT, TOP, BOTTOM = 52.0, 1022.0, 56.0, 600.0
SIZE = 10.5  # font size of a label
LETTER, LINE = 5.9, 12.0  # width of a letter and height of a label, in pixels
MARK = 8.0
LEADER = 11.0  # a line joins a label to its point if they are farther apart than this

# After Okabe and Ito. Every point has a label, so nothing depends on colour alone.
FAMILIES: Mapping[str, tuple[str, str]] = {
    "mobilenet_v1": ("MobileNetV1", "#5f6c7b"),
    "mobilenet_v2": ("MobileNetV2", "#0072b2"),
    "mobilenet_v3": ("MobileNetV3", "#c4500a"),
    "mobilenet_v4": ("MobileNetV4", "#8c3b74"),
    "mnasnet": ("MnasNet", "#00795a"),
    "proxylessnas": ("ProxylessNAS", "#9a6b00"),
    "fbnet": ("FBNet", "#7a5230"),
    "efficientnet": ("EfficientNet", "#1f2933"),
    "shufflenet_v1": ("ShuffleNetV1", "#3d8fc4"),
    "shufflenet_v2": ("ShuffleNetV2", "#c0607f"),
}
OTHER = "#7b8794"
Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Point:
    """A network on the plot.

    Args:
        latency_ms: position on the x axis, which is logarithmic.
        top1: position on the y axis, in percent.
        source: source of the top-1 figure.
        name: label.
        family: family, which decides the colour.
    """

    latency_ms: float
    top1: float
    source: str
    name: str
    family: str


def points(table: ReferenceTable) -> list[Point]:
    """The rows with a latency and a published top-1."""
    shown = []
    for row in table.rows:
        if row.latency is not None and row.plotted_top1 is not None:
            source, top1 = row.plotted_top1
            shown.append(Point(row.latency.ms, top1, source, display_name(row), row.family))
    return shown


def display_name(row: ReferenceRow) -> str:
    """The paper's spelling, without ``width=`` and ``resolution=``.

    >>> display_name(ReferenceRow("mobilenet_v3_small@width=0.75", "mobilenet_v3", 224, 1, 1, 1, ()))
    'MobileNetV3-Small 0.75'
    """
    base, _, multipliers = row.name.partition("@")
    sizes = multipliers.replace("width=", "").replace("resolution=", "").replace(",", "/")
    return f"{reference_name(base.rpartition(':')[2])} {sizes}".strip()


def top1_drawing(table: ReferenceTable) -> Drawing | None:
    """The plot; None if no row has both figures."""
    shown = points(table)
    if not shown:
        return None
    xs, ys = _Axis.of_latency(shown), _Axis.of_top1(shown)
    places = [(xs(point.latency_ms), ys(point.top1)) for point in shown]
    shapes: list[Shape] = [*_frame(xs, ys, table), *_legend(shown)]
    boxes = place_labels(places, [LETTER * len(point.name) for point in shown])
    for point, place, box in zip(shown, places, boxes, strict=True):
        shapes += _label(point, place, box)
    for point, (x, y) in zip(shown, places, strict=True):
        shapes.append(_mark(point, x, y))
    return Drawing(WIDTH, HEIGHT, tuple(shapes), "Published ImageNet top-1 against latency of published networks")


def top1_png(table: ReferenceTable) -> bytes | None:
    """The same as a PNG."""
    drawing = top1_drawing(table)
    return None if drawing is None else drawings_png([drawing])


@dataclass(frozen=True)
class _Axis:
    """Maps values to pixels.

    Args:
        low: smallest value.
        high: largest value.
        ticks: labelled values.
        start: pixel of `low`.
        end: pixel of `high`.
        logarithmic: whether equal ratios get equal distances.
    """

    low: float
    high: float
    ticks: tuple[float, ...]
    start: float
    end: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        low, high = (math.log(self.low), math.log(self.high)) if self.logarithmic else (self.low, self.high)
        at = math.log(value) if self.logarithmic else value
        return self.start + (at - low) / (high - low) * (self.end - self.start)

    @staticmethod
    def of_latency(shown: Sequence[Point]) -> _Axis:
        values = [point.latency_ms for point in shown]
        low, high = min(values) / 1.25, max(values) * 1.5
        steps = [m * 10.0**e for e in range(-6, 9) for m in (1, 2, 5)]
        return _Axis(low, high, tuple(step for step in steps if low <= step <= high), LEFT, RIGHT, True)

    @staticmethod
    def of_top1(shown: Sequence[Point]) -> _Axis:
        values = [point.top1 for point in shown]
        pad = max(1.0, 0.06 * (max(values) - min(values)))
        low, high = min(values) - pad, max(values) + pad
        step = next(s for s in (0.5, 1, 2, 5, 10, 20) if (high - low) / s <= 14)
        first = math.ceil(low / step)
        return _Axis(low, high, tuple(step * at for at in range(first, int(high // step) + 1)), BOTTOM, TOP)


def _frame(xs: _Axis, ys: _Axis, table: ReferenceTable) -> list[Shape]:
    shapes: list[Shape] = []
    for tick in ys.ticks:
        shapes.append(Rect(LEFT, ys(tick) - 0.35, RIGHT - LEFT, 0.7, FAINT))  # a Line would cover the marks
        shapes.append(Text(LEFT - 7, ys(tick) + 3.6, f"{tick:g}", 10, MUTED, "end"))
    for tick in xs.ticks:
        shapes.append(Rect(xs(tick) - 0.35, TOP, 0.7, BOTTOM - TOP, FAINT))
        shapes.append(Text(xs(tick), BOTTOM + 17, f"{tick:g}", 10, MUTED, "middle"))
    shapes.append(Line(LEFT, BOTTOM, RIGHT, BOTTOM, MUTED, 1))
    title = f"latency in ms, {table.latency_word} (logarithmic)"
    shapes.append(Text((LEFT + RIGHT) / 2, BOTTOM + 36, title, 11, INK, "middle"))
    shapes.append(Text((LEFT + RIGHT) / 2, BOTTOM + 52, table.device or "", 9.5, MUTED, "middle"))
    shapes.append(Text(8, TOP - 12, "ImageNet top-1 in %, as published", 11, INK))
    return shapes


def _legend(shown: Sequence[Point]) -> list[Shape]:
    shapes: list[Shape] = []
    x = 8.0
    for family in [*(f for f in FAMILIES if any(p.family == f for p in shown)), *_others(shown)]:
        name, colour = FAMILIES.get(family, (family, OTHER))
        shapes.append(Rect(x, 9, MARK, MARK, colour))
        shapes.append(Text(x + 13, 17, name, 10, INK))
        x += 13 + 6.0 * len(name) + 14
    if any(not point.source.startswith("paper") for point in shown):
        text = "hollow: figure from the authors' repository, a library or others, not from the paper"
        shapes.append(Text(RIGHT, TOP - 12, text, 9.5, MUTED, "end"))
    return shapes


def _others(shown: Sequence[Point]) -> list[str]:
    return sorted({point.family for point in shown} - set(FAMILIES))


def _colour(point: Point) -> str:
    return FAMILIES[point.family][1] if point.family in FAMILIES else OTHER


def _mark(point: Point, x: float, y: float) -> Rect:
    tip = f"{point.name}: {point.top1:g} % ({point.source}), {ms(point.latency_ms)} ms"
    fill = _colour(point) if point.source.startswith("paper") else PAPER
    return Rect(x - MARK / 2, y - MARK / 2, MARK, MARK, fill, _colour(point), tip)


def _label(point: Point, place: tuple[float, float], box: Box) -> list[Shape]:
    """The name in its box, joined to its point by a line if they are far apart."""
    (x, y), (left, top, right, bottom) = place, box
    near = (min(max(x, left), right), min(max(y, top), bottom))
    shapes: list[Shape] = []
    if (reach := math.dist(near, place)) > LEADER:
        part = (MARK / 2 + 1) / reach
        shapes.append(Line(x + part * (near[0] - x), y + part * (near[1] - y), *near, _colour(point), 0.6))
    shapes.append(Text((left + right) / 2, bottom - 2.6, point.name, SIZE, _colour(point), "middle"))
    return shapes


def place_labels(places: Sequence[tuple[float, float]], widths: Sequence[float]) -> list[Box]:
    """Find a box for each label, near its point, that covers no other label and no point where there is room.

    Labels are placed greedily, those of crowded points first, and then moved one by one until none moves.

    Args:
        places: points, in pixels.
        widths: widths of the labels, in pixels.

    Returns:
        left, top, right and bottom of each box, inside the frame.
    """
    crowd = [sum(math.dist(one, other) < 60 for other in places) for one in places]
    order = sorted(range(len(places)), key=lambda at: -crowd[at])
    boxes: dict[int, Box] = {}
    for _ in range(6):
        moved = False
        for at in order:
            others = [box for other, box in boxes.items() if other != at]
            best = min(_candidates(places[at], widths[at]), key=lambda box: _cost(box, places, others, places[at]))
            moved |= boxes.get(at) != best
            boxes[at] = best
        if not moved:
            break
    return [boxes[at] for at in range(len(places))]


def _candidates(place: tuple[float, float], width: float) -> list[Box]:
    x, y = place
    boxes = []
    for reach in (9.0, 14.0, 24.0, 36.0, 50.0, 68.0, 90.0, 120.0):
        for turn in range(16):
            angle = 2 * math.pi * turn / 16
            across, up = math.cos(angle), math.sin(angle)
            middle_x = x + across * (reach + (width / 2 if abs(across) > 0.01 else 0) - (0 if abs(across) > 0.5 else 4))
            middle_y = y - up * (reach + LINE / 2 - 4)
            left = min(max(middle_x - width / 2, LEFT + 2), RIGHT - width)
            top = min(max(middle_y - LINE / 2, TOP + 2), BOTTOM - LINE - 2)
            boxes.append((left, top, left + width, top + LINE))
    return boxes


def _cost(box: Box, places: Sequence[tuple[float, float]], others: Sequence[Box], own: tuple[float, float]) -> float:
    """Badness of a box for the label of the point `own`: what it covers, what its line crosses, and its distance."""
    left, top, right, bottom = box
    gap = MARK / 2 + 1
    points_hidden = sum(left - gap < x < right + gap and top - gap < y < bottom + gap for x, y in places)
    labels = sum(_overlap(box, other) for other in others)
    near = (min(max(own[0], left), right), min(max(own[1], top), bottom))
    reach = _distance(box, own)
    crossed = sum(_crosses(own, near, other) for other in others) if reach > LEADER else 0
    over = sum(math.dist(_nearest_on(own, near, p), p) < gap for p in places if p != own) if reach > LEADER else 0
    nearer = sum(_distance(box, p) < reach + 5 for p in places if p != own) if reach <= LEADER else 0
    return 400 * points_hidden + labels + 60 * crossed + 60 * over + 25 * nearer + reach


def _distance(box: Box, point: tuple[float, float]) -> float:
    """Distance from a box to a point."""
    return math.dist((min(max(point[0], box[0]), box[2]), min(max(point[1], box[1]), box[3])), point)


def _overlap(one: Box, other: Box) -> float:
    """Penalty for two labels that touch: 200, plus the area that they share."""
    across = min(one[2], other[2]) - max(one[0], other[0]) + 3
    down = min(one[3], other[3]) - max(one[1], other[1])
    return 200 + across * down if across > 0 and down > 0 else 0.0


def _crosses(start: tuple[float, float], end: tuple[float, float], box: Box) -> bool:
    steps = [(start[0] + (end[0] - start[0]) * t / 8, start[1] + (end[1] - start[1]) * t / 8) for t in range(9)]
    return any(box[0] < x < box[2] and box[1] < y < box[3] for x, y in steps)


def _nearest_on(
    start: tuple[float, float], end: tuple[float, float], point: tuple[float, float]
) -> tuple[float, float]:
    dx, dy = end[0] - start[0], end[1] - start[1]
    length = dx * dx + dy * dy
    at = min(max(((point[0] - start[0]) * dx + (point[1] - start[1]) * dy) / length, 0), 1) if length else 0
    return start[0] + at * dx, start[1] + at * dy
