"""Features: finite for any network, right counts, and a change of one block moves nothing but what it concerns."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.accuracy.features import CAPACITY, NAMES, SLOTS, features, group_of, is_capacity, is_product
from nas.accuracy.words import in_words, listed
from nas.arch.arch import Arch
from nas.arch.block import BLOCK_OPS
from nas.arch.cost import cost_of
from nas.arch.space_yaml import load_space, names
from nas.references.table import reference, reference_names
from tests.strategies import archs

SPACES = names("")
seeds = st.integers(0, 2**32 - 1)


def named(arch: Arch) -> dict[str, float]:
    return dict(zip(NAMES, features([arch])[0].tolist(), strict=True))


def drawn(space: str, seed: int) -> Arch:
    return load_space(space).sample(seed)


networks = st.one_of(
    archs, st.builds(drawn, st.sampled_from(SPACES), seeds), st.sampled_from(reference_names()).map(reference)
)


def by_halvings(arch: Arch) -> dict[int, int]:
    """Blocks by the number of halvings of the image, from strides alone."""
    size, counts = arch.resolution, dict.fromkeys(range(1, 6), 0)
    for row in arch.rows:
        if row.op in ("pool", "linear"):
            continue
        size = math.ceil(size / row.stride)
        if row.op in BLOCK_OPS:
            counts[min(5, max(1, round(math.log2(arch.resolution / size))))] += 1
    return counts


def test_all_shipped_spaces_are_tested() -> None:
    assert {"mbconv", "efficientnet", "shufflenet", "mobilenet_v4"} <= set(SPACES)


@settings(max_examples=150, deadline=None)
@given(networks)
def test_features_are_finite_and_counts_are_those_of_the_rows(arch: Arch) -> None:
    values = features([arch])
    assert values.shape == (1, len(NAMES))
    assert values.dtype == np.float64
    assert np.isfinite(values).all()
    row = named(arch)
    counts = by_halvings(arch)
    assert row["depth"] == sum(block.op in BLOCK_OPS for block in arch.rows) == sum(counts.values())
    for halvings, count in counts.items():
        parts = [slot for slot in SLOTS if slot[0] == str(halvings)]
        assert sum(row[f"{slot}.n"] for slot in parts) == count
    for slot in SLOTS:
        assert [row[f"{slot}.n>={least}"] for least in (1, 2, 3, 4)] == [row[f"{slot}.n"] >= at for at in (1, 2, 3, 4)]
        for share in ("e1", "k5", "k7", "se", "act"):
            assert 0 <= row[f"{slot}.{share}"] <= (row[f"{slot}.n"] > 0)


@settings(max_examples=40, deadline=None)
@given(networks)
def test_capacity_is_that_of_the_cost(arch: Arch) -> None:
    row, cost = named(arch), cost_of(arch)
    for name, size in zip(CAPACITY, (cost.params, cost.macs, cost.memory_bytes, arch.resolution), strict=True):
        assert 2 ** (row[name] + CAPACITY[name]) == pytest.approx(size)
    assert row["params*macs"] == pytest.approx(row["params"] * row["macs"])


CHANGES = {  # cells of a block, and the features of its slot that may change with them
    "kernel": ({"kernel": 5}, ("k5",), True),
    "large kernel": ({"kernel": 7}, ("k7",), True),
    "se": ({"se": 0.25}, ("se",), True),
    "act": ({"act": "swish"}, ("act",), False),
    "expand": ({"expand": 6}, ("e",), True),
}


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(["mbconv", "efficientnet"]), seeds, st.sampled_from(sorted(CHANGES)), st.data())
def test_a_change_of_one_block_moves_its_slot_and_capacity_alone(
    space: str, seed: int, name: str, data: st.DataObject
) -> None:
    cells, features_of, costs_more = CHANGES[name]
    arch = drawn(space, seed)
    blocks = [at for at, block in enumerate(arch.rows) if block.op == "mbconv"]
    at = data.draw(st.sampled_from(blocks))
    plain = {"kernel": 3, "se": 0, "act": "relu", "expand": 3}
    rows = [replace(arch.rows[at], **plain), replace(arch.rows[at], **plain | cells)]
    before, after = (replace(arch, rows=(*arch.rows[:at], row, *arch.rows[at + 1 :])) for row in rows)
    moved = {key for key, value in named(before).items() if not math.isclose(value, named(after)[key], abs_tol=1e-12)}
    plain_moved = {key for key in moved if not is_product(key)}
    of_slots = {key for key in plain_moved if not is_capacity(key)}
    assert len(of_slots) == 1
    slot, _, feature = of_slots.pop().partition(".")
    assert feature in features_of
    assert all(is_capacity(key) or set(features_of) & set(key.partition(".")[2].split("*")) for key in moved)
    assert all(is_capacity(key) or key.startswith(f"{slot}.") for key in moved)
    if not costs_more:
        assert not any(key in moved for key in ("params", "macs"))
    assert not moved & {"side", "depth", "other"}


@given(seeds)
def test_a_network_has_the_same_features_alone_and_among_others(seed: int) -> None:
    nets = [drawn("mbconv", seed), reference("mobilenet_v2"), drawn("efficientnet", seed)]
    together = features(nets)
    assert np.array_equal(together, np.vstack([features([net]) for net in nets]))
    assert np.array_equal(features(nets[::-1]), together[::-1])


def test_no_networks_have_no_features() -> None:
    assert features([]).shape == (0, len(NAMES))


def test_the_slots_of_mobilenet_v3_are_those_of_its_table() -> None:
    """Table 1 of the paper: 16 at 1/2; 24 at 1/4; 40 at 1/8; 80 and 112 at 1/16; 160 at 1/32."""
    row = named(reference("mobilenet_v3_large"))
    assert [row[f"{slot}.n"] for slot in SLOTS] == [1, 2, 3, 4, 2, 3, 0]
    assert [2 ** row[f"{slot}.w"] for slot in SLOTS[:6]] == pytest.approx([16, 24, 40, 80, 112, 160])
    assert [row[f"{slot}.se"] for slot in SLOTS] == [0, 0, 1, 0, 1, 1, 0]
    assert [row[f"{slot}.k5"] for slot in SLOTS] == [0, 0, 1, 0, 0, 1, 0]
    assert [row[f"{slot}.act"] for slot in SLOTS] == [0, 0, 0, 1, 1, 1, 0]
    assert (row["depth"], row["other"]) == (15, 0)
    assert named(reference("shufflenet_v2"))["other"] == 1


def test_every_feature_has_one_group_and_words() -> None:
    assert len(set(NAMES)) == len(NAMES)
    assert {group_of(f"{slot}.k5") for slot in SLOTS} == {"k5"}
    for name in NAMES:
        assert not (is_capacity(name) and name.partition(".")[0] in SLOTS)
        if not is_product(name):
            assert in_words(name) != name
            assert in_words(name) == listed([name])
