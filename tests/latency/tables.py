"""Spaces that are quick to time, and made-up devices."""

import numpy as np

from nas.arch.arch import Arch
from nas.latency.table.columns import Columns

SMALL = """
name: small
resolution: [32, 48]
stem: {op: conv, kernel: 3, channels: 16, stride: 2, act: [relu, h_swish]}
stages:
  - {op: mbconv, repeat: [1, 2], channels: [16, 24], stride: 2, kernel: [3, 5], expand: [1, 4], se: [0, 0.25]}
"""
ONE = """
name: one
resolution: 32
stem: {op: conv, kernel: 3, channels: 16, stride: 2, act: relu}
stages:
  - {op: mbconv, channels: 24, stride: 2, kernel: 3, expand: 3, act: relu}
"""


def made_up(archs: list[Arch], seed: int = 0) -> tuple[Columns, np.ndarray]:
    """The columns and coefficients of a device that is exactly linear in them."""
    columns = Columns.seen_in(archs)
    largest = columns.of_networks(archs).max(axis=0)
    return columns, np.random.default_rng(seed).uniform(0.1, 1, len(largest)) / np.maximum(largest, 1)
