"""Networks as strips of cells, one cell per block, and what can be counted on them: shares by depth, likeness."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nas.arch import Arch
from nas.report.palette import ACT_NAMES
from nas.report.tables import Entry, Row, Table, score_of
from nas.report.wording import ms, percent
from nas.search.record import Record

THIRDS = ("first", "middle", "last")
MEASURES = ("kernel ≥ 5", "SE", "h-swish", "swish")
RANDOM_NETWORKS = 200
MOST_STRIPS = 40  # of a picture; report.html draws all


@dataclass(frozen=True, slots=True)
class Cell:
    """One block of a strip. The cells mean what those of `nas.arch.Block` mean.

    Args:
        group: ``stem`` (plain convolutions before the first MBConv block), ``1/8`` (blocks whose output has that share
            of the input's side) or ``head`` (after the last block).
        slot: position inside its group, from 0.
    """

    op: str
    kernel: int
    expand: float
    se: float
    act: str
    channels: int
    stride: int
    group: str
    slot: int

    def __str__(self) -> str:
        """For a tooltip."""
        name = {"conv": "convolution", "mbconv": "MBConv", "linear": "fully connected"}[self.op]
        parts = [name] if self.op == "linear" else [f"{name} {self.kernel}×{self.kernel}"]
        if self.op == "mbconv":
            parts += [f"expansion {self.expand:g}", f"SE {self.se:g}" if self.se else "no SE"]
        parts += [ACT_NAMES[self.act], *([f"stride {self.stride}"] if self.stride > 1 else [])]
        return ", ".join([*parts, f"{self.channels} channels"])


@dataclass(frozen=True)
class Strip:
    """One network: what it is called, its figures in words, its cells."""

    name: str
    kind: str
    key: str
    figures: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Sheet:
    """Strips on common columns: each group is as wide as its longest strip, so equal depths stand above each other."""

    columns: tuple[tuple[str, int], ...]
    strips: tuple[Strip, ...]


def cells(arch: Arch) -> tuple[Cell, ...]:
    """Every row but the pool, in order."""
    blocks = [at for at, row in enumerate(arch.rows) if row.op == "mbconv"]
    pool = next(at for at, row in enumerate(arch.rows) if row.op == "pool")
    first, last = (blocks[0], blocks[-1]) if blocks else (0, pool - 1)
    found: list[Cell] = []
    used: dict[str, int] = {}
    reduction = 1
    for at, row in enumerate(arch.rows):
        reduction *= row.stride
        if row.op == "pool":
            continue
        group = "stem" if at < first else "head" if at > last else f"1/{reduction}"
        slot = used.get(group, 0)
        used[group] = slot + 1
        choices = (row.op, row.kernel, row.expand, row.se, row.act, row.channels, row.stride)
        found.append(Cell(*choices, group=group, slot=slot))
    return tuple(found)


def sheet(record: Record, listed: Sequence[Entry]) -> Sheet:
    """The strips of these networks; `Entry.kind` sets them apart."""
    score = score_of(record)
    strips = []
    for entry in listed:
        c = entry.candidate
        latency = f"{ms(c.latency_ms)} ms {entry.source}"
        figures = f"{score.name} {score.text(c.proxy_accuracy)}, {latency}, {c.arch.resolution} px"
        strips.append(Strip(entry.name, entry.kind, c.key, figures, cells(c.arch)))
    slots: dict[str, int] = {}
    for strip in strips:
        for cell in strip.cells:
            slots[cell.group] = max(slots.get(cell.group, 0), cell.slot + 1)
    return Sheet(tuple(sorted(slots.items(), key=lambda item: _order(item[0]))), tuple(strips))


def thinned(sheet: Sheet, most: int = MOST_STRIPS) -> Sheet:
    """At most `most` strips: all but the rest of the front stay, and of that an even share, ends included."""
    front = [strip for strip in sheet.strips if strip.kind == "front"]
    room = max(2, most - (len(sheet.strips) - len(front)))
    if len(front) <= room:
        return sheet
    kept = {front[round(at)].key for at in np.linspace(0, len(front) - 1, room)}
    return Sheet(sheet.columns, tuple(s for s in sheet.strips if s.kind != "front" or s.key in kept))


def _order(group: str) -> int:
    if group in ("stem", "head"):
        return 0 if group == "stem" else 1 << 300  # beyond any product of strides
    return int(group.removeprefix("1/"))


def body(arch: Arch) -> list[Cell]:
    """The MBConv blocks; of a network without any, its convolutions."""
    found = cells(arch)
    return [cell for cell in found if cell.op == "mbconv"] or [cell for cell in found if cell.op == "conv"]


def shares(arch: Arch) -> tuple[tuple[float | None, ...], ...]:
    """For each of `MEASURES` the share of blocks that have it in the first, middle and last third of the blocks.

    Block i of n is in third ``3 * i // n``; None for a third without blocks.
    """
    blocks = body(arch)
    thirds: list[list[Cell]] = [[], [], []]
    for at, cell in enumerate(blocks):
        thirds[3 * at // len(blocks)].append(cell)

    def share(third: list[Cell], measure: str) -> float | None:
        has = {
            "kernel ≥ 5": lambda cell: cell.kernel >= 5,
            "SE": lambda cell: cell.se > 0,
            "h-swish": lambda cell: cell.act == "h_swish",
            "swish": lambda cell: cell.act == "swish",
        }[measure]
        return sum(map(has, third)) / len(third) if third else None

    return tuple(tuple(share(third, measure) for third in thirds) for measure in MEASURES)


def mean_shares(archs: Sequence[Arch]) -> tuple[tuple[float | None, ...], ...]:
    """The mean of `shares` over networks, each network counting once."""
    per_network = [shares(arch) for arch in archs]

    def mean(values: list[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return sum(known) / len(known) if known else None

    return tuple(
        tuple(mean([one[m][t] for one in per_network]) for t in range(len(THIRDS))) for m in range(len(MEASURES))
    )


@dataclass(frozen=True)
class Shares:
    """A line of the comparison by depth: `values` of `MEASURES` by `THIRDS`."""

    name: str
    kind: str
    values: tuple[tuple[float | None, ...], ...]


def share_lines(listed: Sequence[Entry]) -> list[Shares]:
    """The best network, the mean of the front if it has more than one, each reference."""
    lines = [Shares(f"Best, {e.name}", "best", shares(e.candidate.arch)) for e in listed if e.kind == "best"]
    front = [e.candidate.arch for e in listed if e.kind in ("best", "front")]
    if len(front) > 1:
        lines.append(Shares(f"Front, mean of {len(front)}", "front", mean_shares(front)))
    return lines + [Shares(e.name, e.kind, shares(e.candidate.arch)) for e in listed if e.kind == "reference"]


def share_table(lines: Sequence[Shares]) -> Table:
    """`lines` as text, one column per measure: first · middle · last third."""
    rows = [
        Row((line.name, *(" · ".join(percent(v) for v in three) for three in line.values)), line.kind) for line in lines
    ]
    return Table(("Network", *MEASURES), tuple(rows))


def likeness(one: Arch, other: Arch) -> float:
    """The share of equal choices (kernel, expansion, SE or not, activation) of two networks, 0..1.

    Blocks are compared in their places: same reduction of the input, same position there. A block that only one of the
    two has counts as four differences. ReLU6 is taken for ReLU.
    """
    left, right = ({(c.group, c.slot): c for c in body(arch)} for arch in (one, other))
    pairs = [(left.get(place), right.get(place)) for place in left.keys() | right.keys()]
    equal = sum(sum(map(_same, _choices(a), _choices(b))) for a, b in pairs if a is not None and b is not None)
    return equal / (4 * len(pairs))


def _choices(cell: Cell) -> tuple[object, ...]:
    return cell.kernel, cell.expand, cell.se > 0, cell.act.replace("relu6", "relu")


def _same(one: object, other: object) -> bool:
    return one == other


@dataclass(frozen=True)
class Nearest:
    """The reference most like the best network, beside what chance gives.

    Args:
        name: of the reference.
        share: `likeness` of the best network and it.
        random_mean: mean likeness of random networks of the space to the reference nearest to each of them.
        random_high: 95th percentile of the same.
    """

    name: str
    share: float
    random_mean: float
    random_high: float


def nearest(record: Record, listed: Sequence[Entry]) -> Nearest | None:
    """None without a best network or without references."""
    references = [e for e in listed if e.kind == "reference"]
    if record.best is None or not references:
        return None
    closest = max(references, key=lambda e: likeness(record.best or e.candidate.arch, e.candidate.arch))
    rng = np.random.default_rng(0)
    drawn = [record.space.sample(rng) for _ in range(RANDOM_NETWORKS)]
    by_chance = [max(likeness(arch, e.candidate.arch) for e in references) for arch in drawn]
    share = likeness(record.best, closest.candidate.arch)
    return Nearest(closest.name, share, float(np.mean(by_chance)), float(np.quantile(by_chance, 0.95)))
