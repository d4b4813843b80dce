"""ExecuTorch with XNNPACK, what PyTorch networks run under on phones."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nas.latency.record import FLOAT32
from nas.latency.runtimes.base import Load, Prepared, check_dtype, noise
from nas.network.serialize.executorch import pte_bytes, quiet
from nas.system.errors import InputError

if TYPE_CHECKING:
    import torch
    from torch import nn

MAX_PTE_BYTES = 1 << 30
IDENTIFIER = slice(4, 8)  # of a flatbuffer; ET and a version, such as ET12


@contextmanager
def _no_stderr() -> Iterator[None]:
    """Within the context nothing reaches file descriptor 2: ExecuTorch's C++ notes each file it cannot find there."""
    sys.stderr.flush()
    with ExitStack() as stack:
        kept = os.dup(2)
        stack.callback(os.close, kept)
        stack.callback(os.dup2, kept, 2)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        stack.callback(os.close, nowhere)
        os.dup2(nowhere, 2)
        yield


def _bindings() -> Any:
    with quiet():
        from executorch.extension.pybindings import portable_lib
    return portable_lib


class _Pool:
    """ExecuTorch's one pool of threads. A loaded program keeps a pointer to the pool of its time: after a change it
    must be loaded again before it runs."""

    def __init__(self) -> None:
        self.changes = 0

    def hold(self, threads: int, here: bool = False) -> None:
        """Have so many threads, counting the caller; `here`: on the cores that the caller is on now."""
        bindings = _bindings()
        with _no_stderr():
            if bindings._threadpool_get_thread_count() != threads or (here and threads > 1):
                bindings._unsafe_reset_threadpool(1)  # as many as before would be the same ones
                bindings._unsafe_reset_threadpool(threads)
                self.changes += 1


_POOL = _Pool()


class Program:
    """A loaded ``.pte`` file.

    Args:
        model: its bytes, or where it lies.
        threads: it may use.
        here: keep them on the cores that the caller is on now.

    Raises:
        InputError: no such file, or not a program that ExecuTorch takes.
    """

    def __init__(self, model: bytes | Path, threads: int = 1, here: bool = False) -> None:
        self._model, self._threads = program_bytes(model), threads
        _POOL.hold(threads, here)
        self._load()

    def _load(self) -> None:
        bindings = _bindings()
        _POOL.hold(self._threads)
        self._changes = _POOL.changes
        try:
            with _no_stderr():
                self._module = bindings._load_for_executorch_from_buffer(
                    self._model, program_verification=bindings.Verification.InternalConsistency
                )
                self._meta = self._module.method_meta("forward")
        except RuntimeError as error:
            text = " ".join(str(error).split())
            raise InputError(f"ExecuTorch cannot load this program: {text:.200}") from None

    def inputs(self) -> list[tuple[tuple[int, ...], int]]:
        """Shape and type (number of the scalar type in PyTorch; 6 is float32) of each input."""
        metas = [self._meta.input_tensor_meta(at) for at in range(self._meta.num_inputs())]
        return [(tuple(meta.sizes()), int(meta.dtype())) for meta in metas]

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        """The first output."""
        if self._changes != _POOL.changes:
            self._load()
        first: torch.Tensor = self._module.forward((image,))[0]
        return first


def program_bytes(model: bytes | Path) -> bytes:
    """What a ``.pte`` file holds.

    Raises:
        InputError: no such file, too large a one, or not a program of ExecuTorch.
    """
    if isinstance(model, Path):
        if not model.is_file():
            raise InputError(f"no such file: {model}; give an exported .pte file")
        if model.stat().st_size > MAX_PTE_BYTES:
            raise InputError(f"{model} has {model.stat().st_size} bytes, more than the {MAX_PTE_BYTES} that are read")
        model = model.read_bytes()
    if len(model) > MAX_PTE_BYTES:
        raise InputError(f"the program has {len(model)} bytes, more than the {MAX_PTE_BYTES} that are read")
    if model[IDENTIFIER][:2] != b"ET":
        raise InputError("this is not a program of ExecuTorch; give an exported .pte file")
    return model


def pte_run(model: bytes | Path, threads: int = 1) -> Callable[[np.ndarray], np.ndarray]:
    """A function from images, float32 of shape (N, 3, H, W) with the program's own N, H and W, to logits (N, classes).

    Raises:
        InputError: no such file, or not a program that ExecuTorch takes.
    """
    import torch

    program = Program(model, threads)

    def run(images: np.ndarray) -> np.ndarray:
        return np.array(program(torch.from_numpy(np.ascontiguousarray(images, dtype=np.float32))))

    return run


class ExecuTorch:
    """ExecuTorch's own runtime, operators in XNNPACK."""

    name = "executorch"
    quick = False
    dtypes: tuple[str, ...] = (FLOAT32,)

    def version(self) -> str:
        return version("executorch")

    def prepare(self, network: nn.Module, resolution: int, batch: int, threads: int, dtype: str = FLOAT32) -> Load:
        check_dtype(self.name, self.dtypes, dtype)
        model = pte_bytes(network, resolution, batch)
        return Load(partial(self._loaded, model, program_images(batch, resolution), threads))

    @contextmanager
    def _loaded(self, model: bytes, images: torch.Tensor, threads: int) -> Iterator[Prepared]:
        yield _Loaded(Program(model, threads, here=True), images)


def program_images(batch: int, resolution: int) -> torch.Tensor:
    """Images to time a program on."""
    import torch

    return torch.from_numpy(noise(batch, resolution))


class _Loaded:
    def __init__(self, program: Program, images: torch.Tensor) -> None:
        self._program, self._images = program, images

    def __call__(self) -> None:
        self._program(self._images)

    def logits(self) -> np.ndarray:
        return np.array(self._program(self._images))

    def profile(self) -> list[tuple[float, int]]:
        return []
