"""How the networks of a latency table are timed: all in turn, several times over.

A shared machine has bursts of a second or two in which everything takes a fifth longer, and drifts by a few percent
within minutes. So no network is timed in one go: all are run in rounds, with the anchors between every few, and what
the anchors suffered is taken out (`nas.latency.table.load_correction`). Where in memory a network happens to lie
makes it a percent or two faster or slower: each is loaded anew for each round, and so are the anchors, unless loading
takes long.
A burst may still meet one network in two rounds of three: those whose rounds differ most are visited again.
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

TIMING = "latency table: timing all in turn"
PREPARE_SHARE = 0.6  # of the budget
FEWEST = 16  # networks to fit to, however slow the machine
ROUNDS = (3, 8)  # fewest, most
ROUND_S, ANCHOR_S = 0.01, 0.01  # per visit, after runs that do not count; more rounds tell more than longer visits
ROUND_RUNS = 3
REVISITED_SHARE, REVISITS = 0.1, 3  # share of the networks that are visited so often more
LOADING_S = 0.1  # what takes longer to load stays loaded
BETWEEN = 8  # networks from one visit to the anchors to the next
MOST_KERNEL_OVERHEAD_MS = 0.004  # of a profiler noting one down: 3.7 µs by a line through 68 networks


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
    progress: Step,
    checkpoint: Checkpoint,
) -> tuple[list[Timed], list[Timed]]:
    """Time them all within about `budget_s`: fewer to fit to, and fewer rounds, on a slow machine; the held-out all.

    What `checkpoint` holds of an interrupted call is not timed again.
    """
    from nas.network.build import build

    before = [arch for arch in fitted if arch.key in checkpoint.timed]
    resumed = len(before) >= min(FEWEST, len(fitted)) and checkpoint.timed == {
        arch.key for arch in [*held_out, *before]
    }
    if resumed:  # go on with those that were timed, however quickly they are made ready this time
        fitted = before
    archs = [*held_out, *fitted]
    ready: list[AbstractContextManager[Prepared]] = []
    profiles: list[Profile] = []
    with ExitStack() as stack:
        stack.enter_context(isolated(threads))
        begin = perf_counter()  # another measurement may have had to end first
        anchors = _to_visit(stack, Anchors(runtime, threads))
        for arch in archs:
            late = perf_counter() - begin > PREPARE_SHARE * budget_s
            if late and not resumed and len(ready) >= len(held_out) + FEWEST:
                break
            progress(len(ready), len(archs), "latency table: profiling networks")
            load = runtime.prepare(build(arch, CLASSES), arch.resolution, 1, threads)
            profile: Profile = []
            ready.append(_to_visit(stack, load))
            if len(profiles) >= len(held_out):
                profile = checkpoint.profile(arch.key) or _profile(ready[-1])
                checkpoint.add_profile(arch.key, profile)
            profiles.append(profile)
        progress(len(archs), len(archs), "latency table: profiling networks")
        loads = {arch.key: load for arch, load in zip(archs, ready, strict=False)}
        seen = Visits.of(visits(loads, anchors, *ROUNDS, begin + budget_s, progress, checkpoint))
    here = (host(), runtime.name, runtime.version(), threads)
    state = baseline_state(seen.state, *here) if seen.has_far else 1.0
    found = seen.at_baseline(baseline_ms(seen.anchor_ms, *here), state)
    timed = []
    for arch, parts in zip(archs, profiles, strict=False):
        ms = found[arch.key]
        timed.append(Timed(arch, ms, _rescaled(parts, ms)))
    return timed[: len(held_out)], timed[len(held_out) :]


def _to_visit(stack: ExitStack, load: AbstractContextManager[T]) -> AbstractContextManager[T]:
    """What to enter for each visit: `load` itself, or, where loading takes long, what it gave, which stays loaded."""
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
    """Run all networks in rounds, each in an order of its own lest a regular disturbance meet the same ones, and the
    anchors between every few; then the `most_variable` ones in a few short rounds more.

    Args:
        loads: the networks by name, each entered once a round.
        anchors: entered after every few networks.
        fewest: rounds at least.
        most: rounds at most, those that `checkpoint` holds of the same networks included.
        end: moment of `perf_counter` by which to end, if the fewest are done.
        progress: told after each round.
        checkpoint: gets each round.
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
    """A tenth of the networks, those whose median lies the farthest above their quickest visit, each held against the
    anchor around then: in the few rounds of a noisy hour, two networks of 32 came out a quarter too slow."""
    held: dict[str, list[float]] = {}
    for visit in (visit for one in rounds for visit in one):
        held.setdefault(visit.name, []).append(visit.ms / visit.near_ms)
    above = {name: float(np.median(values)) / min(values) for name, values in held.items()}
    return sorted(above, key=above.__getitem__, reverse=True)[: math.ceil(REVISITED_SHARE * len(above))]


def _round(
    order: Sequence[tuple[str, AbstractContextManager[Prepared]]], anchors: AbstractContextManager[AnchorRuns]
) -> Round:
    def loaded(load: AbstractContextManager[Prepared]) -> float:
        with load as run:
            return _visit(run, ROUND_S)

    def held() -> tuple[float, float | None]:
        with anchors as one:
            return _visit(one.near, ANCHOR_S), _visit(one.far, ANCHOR_S) if one.far else None

    found: Round = []
    before = held()
    for at in range(0, len(order), BETWEEN):
        taken = [(name, loaded(load)) for name, load in order[at : at + BETWEEN]]
        after = held()
        near = (before[0] + after[0]) / 2
        far = None if before[1] is None or after[1] is None else (before[1] + after[1]) / 2
        found += [Visit(name, ms, near, far) for name, ms in taken]
        before = after
    return found


def _visit(run: Prepared, seconds: float) -> float:
    """Median ms of a few runs, after those that find the caches full of another's."""
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
    """Times of parts that sum to the time of the whole, which knows nothing of a profiler: what they exceed it by is
    taken off each kernel, up to what noting one down can cost, and the rest is shared out."""
    if not parts:
        return np.zeros(0)
    taken, kernels = np.array(parts, dtype=float).T
    overhead = float(np.clip((taken.sum() - ms) / kernels.sum(), 0, MOST_KERNEL_OVERHEAD_MS))
    net = np.maximum(taken - overhead * kernels, 0.2 * taken)
    return np.asarray(net * (ms / net.sum()))
