"""Evolution on a model: within the limit, unseen, and better than chance by far."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from nas.arch.arch import Arch
from nas.engine.climb import Climber
from tests.engine.search_toys import SPACE, TINY, Model, cost_ms, target_of


def shares(archs: Sequence[Arch]) -> np.ndarray:
    """Share of blocks with squeeze-and-excitation plus share of 7x7 kernels: at odds with nothing but the cost."""
    return np.array([np.mean([(row.se > 0) + (row.kernel == 7) for row in arch.rows]) for arch in archs])


@pytest.mark.parametrize("questions", [4, 64, 256])
def test_proposals_are_within_the_limit_and_unseen(questions: int) -> None:
    limit = target_of(0.2)
    climber = Climber(SPACE, Model(), limit, np.random.default_rng(0), questions)
    seen: set[str] = set()
    for _ in range(30):
        genes = climber.propose(shares, seen)
        if genes is None:  # no network within the limit was met yet
            continue
        arch = SPACE.decode(genes)
        assert cost_ms(arch) <= limit
        assert arch.key not in seen
        seen.add(arch.key)
    assert len(seen) > 20


def test_it_finds_what_random_networks_do_not() -> None:
    """The best of 10 proposals scores above the best of 2,000 random networks within the limit."""
    limit = target_of(0.3)
    climber = Climber(SPACE, Model(), limit, np.random.default_rng(0))
    proposed: dict[str, Arch] = {}
    for _ in range(10):
        genes = climber.propose(shares, proposed)
        assert genes is not None
        arch = SPACE.decode(genes)
        proposed[arch.key] = arch
    best = shares(list(proposed.values())).max()
    drawn = [arch for arch in map(SPACE.sample, range(2000)) if cost_ms(arch) <= limit]
    assert best >= shares(drawn).max()


def test_a_space_that_is_used_up_gives_none() -> None:
    climber = Climber(TINY, Model(), None, np.random.default_rng(0))
    seen: set[str] = set()
    while (genes := climber.propose(shares, seen)) is not None:
        seen.add(TINY.decode(genes).key)
    assert len(seen) == TINY.size
