"""Parameters, MACs and memory access: the closed forms against fvcore's trace, and against published figures."""

import pytest
from hypothesis import assume, given, settings

from nas.arch.arch import Arch
from nas.arch.block import Block
from nas.arch.cost import BYTES, cost_of
from nas.arch.layers import layers_of
from nas.arch.space_yaml import load_space
from nas.network.count import count, traced_cost
from nas.references.table import reference
from nas.system.errors import NasError
from tests.strategies import archs

pytestmark = pytest.mark.torch

SEEDS = [pytest.param(seed, marks=[pytest.mark.slow] if seed >= 50 else []) for seed in range(0, 200, 10)]


@pytest.mark.parametrize("seed", SEEDS)
def test_closed_form_equals_the_trace_on_random_networks(seed: int) -> None:
    """Parameters, MACs and bytes of 200 networks of mbconv are exactly equal; 100 of them run with `pytest -m slow`."""
    space = load_space("mbconv")
    for member in range(seed, seed + 10):
        arch = space.sample(member).scaled(0.5, 32)
        assert cost_of(arch, 10) == count(arch, 10, trace=True)


@settings(max_examples=30, deadline=None)
@given(archs)
def test_closed_form_equals_the_trace_on_any_rows(arch: Arch) -> None:
    assume(not any(placed.row.norm == "group" and placed.out_size == 1 for placed in arch.places()))
    # PyTorch refuses to normalise a group of one value
    assert cost_of(arch, 7) == count(arch, 7, trace=True)


@pytest.mark.parametrize(
    ("name", "params", "macs_m"),
    [
        ("mobilenet_v2", 3_504_872, 300.77),
        ("mobilenet_v3_large", 5_483_032, 216.59),
        ("mobilenet_v3_small", 2_542_856, 56.51),
        ("efficientnet_b0", 5_288_548, 385.81),
    ],
)
def test_references_have_their_published_counts(name: str, params: int, macs_m: float) -> None:
    cost = count(reference(name))
    assert cost.params == params
    assert cost.macs / 1e6 == pytest.approx(macs_m, abs=0.005)


def test_depthwise_separable_textbook_figures() -> None:
    """8x8 outputs, 5x5 kernel, 3 to 256 channels: 1,228,800 multiplications plain, 4,800 + 49,152 separable."""
    plain = Arch((Block("conv", 256, 5), Block("pool")), 8)
    separable = Arch((Block("mbconv", 256, 5), Block("pool")), 8)
    assert sum(layer.macs for layer in layers_of(next(plain.places()))) == 1_228_800
    assert [layer.macs for layer in layers_of(next(separable.places()))] == [4_800, 49_152]


def test_memory_access_of_one_pointwise_layer_by_hand() -> None:
    """Weights and batch norm (3*8 + 2*8), 4x4 maps of 3 and 8 channels; the pool; the classifier of 2 with bias."""
    arch = Arch((Block("conv", 8, 1), Block("pool")), 8)
    conv = 3 * 8 + 2 * 8 + 64 * (3 + 8)
    pool = 64 * 8 + 8
    head = 8 * 2 + 2 + 8 + 2
    assert cost_of(arch, 2).memory_bytes == BYTES * (conv + pool + head)


def test_an_operator_without_a_rule_is_reported() -> None:
    import torch

    class Odd(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 4, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cumsum(self.conv(x), 1)

    with pytest.raises(NasError, match="cumsum"):
        traced_cost(Odd(), 8)
