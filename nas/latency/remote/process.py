"""An agent's hold on the process that runs its models: asked, watched, ended and begun again."""

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

START_S = 120.0  # for Python, numpy and ONNX Runtime to load on a slow card
LOOK_S = 0.25  # between two looks at whether anybody still waits
TASKS = 32  # then it begins anew, and memory with it
LARGE = 64 << 20  # or after a model of this many bytes
MAX_LINE = 64 << 20


class Broken(RuntimeError):
    """The process ended on its own, or does not start."""


class TooLong(RuntimeError):
    """The task took more than its time; the process was ended."""


class Gone(RuntimeError):
    """Nobody waits for the answer any more; the process was ended."""


class Worker:
    """Runs `nas.latency.remote.worker` in a process of its own. One thread uses it at a time.

    Args:
        folder: its working directory; nothing in it is imported.
        log: called with one line if a measurement cannot be alone on the machine at once.

    Raises:
        Broken: it does not start; one line says why.
    """

    def __init__(self, folder: Path, log: Callable[[str], None]) -> None:
        self._folder, self._log = folder, log
        self._process: subprocess.Popen[bytes] | None = None
        self._lines: queue.Queue[bytes] = queue.Queue()
        self._tasks = 0
        self._started = False
        self._start()
        self.versions: dict[str, str] = self._greeting()

    def ask(self, task: dict[str, Any], limit_s: float, gone: Callable[[], bool]) -> dict[str, Any]:
        """The process's answer to a task.

        Raises:
            Broken: it crashed over this task.
            TooLong: after `limit_s` it was ended.
            Gone: `gone` said so, and it was ended.
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
            answer = self._answer(limit_s, gone)
        except OSError:
            self.stop()
            raise Broken("the measuring process ended before it began; try again") from None
        except BaseException:
            self.stop()
            raise
        if self._tasks >= TASKS or os.path.getsize(task["model"]) > LARGE:
            self.stop()
            self._start()
        return answer

    def stop(self) -> None:
        """End it at once."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                try:
                    if pipe is not None and pipe is not process.stdout:
                        pipe.close()
                except OSError:
                    pass  # what was written last has no reader any more

    def _start(self) -> None:
        self.stop()
        self._process = subprocess.Popen(
            _command(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=self._folder,
            env=_environment(),
            start_new_session=True,  # Ctrl-C is for the agent, which ends this one
        )
        self._lines, self._tasks, self._started = queue.Queue(), 0, False
        threading.Thread(target=_read, args=(self._process.stdout, self._lines), daemon=True).start()

    def _greeting(self) -> dict[str, str]:
        try:
            told = self._next(START_S, lambda: False)
        except TooLong:
            self.stop()
            raise Broken(f"the measuring process did not start within {START_S:g} s") from None
        if "failed" in told:
            raise Broken(str(told["failed"]))
        self._started = True
        return dict(told["versions"])

    def _answer(self, limit_s: float, gone: Callable[[], bool]) -> dict[str, Any]:
        """The next message that is not a note; notes are logged."""
        deadline = time.monotonic() + limit_s
        while "note" in (message := self._next(deadline - time.monotonic(), gone)):
            self._log(str(message["note"]))
        return message

    def _next(self, limit_s: float, gone: Callable[[], bool]) -> dict[str, Any]:
        end = time.monotonic() + limit_s
        while True:
            try:
                line = self._lines.get(timeout=LOOK_S)
                break
            except queue.Empty:
                if gone():
                    raise Gone("the client hung up") from None
                if time.monotonic() > end:
                    raise TooLong from None
        if not line.endswith(b"\n"):
            raise Broken("the measuring process crashed over this model, or ran out of memory")
        answer = json.loads(line)
        return answer if isinstance(answer, dict) else {}


def _read(pipe: Any, lines: queue.Queue[bytes]) -> None:
    """Hand on the lines of a process, and an empty one at its end."""
    with pipe:
        while True:
            line = pipe.readline(MAX_LINE)
            lines.put(line)
            if not line.endswith(b"\n"):
                return


def _command() -> list[str]:
    """This very file again, or the module where it is part of a package."""
    if __package__:
        return [sys.executable, "-c", "from nas.latency.remote.worker import work; work()"]
    isolated = ["-I"] if sys.flags.isolated else []
    return [sys.executable, *isolated, os.path.abspath(__file__), "--worker"]


def _environment() -> dict[str, str]:
    """This process's, without the token; the package is found although the process stands elsewhere."""
    environment = {name: value for name, value in os.environ.items() if name != "NAS_AGENT_TOKEN"}
    if __package__:
        places = [str(Path(__file__).resolve().parents[3]), environment.get("PYTHONPATH", "")]
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, places))
    return environment
