"""One measurement at a time on a machine. Needs only the standard library; agents carry a copy."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LOCK_NAME = "nas-measuring.lock"
LOCK_RETRY_S = 0.1

_reported: set[str] = set()


@contextmanager
def measuring_lock(patience_s: float, say: Callable[[str], None]) -> Iterator[None]:
    """Within the context, no other process on this machine measures.

    The lock is a courtesy, not a need: where it cannot be taken, the measurement runs without it.

    Args:
        patience_s: how long to wait for another measurement to end.
        say: called with one line if another measurement has to end first, if it does not end in time, and, once in a
            process, if this system has no locks.
    """
    handle = None
    try:
        try:
            handle = _acquire_lock(patience_s, say)
        except ImportError:  # Windows
            _say_once("this system has no POSIX file locks, so measurements are not serialised; run one at a time", say)
        except OSError as error:  # no temporary folder, or a file system without locks
            reason = error.strerror or error
            _say_once(f"no lock on {LOCK_NAME} ({reason}), so measurements are not serialised; run one at a time", say)
        yield
    finally:
        if handle is not None:
            os.close(handle)  # which also releases the lock


def _acquire_lock(patience_s: float, say: Callable[[str], None]) -> int:
    """An open handle of the lock file, locked unless another process keeps the lock for longer than `patience_s`."""
    import fcntl

    # The temporary folder belongs to the machine, while caches belong to one user.
    handle = _open_lock(os.path.join(tempfile.gettempdir(), LOCK_NAME))
    try:
        deadline, waiting = time.monotonic() + patience_s, False
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return handle
            except BlockingIOError:
                pass
            if not waiting:
                say("another measurement is running on this machine; waiting for it to end")
                waiting = True
            if time.monotonic() >= deadline:
                say(f"it has not ended in {patience_s:g} s; measuring at the same time")
                return handle
            time.sleep(LOCK_RETRY_S)
    except BaseException:
        os.close(handle)
        raise


def _open_lock(path: str) -> int:
    """Open the lock file. Links are not followed: anyone may put one into the temporary folder."""
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    except PermissionError:  # made by another user: read access is enough to lock it
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW)


def _say_once(text: str, say: Callable[[str], None]) -> None:
    if text not in _reported:
        _reported.add(text)
        say(text)
