"""Candidates as Ray tasks, on this machine or on a cluster. Ray is loaded when an executor is made."""

from __future__ import annotations

import os
import socket
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from nas.arch.arch import Arch
from nas.engine.executors.base import Finished, _Closing, threaded
from nas.system.errors import InputError, NasError
from nas.system.machine import usable_cores
from nas.system.text import one_line
from nas.training.evaluate import Evaluation, Evaluator, guarded

CONNECT_SECONDS = 10


def _evaluate(evaluator: Evaluator, arch: Arch, seed: int, stop: int | None) -> Evaluation:
    return guarded(evaluator, arch, seed, stop)


def started_here(address: str | None) -> bool:
    """Whether `RayExecutor` would start Ray on this machine, rather than use a cluster."""
    ray = sys.modules.get("ray")
    return address is None and not (ray and ray.is_initialized())


class RayExecutor(_Closing):
    """One Ray task per candidate; the evaluator, with its data, lies in the object store once.

    Args:
        evaluator: what to run; `in_memory()` is called if it has that, so that no task reads files.
        address: None starts Ray on this machine, else a cluster's ``HOST:PORT`` to join.
        cpus_per_trial: cores a task reserves, and threads it uses.
        gpus_per_trial: GPUs a task reserves; may be a fraction. The task sees these only.

    Raises:
        InputError: the cluster cannot be reached, or no node has that many cores or GPUs.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        address: str | None = None,
        cpus_per_trial: float = 1,
        gpus_per_trial: float = 0,
    ) -> None:
        if not 0 < cpus_per_trial <= 4096 or not 0 <= gpus_per_trial <= 1024:
            raise InputError(
                f"a trial needs more than 0 cpus and 0 or more gpus, got {cpus_per_trial=} {gpus_per_trial=}"
            )
        if address is None and cpus_per_trial > usable_cores():
            raise InputError(f"cpus per trial must be at most the {usable_cores()} cores here, got {cpus_per_trial:g}")
        if address is not None:
            check_reachable(address)
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # its announcement is not for our users
        import ray

        self._ray = ray
        self._started = False
        self._tickets: dict[Any, int] = {}
        if not ray.is_initialized():
            self._init(address)
            self._started = True
        elif address is not None:
            self._check_joined(address)
        try:
            self.slots = self._count_slots(cpus_per_trial, gpus_per_trial)
            in_memory = getattr(evaluator, "in_memory", None)
            ready = threaded(in_memory() if in_memory else evaluator, max(1, int(cpus_per_trial)))
            self._evaluator = ray.put(ready)
        except BaseException:
            self.cancel()
            raise
        # Retries are the search's business: Ray would hide how often a candidate kills its worker.
        task: dict[str, Any] = {"num_cpus": cpus_per_trial, "num_gpus": gpus_per_trial, "max_retries": 0}
        # A process that has used one GPU cannot change to another, so Ray ends it after each task. Where nodes have one
        # GPU, our own training need not load PyTorch and the images again each time.
        if getattr(evaluator, "accelerator", None) == "cuda" and self._most("GPU") <= 1:
            task["max_calls"] = 0
        self._task = ray.remote(**task)(_evaluate)

    def _init(self, address: str | None) -> None:
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": True}
        if address is None:
            try:
                self._ray.init(address="local", num_cpus=usable_cores(), include_dashboard=False, **quiet)
            except (OSError, RuntimeError, ValueError) as error:
                raise InputError(
                    f"Ray does not start here: {one_line(error)}; its sockets need a short path on a local disk: set "
                    f"RAY_TMPDIR, now {os.environ.get('RAY_TMPDIR') or tempfile.gettempdir()}"
                ) from None
            return
        package = str(Path(__file__).parents[2])  # nodes need not have this project installed
        try:
            self._ray.init(address=address, runtime_env={"py_modules": [package]}, **quiet)
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            raise _unreachable(address, str(error)) from None

    def _check_joined(self, address: str) -> None:
        """Ray was initialised before, by whoever calls: raise `InputError` unless it is with the cluster asked for."""
        joined: str = self._ray.get_runtime_context().gcs_address
        own: str = self._ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
        if _host_and_port(address, own) != _host_and_port(joined, own):
            raise InputError(
                f"Ray is initialised with the cluster at {joined}, got the address {address}; call ray.shutdown() "
                "first, or give ray='auto' to use that cluster"
            )

    def _nodes(self) -> list[dict[str, float]]:
        every: list[dict[str, Any]] = self._ray.nodes()  # type: ignore[no-untyped-call]
        return [node["Resources"] for node in every if node["Alive"]]

    def _most(self, kind: str) -> float:
        return max((node.get(kind, 0) for node in self._nodes()), default=0)

    def _count_slots(self, cpus: float, gpus: float) -> int:
        """How many candidates can run at once beside what others run on the cluster now; at least one, which waits."""
        nodes = self._nodes()
        fits = [
            int(min(node.get("CPU", 0) / cpus, node.get("GPU", 0) / gpus if gpus else float("inf")) + 1e-9)
            for node in nodes
        ]
        if not sum(fits):
            raise InputError(
                f"no Ray node has {cpus:g} cpus and {gpus:g} gpus for a trial; the largest has {self._most('CPU'):g} "
                f"cpus, the most gpus are {self._most('GPU'):g}; lower --cpus-per-trial or --gpus-per-trial"
            )
        free: dict[str, float] = self._ray.available_resources()  # type: ignore[no-untyped-call]
        now = min(free.get("CPU", 0) / cpus, free.get("GPU", 0) / gpus if gpus else float("inf"))
        return max(1, min(sum(fits), int(now + 1e-9)))

    def submit(self, ticket: int, arch: Arch, seed: int, stop: int | None = None) -> None:
        self._tickets[self._task.remote(self._evaluator, arch, seed, stop)] = ticket

    def wait(self, timeout_s: float | None = None) -> Finished | None:
        if not self._tickets:
            return None
        ready, _ = self._ray.wait(list(self._tickets), num_returns=1, timeout=timeout_s)
        if not ready:
            return None
        ticket = self._tickets.pop(ready[0])
        errors = self._ray.exceptions
        try:
            return Finished(ticket, self._ray.get(ready[0]))
        except (errors.RayTaskError, errors.RuntimeEnvSetupError) as error:  # not of the evaluation: that is guarded
            raise NasError(f"Ray workers cannot load what they are to run: {_cause(error)}") from None
        except errors.RayError as error:
            return Finished(ticket, None, f"{type(error).__name__}: {_cause(error)}")

    def cancel(self) -> None:
        for reference in self._tickets:
            self._ray.cancel(reference, force=True)
        self._tickets.clear()
        if self._started:
            self._ray.shutdown()
            self._started = False


def _cause(error: Exception) -> str:
    """Ray's errors are tracebacks of several lines, of which the first says most."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return one_line(getattr(error, "cause", None) or (lines[0] if lines else error))


def _host_and_port(address: str, own: str) -> tuple[str, str]:
    """An address with its host as a number; this machine, however it is called, as `own`."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    with suppress(OSError):
        host = socket.gethostbyname(host)
    return own if host.startswith("127.") else host, port


def _unreachable(address: str, why: str) -> InputError:
    remedy = "start one with `ray start --head`, or use --ray without an address"
    return InputError(f"cannot reach a Ray cluster at {address}: {one_line(why, 160)}; {remedy}")


def check_reachable(address: str) -> None:
    """Ray itself retries for a minute and then ends the process."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdigit():
        raise InputError(f"a Ray address is HOST:PORT, got {address!r}")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise _unreachable(address, getattr(error, "strerror", None) or str(error)) from None
