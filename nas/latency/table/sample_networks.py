"""Chooses the networks that a latency table is fitted to, and those that are held out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import zip_longest

import numpy as np

from nas.arch.arch import MAX_RESOLUTION, Arch
from nas.arch.block import BLOCK_OPS, MAX_CHANNELS, Block
from nas.arch.cost import cost_of
from nas.arch.genes import Gene, Scalar
from nas.arch.space import Space
from nas.arch.stage import Stage
from nas.latency.table.columns import Columns

HELD_OUT = 16
FITTED = (16, 64)  # fewest, most; the number grows with the number of genes
POOL = 4  # networks in the pool for each one that is fitted to
PRIOR = 1e-3
PLAIN_NETS, FOREIGN_NETS = 4, 8  # additional networks, in spaces with and without MBConv blocks
LARGE_NETS = 2  # additional networks, in all spaces
WIDER = 4
LARGE_SIDES, LARGE_WIDTHS = (1.75, 2.0, 2.25), (1.0, 1.5)  # relative to the space, and to the network
LARGE_STRIDE, LARGE_MACS = 8, 4.0  # of the last map; relative to the largest network of the pool
UNIFORM, SIZED, STRANGE, PLAIN, FOREIGN, LARGE = "uniform", "sized", "strange", "plain", "foreign", "large"
KINDS = (UNIFORM, SIZED, UNIFORM, STRANGE, SIZED, UNIFORM)  # of the pool, repeated
HELD_OUT_KINDS = (UNIFORM, UNIFORM, SIZED, UNIFORM)
TRIES = 20


def draw_sets(space: Space, seed: int) -> tuple[list[Arch], list[Arch]]:
    """Networks to hold out, all of them in the space, and networks to fit to. No network is drawn twice.

    The pool to fit to has uniform samples, samples that lean to small or large options throughout (a uniform sample of
    many genes is never near an end of the range), and `strange` networks, with activations, gates and widths that the
    space may lack. Half of the chosen networks are the most `informative`, half are random: extremes determine the
    coefficients, and typical networks show where a linear model is off. A few more are `plain` in a space with MBConv
    blocks, `foreign` in one without, and a few are `large`, so that references can be predicted too.
    """
    rng = np.random.default_rng((seed, 0x7AB1E))
    seen: set[str] = set()
    held_out = list(_drawn(space, HELD_OUT_KINDS, HELD_OUT, rng, seen))
    fewest, most = FITTED
    count = min(fewest + len(space.genes), most)
    pool = list(_drawn(space, KINDS, POOL * count, rng, seen))
    fitted = _alternating(informative(pool, (count + 1) // 2), pool, count)
    has_mbconv = any("mbconv" in ops_of(stage) for stage in space.stages)
    for kind, more in ((PLAIN, PLAIN_NETS) if has_mbconv else (FOREIGN, FOREIGN_NETS), (LARGE, LARGE_NETS)):
        apart = len(fitted) // more + 1  # spread out, because a slow machine leaves out the last networks
        drawn = _drawn(space, (kind,), more, rng, seen)
        for at, arch in enumerate(shortened(drawn, pool) if kind == LARGE else drawn):
            fitted.insert(at * apart, arch)
    return held_out, fitted


def _alternating(chosen: list[Arch], pool: list[Arch], count: int) -> list[Arch]:
    """The chosen and other networks of the pool in turn, so that a slow machine gets some of both."""
    taken = {arch.key for arch in chosen}
    others = [arch for arch in pool if arch.key not in taken]
    pairs = [arch for pair in zip_longest(chosen, others[: count - len(chosen)]) for arch in pair]
    return [arch for arch in pairs if arch is not None]


def informative(pool: Sequence[Arch], count: int) -> list[Arch]:
    """`count` networks of the pool, by a greedy D-optimal design.

    Each network is the one that a linear model of all columns, fitted to the networks before it, knows the least about,
    relative to its size. So every beginning of the result is such a design, too. The prior time of a network is its
    share of each column in the pool.
    """
    matrix = Columns.seen_in(pool).of_networks(pool)
    shares = matrix / np.maximum(matrix.max(axis=0), 1e-12)
    rows = shares / shares.sum(axis=1, keepdims=True)
    spread = np.eye(rows.shape[1]) / PRIOR  # covariance of the coefficients
    chosen: list[int] = []
    for _ in range(min(count, len(pool))):
        unknown = np.einsum("ij,jk,ik->i", rows, spread, rows)
        unknown[chosen] = -1.0
        best = int(np.argmax(unknown))
        chosen.append(best)
        reach = spread @ rows[best]
        spread -= np.outer(reach, reach) / (1.0 + rows[best] @ reach)
    return [pool[at] for at in chosen]


def ops_of(stage: Stage) -> set[object]:
    """The operators that its blocks may have."""
    return {*stage.cells.get("op", ()), *(row["op"] for row in stage.choice.values() if "op" in row)}


def _drawn(
    space: Space, kinds: tuple[str, ...], count: int, rng: np.random.Generator, seen: set[str]
) -> Iterator[Arch]:
    for at in range(count):
        for attempt in range(TRIES):
            kind = kinds[at % len(kinds)]
            if STRANGE in kinds and attempt >= TRIES // 2:
                kind = STRANGE  # a small space has no further networks
            arch = space.sample(rng) if kind == UNIFORM else sized(space, rng)
            if kind == FOREIGN:
                arch = foreign(arch, rng)
            if kind in (STRANGE, PLAIN, FOREIGN, LARGE):
                arch = strange(arch, rng)
            if kind == PLAIN:
                arch = plain(arch)
            if kind == LARGE:
                arch = large(arch, max(space.resolution), rng)
            if arch.key not in seen:
                seen.add(arch.key)
                yield arch
                break


def sized(space: Space, rng: np.random.Generator) -> Arch:
    """A random network that leans to small or to large options throughout, so that it is near an end of the range."""
    lean = float(rng.random())

    def choose(gene: Gene) -> Scalar:
        options = gene.options
        numbers = sorted(option for option in options if not isinstance(option, str))
        if len(numbers) < len(options):
            return options[int(rng.integers(len(options)))]
        return numbers[int(rng.beta(1 + 4 * lean, 5 - 4 * lean) * 0.999999 * len(numbers))]

    return space.realise(choose)


def strange(arch: Arch, rng: np.random.Generator) -> Arch:
    """`arch` with other activations, squeeze-and-excitation, width and resolution, as references have."""
    rows: list[Block] = []
    for row in arch.rows:
        if row.op != "pool" and rng.random() < 0.6:
            row = replace(row, act=str(rng.choice(["relu", "relu6", "relu6", "h_swish", "swish"])))
        if row.op in ("mbconv", "fused_mbconv") and rng.random() < 0.5:
            gate, base = str(rng.choice(["hard_sigmoid", "sigmoid"])), str(rng.choice(["expanded", "input"]))
            row = replace(row, se=float(rng.choice([0, 0.25])), se_gate=gate, se_base=base)
        if row.op != "linear" or rng.random() < 0.7:
            rows.append(row)
    changed = replace(arch, rows=tuple(rows))
    if rng.random() < 0.5:
        return changed
    resolution = int(arch.resolution * rng.choice([0.75, 1, 1.25]) / 8) * 8
    return changed.scaled(float(rng.choice([0.5, 0.75, 1, 1.25])), min(max(resolution, 32), MAX_RESOLUTION))


def plain(arch: Arch) -> Arch:
    """`arch` with depthwise separable convolutions instead of inverted residuals, and wider, as in MobileNetV1: its 1x1
    convolutions resemble none in an inverted residual."""

    def other(row: Block) -> Block:
        if row.op != "mbconv":
            return row
        channels = min(row.channels * WIDER, MAX_CHANNELS)
        return Block("dwsep", channels, row.kernel, row.stride, act=row.act, norm=row.norm)

    return replace(arch, rows=tuple(map(other, arch.rows)))


def large(arch: Arch, side: int, rng: np.random.Generator) -> Arch:
    """The first rows of `arch` on images about twice as large as `side`, the largest of its space.

    Their maps outgrow the shared cache, as in EfficientNet-B5 to B7. Whole networks of that size would take most of the
    time budget.
    """
    resolution = min(int(side * rng.choice(LARGE_SIDES) / 8) * 8, MAX_RESOLUTION)
    sized = arch.scaled(float(rng.choice(LARGE_WIDTHS)), resolution)
    rows = tuple(placed.row for placed in sized.places() if placed.out_size * LARGE_STRIDE >= resolution)
    return replace(sized, rows=(*rows, Block("pool")))


def shortened(archs: Iterable[Arch], pool: Sequence[Arch]) -> Iterator[Arch]:
    """The networks, cut to `LARGE_MACS` times the multiply-accumulates of the largest network of the pool."""
    most = LARGE_MACS * max(cost_of(arch).macs for arch in pool)
    for arch in archs:
        while cost_of(arch).macs > most and len(arch.rows) > 2:
            arch = replace(arch, rows=(*arch.rows[:-2], arch.rows[-1]))
        yield arch


def foreign(arch: Arch, rng: np.random.Generator) -> Arch:
    """`arch` with MBConv blocks instead of its own blocks."""

    def other(row: Block) -> Block:
        kernel, expand = int(rng.choice([3, 5])), float(rng.choice([1, 3, 4, 6]))
        if row.op not in BLOCK_OPS:
            return row
        return Block("mbconv", row.channels, kernel, row.stride, expand, act=str(rng.choice(["relu", "h_swish"])))

    return replace(arch, rows=tuple(map(other, arch.rows)))
