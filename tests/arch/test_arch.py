"""Architectures: lossless JSON, keys by content, bounds, and the paper's channel rounding."""

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.arch.arch import Arch
from nas.arch.block import Block
from nas.arch.rounding import make_divisible
from nas.references.table import reference
from nas.system.errors import InputError
from tests.strategies import archs


@given(archs)
def test_json_is_lossless(arch: Arch) -> None:
    assert Arch.from_json(arch.to_json()) == arch
    assert Arch.from_json(arch.to_json()).key == arch.key


@given(archs, archs)
def test_keys_are_equal_exactly_when_networks_are(one: Arch, other: Arch) -> None:
    assert (one == other) == (one.key == other.key)


@given(archs)
def test_a_key_does_not_depend_on_the_order_of_json_fields(arch: Arch) -> None:
    data = json.loads(arch.to_json())
    assert Arch.from_json(json.dumps(dict(reversed(data.items())))).key == arch.key


def test_cells_without_meaning_do_not_make_a_difference() -> None:
    assert Block("conv", 8, 3, act="relu", expand=6, se=0.25) == Block("conv", 8, 3, act="relu")
    assert Block("mbconv", 8, 3, se=0, se_base="input", se_gate="sigmoid") == Block("mbconv", 8, 3)
    assert Block("mbconv", 8, 3, expand=6.0).cells() == Block("mbconv", 8, 3, expand=6).cells()


@given(st.floats(1, 4000))
def test_rounded_channels_are_divisible_and_lose_at_most_a_tenth(value: float) -> None:
    rounded = make_divisible(value)
    assert rounded % 8 == 0
    assert rounded >= 0.9 * value
    assert rounded == 8 or abs(rounded - value) <= 8


def test_make_divisible_equals_torchvision() -> None:
    from tests.network.twins import torchvision

    theirs = torchvision().models._utils._make_divisible
    assert all(make_divisible(v / 10) == theirs(v / 10, 8) for v in range(1, 20000, 7))


@given(archs)
def test_places_chain(arch: Arch) -> None:
    """What one row gives is what the next one receives."""
    places = list(arch.places())
    assert places[0].in_channels == 3
    assert places[0].in_size == arch.resolution
    for before, after in pairwise(places):
        assert (after.in_channels, after.in_size) == (before.out_channels, before.out_size)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"schema": 2}, "schema must be 1, got 2"),
        ({"rows": []}, "2 to 256"),
        ({"resolution": 0}, "resolution"),
        ({"resolution": 1e9}, "resolution"),
        ({"extra": 1}, "'extra'"),
        ({"rows": [{"op": "conv", "channels": 8}]}, "2 to 256"),
        ({"rows": [{"op": "conv"}, {"op": "pool"}]}, "row 0 (conv)"),
        ({"rows": [{"op": "conv", "channels": 8, "kernel": 4}, {"op": "pool"}]}, "kernel must be odd, got 4"),
        ({"rows": [{"op": "conv", "channels": 10**9}, {"op": "pool"}]}, "channels must be a whole number from 1"),
        ({"rows": [{"op": "conv", "channels": 8, "se": 0.5}, {"op": "pool"}]}, "'se'; known: op, channels"),
        ({"rows": [{"op": "dense", "channels": 8}, {"op": "pool"}]}, "'dense'; known: conv, dwsep"),
        ({"rows": [{"op": "pool"}, {"op": "conv", "channels": 8}]}, "pool conv"),
        ({"rows": ["conv", "pool"]}, "'conv'"),
    ],
)
def test_bad_json_is_one_line_with_the_value(change: dict[str, object], says: str) -> None:
    data = json.loads(reference("mobilenet_v2").to_json()) | change
    with pytest.raises(InputError) as caught:
        Arch.from_json(json.dumps(data))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100_000, "1" * (2 << 20)])
def test_junk_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        Arch.from_json(text)
