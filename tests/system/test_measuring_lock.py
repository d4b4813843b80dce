"""The measuring lock: other processes are waited for, and where there are no locks, work goes on after one line."""

import errno
import fcntl
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from nas.system import measuring_lock as module
from nas.system.measuring_lock import LOCK_NAME, measuring_lock

pytestmark = pytest.mark.processes

HOLDER = """
import sys
from nas.system.measuring_lock import measuring_lock
with measuring_lock(60, print):
    print("holds", flush=True)
    sys.stdin.readline()
    print("lets go", flush=True)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A temporary folder, and so a lock, of the test's own; nothing has been reported yet."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(module, "_reported", set())
    return tmp_path


@pytest.fixture
def holder() -> Iterator[subprocess.Popen[str]]:
    """Another process, which holds the lock until it reads a line."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER], stdin=-1, stdout=-1, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "holds\n"
    yield process
    process.kill()
    process.communicate()


def readable_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock file belongs to another user."""
    opened = os.open

    def denied(path: str, flags: int, mode: int = 0o777) -> int:
        if str(path).endswith(LOCK_NAME) and flags & os.O_RDWR:
            raise PermissionError
        return opened(path, flags, mode)

    monkeypatch.setattr(os, "open", denied)


def is_free(folder: Path) -> bool:
    with (folder / LOCK_NAME).open("w") as file, suppress(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


@pytest.mark.parametrize("of_another_user", [False, True])
def test_another_process_is_waited_for(
    holder: subprocess.Popen[str], folder: Path, monkeypatch: pytest.MonkeyPatch, of_another_user: bool
) -> None:
    """The lock is taken only after the other process has released it, and whoever waits gets one line."""
    if of_another_user:
        readable_only(monkeypatch)
    said: list[str] = []

    def release(text: str) -> None:
        said.append(text)
        assert holder.stdin is not None
        holder.stdin.write("\n")
        holder.stdin.flush()

    with measuring_lock(60, release):
        assert holder.communicate()[0] == "lets go\n"
        assert not is_free(folder)
    assert is_free(folder)
    assert len(said) == 1
    assert "waiting" in said[0]


def test_patience_ends(holder: subprocess.Popen[str]) -> None:
    """A process that keeps the lock for too long is not waited for any longer, which is reported."""
    said: list[str] = []
    with measuring_lock(0.2, said.append):
        assert holder.poll() is None
    assert len(said) == 2
    assert "0.2 s" in said[1]


def no_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fcntl", None)


def no_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(handle: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)


def no_temporary_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/does/not/exist")


@pytest.mark.parametrize("break_locks", [no_module, no_locks, no_temporary_folder])
def test_without_locks_work_goes_on_at_once(
    break_locks: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No pause and no traceback; one line says so, once in a process."""
    break_locks(monkeypatch)
    monkeypatch.setattr(module.time, "sleep", lambda _: pytest.fail("waits"))
    said: list[str] = []
    for _ in range(2):
        with measuring_lock(60, said.append):
            pass
    assert len(said) == 1
    assert "not serialised" in said[0]
    assert "\n" not in said[0]


def test_an_error_releases_the_lock(folder: Path) -> None:
    """Also one raised by the measurement itself; it is passed on."""
    with pytest.raises(OSError, match="of the measurement"), measuring_lock(1, print):
        raise OSError("of the measurement")
    assert is_free(folder)
