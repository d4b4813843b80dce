"""A network as an ExecuTorch program (``.pte``) for XNNPACK.

Lowering takes 5 to 15 s per network, most of it in passes over the graph that ExecuTorch repeats for each delegate.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from nas.network.eval_mode import eval_on_one_thread
from nas.system.errors import NasError
from nas.system.text import one_line

if TYPE_CHECKING:
    import torch
    from torch import nn

_LOUD = ("torchao", "torch.utils._pytree", "executorch")


@contextmanager
def quiet() -> Iterator[None]:
    """Silence ExecuTorch and torchao, which it imports, about libraries for other devices and deprecated names. Errors
    are still raised. The root logger, which importing ExecuTorch configures, is restored afterwards."""
    root, loud = logging.getLogger(), [logging.getLogger(name) for name in _LOUD]
    handlers, level, levels = list(root.handlers), root.level, [logger.level for logger in loud]
    for logger in loud:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, before in zip(loud, levels, strict=True):
            logger.setLevel(before)
        for handler in set(root.handlers) - set(handlers):
            root.removeHandler(handler)
        root.setLevel(level)


def for_xnnpack(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """The same function in operators that XNNPACK accepts. The mean over the map keeps its axes until it is flattened,
    and the hard sigmoid adds floats instead of whole numbers that are converted at each run. Without this, the pooling
    of every network and three copies per hard sigmoid run outside XNNPACK, and the pooling splits the network in two.

    Quantisation should start from this program (``for_xnnpack(program).module()``)."""
    import torch

    aten = torch.ops.aten

    def mean(x: Any, dim: Any, keepdim: bool = False, *, dtype: Any = None) -> Any:
        if keepdim or dtype is not None or x.dim() != 4 or sorted(at % 4 for at in dim or ()) != [2, 3]:
            return NotImplemented
        return aten.flatten.using_ints(aten.mean.dim(x, [2, 3], True), 1)

    def hard_sigmoid(x: Any) -> Any:
        return aten.mul.Tensor(aten.hardtanh.default(aten.add.Tensor(x, 3.0), 0.0, 6.0), 1 / 6)

    with quiet():
        changed: torch.export.ExportedProgram = program.run_decompositions(
            {aten.mean.dim: mean, aten.hardsigmoid.default: hard_sigmoid}
        )
        return changed


def lowered(program: torch.export.ExportedProgram) -> bytes:
    """The bytes of a ``.pte`` file: `program`, with everything that XNNPACK accepts delegated to it."""
    with quiet():
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower

        edge = to_edge_transform_and_lower(for_xnnpack(program), partitioner=[XnnpackPartitioner()])
        return bytes(edge.to_executorch().buffer)


def exported(network: nn.Module, resolution: int, batch: int = 1) -> torch.export.ExportedProgram:
    """`network` in evaluation mode as a program for `batch` square images. Its own mode is restored afterwards."""
    import torch

    with eval_on_one_thread(network), quiet(), torch.no_grad():
        return torch.export.export(network, (torch.zeros(batch, 3, resolution, resolution),))


def pte_bytes(network: nn.Module, resolution: int, batch: int = 1) -> bytes:
    """`network` as a ``.pte`` file for XNNPACK: input (batch, 3, side, side), output (batch, classes), both float32.

    Args:
        network: network to export, in evaluation mode; its own mode is restored afterwards.
        resolution: side of the images in pixels, fixed in the file.
        batch: number of images, fixed in the file.

    Raises:
        NasError: PyTorch cannot export the network, or ExecuTorch cannot lower it.
    """
    try:
        return lowered(exported(network, resolution, batch))
    except Exception as error:  # torch.export and executorch have many types of their own
        raise NasError(f"ExecuTorch cannot lower this network: {one_line(error)}") from None
