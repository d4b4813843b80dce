"""The process that runs an agent's models, seen from the agent: it gets tasks, is watched, ended and restarted."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nas.latency.remote.bounds import TOKEN_VARIABLE

START_S = 120.0  # for Python, numpy and ONNX Runtime to load on a slow card
POLL_S = 0.25  # between two checks whether the client is still waiting
MAX_TASKS = 32  # of one process; a new one starts with fresh memory
LARGE_MODEL = 64 << 20  # bytes; a new process is started after one
MAX_LINE = 64 << 20


class AgentError(RuntimeError):
    """The agent cannot work; one line says why."""


class TaskTimeout(RuntimeError):
    """The task took too long; its process was ended."""


class ClientDisconnected(RuntimeError):
    """The client no longer waits for its answer."""


class Worker:
    """Runs `nas.latency.remote.worker` in a separate process. Only one thread may use it at a time.

    Args:
        folder: its working directory; nothing in it is imported.
        log: called with one line if a measurement has to wait for another one, or runs beside it.

    Raises:
        AgentError: it does not start.
    """

    def __init__(self, folder: Path, log: Callable[[str], None]) -> None:
        self._folder, self._log = folder, log
        self._process: subprocess.Popen[bytes] | None = None
        self._lines: queue.Queue[bytes] = queue.Queue()
        self._tasks = 0
        self._started = False
        self._start()
        self.versions: dict[str, str] = self._greeting()

    def run(self, task: dict[str, Any], limit_s: float, is_disconnected: Callable[[], bool]) -> dict[str, Any]:
        """The answer of the process to a task.

        Args:
            task: as `nas.latency.remote.worker` reads it.
            limit_s: how long it may take, in seconds.
            is_disconnected: whether the client has hung up.

        Raises:
            AgentError: the process crashed during this task.
            TaskTimeout: the task took longer than `limit_s`; the process was ended.
            ClientDisconnected: the client hung up; the process was ended.
        """
        if self._process is None or self._process.poll() is not None:
            self._start()
        if not self._started:
            self._greeting()
        self._tasks += 1
        process = self._process
        assert process is not None and process.stdin is not None  # noqa: PT018
        try:
            process.stdin.write(json.dumps(task).encode() + b"\n")
            process.stdin.flush()
            answer = self._answer(limit_s, is_disconnected)
        except OSError:
            self.stop()
            raise AgentError("the measuring process ended before it began; try again") from None
        except BaseException:
            self.stop()
            raise
        if self._tasks >= MAX_TASKS or os.path.getsize(task["model"]) > LARGE_MODEL:
            self.stop()
            self._start()
        return answer

    def stop(self) -> None:
        """End the process at once."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                try:
                    if pipe is not None and pipe is not process.stdout:
                        pipe.close()
                except OSError:
                    pass  # nobody reads what was written last

    def _start(self) -> None:
        self.stop()
        self._process = subprocess.Popen(
            _command(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=self._folder,
            env=_environment(),
            start_new_session=True,  # Ctrl-C reaches the agent only, which ends this process
        )
        self._lines, self._tasks, self._started = queue.Queue(), 0, False
        threading.Thread(target=_read, args=(self._process.stdout, self._lines), daemon=True).start()

    def _greeting(self) -> dict[str, str]:
        try:
            greeting = self._next(START_S, lambda: False)
        except TaskTimeout:
            self.stop()
            raise AgentError(f"the measuring process did not start within {START_S:g} s; try again") from None
        if "failed" in greeting:
            raise AgentError(str(greeting["failed"]))
        self._started = True
        return dict(greeting["versions"])

    def _answer(self, limit_s: float, is_disconnected: Callable[[], bool]) -> dict[str, Any]:
        """The next message that is not a note; notes are logged."""
        deadline = time.monotonic() + limit_s
        while "note" in (message := self._next(deadline - time.monotonic(), is_disconnected)):
            self._log(str(message["note"]))
        return message

    def _next(self, limit_s: float, is_disconnected: Callable[[], bool]) -> dict[str, Any]:
        """The next message of the process."""
        deadline = time.monotonic() + limit_s
        while True:
            try:
                line = self._lines.get(timeout=POLL_S)
                break
            except queue.Empty:
                if is_disconnected():
                    raise ClientDisconnected("the client hung up") from None
                if time.monotonic() > deadline:
                    raise TaskTimeout from None
        if not line.endswith(b"\n"):
            raise AgentError("the measuring process crashed on this model, or ran out of memory; send a smaller model")
        message = json.loads(line)
        return message if isinstance(message, dict) else {}


def _read(pipe: Any, lines: queue.Queue[bytes]) -> None:
    """Pass on the lines of a process, and an empty or unfinished one when it ends."""
    with pipe:
        while True:
            line = pipe.readline(MAX_LINE)
            lines.put(line)
            if not line.endswith(b"\n"):
                return


def _command() -> list[str]:
    """Runs this file again, or the module if this is part of a package."""
    if __package__:
        return [sys.executable, "-c", "from nas.latency.remote.worker import work; work()"]
    isolated = ["-I"] if sys.flags.isolated else []
    return [sys.executable, *isolated, os.path.abspath(__file__), "--worker"]


def _environment() -> dict[str, str]:
    """The environment of this process without the token; the package is found from another working directory."""
    environment = {name: value for name, value in os.environ.items() if name != TOKEN_VARIABLE}
    if __package__:
        folders = [str(Path(__file__).resolve().parents[3]), environment.get("PYTHONPATH", "")]
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, folders))
    return environment
