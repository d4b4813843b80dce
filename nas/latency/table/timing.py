"""Times the networks of a latency table: all in turn, in several rounds.

A shared machine has bursts of a second or two in which everything takes a fifth longer, and drifts by a few percent
within minutes. So no network is timed in one go. All networks run in rounds, with the anchors between every few, and
the timings are corrected for background load (`nas.latency.table.load_correction`). Where in memory a network happens
to lie makes it a percent or two faster or slower, so each network is loaded again for each round, and so are the
anchors, unless loading takes long. A burst may still hit one network in two rounds of three, so those whose rounds
differ most are timed again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from time import perf_counter
from typing import TypeVar

import numpy as np

from nas.arch.arch import Arch
from nas.latency.anchor import AnchorRuns, Anchors, baseline_ms, baseline_state
from nas.latency.isolation import isolated
from nas.latency.runtimes.base import Prepared, Runtime
from nas.latency.sampling import SETTLING_RUNS, SETTLING_SECONDS
from nas.latency.table.cache import Checkpoint, Profile, Round, Visit
from nas.latency.table.columns import CLASSES
from nas.latency.table.load_correction import Visits
from nas.system.machine import host
from nas.system.progress import Step

T = TypeVar("T")

PROFILING = "latency table: profiling networks"
TIMING = "latency table: timing all networks in turn"
PREPARE_SHARE = 0.6  # of the budget
FEWEST = 16  # networks to fit to, however slow the machine is
ROUNDS = (3, 8)  # fewest, most
ROUND_S, ANCHOR_S = 0.01, 0.01  # per visit, after runs that do not count; more rounds are better than longer visits
ROUND_RUNS = 3
REVISITED_SHARE, REVISITS = 0.1, 3  # share of the networks that are timed again, and how often
LOADING_S = 0.1  # a network that takes longer to load stays loaded
BETWEEN = 8  # networks between two visits to the anchors
MOST_KERNEL_OVERHEAD_MS = 0.004  # the profiler's overhead per kernel: 3.7 µs by a line through 68 networks


@dataclass(frozen=True)
class Timed:
    """The timings of one network.

    Args:
        arch: the network.
        ms: its time, the median over the rounds.
        parts_ms: times of its parts, scaled to sum to `ms`; empty under a runtime without a profiler.
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
    progress: Step,
    checkpoint: Checkpoint,
) -> tuple[list[Timed], list[Timed]]:
    """Time all networks in about `budget_s` seconds, and profile those to fit to.

    On a slow machine there are fewer networks to fit to and fewer rounds, but always all held-out networks. Timings in
    `checkpoint`, from an interrupted call, are not repeated.
    """
    from nas.network.build import build

    before = [arch for arch in fitted if arch.key in checkpoint.timed]
    resumed = len(before) >= min(FEWEST, len(fitted)) and checkpoint.timed == {
        arch.key for arch in [*held_out, *before]
    }
    if resumed:  # continue with the same networks, however many could be prepared this time
        fitted = before
    archs = [*held_out, *fitted]
    ready: list[AbstractContextManager[Prepared]] = []
    profiles: list[Profile] = []
    with ExitStack() as stack:
        stack.enter_context(isolated(threads))
        begin = perf_counter()  # after waiting for other measurements to end
        anchors = _to_visit(stack, Anchors(runtime, threads))
        for arch in archs:
            late = perf_counter() - begin > PREPARE_SHARE * budget_s
            if late and not resumed and len(ready) >= len(held_out) + FEWEST:
                break
            progress(len(ready), len(archs), PROFILING)
            load = runtime.prepare(build(arch, CLASSES), arch.resolution, 1, threads)
            profile: Profile = []
            ready.append(_to_visit(stack, load))
            if len(profiles) >= len(held_out):
                profile = checkpoint.profile(arch.key) or _profile(ready[-1])
                checkpoint.add_profile(arch.key, profile)
            profiles.append(profile)
        progress(len(archs), len(archs), PROFILING)
        loads = {arch.key: load for arch, load in zip(archs, ready, strict=False)}
        seen = Visits.of(visits(loads, anchors, *ROUNDS, begin + budget_s, progress, checkpoint))
    here = (host(), runtime.name, runtime.version(), threads)
    state = baseline_state(seen.state, *here) if seen.has_far else 1.0
    typical_ms = seen.at_baseline(baseline_ms(seen.anchor_ms, *here), state)
    timed = []
    for arch, parts in zip(archs, profiles, strict=False):
        ms = typical_ms[arch.key]
        timed.append(Timed(arch, ms, _rescaled(parts, ms)))
    return timed[: len(held_out)], timed[len(held_out) :]


def _to_visit(stack: ExitStack, load: AbstractContextManager[T]) -> AbstractContextManager[T]:
    """The context to enter for each visit: `load` itself, or, if loading takes long, one that stays loaded."""
    with ExitStack() as once:
        begin = perf_counter()
        loaded = once.enter_context(load)
        if perf_counter() - begin <= LOADING_S:
            return load
        stack.push(once.pop_all())
        return nullcontext(loaded)


def _profile(load: AbstractContextManager[Prepared]) -> Profile:
    with load as prepared:
        return prepared.profile()


def visits(
    loads: dict[str, AbstractContextManager[Prepared]],
    anchors: AbstractContextManager[AnchorRuns],
    fewest: int,
    most: int,
    end: float,
    progress: Step,
    checkpoint: Checkpoint,
) -> list[Round]:
    """Run all networks in rounds, with the anchors between every few; then the `most_variable` ones in short rounds.

    Each round has its own order, so that a regular disturbance does not always hit the same networks.

    Args:
        loads: the networks by name, each entered once a round.
        anchors: the anchors, entered after every few networks.
        fewest: minimum number of rounds.
        most: maximum number of rounds, including those in `checkpoint` of the same networks.
        end: moment of `perf_counter` at which to stop, once the minimum is done.
        progress: called before each round.
        checkpoint: stores each round.
    """
    rounds = [one for one in checkpoint.rounds if {visit.name for visit in one} == set(loads)]
    rng = np.random.default_rng(len(rounds))
    names = list(loads)
    spent = 0.0
    while len(rounds) < most:
        start = perf_counter()
        if len(rounds) >= fewest and start + (1 + REVISITED_SHARE * REVISITS) * spent > end:
            break
        progress(len(rounds), most, TIMING)
        rounds.append(_round([(names[at], loads[names[at]]) for at in rng.permutation(len(names))], anchors))
        checkpoint.add_round(rounds[-1])
        spent = perf_counter() - start
    names = most_variable(rounds)
    short = [[(names[at], loads[names[at]]) for at in rng.permutation(len(names))] for _ in range(REVISITS)]
    rounds += [_round(order, anchors) for order in short]
    progress(most, most, TIMING)
    return rounds


def most_variable(rounds: Sequence[Round]) -> list[str]:
    """The tenth of the networks whose median lies farthest above their quickest visit, both relative to the anchor.

    In the few rounds of a noisy hour, two networks of 32 came out a quarter too slow.
    """
    relative: dict[str, list[float]] = {}
    for visit in (visit for one in rounds for visit in one):
        relative.setdefault(visit.name, []).append(visit.ms / visit.near_ms)
    above = {name: float(np.median(values)) / min(values) for name, values in relative.items()}
    return sorted(above, key=above.__getitem__, reverse=True)[: math.ceil(REVISITED_SHARE * len(above))]


def _round(
    order: Sequence[tuple[str, AbstractContextManager[Prepared]]], anchors: AbstractContextManager[AnchorRuns]
) -> Round:
    def loaded(load: AbstractContextManager[Prepared]) -> float:
        with load as run:
            return _visit(run, ROUND_S)

    def anchor_ms() -> tuple[float, float | None]:
        with anchors as both:
            return _visit(both.near, ANCHOR_S), _visit(both.far, ANCHOR_S) if both.far else None

    timed: Round = []
    before = anchor_ms()
    for at in range(0, len(order), BETWEEN):
        taken = [(name, loaded(load)) for name, load in order[at : at + BETWEEN]]
        after = anchor_ms()
        near = (before[0] + after[0]) / 2
        far = None if before[1] is None or after[1] is None else (before[1] + after[1]) / 2
        timed += [Visit(name, ms, near, far) for name, ms in taken]
        before = after
    return timed


def _visit(run: Prepared, seconds: float) -> float:
    """Median milliseconds of a few runs, after runs that only fill the caches."""
    begin = now = perf_counter()
    lead = 0
    while lead < SETTLING_RUNS or now - begin < SETTLING_SECONDS:
        run()
        lead, now = lead + 1, perf_counter()
    taken: list[float] = []
    begin = now
    while len(taken) < ROUND_RUNS or now - begin < seconds:
        start = now
        run()
        now = perf_counter()
        taken.append(now - start)
    return float(np.median(taken)) * 1e3


def _rescaled(parts: Profile, ms: float) -> np.ndarray:
    """Times of parts, scaled to sum to `ms`, the time of the whole network without the profiler.

    The excess is first subtracted per kernel, up to the largest plausible overhead of the profiler; the rest is divided
    in proportion.
    """
    if not parts:
        return np.zeros(0)
    taken, kernels = np.array(parts, dtype=float).T
    overhead = float(np.clip((taken.sum() - ms) / kernels.sum(), 0, MOST_KERNEL_OVERHEAD_MS))
    net = np.maximum(taken - overhead * kernels, 0.2 * taken)
    return np.asarray(net * (ms / net.sum()))
