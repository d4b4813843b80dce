"""Reproducible weights without a trace in PyTorch's global random state."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def cpu_seed(seed: int) -> Iterator[None]:
    """Seed PyTorch's CPU generator inside the block, and restore its state afterwards.

    ``torch.manual_seed`` would seed the generators of all GPUs as well, and nothing would restore those.

    Args:
        seed: seed of the CPU generator.

    >>> with cpu_seed(3):
    ...     first = torch.rand(())
    >>> with cpu_seed(3):
    ...     bool(torch.rand(()) == first)
    True
    """
    generator = torch.default_generator
    state = generator.get_state()
    generator.manual_seed(seed)
    try:
        yield
    finally:
        generator.set_state(state)
