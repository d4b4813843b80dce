"""From a space to its latency table on this host: networks drawn, timed, fitted to, tested on, and kept."""

from __future__ import annotations

import hashlib
import json
import platform
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from nas.arch.space import Space
from nas.latency.held_out import HeldOut
from nas.latency.isolation import isolated
from nas.latency.measure import check_load
from nas.latency.runtimes.base import runtime_of
from nas.latency.table.cache import Checkpoint, cached_path, drop_stale, store
from nas.latency.table.calibrate import from_networks
from nas.latency.table.columns import STEPPED, Columns
from nas.latency.table.fit import fit
from nas.latency.table.measurements import Measured
from nas.latency.table.predict import Predictor
from nas.latency.table.sample_networks import draw_sets
from nas.latency.table.table import SCHEMA, LatencyTable
from nas.latency.table.timing import time_networks
from nas.system.errors import InputError, NasError
from nas.system.machine import host
from nas.system.progress import Step

MODEL = 9  # raised when a table says something else of the same timings: those kept before are built anew
BUDGET_S = 55.0


def _silent(done: int, total: int, text: str) -> None:
    pass


def build_table(
    space: Space,
    runtime: str = "onnxruntime",
    threads: int = 1,
    seed: int = 0,
    progress: Step | None = None,
    budget_s: float = BUDGET_S,
    checkpoint: Path | None = None,
) -> LatencyTable:
    """Measure networks of `space` on this host and fit a table to them, in about `budget_s` seconds.

    Under a runtime that cannot tell how long the parts of a network take, it is fitted to whole networks alone, from a
    bundled model on.

    Args:
        space: any; a small one has fewer networks to hold out.
        runtime: as `nas.latency.measure.measure`.
        threads: as there.
        seed: of the networks drawn.
        progress: called as ``progress(done, total, text)``.
        budget_s: for measuring; the least that can be done may take longer on a slow machine.
        checkpoint: file for the timings, so that the next call with the same arguments resumes an interrupted one.

    Raises:
        InputError: unknown runtime, or `threads` out of bounds.
    """
    runner = runtime_of(runtime)
    check_load(threads, 1)
    held_out, fitted = draw_sets(space, seed)
    partial = Checkpoint(checkpoint)
    tested, timed = time_networks(held_out, fitted, runner, threads, budget_s, progress or _silent, partial)
    here: dict[str, Any] = {
        "runtime": runtime,
        "threads": threads,
        "space_key": space.key,
        "versions": _versions(runtime),
    }
    if not all(len(one.parts_ms) for one in timed):
        apart, others = ([Measured(one.arch, one.ms) for one in some] for some in (tested, timed))
        return replace(from_networks(apart, others, host(), seed=seed), **here)
    archs = [one.arch for one in timed]
    columns = Columns.seen_in(archs, STEPPED)
    nets_ms = np.array([one.ms for one in timed])
    coefficients, residuals = fit(columns, archs, [one.parts_ms for one in timed], nets_ms)
    predicted = Predictor(columns, coefficients, residuals).many(held_out)
    if not np.all(predicted > 0):
        partial.discard()
        raise NasError("the latency table came out empty: the timings say that networks take no time; try again")
    return LatencyTable(
        device=host(),
        **here,
        groups=columns.groups,
        columns=columns.names,
        coefficients=tuple(coefficients.tolist()),
        error=HeldOut(tuple(predicted.tolist()), tuple(one.ms for one in tested)),
        fitted=len(timed),
        residuals=residuals,
        stepped=STEPPED,
    )


def _versions(runtime: str) -> dict[str, str]:
    found = {name: runtime_of(name).version() for name in {"torch", runtime}}
    return dict(sorted(found.items())) | {"python": platform.python_version()}


def cached_table(
    space: Space,
    runtime: str = "onnxruntime",
    threads: int = 1,
    seed: int = 0,
    progress: Step | None = None,
    refresh: bool = False,
) -> LatencyTable:
    """The table of `space` on this host from the cache, else by `build_table`, kept for the next time.

    It is built anew for another space, device, runtime, number of threads or version of a library, and on `refresh`.
    Interrupted, it goes on next time.
    """
    runtime_of(runtime)
    check_load(threads, 1)
    versions = _versions(runtime)
    identity = json.dumps([space.key, host(), runtime, threads, sorted(versions.items()), SCHEMA, MODEL])
    path = cached_path(hashlib.blake2b(identity.encode(), digest_size=12).hexdigest())
    if found := _load_cached(path, refresh):
        return found
    if path is not None:
        with isolated(threads):  # who measures now may be building this very table
            pass
    if found := _load_cached(path, refresh):
        return found
    part = path.with_suffix(f".{seed}.part.json") if path else None
    if refresh:
        drop_stale(part)
    table = build_table(space, runtime, threads, seed, progress, BUDGET_S, part)
    store(table, path, part)
    return table


def _load_cached(path: Path | None, refresh: bool) -> LatencyTable | None:
    if path is None or refresh or not path.exists():
        return None
    try:
        return LatencyTable.load(path)
    except InputError:
        return None  # damaged; made again
