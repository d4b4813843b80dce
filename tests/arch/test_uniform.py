"""Uniform draws: every network as probable as any other."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from scipy.stats import chisquare

from nas.arch.space_yaml import load_space, names, parse_space
from nas.arch.uniform import Uniform

AMBIGUOUS = """
name: ambiguous
resolution: [32, 64]
width: [0.5, 1.0]
stem: {op: conv, kernel: 3, channels: 8, stride: 2, act: relu}
stages:
  - {op: [mbconv, skip], repeat: [1, 2, 3], channels: [8, 16], stride: 1, kernel: [3, 5], expand: 1, act: relu}
head:
  - {op: pool}
"""


def test_every_network_is_as_probable_as_any_other() -> None:
    """Also where several settings of the genes describe one network: by a skipped block, or widths that round alike."""
    space = parse_space(AMBIGUOUS, "ambiguous.yaml")
    drawn = Counter(Uniform(space).batch(100 * space.size, np.random.default_rng(0)))
    assert len(drawn) == space.size
    assert chisquare(list(drawn.values())).pvalue > 1e-3
    settings = Counter(space.sample(seed) for seed in range(10 * space.size))
    assert chisquare([settings[arch] for arch in drawn]).pvalue < 1e-6  # drawing genes is not that


@pytest.mark.parametrize("name", names())
def test_draws_are_networks_of_the_space(name: str) -> None:
    space = load_space(name)
    drawn = Uniform(space).batch(50, np.random.default_rng(1))
    assert all(arch in space for arch in drawn)
    assert len(set(drawn)) == 50
