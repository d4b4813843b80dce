"""One measurement at a time on a machine, on the cores that are the least busy."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from nas.system.machine import host
from nas.system.measuring_lock import measuring_lock

Say = Callable[[str], None]

LOAD_S = 0.1  # how long the load of the cores is observed
PATIENCE_S = 300.0


def _print(text: str) -> None:
    print(f"nas: {text}", file=sys.stderr, flush=True)


@contextmanager
def isolated(threads: int, say: Say = _print) -> Iterator[None]:
    """Within the context, no other process on this machine measures, and this thread stays on `threads` cores.

    Threads started within inherit the cores. Where the system cannot pin a process to cores (macOS) or lock files
    (Windows), that part is skipped; the anchor of `nas.latency.sampling` still shows what other processes do.

    Args:
        threads: number of cores to stay on.
        say: called with one line if another measurement has to end first (it is waited for, up to `PATIENCE_S`), or
            if this system has no locks.
    """
    host()  # is cached: count the usable cores before this process is restricted to fewer
    with measuring_lock(PATIENCE_S, say), _pinned(threads):
        yield


@contextmanager
def _pinned(threads: int) -> Iterator[None]:
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, least_busy(before, threads))
        yield
    finally:
        os.sched_setaffinity(0, before)


def least_busy(cores: set[int], count: int) -> set[int]:
    """The `count` cores among `cores` with the lowest load in the last `LOAD_S` seconds."""
    import psutil

    if count >= len(cores):
        return cores
    busy = psutil.cpu_percent(interval=LOAD_S, percpu=True)
    load = {core: busy[core] if core < len(busy) else 0.0 for core in cores}
    return set(sorted(cores, key=lambda core: (load[core], core))[:count])
