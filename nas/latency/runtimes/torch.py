"""PyTorch itself, eager and with `torch.compile`."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from time import perf_counter
from types import FunctionType
from typing import TYPE_CHECKING

import numpy as np

from nas.latency.record import FLOAT32
from nas.latency.runtimes.base import Load, Prepared, check_dtype, noise, part_names
from nas.latency.runtimes.profiles import PROFILE_WARM_UP, owner
from nas.system.errors import InputError
from nas.system.text import one_line

if TYPE_CHECKING:
    import torch
    from torch import nn

DTYPES = (FLOAT32, "bfloat16", "float16")
PROFILE_RUNS = 8


class EagerTorch:
    """Eager PyTorch in inference mode. Narrower floats are slow on processors without units for them."""

    name = "torch"
    quick = True
    dtypes: tuple[str, ...] = DTYPES

    def version(self) -> str:
        return version("torch")

    def prepare(self, network: nn.Module, resolution: int, batch: int, threads: int, dtype: str = FLOAT32) -> Load:
        check_dtype(self.name, self.dtypes, dtype)
        return Load(partial(self._ready, network, noise(batch, resolution), threads, dtype))

    @contextmanager
    def _ready(self, network: nn.Module, images: np.ndarray, threads: int, dtype: str) -> Iterator[Prepared]:
        with _evaluated(network, dtype) as ready, _threads(threads):
            yield _Eager(ready, images, dtype)


class CompiledTorch:
    """`torch.compile` for fixed shapes, with frozen weights. It takes 10 to 40 s a network, or less if its cache on
    disk has the network."""

    name = "torch-compile"
    quick = False
    dtypes: tuple[str, ...] = DTYPES

    def version(self) -> str:
        return version("torch")

    def prepare(self, network: nn.Module, resolution: int, batch: int, threads: int, dtype: str = FLOAT32) -> Load:
        import torch

        check_dtype(self.name, self.dtypes, dtype)
        images = torch.from_numpy(noise(batch, resolution)).to(getattr(torch, dtype))
        with _evaluated(network, dtype) as ready, _threads(threads):  # their number is compiled in
            compiled = _compiled(copy.deepcopy(ready))
            with torch.inference_mode():
                try:
                    compiled(images)
                except torch._dynamo.exc.TorchDynamoException as error:
                    raise InputError(f"torch.compile cannot compile this network: {one_line(error)}") from None
        return Load(partial(self._ready, _Compiled(compiled, images), threads))

    @contextmanager
    def _ready(self, compiled: _Compiled, threads: int) -> Iterator[Prepared]:
        with _threads(threads):
            yield compiled


@contextmanager
def _evaluated(network: nn.Module, dtype: str) -> Iterator[nn.Module]:
    """The network in evaluation mode; a copy of it if the type is another one."""
    import torch

    training = network.training
    network.eval()
    try:
        yield network if dtype == FLOAT32 else copy.deepcopy(network).to(getattr(torch, dtype))
    finally:
        network.train(training)


@contextmanager
def _threads(threads: int) -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _compiled(network: nn.Module) -> Callable[[torch.Tensor], torch.Tensor]:
    """Compile a network under its own code object.

    PyTorch stores compilations by the code object that was called, searches all of them at each call, and gives up
    after eight for the same code object. Networks share the code of their class.
    """
    import torch

    def run(images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = network(images)
        return logits

    own = FunctionType(run.__code__.replace(), run.__globals__, run.__name__, None, run.__closure__)
    return torch.compile(own, dynamic=False, fullgraph=True, options={"freezing": True})


class _Compiled:
    def __init__(self, compiled: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor) -> None:
        self._compiled, self._images = compiled, images

    def __call__(self) -> None:
        self._logits()

    def logits(self) -> np.ndarray:
        return np.asarray(self._logits().float().numpy())

    def _logits(self) -> torch.Tensor:
        import torch

        with torch.inference_mode():
            return self._compiled(self._images)

    def profile(self) -> list[tuple[float, int]]:
        return []


class _Eager:
    def __init__(self, network: nn.Module, images: np.ndarray, dtype: str) -> None:
        import torch

        self._network, self._images = network, torch.from_numpy(images).to(getattr(torch, dtype))

    def __call__(self) -> None:
        self._logits()

    def logits(self) -> np.ndarray:
        return np.asarray(self._logits().float().numpy())

    def _logits(self) -> torch.Tensor:
        import torch

        with torch.inference_mode():
            logits: torch.Tensor = self._network(self._images)
            return logits

    def profile(self) -> list[tuple[float, int]]:
        names = part_names(self._network)
        stamps: list[float] = []

        def note(*_: object) -> None:
            stamps.append(perf_counter())

        modules = [self._network.get_submodule(name) for name in names]
        hooks = [module.register_forward_pre_hook(note) for module in modules]
        hooks += [module.register_forward_hook(note) for module in modules]
        taken: list[np.ndarray] = []
        try:
            for _ in range(PROFILE_WARM_UP + PROFILE_RUNS):
                stamps.clear()
                self()
                taken.append(np.diff([*stamps, perf_counter()]) * 1e3)
        finally:
            for hook in hooks:
                hook.remove()
        inside, after = np.median(taken[PROFILE_WARM_UP:], axis=0).reshape(-1, 2).T
        spent = dict(zip(names, inside.tolist(), strict=True))
        for name, ms in zip(names, after.tolist(), strict=True):  # a row joins its branches between parts
            row = ".".join(name.split(".")[:2]) if name.startswith("features.") else name
            spent[name if name == row else owner(row, names)] += ms
        return [(ms, 1) for ms in spent.values()]
