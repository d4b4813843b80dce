"""One measurement at a time on a machine, on the cores that are the least busy."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from time import monotonic

from nas.system.machine import host

Say = Callable[[str], None]

LOCK = "nas-measuring.lock"
LOOK_S = 0.1
PATIENCE_S = 300.0


def _aloud(text: str) -> None:
    print(f"nas: {text}", file=sys.stderr, flush=True)


@contextmanager
def isolated(threads: int, say: Say = _aloud) -> Iterator[None]:
    """Within the context no other process of this machine measures, and this thread stays on `threads` cores.

    Threads started within inherit the cores. Where the system cannot pin (macOS) or lock (Windows), that part is left
    out; the anchor of `nas.latency.sampling` still shows what others do.

    Args:
        threads: cores to keep.
        say: is told if another measurement has to end first; it is waited for, up to `PATIENCE_S`.
    """
    host()  # names the machine by its cores, and is remembered: look before fewer are to be seen
    with _alone(say), _pinned(threads):
        yield


@contextmanager
def _alone(say: Say) -> Iterator[None]:
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    # The temporary folder is the machine's: caches are per user. No link is followed there.
    path = Path(tempfile.gettempdir()) / LOCK
    try:
        handle = _opened(path)
    except OSError:  # a lock is a courtesy, not a need
        yield
        return
    try:
        begin, told = monotonic(), False
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not told:
                    say("another measurement is running on this machine; waiting for it to end")
                    told = True
                if monotonic() - begin > PATIENCE_S:
                    say(f"it has not ended in {PATIENCE_S:g} s; measuring beside it")
                    break
                Event().wait(LOOK_S)
            except OSError:  # a file system without locks
                break
        yield
    finally:
        os.close(handle)  # which also frees the lock


def _opened(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    except PermissionError:  # another user made it: to lock it, reading is enough
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW)


@contextmanager
def _pinned(threads: int) -> Iterator[None]:
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, calmest(before, threads))
        yield
    finally:
        os.sched_setaffinity(0, before)


def calmest(cores: set[int], count: int) -> set[int]:
    """The `count` cores among `cores` that have done the least in the last moment."""
    import psutil

    if count >= len(cores):
        return cores
    busy = psutil.cpu_percent(interval=LOOK_S, percpu=True)
    load = {core: busy[core] if core < len(busy) else 0.0 for core in cores}
    return set(sorted(cores, key=lambda core: (load[core], core))[:count])
