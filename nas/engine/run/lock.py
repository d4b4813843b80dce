"""One process per run folder. The kernel holds the lock, so ``kill -9`` frees it."""

from __future__ import annotations

from pathlib import Path
from typing import IO

from nas.system.errors import RunBusyError

NAME = "nas.lock"


def acquire(folder: Path) -> IO[str]:
    """Lock `folder` for this process until the returned file is closed.

    Raises:
        RunBusyError: another process holds it; the text names its id.
        OSError: the folder cannot be written to.
    """
    import fcntl
    import os

    file = open(folder / NAME, "a+", encoding="ascii")  # noqa: SIM115 - closed by the caller; that frees the lock
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        owner = file.read(20).strip() or "unknown"
        file.close()
        raise RunBusyError(
            f"run folder {folder} is in use by process {owner}; wait for it to end, or stop it first"
        ) from None
    file.truncate(0)
    file.write(f"{os.getpid()}\n")
    file.flush()
    return file
