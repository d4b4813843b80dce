"""Built networks have the shapes that `Arch.places` derives; test_twins.py checks what they compute."""

import pytest
import torch
from hypothesis import given, settings

from nas.arch.arch import Arch
from nas.network.build import build
from nas.references.table import reference
from nas.system.errors import InputError
from tests.strategies import archs

pytestmark = pytest.mark.torch


@settings(max_examples=15, deadline=None)
@given(archs)
def test_any_arch_builds_with_the_derived_shapes(arch: Arch) -> None:
    network = build(arch, num_classes=5).eval()
    x = torch.randn(2, 3, arch.resolution, arch.resolution)
    with torch.inference_mode():
        for placed, module in zip(arch.places(), network.features, strict=True):
            x = module(x)
            flat = placed.row.op in ("pool", "linear")
            sides = () if flat else (placed.out_size, placed.out_size)
            assert x.shape == (2, placed.out_channels, *sides)
        assert network.classifier(x).shape == (2, 5)


def test_weights_come_from_the_seed_alone() -> None:
    arch = reference("mobilenet_v3_small")
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    one = build(arch, seed=1)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(99)
    two, three = build(arch, seed=1), build(arch, seed=2)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert not torch.equal(one.features[0][0].weight, three.features[0][0].weight)


@pytest.mark.parametrize("classes", [0, -1, 10**9])
def test_absurd_class_counts_are_refused(classes: int) -> None:
    with pytest.raises(InputError, match="num_classes"):
        build(reference("mobilenet_v2"), num_classes=classes)
