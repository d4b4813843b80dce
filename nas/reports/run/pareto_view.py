"""The Pareto plot as plain data, which is drawn in HTML and as a PNG: marks, axis ranges, and notes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from typing import Literal

from nas.arch.arch import Arch
from nas.engine.run.record import Candidate, Record
from nas.reports.formatting import Score, and_list, counted, is_or_are, megabytes, millions, ms, target
from nas.reports.run.tables import Entry, latency_origins, score_of

_ROWS_IN_WORDS = (
    "How to read a row: mb5 e3 se.25 hs s2 >40 is an MBConv block with a 5×5 kernel, expansion 3, "
    "squeeze-and-excitation 0.25, activation h-swish, stride 2 and 40 channels. Activations: hs h-swish, sw swish, "
    "re ReLU, r6 ReLU6{gelu}.{ops}"
)
_OTHER_ROWS = {
    "fused_mbconv": "fmb is a fused MBConv block",
    "uib": "uib3.5 is a universal inverted bottleneck with kernels 3 and 5",
    "shuffle_v1": "shv1.3 g4 is a ShuffleNetV1 unit with a 3×3 kernel and 4 groups (g4/1: no groups in the first 1×1)",
    "shuffle_v2": "shv2.3 is a ShuffleNetV2 unit with a 3×3 kernel",
    "dwsep": "ds3 is a depthwise separable convolution",
    "spatial_sep": "sp3 is a spatially separable convolution",
}

_LABELS = {
    "candidates": "candidates",
    "front": "front",
    "missed": "measured over the target",
}

# Positions of a label beside its mark: signs of the offset in x and y, in order of preference.
POSITIONS = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, -1), (1, 1), (-1, 1), (-1, -1))
# Sizes as shares of the plot.
LABEL_HEIGHT = 0.05
LETTER_WIDTH = 0.0105
LABEL_GAP = 0.014
BAR_GAP = 0.03  # between error bars of the front


def rows_in_words(archs: Iterable[Arch]) -> str:
    """Explain the notation of the rows of these networks."""
    rows = [row for arch in archs for row in arch.rows]
    ops = {row.op for row in rows}
    others = [text for op, text in _OTHER_ROWS.items() if op in ops]
    gelu = ", ge GELU" if any(row.act == "gelu" for row in rows) else ""
    return _ROWS_IN_WORDS.format(gelu=gelu, ops=f" Blocks: {and_list(others)}." if others else "")


@dataclass(frozen=True, slots=True)
class Mark:
    """A network in the plot.

    Args:
        x: latency in ms.
        y: score as the axis shows it; the foot of the plot for a too-slow candidate, which has no score.
        name: name of a reference; key of any other network.
        key: key of the network.
        hover: lines of plain text.
        sd: standard deviation of `y`, in its unit; None unless it is an estimate.
        position: signs of the offset of a reference's label, x to the right and y upwards.
    """

    x: float
    y: float
    name: str
    key: str
    hover: tuple[str, ...]
    sd: float | None = None
    position: tuple[int, int] = (1, 0)


@dataclass(frozen=True)
class ParetoView:
    """The Pareto plot.

    Args:
        candidates: scored candidates that are neither in `front` nor in `missed`.
        front: the Pareto front, fastest first.
        missed: networks predicted within the target and measured above it.
        references: references with a score.
        too_slow: candidates that were never trained, drawn at the foot of the plot.
        target_ms: latency target; None if there is none, or if it is too far away to draw, which `notes` then says.
        x_range: range of the latency axis, ms.
        y_range: range of the score axis, as shown.
        x_title: title of the latency axis, with the device.
        y_title: name and unit of the score.
        notes: what the plot leaves out.
        errors: networks of the front and references that get an error bar; of a long front, some.
        trained: whether networks were trained, or scored by a caller's function; an accuracy model decides otherwise.
        over_word: what networks are called that exceed a limit.
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
    errors: tuple[Mark, ...] = ()
    trained: bool = True
    over_word: str = "too slow"

    def label(self, part: Literal["candidates", "front", "missed", "too_slow"]) -> str:
        """Legend entry of a part, with its number of networks."""
        never = ", never trained" if part == "too_slow" and self.trained else ""
        name = self.over_word if part == "too_slow" else _LABELS[part]
        return f"{name}{never} ({len(getattr(self, part)):,})"

    @property
    def opacity(self) -> float:
        """Opacity of the candidates; many of them are drawn more transparent."""
        return 0.75 if len(self.candidates) <= 300 else 0.4

    @property
    def target_side(self) -> str:
        """Which end of the label of the target is at its line, so that the label stays inside the plot."""
        left, right = self.x_range
        return "left" if self.target_ms is not None and self.target_ms - left < 0.15 * (right - left) else "right"

    @property
    def step_line(self) -> list[tuple[float, float]]:
        """Corners of the best score within each latency, up to the target or else the edge of the plot."""
        return _step_line(self.front, self.x_range[1] if self.target_ms is None else self.target_ms)


def _spaced(front: Sequence[Mark], gap: float) -> list[Mark]:
    """Networks of the front at least `gap` ms apart, the best one among them."""
    kept: list[Mark] = []
    for mark in reversed(front):
        if not kept or kept[-1].x - mark.x >= gap:
            kept.append(mark)
    return kept


def _step_line(front: Sequence[Mark], end: float) -> list[tuple[float, float]]:
    return [*((mark.x, mark.y) for mark in front), (max(end, front[-1].x), front[-1].y)] if front else []


def rows_in_short(arch: Arch) -> list[str]:
    """The rows of a network in short notation; equal neighbours are counted."""
    lines = []
    for text, same in groupby(str(row) for row in arch.rows):
        repeat = len(list(same))
        lines.append(f"{text} ×{repeat}" if repeat > 1 else text)
    return lines


def _hover(c: Candidate, name: str, score: Score, word: str, trained: bool) -> tuple[str, ...]:
    scored = c.score is not None
    over = c.reason or f"{word} too slow"
    first = f"{score.name} {score.of(c)}" if scored else f"{over}{': never trained' if trained else ''}"
    raw = [f"proxy accuracy {score.text(c.proxy_accuracy)}"] if trained and c.estimate is not None else []
    measured = f"{ms(c.measured.ms)} ms measured, " if c.measured else ""
    costs = f"{millions(c.params)} parameters, {millions(c.macs)} MACs, {megabytes(c.memory_bytes)} memory access"
    latency = f"{measured}{ms(c.predicted.ms)} ms {word}"
    return (name, first, *raw, latency, costs, f"{c.arch.resolution} px input", *rows_in_short(c.arch))


def pareto_view(record: Record, entries: Sequence[Entry]) -> ParetoView:
    """Lay out the plot.

    Args:
        record: the run.
        entries: the listed networks (`nas.reports.run.tables.entries_of`).
    """
    score = score_of(record)
    listed = {e.candidate.key for e in entries if e.kind != "reference"}
    word = record.info.latency_word

    def mark(c: Candidate, name: str, foot: float = 0.0) -> Mark:
        height = foot if c.score is None else score.shown(c.score)
        sd = None if c.estimate is None else score.shown(c.estimate.sd)
        return Mark(c.latency_ms, height, name, c.key, _hover(c, name, score, word, record.info.trains), sd)

    scored = [c for c in record.candidates if c.score is not None]
    others = tuple(mark(c, c.key) for c in scored if c.key not in listed)
    front = tuple(mark(c, c.key) for c in record.front)
    missed = tuple(mark(e.candidate, e.name) for e in entries if e.kind == "missed")
    references = tuple(
        mark(e.candidate, e.name) for e in entries if e.kind == "reference" and e.candidate.score is not None
    )
    slow = [c for c in record.candidates if c.state == "TOO_SLOW"]
    shown = [*others, *front, *missed, *references]
    x_range, target_ms = _x_range([m.x for m in shown] or [c.latency_ms for c in slow], record.target_ms)
    ends = [m.y + side * (m.sd or 0.0) for m in (*front, *references) for side in (-1, 1)]
    y_range = _y_range([*(m.y for m in shown), *ends], bool(slow))
    foot = y_range[0]
    too_slow = [mark(c, c.key, foot) for c in slow]
    inside = tuple(m for m in too_slow if m.x <= x_range[1])
    line = _step_line(front, x_range[1] if target_ms is None else target_ms)
    references = _placed(references, [*others, *missed, *front * 4], line, target_ms, x_range, y_range)
    bars = (*_spaced(front, BAR_GAP * (x_range[1] - x_range[0])), *references)
    return ParetoView(
        others, front, missed, references, inside,
        target_ms, x_range, y_range, _x_title(record), score.title + (", %" if score.percent else ""),
        _notes(record, target_ms, x_range, len(too_slow) - len(inside), bars), bars, record.info.trains,
        record.info.over_word,
    )  # fmt: skip


def _x_range(values: Sequence[float], target_ms: float | None) -> tuple[tuple[float, float], float | None]:
    """Range that shows `values`, and the target if it is close enough not to squeeze them."""
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
    where = latency_origins(record, (c.latency for c in (*record.candidates, *record.references)))
    return f"Latency, ms ({where[0]})" if len(where) == 1 else "Latency, ms"


def _notes(
    record: Record, target_ms: float | None, x_range: tuple[float, float], beyond: int, bars: Sequence[Mark]
) -> tuple[str, ...]:
    notes = []
    if record.target_ms is not None and target_ms is None:
        side = "above" if record.target_ms > x_range[1] else "below"
        notes.append(f"The target of {target(record.target_ms)} is far {side} every plotted network.")
    if beyond:
        notes.append(f"{counted(beyond, 'too-slow candidate')} beyond the right edge {is_or_are(beyond)} not plotted.")
    drawn = sum(c.score is not None for c in record.references)
    lost = len(record.references) - drawn
    if any(mark.sd is not None for mark in bars):
        some = "; on a long front, some networks have none" if len(bars) < len(record.front) + drawn else ""
        notes.append(f"Error bars are one standard deviation{some}.")
    if lost:
        notes.append(f"{counted(lost, 'reference')} without a score {is_or_are(lost)} not plotted.")
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
    """Give each reference the label position that covers least, greedily and on unit axes.

    A mark that occurs several times in `others` weighs more.
    """

    def unit(x: float, y: float) -> tuple[float, float]:
        return (x - x_range[0]) / (x_range[1] - x_range[0]), (y - y_range[0]) / (y_range[1] - y_range[0])

    points = [unit(mark.x, mark.y) for mark in others] + _along([unit(*corner) for corner in line])
    symbols = [unit(mark.x, mark.y) for mark in references]
    taken: list[Box] = []
    if target_ms is not None:
        right = unit(target_ms, 0)[0]
        taken.append((right - 0.1, 0.93, right, 1.0))
        points += [(right, step / 40) for step in range(41)]
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
    """Points on the horizontal parts of a step line, at most the height of a label apart."""
    points = []
    for (x, y), (following, _) in pairwise(corners):
        steps = int((following - x) / LABEL_HEIGHT) + 1
        points += [(x + (following - x) * step / steps, y) for step in range(steps)]
    return points


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
