"""How the networks of a latency table are timed: all in turn, several times over.

A shared machine has bursts of a second or two in which everything takes a fifth longer, and drifts by a few percent
within minutes. So no network is timed in one go: all are kept ready and run in rounds, what neighbours in time have in
common is taken off, and each counts with the median over the rounds. On a 2-core machine with busy neighbours the
medians of odd and even rounds differed by 2.9 % without the second step and by 1.5 % with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from nas.arch import Arch
from nas.latency.anchor import anchor, usual_ms
from nas.latency.isolation import isolated
from nas.latency.runtimes import Prepared, Runtime
from nas.latency.table_columns import CLASSES
from nas.latency.table_kept import Kept, Profile
from nas.machine import host

Progress = Callable[[int, int, str], None]

ANCHOR = "anchor"  # stands for it beside the keys of networks
PREPARE_SHARE = 0.6  # of the budget
FEWEST = 16  # networks to fit to, however slow the machine
ROUNDS = (3, 8)  # fewest, most
ROUND_S = 0.05  # per network and round, after one run to warm up
ROUND_RUNS = 4
CALM = 0.25  # of the runs of a visit: what the machine does to a network only adds
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
        parts_ms: of its parts, scaled so that they sum to `ms`; empty where the runtime cannot tell.
    """

    arch: Arch
    ms: float
    parts_ms: np.ndarray


def time_networks(
    held_out: list[Arch],
    fitted: list[Arch],
    runtime: Runtime,
    threads: int,
    budget_s: float,
    progress: Progress,
    kept: Kept,
) -> tuple[list[Timed], list[Timed]]:
    """Time them all within about `budget_s`: fewer to fit to, and fewer rounds, on a slow machine; the held-out all.

    What `kept` holds of an interrupted call is not timed again.
    """
    from nas.build import build

    begin = perf_counter()
    archs = [*held_out, *fitted]
    ready: list[Prepared] = []
    profiles: list[Profile] = []
    with ExitStack() as stack:
        stack.enter_context(isolated(threads))
        held = stack.enter_context(anchor(runtime, threads))
        for arch in archs:
            late = perf_counter() - begin > PREPARE_SHARE * budget_s
            if late and len(ready) >= len(held_out) + FEWEST:
                break
            progress(len(ready), len(archs), "latency table: profiling networks")
            prepared = stack.enter_context(runtime.prepare(build(arch, CLASSES), arch.resolution, 1, threads))
            profile: Profile = []
            if len(ready) >= len(held_out):
                profile = kept.profile(arch.key) or prepared.profile()
                kept.add_profile(arch.key, profile)
            ready.append(prepared)
            profiles.append(profile)
        progress(len(archs), len(archs), "latency table: profiling networks")
        runs = {ANCHOR: held} | {arch.key: run for arch, run in zip(archs, ready, strict=False)}
        rounds = visits(runs, *ROUNDS, begin + budget_s, progress, kept)
    held_ms, *medians = typical_ms(*in_order(rounds, list(runs)))
    usual = usual_ms(float(held_ms), host(), runtime.name, runtime.version(), threads)
    medians = [ms / held_ms * usual for ms in medians]  # as `nas.latency.measure` tells them
    timed = [
        Timed(arch, float(ms), _settled(parts, float(ms)))
        for arch, parts, ms in zip(archs, profiles, medians, strict=False)
    ]
    return timed[: len(held_out)], timed[len(held_out) :]


def visits(
    runs: dict[str, Prepared], fewest: int, most: int, end: float, progress: Progress, kept: Kept
) -> list[list[tuple[str, float]]]:
    """Run all networks in rounds, each in an order of its own lest a regular disturbance meet the same ones.

    Args:
        runs: the networks by name.
        fewest: rounds at least.
        most: rounds at most, those that `kept` holds of the same networks included.
        end: moment of `perf_counter` by which to end, if the fewest are done.
        progress: told after each round.
        kept: gets each round.

    Returns:
        Of each round, name and typical ms of each visit, in order of time.
    """
    rounds = [one for one in kept.rounds if {name for name, _ in one} == set(runs)]
    rng = np.random.default_rng(len(rounds))
    names = list(runs)
    spent = 0.0
    while len(rounds) < most:
        start = perf_counter()
        if len(rounds) >= fewest and start + spent > end:
            break
        progress(len(rounds), most, "latency table: timing all in turn")
        order = [names[at] for at in rng.permutation(len(names))]
        rounds.append([(name, _visit(runs[name])) for name in order])
        kept.add_round(rounds[-1])
        spent = perf_counter() - start
    progress(most, most, "latency table: timing all in turn")
    return rounds


def _visit(run: Prepared) -> float:
    run()  # to warm up
    return calm_ms(run)


def calm_ms(run: Prepared) -> float:
    """Ms of a calm run among a few."""
    taken: list[float] = []
    begin = now = perf_counter()
    while len(taken) < ROUND_RUNS or now - begin < ROUND_S:
        start = now
        run()
        now = perf_counter()
        taken.append(now - start)
    return float(np.quantile(taken, CALM)) * 1e3


def in_order(rounds: Sequence[Sequence[tuple[str, float]]], names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Ms of each visit and which network was visited, both ``(rounds, networks)`` in order of time."""
    at = {name: index for index, name in enumerate(names)}
    taken = np.array([[ms for _, ms in one] for one in rounds])
    return taken, np.array([[at[name] for name, _ in one] for one in rounds])


def typical_ms(taken_ms: np.ndarray, order: np.ndarray) -> np.ndarray:
    """The typical ms of each network, from what `in_order` returns.

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


def _settled(parts: Profile, ms: float) -> np.ndarray:
    """Times of parts that sum to the time of the whole, which knows nothing of a profiler: what they exceed it by is
    taken off each kernel, up to what noting one down can cost, and the rest is shared out."""
    if not parts:
        return np.zeros(0)
    taken, kernels = np.array(parts, dtype=float).T
    overhead = float(np.clip((taken.sum() - ms) / kernels.sum(), 0, MOST_KERNEL_OVERHEAD_MS))
    net = np.maximum(taken - overhead * kernels, 0.2 * taken)
    return np.asarray(net * (ms / net.sum()))
