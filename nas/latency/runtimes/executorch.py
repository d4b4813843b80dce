"""ExecuTorch with XNNPACK, under which PyTorch networks run on phones."""

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
from nas.system.text import one_line

if TYPE_CHECKING:
    import torch
    from torch import nn

MAX_PTE_BYTES = 1 << 30
IDENTIFIER = slice(4, 8)  # bytes of a flatbuffer: ET and a version, such as ET12


@contextmanager
def _no_stderr() -> Iterator[None]:
    """Within the context, nothing reaches file descriptor 2, where ExecuTorch's C++ reports each file it cannot
    find."""
    sys.stderr.flush()
    with ExitStack() as stack:
        saved = os.dup(2)
        stack.callback(os.close, saved)
        stack.callback(os.dup2, saved, 2)
        null = os.open(os.devnull, os.O_WRONLY)
        stack.callback(os.close, null)
        os.dup2(null, 2)
        yield


def _bindings() -> Any:
    with quiet():
        from executorch.extension.pybindings import portable_lib
    return portable_lib


class _Pool:
    """ExecuTorch's only thread pool. A loaded program keeps a pointer to the pool, so after a change it must be loaded
    again before it runs."""

    def __init__(self) -> None:
        self.changes = 0

    def resize(self, threads: int, here: bool = False) -> None:
        """Set the number of threads, including the caller; with `here`, on the cores that the caller runs on now."""
        bindings = _bindings()
        with _no_stderr():
            if bindings._threadpool_get_thread_count() != threads or (here and threads > 1):
                bindings._unsafe_reset_threadpool(1)  # the same number would keep the same threads
                bindings._unsafe_reset_threadpool(threads)
                self.changes += 1


_POOL = _Pool()


class Program:
    """A loaded ``.pte`` file.

    Args:
        model: content of the file, or its path.
        threads: number of threads it may use.
        here: whether to keep the threads on the cores that the caller runs on now.

    Raises:
        InputError: the file does not exist, or ExecuTorch cannot load it.
    """

    def __init__(self, model: bytes | Path, threads: int = 1, here: bool = False) -> None:
        self._model, self._threads = program_bytes(model), threads
        _POOL.resize(threads, here)
        self._load()

    def _load(self) -> None:
        bindings = _bindings()
        _POOL.resize(self._threads)
        self._changes = _POOL.changes
        try:
            with _no_stderr():
                self._module = bindings._load_for_executorch_from_buffer(
                    self._model, program_verification=bindings.Verification.InternalConsistency
                )
                self._meta = self._module.method_meta("forward")
        except RuntimeError as error:
            raise InputError(f"ExecuTorch cannot load this program: {one_line(error)}; export it again") from None

    def inputs(self) -> list[tuple[tuple[int, ...], int]]:
        """Shape and type of each input; the type is the number of PyTorch's scalar type (6 is float32)."""
        metas = [self._meta.input_tensor_meta(at) for at in range(self._meta.num_inputs())]
        return [(tuple(meta.sizes()), int(meta.dtype())) for meta in metas]

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        """The program's first output for this input."""
        if self._changes != _POOL.changes:
            self._load()
        first: torch.Tensor = self._module.forward((image,))[0]
        return first


def program_bytes(model: bytes | Path) -> bytes:
    """The content of a ``.pte`` file.

    Raises:
        InputError: the file does not exist, is too large, or is not an ExecuTorch program.
    """
    if isinstance(model, Path):
        if not model.is_file():
            raise InputError(f"no such file: {model}; give an exported .pte file")
        if model.stat().st_size > MAX_PTE_BYTES:
            raise InputError(_too_large(str(model), model.stat().st_size))
        model = model.read_bytes()
    if len(model) > MAX_PTE_BYTES:
        raise InputError(_too_large("the program", len(model)))
    if model[IDENTIFIER][:2] != b"ET":
        raise InputError("the file is not an ExecuTorch program; give an exported .pte file")
    return model


def _too_large(name: str, size: int) -> str:
    return f"a .pte file may have at most {MAX_PTE_BYTES} bytes, {name} has {size}; export a smaller network"


def pte_run(model: bytes | Path, threads: int = 1) -> Callable[[np.ndarray], np.ndarray]:
    """A function from images, float32 of shape (N, 3, H, W) with the program's own N, H and W, to logits (N, classes).

    Raises:
        InputError: the file does not exist, or ExecuTorch cannot load it.
    """
    import torch

    program = Program(model, threads)

    def run(images: np.ndarray) -> np.ndarray:
        return np.array(program(torch.from_numpy(np.ascontiguousarray(images, dtype=np.float32))))

    return run


class ExecuTorch:
    """ExecuTorch's own runtime, with all operators in XNNPACK."""

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
    """Random images to time a program on, float32 of shape ``(batch, 3, resolution, resolution)``."""
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
