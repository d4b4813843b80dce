"""The Pareto plot as plain data: marks in the units of the axes, ranges, and what lies outside them. Drawn twice, in
HTML and in PNG."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise

from nas.arch.arch import Arch
from nas.engine.run.record import Candidate, Record
from nas.reports.formatting import Score, counted, megabytes, millions, ms, target
from nas.reports.run.tables import Entry, distinct_conditions, latency_word, score_of

_ROWS_IN_WORDS = (
    "Rows read, for example, mb5 e3 se.25 hs s2 >40: MBConv with a 5×5 kernel, expansion 3, squeeze-and-excitation "
    "0.25, activation h-swish (hs; sw is swish, re ReLU, r6 ReLU6{gelu}), stride 2, 40 channels{ops}."
)
_OTHER_ROWS = {
    "fused_mbconv": "fmb is a fused MBConv",
    "uib": "uib3.5 a universal inverted bottleneck with kernels 3 and 5",
    "shuffle_v1": "shv1.3 g4 a ShuffleNetV1 unit with a 3×3 kernel and 4 groups (g4/1: the first 1×1 without)",
    "shuffle_v2": "shv2.3 a ShuffleNetV2 unit",
    "dwsep": "ds3 a depthwise separable convolution",
    "spatial_sep": "sp3 a spatially separable one",
}

# Where a label may stand beside its mark: signs of the offset in x and y, in order of preference.
POSITIONS = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, -1), (1, 1), (-1, 1), (-1, -1))
LABEL_HEIGHT = 0.05  # of the plot
LETTER_WIDTH = 0.0105
LABEL_GAP = 0.014


def rows_in_words(archs: Iterable[Arch]) -> str:
    """How the short text of these networks reads."""
    rows = [row for arch in archs for row in arch.rows]
    ops = {row.op for row in rows}
    told = "".join(f"; {text}" for op, text in _OTHER_ROWS.items() if op in ops)
    gelu = ", ge GELU" if any(row.act == "gelu" for row in rows) else ""
    return _ROWS_IN_WORDS.format(gelu=gelu, ops=told)


@dataclass(frozen=True, slots=True)
class Mark:
    """A network in the plot.

    Args:
        x: latency in ms.
        y: score as shown on the axis; of a too-slow candidate, which has none, the foot of the plot.
        name: of a reference; else the key.
        key: of the network.
        hover: lines of plain text.
        position: signs of the offset of a reference's label, x to the right and y up.
    """

    x: float
    y: float
    name: str
    key: str
    hover: tuple[str, ...]
    position: tuple[int, int] = (1, 0)


@dataclass(frozen=True)
class ParetoView:
    """Everything in the plot.

    Args:
        candidates: scored and neither on the front nor in `missed`.
        front: fastest first.
        missed: predicted within the target, measured above it.
        references: scored references.
        too_slow: never trained, at the foot of the plot.
        target_ms: None if there is none or it lies far outside; `notes` says so then.
        x_range: of the latency axis, ms.
        y_range: of the score axis as shown.
        x_title: with the circumstances of the latencies.
        y_title: name and unit of the score.
        notes: what the plot leaves out, in words.
    """

    candidates: tuple[Mark, ...]
    front: tuple[Mark, ...]
    missed: tuple[Mark, ...]
    references: tuple[Mark, ...]
    too_slow: tuple[Mark, ...]
    target_ms: float | None
    x_range: tuple[float, float]
    y_range: tuple[float, float]
    x_title: str
    y_title: str
    notes: tuple[str, ...]

    @property
    def opacity(self) -> float:
        """Of the candidates: many of them let each other through."""
        return 0.75 if len(self.candidates) <= 300 else 0.4

    @property
    def target_side(self) -> str:
        """Which end of the target's label stands at its line: the label stays inside the plot."""
        left, right = self.x_range
        return "left" if self.target_ms is not None and self.target_ms - left < 0.15 * (right - left) else "right"

    @property
    def step_line(self) -> list[tuple[float, float]]:
        """The front as the best score to be had within a latency: continued to the target, else to the edge."""
        return _step_line(self.front, self.x_range[1] if self.target_ms is None else self.target_ms)


def _step_line(front: Sequence[Mark], end: float) -> list[tuple[float, float]]:
    return [*((mark.x, mark.y) for mark in front), (max(end, front[-1].x), front[-1].y)] if front else []


def rows_in_short(arch: Arch) -> list[str]:
    """The rows of a network as short text, equal neighbours counted."""
    lines = []
    for text, same in groupby(str(row) for row in arch.rows):
        repeat = len(list(same))
        lines.append(f"{text} ×{repeat}" if repeat > 1 else text)
    return lines


def _hover(c: Candidate, name: str, score: Score, word: str) -> tuple[str, ...]:
    scored = c.proxy_accuracy is not None
    first = f"{score.name} {score.text(c.proxy_accuracy)}" if scored else f"{word} too slow: never trained"
    measured = f"{ms(c.measured.ms)} ms measured, " if c.measured else ""
    costs = f"{millions(c.params)} parameters, {millions(c.macs)} MACs, {megabytes(c.memory_bytes)} memory access"
    latency = f"{measured}{ms(c.predicted.ms)} ms {word}"
    return (name, first, latency, costs, f"{c.arch.resolution} px input", *rows_in_short(c.arch))


def pareto_view(record: Record, entries: Sequence[Entry]) -> ParetoView:
    """Lay out the plot; `listed` as `nas.reports.run.tables.entries` gives it."""
    score = score_of(record)
    names = {e.candidate.key: e.kind for e in entries if e.kind != "reference"}

    word = latency_word(record)

    def mark(c: Candidate, name: str, foot: float = 0.0) -> Mark:
        height = foot if c.proxy_accuracy is None else score.shown(c.proxy_accuracy)
        return Mark(c.latency_ms, height, name, c.key, _hover(c, name, score, word))

    scored = [c for c in record.candidates if c.proxy_accuracy is not None]
    others = tuple(mark(c, c.key) for c in scored if c.key not in names)
    front = tuple(mark(c, c.key) for c in record.front)
    missed = tuple(mark(e.candidate, e.name) for e in entries if e.kind == "missed")
    references = tuple(
        mark(e.candidate, e.name) for e in entries if e.kind == "reference" and e.candidate.proxy_accuracy is not None
    )
    slow = [c for c in record.candidates if c.state == "TOO_SLOW"]
    shown = [*others, *front, *missed, *references]
    x_range, target_ms = _x_range([m.x for m in shown] or [c.latency_ms for c in slow], record.target_ms)
    y_range = _y_range([m.y for m in shown], bool(slow))
    foot = y_range[0]
    too_slow = [mark(c, c.key, foot) for c in slow]
    inside = tuple(m for m in too_slow if m.x <= x_range[1])
    line = _step_line(front, x_range[1] if target_ms is None else target_ms)
    references = _placed(references, [*others, *missed, *front * 4], line, target_ms, x_range, y_range)
    return ParetoView(
        others, front, missed, references, inside,
        target_ms, x_range, y_range, _x_title(record), score.name.capitalize() + (", %" if score.percent else ""),
        _notes(record, target_ms, x_range, len(too_slow) - len(inside)),
    )  # fmt: skip


def _x_range(values: Sequence[float], target_ms: float | None) -> tuple[tuple[float, float], float | None]:
    """The axis around `values`; the target joins if it is near enough not to squeeze them."""
    if not values:
        return (0.0, 1.5 * target_ms if target_ms else 1.0), target_ms
    low, high = min(values), max(values)
    span = max(high - low, 0.2 * high)
    near = target_ms is not None and low - 0.4 * span <= target_ms <= high + 0.4 * span
    if near and target_ms is not None:
        low, high = min(low, target_ms), max(high, target_ms)
    span = max(high - low, 0.2 * high)
    return (max(0.0, low - 0.06 * span), high + 0.1 * span), target_ms if near else None


def _y_range(values: Sequence[float], rug: bool) -> tuple[float, float]:
    if not values:
        return 0.0, 1.0
    low, high = min(values), max(values)
    span = max(high - low, 0.02 * abs(high), 1e-9)
    return low - (0.12 if rug else 0.06) * span, high + 0.08 * span


def _x_title(record: Record) -> str:
    latencies = [(c.measured or c.predicted) for c in (*record.candidates, *record.references)]
    found = distinct_conditions(latencies)
    modelled = ["modelled"] if record.info.modelled else []
    where = ", ".join([*modelled, *(found if len(found) == 1 else [])])
    return f"Latency, ms ({where})" if where else "Latency, ms"


def _notes(record: Record, target_ms: float | None, x_range: tuple[float, float], beyond: int) -> tuple[str, ...]:
    notes = []
    if record.target_ms is not None and target_ms is None:
        side = "above" if record.target_ms > x_range[1] else "below"
        notes.append(f"The target of {target(record.target_ms)} lies far {side} every network drawn here.")
    if beyond:
        notes.append(f"{counted(beyond, 'too-slow candidate')} beyond the right edge not drawn.")
    lost = sum(c.proxy_accuracy is None for c in record.references)
    if lost:
        notes.append(f"{counted(lost, 'reference')} without a score not drawn.")
    return tuple(notes)


Box = tuple[float, float, float, float]  # left, low, right, high


def _placed(
    references: Sequence[Mark],
    others: Sequence[Mark],
    line: Sequence[tuple[float, float]],
    target_ms: float | None,
    x_range: tuple[float, float],
    y_range: tuple[float, float],
) -> tuple[Mark, ...]:
    """Give each reference the label position that hides least: greedy, on unit axes. Who stands in `others` more than
    once weighs more."""

    def unit(x: float, y: float) -> tuple[float, float]:
        return (x - x_range[0]) / (x_range[1] - x_range[0]), (y - y_range[0]) / (y_range[1] - y_range[0])

    points = [unit(mark.x, mark.y) for mark in others] + _along([unit(*corner) for corner in line])
    symbols = [unit(mark.x, mark.y) for mark in references]
    taken: list[Box] = []
    if target_ms is not None:
        right = unit(target_ms, 0)[0]
        taken.append((right - 0.1, 0.93, right, 1.0))
    placed = []
    for mark in references:
        x, y = unit(mark.x, mark.y)
        boxes = {position: _label_box(x, y, position, LETTER_WIDTH * len(mark.name)) for position in POSITIONS}

        def cost(position: tuple[int, int], boxes: dict[tuple[int, int], Box] = boxes) -> float:
            box = boxes[position]
            hidden = sum(_inside(box, point) for point in points) + 8 * sum(_inside(box, point) for point in symbols)
            outside = box[0] < 0 or box[2] > 1 or box[1] < 0 or box[3] > 1
            return hidden + 20 * sum(_overlap(box, other) for other in taken) + 50 * outside

        best = min(POSITIONS, key=cost)
        taken.append(boxes[best])
        placed.append(replace(mark, position=best))
    return tuple(placed)


def _along(corners: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Points on the horizontal parts of a step line, as dense as a label is high."""
    found = []
    for (x, y), (following, _) in pairwise(corners):
        steps = int((following - x) / LABEL_HEIGHT) + 1
        found += [(x + (following - x) * step / steps, y) for step in range(steps)]
    return found


def _label_box(x: float, y: float, position: tuple[int, int], width: float) -> Box:
    right, up = position
    gap = LABEL_GAP if 0 in position else 0.7 * LABEL_GAP
    left = x - width / 2 if right == 0 else x + gap if right > 0 else x - gap - width
    low = y - LABEL_HEIGHT / 2 if up == 0 else y + gap if up > 0 else y - gap - LABEL_HEIGHT
    return left, low, left + width, low + LABEL_HEIGHT


def _inside(box: Box, point: tuple[float, float]) -> bool:
    return box[0] <= point[0] <= box[2] and box[1] <= point[1] <= box[3]


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
