"""Where candidates are evaluated: this process, or worker processes (``ray.py``: a Ray cluster).

A worker that dies is noticed and replaced here; whether its candidate is tried again, ``loop.py`` decides.
"""

from __future__ import annotations

import json
import os
import pickle
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import connection
from types import TracebackType
from typing import Protocol, Self

import cloudpickle

from nas.arch.arch import Arch
from nas.engine.options import MAX_WORKERS
from nas.system.errors import InputError, NasError
from nas.system.machine import usable_cores
from nas.system.validate import whole_number
from nas.training.evaluate import Evaluation, Evaluator, guarded


@dataclass(frozen=True, slots=True)
class Finished:
    """What became of a submitted ticket: an evaluation, or, if its worker died, how it died."""

    ticket: int
    evaluation: Evaluation | None
    died: str | None = None


class Executor(Protocol):
    """Evaluates candidates. Only the thread that made it may use it; use it in a ``with`` block.

    Attributes:
        slots: candidates it can run at once; submit no more than that before `wait`.
    """

    slots: int

    def submit(self, ticket: int, arch: Arch, seed: int, stop: int | None = None) -> None:
        """Begin to evaluate `arch`, up to the rung of `stop` steps if it is trained in rungs; `ticket` names it in
        `Finished`."""

    def wait(self, timeout_s: float | None = None) -> Finished | None:
        """The first candidate to finish. None if there is none within `timeout_s` (None: for ever) or none runs."""

    def cancel(self) -> None:
        """Kill what is running and free everything; the executor cannot be used again."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class _Closing:
    def cancel(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cancel()


def threaded(evaluator: Evaluator, threads: int) -> Evaluator:
    """The evaluator restricted to that many threads, if it is one that has threads."""
    with_threads = getattr(evaluator, "with_threads", None)
    return with_threads(threads) if with_threads else evaluator


class SerialExecutor(_Closing):
    """One candidate at a time, in this process, evaluated inside `wait`."""

    def __init__(self, evaluator: Evaluator) -> None:
        self.slots = 1
        self._evaluator = evaluator
        self._queue: deque[tuple[int, Arch, int, int | None]] = deque()

    def submit(self, ticket: int, arch: Arch, seed: int, stop: int | None = None) -> None:
        self._queue.append((ticket, arch, seed, stop))

    def wait(self, timeout_s: float | None = None) -> Finished | None:
        if not self._queue or timeout_s == 0:
            return None
        ticket, arch, seed, stop = self._queue.popleft()
        return Finished(ticket, guarded(self._evaluator, arch, seed, stop))

    def cancel(self) -> None:
        self._queue.clear()


class _Worker:
    """A worker process (``worker.py``) and the socket to it. It dies with this process: its stdin closes."""

    def __init__(self, payload: bytes, threads: int, gpu: str | None = None) -> None:
        self.gpu = gpu
        ours, theirs = socket.socketpair()
        code = (
            "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); import sys, json; "
            "sys.path[:] = json.loads(sys.argv[2]); "
            "from nas.engine.executors.worker import serve; serve(int(sys.argv[1]))"
        )
        # Not multiprocessing's spawn: that runs the caller's main script again, which then needs a __main__ guard.
        names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, str(theirs.fileno()), json.dumps(sys.path)],
            stdin=subprocess.PIPE,
            stdout=2,  # stdout is for the program's results
            pass_fds=[theirs.fileno()],
            env=dict(os.environ)
            | {name: str(threads) for name in names}
            | ({} if gpu is None else {"CUDA_VISIBLE_DEVICES": gpu}),
        )
        theirs.close()
        self.channel = connection.Connection(ours.detach())
        self.ticket: int | None = None
        self.send(payload)

    def send(self, payload: bytes) -> bool:
        """Whether it could be sent: False if the process is dead."""
        try:
            self.channel.send_bytes(payload)
        except OSError:
            return False
        return True

    def how_it_died(self) -> str:
        """In words, after its end of the socket was seen closed."""
        try:
            code = self.process.wait(5)
        except subprocess.TimeoutExpired:
            return "process closed its socket"
        if code < 0:
            hint = " (out of memory?)" if code == -signal.SIGKILL else ""
            return f"process killed by {signal.Signals(-code).name}{hint}"
        return f"process ended with exit code {code}"

    def kill(self) -> None:
        """End it, however busy."""
        self.process.kill()
        self.process.wait()
        self.channel.close()
        if self.process.stdin:
            self.process.stdin.close()


class ProcessExecutor(_Closing):
    """Worker processes on this machine, started on first use, kept between candidates, replaced when they die.

    Args:
        evaluator: sent to each worker once.
        workers: processes.
        threads: for each; None shares the cores out.
        gpus: CUDA GPUs to spread the workers over, as values of ``CUDA_VISIBLE_DEVICES``; each worker sees one. Without
            any, the workers see what this process sees.

    Raises:
        InputError: `workers` is out of bounds, or the evaluator cannot be sent to another process.
    """

    def __init__(
        self, evaluator: Evaluator, workers: int, threads: int | None = None, gpus: Sequence[str] = ()
    ) -> None:
        self.slots = whole_number("workers", workers, 1, MAX_WORKERS)
        self._threads = threads or max(1, usable_cores() // workers)
        self._payload = pickled(threaded(evaluator, self._threads))
        self._workers: list[_Worker] = []
        self._gpus = tuple(gpus)

    def submit(self, ticket: int, arch: Arch, seed: int, stop: int | None = None) -> None:
        task = pickle.dumps((arch, seed, stop))
        for worker in [worker for worker in self._workers if worker.ticket is None]:
            if worker.send(task):
                worker.ticket = ticket
                return
            self._drop(worker)  # it died while it was idle: no candidate's fault
        if len(self._workers) >= self.slots:
            raise NasError(f"all {self.slots} workers are busy; wait for one first")
        worker = _Worker(self._payload, self._threads, self._freest_gpu())
        worker.ticket = ticket
        worker.send(task)  # a worker that is dead already is noticed by `wait`
        self._workers.append(worker)

    def wait(self, timeout_s: float | None = None) -> Finished | None:
        while busy := {worker.channel: worker for worker in self._workers if worker.ticket is not None}:
            ready = connection.wait(list(busy), timeout_s)
            if not ready:
                return None
            if finished := self._receive(busy[ready[0]]):  # type: ignore[index]
                return finished
        return None

    def cancel(self) -> None:
        while self._workers:
            self._drop(self._workers[-1])

    def _receive(self, worker: _Worker) -> Finished | None:
        assert worker.ticket is not None
        try:
            kind, content = pickle.loads(worker.channel.recv_bytes())
        except (EOFError, OSError):
            died = Finished(worker.ticket, None, worker.how_it_died())
            self._drop(worker)
            return died
        if kind == "broken":
            raise NasError(f"a worker process cannot load what it is to run: {content}")
        if kind == "ready":
            return None
        finished = Finished(worker.ticket, content)
        worker.ticket = None
        return finished

    def _freest_gpu(self) -> str | None:
        """The first of the GPUs that have the fewest workers."""
        taken = [worker.gpu for worker in self._workers]
        return min(self._gpus, key=taken.count, default=None)

    def _drop(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        worker.kill()


def pickled(evaluator: Evaluator) -> bytes:
    """The evaluator as bytes for another process of this user.

    Raises:
        InputError: it holds something that only lives in this process.
    """
    try:
        payload: bytes = cloudpickle.dumps(evaluator)
    except Exception as error:
        raise InputError(f"the evaluation cannot be sent to another process: {error}; use workers=1") from None
    return payload
