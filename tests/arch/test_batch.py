"""Many networks as arrays: the same numbers as one at a time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.arch import batch as batches
from nas.arch.arch import Arch
from nas.arch.batch import Batch
from nas.arch.block import Block, PlacedBlock
from nas.arch.codes import INACTIVE, Coder
from nas.arch.cost import cost_of, costs
from nas.arch.space import Space
from nas.arch.space_yaml import load_space, names
from nas.references.table import reference

SPACES = {name: load_space(name) for name in names()}


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**32 - 1))
def test_genes_as_numbers_make_the_networks_that_the_space_makes(space: Space, seed: int) -> None:
    """And the genes that are marked active are those that the space meets."""
    rng = np.random.default_rng(seed)
    coder = Coder(space)
    made = coder.batch(coder.random(8, rng))
    children = coder.batch(coder.children(made.codes, 8, rng))
    for batch in (made, children):
        for codes, arch in zip(batch.codes, batch, strict=True):
            genes = coder.genes(codes)
            met, same = space.realised(lambda gene: genes[gene.name])  # noqa: B023
            assert (same, met) == (arch, genes)
    assert (coder.one_hot(coder.encoded(made)) == np.array([space.features(arch) for arch in made])).all()
    assert (coder.encoded(made) == [coder.codes(space.encode(arch)) for arch in made]).all()


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_batch_of_networks_is_the_networks(space: Space, seed: int) -> None:
    rng = np.random.default_rng(seed)
    archs = [space.sample(rng) for _ in range(5)]
    batch = Batch.of([*archs, archs[0]])
    again = Batch(batch.rows, batch.ids, batch.resolution, space.arch_options)
    assert list(again) == [*archs, archs[0]]
    assert list(again[1:3]) == archs[1:3]
    words = again.words()
    assert words[0] == words[-1]
    assert len(set(words)) == len(set(archs))


def test_costs_are_those_of_single_networks() -> None:
    archs = [reference("mobilenet_v2"), reference("shufflenet_v1_g3"), reference("efficientnet_b0")]
    expected = [(one.params, one.macs, one.memory_bytes) for one in map(cost_of, archs)]
    assert costs(archs).tolist() == [list(map(float, row)) for row in expected]
    assert costs([]).shape == (0, 3)


def test_a_row_that_cannot_be_described_concerns_its_own_networks_alone() -> None:
    def kernel(placed: PlacedBlock) -> tuple[float]:
        if placed.row.op == "conv" and placed.row.kernel == 15:
            raise ValueError("unknown kernel")
        return (placed.row.kernel,)

    def network(kernel: int) -> Arch:
        return Arch((Block("conv", channels=8, kernel=kernel), Block("pool")), 32)

    good, bad = Batch.of([network(3)]), Batch.of([network(15)])
    with pytest.raises(ValueError, match="kernel"):
        bad.sums(kernel)
    assert good.sums(kernel).tolist() == [[3.0 + good.rows.placed[good.ids[0, 1]].row.kernel]]


def test_numbers_are_started_over_when_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    space = SPACES["mbconv"]
    coder = Coder(space)
    first = coder.batch(coder.random(4, np.random.default_rng(0)))
    before = costs(first)
    monkeypatch.setattr(batches, "MAX_ROWS", 0)
    assert (costs(list(first)) == before).all()
    later = coder.batch(first.codes)
    assert later.rows is not first.rows
    assert list(later) == list(first)
    assert (costs(first) == before).all()


def test_a_mutant_keeps_most_of_its_parents() -> None:
    coder = Coder(SPACES["mbconv"])
    rng = np.random.default_rng(0)
    parents = coder.batch(coder.random(1, rng)).codes
    children = coder.batch(coder.children(parents, 500, rng)).codes
    both = (children != INACTIVE) & (parents != INACTIVE)
    changed = ((children != parents) & both).sum(axis=1)
    assert 0.5 < changed.mean() < 4
    assert (changed > 0).mean() > 0.5
