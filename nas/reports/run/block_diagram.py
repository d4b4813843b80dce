"""Networks as block diagrams, one cell per block, and shares of kernels, SE and activations by depth."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nas.arch.arch import Arch
from nas.arch.block import BLOCK_OPS, CELLS, Block, default_norm
from nas.engine.run.record import Record
from nas.reports.formatting import and_list, ms, percent
from nas.reports.names import ACT_NAMES, NORM_NAMES, OP_NAMES
from nas.reports.run.tables import Entry, Row, Table, score_of

THIRDS = ("first", "middle", "last")
_HAS: Mapping[str, Callable[[Cell], bool]] = {
    "kernel ≥ 5": lambda cell: cell.kernel >= 5,
    "SE": lambda cell: cell.row.se > 0,
    "h-swish": lambda cell: cell.row.act == "h_swish",
    "swish": lambda cell: cell.row.act == "swish",
    "GELU": lambda cell: cell.row.act == "gelu",
    "two depthwise": lambda cell: bool(cell.row.kernel_start and cell.row.kernel),
    "groups": lambda cell: cell.row.groups > 1,
}
MEASURES = tuple(_HAS)
ALWAYS_SHOWN = MEASURES[:4]  # even if no network has them
SHARES_NOTE = "Share of the blocks in the first · middle · last third of each network."
MAX_DIAGRAMS = 40  # in a picture; report.html draws all


@dataclass(frozen=True, slots=True)
class Cell:
    """One block of a diagram.

    Args:
        row: the choices of the block.
        channels: output channels.
        group: ``stem`` (rows before the first block), ``1/8`` (blocks whose output is that fraction of the input side)
            or ``head`` (rows after the last block).
        slot: position in its group, from 0.
    """

    row: Block
    channels: int
    group: str
    slot: int

    @property
    def is_block(self) -> bool:
        return self.row.op in BLOCK_OPS

    def has(self, name: str) -> bool:
        """Whether the choice of that name applies to this op."""
        return name in CELLS[self.row.op]

    @property
    def kernel(self) -> int:
        """The largest kernel of the block; 1 if it has only 1x1 convolutions."""
        return max(self.row.kernel, self.row.kernel_start, 1)

    @property
    def kernels(self) -> str:
        """The kernels in few letters: ``5``; ``3·5`` for two depthwise layers, ``–`` for none."""
        row = self.row
        if row.op == "linear":
            return "fc"
        return "·".join(str(kernel) for kernel in (row.kernel_start, row.kernel) if kernel) or "–"

    def __str__(self) -> str:
        """The block in words, for a tooltip."""
        row = self.row
        sizes = " then ".join(f"{kernel}×{kernel}" for kernel in (row.kernel_start, row.kernel) if kernel)
        parts = [OP_NAMES[row.op] + ("" if row.op == "linear" else f" {sizes}" if sizes else " without depthwise")]
        if self.has("expand"):
            parts.append(f"expansion {row.expand:g}")
        if self.has("groups") and (row.groups > 1 or self.is_block):
            first = f" (the first 1×1: {row.groups_in})" if row.groups_in else ""
            parts.append((f"{row.groups} groups" if row.groups > 1 else "no groups") + first)
        if row.depth_multiplier > 1:
            parts.append(f"depth multiplier {row.depth_multiplier}")
        if self.has("se"):
            parts.append(f"SE {row.se:g}" if row.se else "no SE")
        if self.has("act"):
            parts.append(ACT_NAMES[row.act])
        if self.has("norm") and row.norm != default_norm(row.op):
            parts.append(NORM_NAMES[str(row.norm)])
        if row.stride > 1:
            parts.append(f"stride {row.stride}")
        return ", ".join([*parts, f"{self.channels} channels"])


@dataclass(frozen=True)
class Diagram:
    """The diagram of one network.

    Args:
        name: name of the network.
        kind: kind of the network (`nas.reports.run.tables.Entry.kind`).
        key: key of the network.
        figures: score, latency and resolution in words.
        cells: blocks, from input to output.
    """

    name: str
    kind: str
    key: str
    figures: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class DiagramSheet:
    """Diagrams on common columns, so that blocks of equal depth are aligned.

    Args:
        columns: groups and the number of slots of each, which is that of the longest diagram.
        diagrams: one per network.
    """

    columns: tuple[tuple[str, int], ...]
    diagrams: tuple[Diagram, ...]


def cells(arch: Arch) -> tuple[Cell, ...]:
    """A cell for every row but the pool, in order."""
    blocks = [at for at, row in enumerate(arch.rows) if row.op in BLOCK_OPS]
    pool = next(at for at, row in enumerate(arch.rows) if row.op == "pool")
    first, last = (blocks[0], blocks[-1]) if blocks else (0, pool - 1)
    drawn: list[Cell] = []
    used: dict[str, int] = {}
    reduction = 1
    for at, placed in enumerate(arch.places()):
        row = placed.row
        reduction *= row.stride
        if row.op == "pool":
            continue
        group = "stem" if at < first else "head" if at > last else f"1/{reduction}"
        slot = used.get(group, 0)
        used[group] = slot + 1
        drawn.append(Cell(row, placed.out_channels, group, slot))
    return tuple(drawn)


def diagram_sheet(record: Record, entries: Sequence[Entry]) -> DiagramSheet:
    """The diagrams of these networks."""
    score = score_of(record)
    diagrams = []
    for entry in entries:
        c = entry.candidate
        latency = f"{ms(c.latency_ms)} ms {entry.source}"
        figures = f"{score.name} {score.of(c)}, {latency}, {c.arch.resolution} px"
        diagrams.append(Diagram(entry.name, entry.kind, c.key, figures, cells(c.arch)))
    slots: dict[str, int] = {}
    for diagram in diagrams:
        for cell in diagram.cells:
            slots[cell.group] = max(slots.get(cell.group, 0), cell.slot + 1)
    return DiagramSheet(tuple(sorted(slots.items(), key=lambda item: _order(item[0]))), tuple(diagrams))


def thinned(sheet: DiagramSheet, most: int = MAX_DIAGRAMS) -> DiagramSheet:
    """At most `most` diagrams: front networks other than the best are left out evenly, except the first and last."""
    front = [diagram for diagram in sheet.diagrams if diagram.kind == "front"]
    room = max(2, most - (len(sheet.diagrams) - len(front)))
    if len(front) <= room:
        return sheet
    kept = {front[round(at)].key for at in np.linspace(0, len(front) - 1, room)}
    return DiagramSheet(sheet.columns, tuple(s for s in sheet.diagrams if s.kind != "front" or s.key in kept))


def _order(group: str) -> int:
    if group in ("stem", "head"):
        return 0 if group == "stem" else 1 << 300  # beyond any product of strides
    return int(group.removeprefix("1/"))


def main_blocks(arch: Arch) -> list[Cell]:
    """The blocks of a network (`nas.arch.block.BLOCK_OPS`); its convolutions if it has none."""
    drawn = cells(arch)
    return [cell for cell in drawn if cell.is_block] or [cell for cell in drawn if cell.row.op == "conv"]


def shares_by_depth(arch: Arch) -> tuple[tuple[float | None, ...], ...]:
    """The share of blocks that have each of `MEASURES`, in the first, middle and last third of the network.

    Block i of n is in third ``3 * i // n``; None for a third without blocks.

    Returns:
        one tuple per measure, with one share per third.
    """
    blocks = main_blocks(arch)
    thirds: list[list[Cell]] = [[], [], []]
    for at, cell in enumerate(blocks):
        thirds[3 * at // len(blocks)].append(cell)

    def share(third: list[Cell], measure: str) -> float | None:
        return sum(map(_HAS[measure], third)) / len(third) if third else None

    return tuple(tuple(share(third, measure) for third in thirds) for measure in MEASURES)


def mean_shares_by_depth(archs: Sequence[Arch]) -> tuple[tuple[float | None, ...], ...]:
    """The mean of `shares_by_depth` over networks, all with the same weight."""
    per_network = [shares_by_depth(arch) for arch in archs]

    def mean(values: list[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return sum(known) / len(known) if known else None

    return tuple(
        tuple(mean([one[m][t] for one in per_network]) for t in range(len(THIRDS))) for m in range(len(MEASURES))
    )


@dataclass(frozen=True)
class DepthShares:
    """One line of the comparison by depth.

    Args:
        name: name of the network, or of the mean.
        kind: kind of the line: ``best``, ``front`` or ``reference``.
        values: shares, by `MEASURES` and `THIRDS`.
    """

    name: str
    kind: str
    values: tuple[tuple[float | None, ...], ...]


def depth_comparison(entries: Sequence[Entry]) -> list[DepthShares]:
    """The best network, the mean of the front if it has several networks, and each reference."""
    lines = [
        DepthShares(f"Best, {e.name}", "best", shares_by_depth(e.candidate.arch)) for e in entries if e.kind == "best"
    ]
    front = [e.candidate.arch for e in entries if e.kind in ("best", "front")]
    if len(front) > 1:
        lines.append(DepthShares(f"Front, mean of {len(front)}", "front", mean_shares_by_depth(front)))
    return lines + [
        DepthShares(e.name, e.kind, shares_by_depth(e.candidate.arch)) for e in entries if e.kind == "reference"
    ]


def shown_measures(lines: Sequence[DepthShares]) -> list[int]:
    """Indices of the `MEASURES` to show: `ALWAYS_SHOWN`, and those that some network has."""
    return [
        at
        for at, measure in enumerate(MEASURES)
        if measure in ALWAYS_SHOWN or any(any(line.values[at]) for line in lines)
    ]


def depth_table(lines: Sequence[DepthShares]) -> Table:
    """The comparison as text, one column per measure: first · middle · last third."""
    shown = shown_measures(lines)
    rows = []
    for line in lines:
        texts = (" · ".join(percent(value) for value in line.values[at]) for at in shown)
        rows.append(Row((line.name, *texts), line.kind))
    return Table(("Network", *(MEASURES[at] for at in shown)), tuple(rows))


def cell_words(sheet: DiagramSheet) -> str:
    """Explain the letters in and below the cells of these networks; empty if they need no explanation."""
    ops = {cell.row.op for diagram in sheet.diagrams for cell in diagram.cells}
    below = {
        "fused_mbconv": "f×4 is a fused block with expansion 4",
        "dwsep": "ds is a depthwise separable convolution",
        "spatial_sep": "sp is a spatially separable convolution",
        "shuffle_v1": "v1 g3 is a ShuffleNetV1 unit with 3 groups",
        "shuffle_v2": "v2 is a ShuffleNetV2 unit",
    }
    units = [text for op, text in below.items() if op in ops]
    sentences = [f"Labels below a cell: {and_list(units)}."] if units else []
    if "uib" in ops:
        sentences.append("In a cell, 3·5 gives the kernels before and after the expansion; – means no depthwise layer.")
    return " ".join(sentences)
