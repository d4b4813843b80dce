"""Which networks a latency table is fitted to and tested on, and how they are timed: all in turn, several times over.

A shared machine has bursts of a second or two in which everything takes a fifth longer, and drifts by a few percent
within minutes. So no network is timed in one go: all are kept ready and run in rounds, what neighbours in time have in
common is taken off, and each counts with the median over the rounds. On a 2-core machine with busy neighbours the
medians of odd and even rounds differed by 2.9 % without the second step and by 1.5 % with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from time import perf_counter

import numpy as np

from nas.arch import MAX_RESOLUTION, Arch
from nas.genes import Gene, Scalar
from nas.latency.anchor import anchor, usual_ms
from nas.latency.isolation import isolated
from nas.latency.runtimes import Prepared, Runtime
from nas.latency.table_fit import CLASSES
from nas.machine import host
from nas.row import BLOCK_OPS, Block
from nas.space import Space
from nas.stage import Stage

Progress = Callable[[int, int, str], None]

HELD_OUT = 16
FITTED = (16, 48)  # fewest, most; by the number of genes
FOREIGN_NETS = 8  # more, in spaces without MBConv blocks
UNIFORM, SIZED, STRANGE, FOREIGN = "uniform", "sized", "strange", "foreign"
KINDS = (UNIFORM, SIZED, UNIFORM, STRANGE, SIZED, UNIFORM)  # of the networks it is fitted to, over and over
HELD_OUT_KINDS = (UNIFORM, UNIFORM, SIZED, UNIFORM)
TRIES = 20

PREPARE_SHARE = 0.6  # of the budget
ROUNDS = (3, 8)  # fewest, most
ROUND_S = 0.05  # per network and round, after one run to warm up
ROUND_RUNS = 4
NEIGHBOURS = 11  # odd; about half a second
QUIET = 0.25
SETTLING = 8
MOST_KERNEL_OVERHEAD_MS = 0.003


@dataclass(frozen=True)
class Timed:
    """What was learnt of one network.

    Args:
        arch: the network.
        ms: typical over the rounds.
        parts_ms: of its parts, scaled so that they sum to `ms`.
    """

    arch: Arch
    ms: float
    parts_ms: np.ndarray


def draw_sets(space: Space, seed: int) -> tuple[list[Arch], list[Arch]]:
    """Networks to hold out, all of the space, and others to fit to. No network is drawn twice.

    Fitted are uniform samples, samples leaning to small or large options all at once (a uniform sample of many genes is
    never near an end of the range), and strange ones: with activations, gates and widths the space may not have. A
    space without MBConv blocks also gets foreign ones made of them, that the usual references can be predicted.
    """
    rng = np.random.default_rng((seed, 0x7AB1E))
    seen: set[str] = set()
    held_out = list(_drawn(space, HELD_OUT_KINDS, HELD_OUT, rng, seen))
    fewest, most = FITTED
    fitted = list(_drawn(space, KINDS, min(fewest + len(space.genes), most), rng, seen))
    if not any("mbconv" in ops_of(stage) for stage in space.stages):
        apart = len(fitted) // FOREIGN_NETS + 1  # spread out: on a slow machine the last of all are left out
        for at, arch in enumerate(_drawn(space, (FOREIGN,), FOREIGN_NETS, rng, seen)):
            fitted.insert(at * apart, arch)
    return held_out, fitted


def ops_of(stage: Stage) -> set[object]:
    """What its blocks may be."""
    return {*stage.cells.get("op", ()), *(row["op"] for row in stage.choice.values() if "op" in row)}


def _drawn(
    space: Space, kinds: tuple[str, ...], count: int, rng: np.random.Generator, seen: set[str]
) -> Iterator[Arch]:
    for at in range(count):
        for attempt in range(TRIES):
            kind = kinds[at % len(kinds)]
            if STRANGE in kinds and attempt >= TRIES // 2:
                kind = STRANGE  # a small space has been drawn empty
            arch = space.sample(rng) if kind == UNIFORM else _sized(space, rng)
            if kind == FOREIGN:
                arch = foreign(arch, rng)
            if kind in (STRANGE, FOREIGN):
                arch = strange(arch, rng)
            if arch.key not in seen:
                seen.add(arch.key)
                yield arch
                break


def _sized(space: Space, rng: np.random.Generator) -> Arch:
    lean = float(rng.random())

    def choose(gene: Gene) -> Scalar:
        options = gene.options
        numbers = sorted(option for option in options if not isinstance(option, str))
        if len(numbers) < len(options):
            return options[int(rng.integers(len(options)))]
        return numbers[int(rng.beta(1 + 4 * lean, 5 - 4 * lean) * 0.999999 * len(numbers))]

    return space.unfold(choose)


def strange(arch: Arch, rng: np.random.Generator) -> Arch:
    """`arch` with other activations, squeeze-and-excitation, width and resolution: references are made of such rows."""
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


def foreign(arch: Arch, rng: np.random.Generator) -> Arch:
    """`arch` with MBConv blocks in place of its own."""

    def other(row: Block) -> Block:
        kernel, expand = int(rng.choice([3, 5])), float(rng.choice([1, 3, 4, 6]))
        if row.op not in BLOCK_OPS:
            return row
        return Block("mbconv", row.channels, kernel, row.stride, expand, act=str(rng.choice(["relu", "h_swish"])))

    return replace(arch, rows=tuple(map(other, arch.rows)))


def time_networks(
    held_out: list[Arch], fitted: list[Arch], runtime: Runtime, threads: int, budget_s: float, progress: Progress
) -> tuple[list[Timed], list[Timed]]:
    """Time them all within about `budget_s`: fewer to fit to, and fewer rounds, on a slow machine; the held-out all."""
    from nas.build import build

    begin = perf_counter()
    archs = [*held_out, *fitted]
    ready: list[tuple[Arch, Prepared, list[tuple[float, int]]]] = []
    with ExitStack() as stack:
        stack.enter_context(isolated(threads))
        held = stack.enter_context(anchor(runtime, threads))
        for arch in archs:
            late = perf_counter() - begin > PREPARE_SHARE * budget_s
            if late and len(ready) >= len(held_out) + FITTED[0]:
                break
            progress(len(ready), len(archs), "latency table: profiling networks")
            network = build(arch, CLASSES)
            prepared = stack.enter_context(runtime.prepare(network, arch.resolution, 1, threads))
            ready.append((arch, prepared, prepared.profile()))
        progress(len(archs), len(archs), "latency table: profiling networks")
        runs = [held, *(prepared for _, prepared, _ in ready)]
        held_ms, *medians = typical_ms(*visits(runs, *ROUNDS, begin + budget_s, progress))
    usual = usual_ms(float(held_ms), host(), runtime.name, runtime.version(), threads)
    medians = [ms / held_ms * usual for ms in medians]  # as `nas.latency.measure` tells them
    timed = [
        Timed(arch, float(ms), _settled(parts, float(ms))) for (arch, _, parts), ms in zip(ready, medians, strict=True)
    ]
    return timed[: len(held_out)], timed[len(held_out) :]


def visits(
    runs: Sequence[Prepared], fewest: int, most: int, end: float, progress: Progress
) -> tuple[np.ndarray, np.ndarray]:
    """Run all networks in rounds, each in an order of its own lest a regular disturbance meet the same ones.

    Args:
        runs: the networks.
        fewest: rounds at least.
        most: rounds at most.
        end: moment of `perf_counter` by which to end, if the fewest are done.
        progress: told after each round.

    Returns:
        Median ms of each visit and which network was visited, both ``(rounds, networks)`` in order of time.
    """
    rng = np.random.default_rng(0)
    taken: list[list[float]] = []
    order: list[np.ndarray] = []
    spent = 0.0
    while len(taken) < most:
        start = perf_counter()
        if len(taken) >= fewest and start + spent > end:
            break
        progress(len(taken), most, "latency table: timing all in turn")
        order.append(rng.permutation(len(runs)))
        taken.append([_visit(runs[at]) for at in order[-1]])
        spent = perf_counter() - start
    progress(most, most, "latency table: timing all in turn")
    return np.array(taken), np.array(order)


def _visit(run: Prepared) -> float:
    """Median ms of a few runs, after one to warm up."""
    run()
    taken: list[float] = []
    begin = now = perf_counter()
    while len(taken) < ROUND_RUNS or now - begin < ROUND_S:
        start = now
        run()
        now = perf_counter()
        taken.append(now - start)
    return float(np.median(taken)) * 1e3


def typical_ms(taken_ms: np.ndarray, order: np.ndarray) -> np.ndarray:
    """The typical ms of each network, from what `visits` returns.

    A visit is taken for the network's time times what the machine was like around then: the median excess of
    the `NEIGHBOURS` visits about it, nearly all of other networks. Both are estimated in turn. Told is the time
    in the machine's quieter moments (at the `QUIET` quantile of what it was like), which come back the most alike.
    """
    logs = np.log(taken_ms)
    state = np.zeros_like(logs)
    side = NEIGHBOURS // 2
    for _ in range(SETTLING):
        network = _medians(logs - state, order)
        windows = np.lib.stride_tricks.sliding_window_view(
            np.pad((logs - network[order]).ravel(), side, mode="edge"), NEIGHBOURS
        )
        state = np.median(windows, axis=1).reshape(logs.shape)
        state -= np.quantile(state, QUIET)
    return np.asarray(np.exp(_medians(logs - state, order)))


def _medians(values: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Over the rounds, by network."""
    by_network = np.empty_like(values)
    np.put_along_axis(by_network, order, values, axis=1)
    return np.asarray(np.median(by_network, axis=0))


def _settled(parts: list[tuple[float, int]], ms: float) -> np.ndarray:
    """Times of parts that sum to the time of the whole, which knows nothing of a profiler: what they exceed it by is
    taken off each kernel, up to what noting one down can cost, and the rest is shared out."""
    taken, kernels = np.array(parts, dtype=float).T
    overhead = float(np.clip((taken.sum() - ms) / kernels.sum(), 0, MOST_KERNEL_OVERHEAD_MS))
    net = np.maximum(taken - overhead * kernels, 0.2 * taken)
    return np.asarray(net * (ms / net.sum()))
