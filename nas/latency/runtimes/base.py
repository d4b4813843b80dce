"""The protocol of a runtime, which runs a network on this host, and the runtimes. None of their libraries is loaded."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from nas.latency.record import FLOAT32
from nas.latency.runtimes.profiles import BRANCHES
from nas.system.errors import InputError, known

if TYPE_CHECKING:
    from torch import nn

MAX_BATCH = 1024


class Prepared(Protocol):
    """A network ready to run."""

    def __call__(self) -> None:
        """Run once and return when it is done."""
        ...

    def logits(self) -> np.ndarray:
        """The outputs for the images of `noise`, float32 of shape ``(batch, classes)``."""
        ...

    def profile(self) -> list[tuple[float, int]]:
        """Milliseconds inside the network and number of kernels of each of `part_names`, in order. Empty if the runtime
        has no profiler."""
        ...


class Load(AbstractContextManager[Prepared]):
    """A context in which a network is ready to run.

    It can be entered repeatedly, also while it is open: a runtime with its own files then loads the network once more,
    into other memory.

    Args:
        ready: makes the context for one entry.
    """

    def __init__(self, ready: Callable[[], AbstractContextManager[Prepared]]) -> None:
        self._ready = ready
        self._open: list[AbstractContextManager[Prepared]] = []

    def __enter__(self) -> Prepared:
        context = self._ready()
        prepared = context.__enter__()
        self._open.append(context)
        return prepared

    def __exit__(self, *error: Any) -> bool | None:
        return self._open.pop().__exit__(*error)


class Runtime(Protocol):
    """A way to run a network. Only one Python thread may use it at a time; nothing else should load the machine.

    To add a runtime, write a module with such a class and add a line to `RUNTIMES`.
    """

    name: str
    dtypes: tuple[str, ...]  # types of weights and arithmetic that it really computes in
    quick: bool  # whether it prepares a network in about a second; only then is there a far anchor

    def version(self) -> str:
        """Version of the library; part of every key under which timings are cached."""
        ...

    def prepare(self, network: nn.Module, resolution: int, batch: int, threads: int, dtype: str = FLOAT32) -> Load:
        """Prepare `network` to run on `batch` square images of noise within the returned context.

        The network runs in evaluation mode and is left in the mode it was in. The call itself does what takes long and
        starts no threads, such as writing a file for the runtime. Enter the context on the cores that the network
        should run on.

        Raises:
            InputError: the runtime does not compute in `dtype` on this machine, or cannot run this network.
        """
        ...


@dataclass(frozen=True)
class Entry:
    """Where a runtime is found.

    Args:
        place: module and class.
        package: Python package that it needs.
        install: argument for ``pip install``.
        compiler: whether it needs a C++ compiler.
    """

    place: tuple[str, str]
    package: str
    install: str
    compiler: bool = False


RUNTIMES: Mapping[str, Entry] = {
    "onnxruntime": Entry(("nas.latency.runtimes.onnxruntime", "OnnxRuntime"), "onnxruntime", "onnxruntime"),
    "torch": Entry(("nas.latency.runtimes.torch", "EagerTorch"), "torch", "torch"),
    "torch-compile": Entry(("nas.latency.runtimes.torch", "CompiledTorch"), "torch", "torch", compiler=True),
    "executorch": Entry(("nas.latency.runtimes.executorch", "ExecuTorch"), "executorch", "'mbconv-nas[executorch]'"),
    "openvino": Entry(("nas.latency.runtimes.openvino", "OpenVino"), "openvino", "'mbconv-nas[openvino]'"),
}


def runtime_of(name: str) -> Runtime:
    """The runtime with this name.

    Raises:
        InputError: the name is unknown, or the runtime is not installed.
    """
    if name not in RUNTIMES:
        raise InputError(f"unknown runtime {name!r:.80}; {known(RUNTIMES)}")
    entry = RUNTIMES[name]
    if find_spec(entry.package) is None:
        raise InputError(f"runtime {name} is not installed; pip install {entry.install}")
    if entry.compiler and not _has_compiler():
        raise InputError(f"runtime {name} needs a C++ compiler, none was found; install g++ or set CXX to yours")
    module, made = entry.place
    runtime: Runtime = getattr(import_module(module), made)()
    return runtime


def installed() -> list[str]:
    """The names of the runtimes that can be used on this machine."""
    return [
        name for name, entry in RUNTIMES.items() if find_spec(entry.package) and (not entry.compiler or _has_compiler())
    ]


def _has_compiler() -> bool:
    """Whether the compiler that PyTorch will call exists."""
    default = {"win32": "cl", "darwin": "clang++"}.get(sys.platform, "g++")
    return shutil.which(os.environ.get("CXX", default)) is not None


def check_dtype(runtime: str, dtypes: Iterable[str], dtype: str) -> None:
    """Raises `InputError` unless the runtime computes in `dtype`."""
    supported = tuple(dtypes)
    if dtype not in supported:
        raise InputError(f"runtime {runtime} does not compute in dtype {dtype!r:.40}; {known(supported)}")


def part_names(network: nn.Module) -> list[str]:
    """The parts of a built network that are timed separately, in order of execution.

    They are the layers of each block, branch by branch, any other row as a whole, and the classifier. What joins the
    branches, such as the addition of a shortcut, belongs to the last layer. A library's network has no parts.
    """
    from nas.network.ops import Network

    if not isinstance(network, Network):
        return []
    names: list[str] = []
    for at, row in enumerate(network.get_submodule("features").children()):
        name = f"features.{at}"
        layers = [f"{name}.{inner}.{i}" for inner in BRANCHES for i, _ in enumerate(getattr(row, inner, ()))]
        names += layers or [name]
    return [*names, "classifier"]


def noise(batch: int, resolution: int) -> np.ndarray:
    """Random images to time a network on, float32 of shape ``(batch, 3, resolution, resolution)``."""
    return np.random.default_rng(0).standard_normal((batch, 3, resolution, resolution), dtype=np.float32)
