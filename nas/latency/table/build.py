"""Builds the latency table of a space on this host: draws networks, times them, fits, tests and caches the table."""

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
from nas.system.progress import Step, no_step

MODEL = 9  # version of the fit: when it changes, cached tables are built again
BUDGET_S = 55.0


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

    Under a runtime without a profiler, the table is fitted to whole networks alone, starting from a bundled model.

    Args:
        space: any space; a small one has fewer networks to hold out.
        runtime: as for `nas.latency.measure.measure`.
        threads: number of threads, as there.
        seed: random seed of the networks.
        progress: called as ``progress(done, total, text)``.
        budget_s: seconds for measuring; the required minimum may take longer on a slow machine.
        checkpoint: file for the timings, so that the next call with the same arguments resumes an interrupted one.

    Raises:
        InputError: the runtime is unknown, or `threads` is out of bounds.
        NasError: the timings cannot be fitted.
    """
    runner = runtime_of(runtime)
    check_load(threads, 1)
    held_out, fitted = draw_sets(space, seed)
    partial = Checkpoint(checkpoint)
    tested, timed = time_networks(held_out, fitted, runner, threads, budget_s, progress or no_step, partial)
    here: dict[str, Any] = {
        "runtime": runtime,
        "threads": threads,
        "space_key": space.key,
        "versions": _versions(runtime),
    }
    if not all(len(one.parts_ms) for one in timed):
        tested_ms, timed_ms = ([Measured(one.arch, one.ms) for one in group] for group in (tested, timed))
        return replace(from_networks(tested_ms, timed_ms, host(), seed=seed), **here)
    archs = [one.arch for one in timed]
    columns = Columns.seen_in(archs, STEPPED)
    nets_ms = np.array([one.ms for one in timed])
    coefficients, residuals = fit(columns, archs, [one.parts_ms for one in timed], nets_ms)
    predicted = Predictor(columns, coefficients, residuals).many(held_out)
    if not np.all(predicted > 0):
        partial.discard()
        raise NasError("the latency table predicts networks that take no time; run nas profile --refresh")
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
    versions = {name: runtime_of(name).version() for name in {"torch", runtime}}
    return dict(sorted(versions.items())) | {"python": platform.python_version()}


def cached_table(
    space: Space,
    runtime: str = "onnxruntime",
    threads: int = 1,
    seed: int = 0,
    progress: Step | None = None,
    refresh: bool = False,
) -> LatencyTable:
    """The table of `space` on this host from the cache, or a new one from `build_table`, which is then cached.

    A table is valid for one space, device, runtime, number of threads and set of library versions. With `refresh` it is
    built again. If the call is interrupted, the next one resumes it.
    """
    runtime_of(runtime)
    check_load(threads, 1)
    versions = _versions(runtime)
    identity = json.dumps([space.key, host(), runtime, threads, sorted(versions.items()), SCHEMA, MODEL])
    path = cached_path(hashlib.blake2b(identity.encode(), digest_size=12).hexdigest())
    if table := _load_cached(path, refresh):
        return table
    if path is not None:
        with isolated(threads):  # another process may be building the same table now
            pass
    if table := _load_cached(path, refresh):
        return table
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
        return None  # a damaged file is replaced
