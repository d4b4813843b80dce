"""One process per run folder. The kernel holds the lock, so ``kill -9`` frees it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO

from nas.system.errors import InputError, RunBusyError

NAME = "nas.lock"


def acquire(folder: Path) -> IO[str]:
    """Lock `folder` for this process until the returned file is closed.

    Raises:
        RunBusyError: another process holds the lock; the text names its id.
        InputError: this system or the folder's file system has no file locks.
        OSError: the folder cannot be written to.
    """
    try:
        import fcntl
    except ImportError:
        raise InputError("run folders need the file locks of Linux or macOS; on Windows, use WSL") from None
    path = folder / NAME
    while True:
        file = open(path, "a+", encoding="ascii")  # noqa: SIM115 - the caller closes it, which frees the lock
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            owner = file.read(20).strip() or "unknown"
            file.close()
            raise RunBusyError(
                f"run folder {folder} is in use by process {owner}; wait for it to end, or stop it first"
            ) from None
        except OSError as error:
            file.close()
            raise InputError(
                f"the file system of {folder} has no file locks ({error.strerror}); choose a folder on a local disk"
            ) from None
        if _is_still(path, file):
            break
        file.close()  # its owner discarded the run between our open and our lock: what we locked has no name any more
    file.truncate(0)
    file.write(f"{os.getpid()}\n")
    file.flush()
    return file


def _is_still(path: Path, file: IO[str]) -> bool:
    """Whether the open file is the one that has this name now."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False
