"""What runs a network on this host: the protocol, and the runtimes there are. Nothing of theirs is loaded here."""

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
        """Run once, and return when it is done."""
        ...

    def logits(self) -> np.ndarray:
        """What it computes of its images, those of `noise`: float32 of shape ``(batch, classes)``."""
        ...

    def profile(self) -> list[tuple[float, int]]:
        """Time in ms and number of kernels of each of the `part_names`, in order, as they take inside the network.
        Empty if the runtime cannot tell."""
        ...


class Load(AbstractContextManager[Prepared]):
    """A context in which a network is ready to run. It can be entered time and again, also while it is open: then a
    runtime with files of its own loads the network once more, into other memory.

    Args:
        ready: makes the context of one time.
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
    """A way to run a network. One thread of Python uses it at a time; nothing else should load the machine.

    A new one is a module with such a class, and a line in `RUNTIMES`.
    """

    name: str
    dtypes: tuple[str, ...]  # of weights and arithmetic, that it really computes in
    quick: bool  # whether a network is prepared in about a second: then two anchors are

    def version(self) -> str:
        """Of the library; part of every key under which timings are kept."""
        ...

    def prepare(self, network: nn.Module, resolution: int, batch: int, threads: int, dtype: str = FLOAT32) -> Load:
        """Within the context, `network` can be run on `batch` square images of noise; it is run in evaluation mode, and
        left in the mode it was in.

        What takes long and starts no threads, such as writing a file for the runtime, is done by the call; the context
        is to be entered on the cores that the network shall have.

        Raises:
            InputError: the runtime does not compute in `dtype` on this machine, or cannot run this network.
        """
        ...


@dataclass(frozen=True)
class Entry:
    """Where a runtime is to be had.

    Args:
        place: module and class.
        package: that it needs.
        install: what to give to pip.
        compiler: whether it needs one for C++.
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
    """The runtime of that name.

    Raises:
        InputError: it is unknown, or not installed; the text lists the known ones, or says how to install it.
    """
    if name not in RUNTIMES:
        raise InputError(f"no runtime is called {name!r:.80}; {known(RUNTIMES)}")
    entry = RUNTIMES[name]
    if find_spec(entry.package) is None:
        raise InputError(f"runtime {name} is not installed; pip install {entry.install}")
    if entry.compiler and not _has_compiler():
        raise InputError(f"runtime {name} needs a C++ compiler, found none; install g++, or name yours in CXX")
    module, made = entry.place
    runtime: Runtime = getattr(import_module(module), made)()
    return runtime


def installed() -> list[str]:
    """The names of the runtimes that can be used here."""
    return [
        name for name, entry in RUNTIMES.items() if find_spec(entry.package) and (not entry.compiler or _has_compiler())
    ]


def _has_compiler() -> bool:
    """Whether the compiler is there that PyTorch will call."""
    usual = {"win32": "cl", "darwin": "clang++"}.get(sys.platform, "g++")
    return shutil.which(os.environ.get("CXX", usual)) is not None


def check_dtype(runtime: str, dtypes: Iterable[str], dtype: str) -> None:
    """Raises `InputError` unless the runtime computes in `dtype`."""
    taken = tuple(dtypes)
    if dtype not in taken:
        raise InputError(f"runtime {runtime} does not compute in dtype {dtype!r:.40}; it takes {', '.join(taken)}")


def part_names(network: nn.Module) -> list[str]:
    """The parts of a built network that are timed on their own, in order of execution: the layers of each block, branch
    by branch (what joins them, such as the addition of a shortcut, belongs to the last), any other row as a whole, and
    the classifier. A network that was not built here has none."""
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
    """Images to time a network on, float32 of shape ``(batch, 3, resolution, resolution)``."""
    return np.random.default_rng(0).standard_normal((batch, 3, resolution, resolution), dtype=np.float32)
