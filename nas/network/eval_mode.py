"""The state in which a network is traced and exported."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


@contextmanager
def eval_on_one_thread(network: nn.Module) -> Iterator[None]:
    """Put a network into evaluation mode and PyTorch on one thread; restore both afterwards.

    A trace runs one image. On a busy machine, threads that wait for each other made it five to seven times slower.
    """
    import torch

    training, threads = network.training, torch.get_num_threads()
    network.eval()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        network.train(training)
