"""Devices: whatever answers how long a network takes. A new kind is a `LatencyModel` and a branch in `device`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from nas.arch.arch import Arch
from nas.arch.space import Space
from nas.latency.measure import check_load, measure
from nas.latency.models import bundled
from nas.latency.record import Latency
from nas.latency.runtimes.base import runtime_of
from nas.latency.table.build import cached_table
from nas.latency.table.table import LatencyTable
from nas.system.errors import InputError, known
from nas.system.machine import host
from nas.system.progress import Step

RUNTIME, THREADS = "onnxruntime", 1  # where none are given


@runtime_checkable
class LatencyModel(Protocol):
    """How long networks take on one device. Only the driver uses it, from one thread."""

    @property
    def device(self) -> str:
        """Name of the device, for people."""
        ...

    @property
    def table(self) -> LatencyTable | None:
        """The table it predicts with, if there is one."""
        ...

    def __call__(self, arch: Arch) -> Latency:
        """The latency that a search uses: predicted if there is a model, else measured."""
        ...

    def many(self, archs: Sequence[Arch]) -> np.ndarray:
        """The ms of `__call__` for each, float64 of shape ``(len(archs),)``."""
        ...

    def measure(self, arch: Arch) -> Latency | None:
        """Time the network on the device itself; None if only a model of the device is at hand."""
        ...


class Host:
    """This machine. With a space it predicts by the space's table, which is measured on first use; without, it
    measures."""

    def __init__(
        self,
        space: Space | None = None,
        runtime: str = RUNTIME,
        threads: int = THREADS,
        seed: int = 0,
        progress: Step | None = None,
        refresh: bool = False,
    ) -> None:
        runtime_of(runtime)
        check_load(threads, 1)
        self._space, self._runtime, self._threads = space, runtime, threads
        self._seed, self._progress, self._refresh = seed, progress, refresh

    @property
    def device(self) -> str:
        return host()

    @cached_property
    def table(self) -> LatencyTable | None:
        if self._space is None:
            return None
        return cached_table(self._space, self._runtime, self._threads, self._seed, self._progress, self._refresh)

    def __call__(self, arch: Arch) -> Latency:
        return self.measure(arch) if self.table is None else self.table(arch)

    def many(self, archs: Sequence[Arch]) -> np.ndarray:
        if self.table is not None:
            return self.table.many(archs)
        return np.array([self.measure(arch).ms for arch in archs], dtype=float)

    def measure(self, arch: Arch) -> Latency:
        return measure(arch, self._runtime, self._threads)


class Saved:
    """A table read from a file. If it was measured on this very machine, networks can also be measured again."""

    def __init__(self, path: Path) -> None:
        self._table = LatencyTable.load(path)

    @property
    def device(self) -> str:
        return self._table.device

    @property
    def table(self) -> LatencyTable | None:
        return self._table

    def __call__(self, arch: Arch) -> Latency:
        return self._table(arch)

    def many(self, archs: Sequence[Arch]) -> np.ndarray:
        return self._table.many(archs)

    def measure(self, arch: Arch) -> Latency | None:
        if self.device != host():
            return None
        return measure(arch, self._table.runtime, self._table.threads)


class CallableModel:
    """A caller's function from `Arch` to milliseconds, or to another cost to cap."""

    table = None

    def __init__(self, function: Callable[[Arch], float]) -> None:
        self._function = function
        self.device = str(getattr(function, "__name__", type(function).__name__)).strip("<>")[:200] or "function"

    def __call__(self, arch: Arch) -> Latency:
        """Raises `InputError` if the function returns anything but a positive, finite number."""
        value = self._function(arch)
        try:
            ms = math.nan if isinstance(value, (bool, str)) else float(value)
        except (TypeError, ValueError):
            ms = math.nan
        if not math.isfinite(ms) or ms <= 0:
            raise InputError(
                f"a device function must return a positive, finite number, got {value!r:.60} for network {arch.key}"
            )
        return Latency(ms, None, None, self.device, None, None, 1, "predicted")

    def many(self, archs: Sequence[Arch]) -> np.ndarray:
        return np.array([self(arch).ms for arch in archs], dtype=float)

    def measure(self, arch: Arch) -> Latency | None:
        return None


def is_modelled(model: LatencyModel) -> bool:
    """Whether the device is not at hand: its latencies are *modelled* and cannot be measured."""
    return isinstance(model, Saved) and model.device != host()


def is_agent(spec: str) -> bool:
    """Whether `spec` is the address of an agent."""
    return spec.startswith(("http://", "https://"))


def device(
    spec: str | Callable[[Arch], float] | LatencyModel,
    space: Space | None = None,
    *,
    runtime: str = RUNTIME,
    threads: int = THREADS,
    seed: int = 0,
    progress: Step | None = None,
    token: str | None = None,
    kept: Path | None = None,
    refresh: bool = False,
) -> LatencyModel:
    """The latency model of a device, by name.

    Args:
        spec: ``host`` (this machine), the name of a bundled model (``pixel1``), ``table:PATH`` (written by
            `LatencyTable.save` or ``nas devices calibrate``), ``http://HOST:PORT`` (an agent, `nas agent`), a function
            from `Arch` to ms, or a ready `LatencyModel`.
        space: space whose latency table the host predicts by; without one, every network is measured.
        runtime: runtime of the host; a table has its own.
        threads: number of threads on the host or an agent's device; a table has its own.
        seed: random seed of the networks that a new table is fitted to; a cached table is used whatever its seed.
        progress: called as ``progress(done, total, text)`` while a table is measured.
        token: token of an agent; None is ``NAS_AGENT_TOKEN``.
        kept: table to predict an agent's device by, instead of a new one.
        refresh: measure the table again even if it is cached.

    Raises:
        InputError: `spec` is unknown, a table cannot be read or was timed with another runtime or number of threads, or
            an agent refuses the token.
        NasError: an agent cannot be reached.

    >>> from nas.references.table import reference
    >>> pixel1 = device("pixel1")
    >>> print(f"{pixel1(reference('mobilenet_v3_large')).ms:.0f} ms on {pixel1.device}")  # doctest: +ELLIPSIS
    6... ms on Pixel 1...
    """
    if isinstance(spec, str):
        kind, _, rest = spec.partition(":")
        if spec == "host":
            return Host(space, runtime, threads, seed, progress, refresh)
        path = Path(rest).expanduser() if kind == "table" and rest else bundled().get(spec)
        if path is not None:
            return _as_timed(Saved(path), runtime, threads)
        if is_agent(spec):
            from nas.latency.remote.agent import Agent

            if runtime != Agent.runtime:
                raise InputError(f"an agent runs networks under {Agent.runtime}, got runtime {runtime!r}")
            return Agent(spec, space, token, threads, seed, progress, kept, refresh)
    elif isinstance(spec, LatencyModel):
        return spec
    elif callable(spec):
        return CallableModel(spec)
    names = ("host", *bundled(), "table:PATH", "http://HOST:PORT", "a function of an Arch")
    raise InputError(f"no device is called {spec!r:.80}; {known(names)}")


def _as_timed(model: Saved, runtime: str, threads: int) -> Saved:
    """`model`, if the options given agree with those its table was timed with."""
    table = model.table
    assert table is not None
    options = (("runtime", runtime, RUNTIME, table.runtime), ("threads", threads, THREADS, table.threads))
    for name, given, default, own in options:
        if given not in (default, own):
            raise InputError(
                f"the latency table of {table.device} was timed with {name} {own}, got {name} {given!r:.40}; leave out "
                f"--{name}"
            )
    return model
