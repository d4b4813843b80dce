"""Block diagrams and shares by depth, laid out as plain shapes."""

from __future__ import annotations

from collections.abc import Sequence

from nas.arch.block import Block
from nas.reports.formatting import and_list
from nas.reports.names import ACT_NAMES
from nas.reports.palette import ACTS, DARK_ACTS, FAINT, FRONT, INK, MUTED, PAPER, REFERENCE, SHADE
from nas.reports.run.block_diagram import MEASURES, Cell, DepthShares, Diagram, DiagramSheet, shown_measures
from nas.reports.shapes import Drawing, Line, Rect, Shape, Text

SLOT = 37.0
GAP = 14.0  # between two groups
DIAGRAM_HEIGHT = 96.0
CELLS_FOOT = 68.0  # base line of the cells, below the top of their diagram
LEGEND_HEIGHT = 62.0
MIN_WIDTH = 700.0
LETTER_WIDTH = 7.6  # of a title
MARGIN = 8.0


def kernel_height(kernel: int) -> float:
    """Height of a cell: kernels 3, 5 and 7 differ at a glance."""
    return min(14 + 13 * (kernel - 1) / 3, 44) if kernel > 1 else 14


def cell_width(cell: Cell) -> float:
    """Width of a cell: wider for a larger expansion, constant for ops without one."""
    return 16 + 17 * min(cell.row.expand, 6) / 6 if cell.has("expand") else 24


def cell_label(cell: Cell) -> str:
    """Label below a block: its expansion, or the kind of unit."""
    row = cell.row
    if cell.has("expand"):
        return f"{'f' if row.op == 'fused_mbconv' else ''}×{row.expand:.3g}"
    return {"shuffle_v1": f"v1 g{row.groups}", "shuffle_v2": "v2", "dwsep": "ds", "spatial_sep": "sp"}.get(row.op, "")


def _columns(sheet: DiagramSheet) -> dict[str, float]:
    """Left edge of each group."""
    edges, x = {}, MARGIN
    for group, slots in sheet.columns:
        edges[group] = x
        x += slots * SLOT + GAP
    return edges


def diagrams_drawing(sheet: DiagramSheet) -> Drawing:
    """Legend, then one diagram per network, all on the same columns."""
    edges = _columns(sheet)
    right = MARGIN + sum(slots * SLOT + GAP for _, slots in sheet.columns)
    width = max(right, MIN_WIDTH)
    height = LEGEND_HEIGHT + 22 + DIAGRAM_HEIGHT * len(sheet.diagrams) + 4
    shapes: list[Shape] = [*_bands(sheet, edges, height), *_legend(sheet)]
    name_width = LETTER_WIDTH * max((len(_title(diagram)) for diagram in sheet.diagrams), default=0)
    for at, diagram in enumerate(sheet.diagrams):
        top = LEGEND_HEIGHT + 22 + at * DIAGRAM_HEIGHT
        figures = Text(MARGIN + name_width + 14, top + 16, _cut(diagram.figures, 90), 10.5, MUTED)
        shapes += [*_diagram(diagram, edges, top, width), figures]
    names = ", ".join(diagram.name for diagram in sheet.diagrams)
    return Drawing(width, height, tuple(shapes), f"Blocks of {names}")


def _bands(sheet: DiagramSheet, edges: dict[str, float], height: float) -> list[Shape]:
    """A faint band and a heading for each group, so for each size of the feature map."""
    shapes: list[Shape] = []
    for at, (group, slots) in enumerate(sheet.columns):
        x, wide = edges[group], slots * SLOT
        if at % 2 == 0:
            shapes.append(Rect(x - GAP / 2, LEGEND_HEIGHT, wide + GAP, height - LEGEND_HEIGHT, SHADE))
        middle = x + wide / 2
        shapes.append(Text(middle, LEGEND_HEIGHT + 15, group, 10, MUTED, "middle", bold=True))
    return shapes


def _title(diagram: Diagram) -> str:
    prefix = {"best": "Best: ", "missed": "Over the target: "}.get(diagram.kind, "")
    return _cut(prefix + diagram.name, 46)


def _diagram(diagram: Diagram, edges: dict[str, float], top: float, width: float) -> list[Shape]:
    foot = top + CELLS_FOOT
    colour = REFERENCE if diagram.kind == "reference" else FRONT
    shapes: list[Shape] = [
        Line(MARGIN - 4, top + 1, width - MARGIN, top + 1, FAINT),
        Text(MARGIN, top + 16, _title(diagram), 11.5, colour, bold=True, ident=f"net-{diagram.key}"),
    ]
    for cell in diagram.cells:
        shapes += _cell(cell, edges[cell.group] + cell.slot * SLOT, foot)
    return shapes + _channels(diagram, edges, foot)


def _cell(cell: Cell, left: float, foot: float) -> list[Shape]:
    wide, tall = cell_width(cell), kernel_height(cell.kernel)
    x, y, middle = left + (SLOT - wide) / 2, foot - kernel_height(cell.kernel), left + SLOT / 2
    row, plain = cell.row, not cell.is_block
    fill = ACTS[row.act]
    ink = PAPER if row.act in DARK_ACTS and not plain else INK
    letters = "max" if row.op == "max_pool" else cell.kernels
    size = 11 if len(letters) < 3 else 9.5
    shapes: list[Shape] = [
        Rect(x, y, wide, tall, PAPER if plain else fill, fill if plain and row.act != "none" else FAINT, str(cell)),
        Text(middle, foot - tall / 2 + 3.6, letters, size, ink, "middle"),
    ]
    if row.se:
        shapes.append(Rect(x, y - 5, wide, 3.6, INK, None, f"squeeze-and-excitation {row.se:g}"))
    if note := cell_label(cell):
        shapes.append(Text(middle, foot + 10.5, note, 8.5, MUTED, "middle"))
    return shapes


def _channels(diagram: Diagram, edges: dict[str, float], foot: float) -> list[Shape]:
    """The number of channels below each stage, which is a run of blocks with equal channels."""
    shapes: list[Shape] = []
    start = 0
    for at, cell in enumerate(diagram.cells):
        following = diagram.cells[at + 1] if at + 1 < len(diagram.cells) else None
        if following and (following.group, following.channels) == (cell.group, cell.channels):
            continue
        first = diagram.cells[start]
        left = edges[first.group] + first.slot * SLOT + 4
        right = edges[cell.group] + (cell.slot + 1) * SLOT - 4
        label = str(cell.channels)
        half = 3 * len(label) + 3
        middle = (left + right) / 2
        if right - left > 2 * half + 8:
            shapes.append(Line(left, foot + 18, middle - half, foot + 18, MUTED, 0.8))
            shapes.append(Line(middle + half, foot + 18, right, foot + 18, MUTED, 0.8))
        shapes.append(Text(middle, foot + 21.5, label, 9.5, INK, "middle"))
        start = at + 1
    return shapes


def _legend(sheet: DiagramSheet) -> list[Shape]:
    """Legend of the cells; it shows two kernels and GELU only if they occur."""
    cells = [cell for diagram in sheet.diagrams for cell in diagram.cells]
    shapes: list[Shape] = []
    foot = 42.0
    x = MARGIN

    def caption(text: str, left: float, width: float) -> None:
        shapes.append(Text(left + width / 2, foot + 14, text, 9.5, MUTED, "middle"))

    def sample(left: float, kernel: int, expand: float, label: str, se: float = 0, op: str = "mbconv") -> float:
        cell = Cell(Block(op, 8, kernel, expand=expand, se=se, act="relu"), 8, "stem", 0)
        wide = cell_width(cell)
        shapes.extend(s for s in _cell(cell, left - (SLOT - wide) / 2, foot) if not isinstance(s, Text))
        shapes.append(Text(left + wide / 2, foot - kernel_height(kernel) / 2 + 3.6, label, 10, INK, "middle"))
        return left + wide + 5

    start = x
    for kernel in (3, 5, 7):
        x = sample(x, kernel, 4, str(kernel))
    if any(cell.row.kernel_start and cell.row.kernel for cell in cells):
        x = sample(x, 5, 4, "3·5")
    caption("kernel", start, x - 5 - start)
    start = x = x + 26
    for expand in (1, 3, 6):
        x = sample(x, 3, expand, f"×{expand}")
    caption("expansion", start, x - 5 - start)
    x += 74
    caption("squeeze-and-excitation", x, sample(x, 3, 4, "3", se=0.25) - 5 - x)
    x += 128
    caption("plain conv., fc", x, sample(x, 3, 4, "3", op="conv") - 5 - x)
    start = x = x + 76
    gelu = ("gelu",) if any(cell.row.act == "gelu" for cell in cells) else ()
    for act in ("relu", "relu6", "h_swish", "swish", *gelu, "none"):
        shapes.append(Rect(x, foot - 14, 14, 14, ACTS[act], FAINT))
        shapes.append(Text(x + 19, foot - 3, ACT_NAMES[act], 10, INK))
        x += 34 + 6 * len(ACT_NAMES[act])
    caption("activation (below each stage: channels)", start, x - start)
    return shapes


def depth_shares_drawing(lines: Sequence[DepthShares]) -> Drawing:
    """Bars of the shares of each network: by measure, in the first, middle and last third of its blocks."""
    name_width, column, line, bar = 190.0, 118.0, 40.0, 24.0
    shown = shown_measures(lines)
    width = MARGIN * 2 + name_width + column * len(shown)
    shapes: list[Shape] = []
    for at, measure in enumerate(shown):
        shapes.append(Text(MARGIN + name_width + at * column, 14, MEASURES[measure], 11, INK, bold=True))
    for at, shares in enumerate(lines):
        foot = 24 + (at + 1) * line - 8
        colour = REFERENCE if shares.kind == "reference" else FRONT
        shapes.append(Text(MARGIN, foot - 6, _cut(shares.name, 30), 11, colour))
        for m, thirds in enumerate(shares.values[at] for at in shown):
            left = MARGIN + name_width + m * column
            for t, value in enumerate(thirds):
                x = left + t * (bar + 4)
                shapes.append(Line(x, foot, x + bar, foot, MUTED, 0.8))
                if value:
                    shapes.append(Rect(x, foot - 26 * value, bar, 26 * value, colour, None, f"{100 * value:.0f} %"))
    height = 24 + len(lines) * line + 18
    for t, third in enumerate(("first", "mid", "last")):
        middle = MARGIN + name_width + t * (bar + 4) + bar / 2
        shapes.append(Text(middle, height - 10, third, 9.5, MUTED, "middle"))
    shapes.append(Text(MARGIN, height - 10, "third of the blocks", 9.5, MUTED))
    return Drawing(width, height, tuple(shapes), f"Shares of {and_list(MEASURES[at] for at in shown)} by depth")


def _cut(text: str, letters: int) -> str:
    return text if len(text) <= letters else text[: letters - 1] + "…"
