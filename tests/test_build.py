"""Networks equal their torchvision twins with the weights carried over; building touches no global state."""

import pytest
import torch
from hypothesis import given, settings

from nas.arch import Arch
from nas.build import build
from nas.errors import InputError
from nas.references import reference
from tests.strategies import archs
from tests.twins import torchvision

TWINS = ["mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small", "efficientnet_b0"]


def twins(name: str) -> tuple[torch.nn.Module, torch.nn.Module]:
    """Ours and torchvision's, with the same random weights and random batch norm statistics."""
    ours, theirs = build(reference(name)), torchvision().models.get_model(name, weights=None)
    generator = torch.Generator().manual_seed(0)
    target = ours.state_dict()
    source = [value for key, value in theirs.state_dict().items()]
    assert [v.shape for v in source] == [v.shape for v in target.values()]
    for value in source:
        if value.dtype.is_floating_point and value.dim() == 1:
            value.copy_(torch.rand(value.shape, generator=generator) * 0.5 + 0.75)
    ours.load_state_dict(dict(zip(target, source, strict=True)))
    return ours, theirs


@pytest.mark.parametrize("name", TWINS)
def test_outputs_equal_torchvisions(name: str) -> None:
    ours, theirs = twins(name)
    images = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = theirs.eval()(images)
        assert expected.abs().max() > 1e-3
        assert torch.allclose(ours.eval()(images), expected, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize("name", ["mobilenet_v2", "mobilenet_v3_large", "efficientnet_b0"])
def test_gradients_equal_torchvisions(name: str) -> None:
    ours, theirs = twins(name)
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    gradients = []
    for network in (ours.eval(), theirs.eval()):  # eval: dropout and stochastic depth are off, gradients still flow
        torch.nn.functional.cross_entropy(network(images), torch.tensor([3, 5])).backward()
        gradients.append([p.grad for p in network.parameters()])
    for mine, other in zip(*gradients, strict=True):
        assert torch.allclose(mine, other, atol=1e-3 * max(1.0, float(other.abs().max())))


@settings(max_examples=40, deadline=None)
@given(archs)
def test_any_arch_builds_and_keeps_the_shapes_the_fold_says(arch: Arch) -> None:
    network = build(arch, num_classes=5).eval()
    x = torch.randn(1, 3, arch.resolution, arch.resolution)
    with torch.inference_mode():
        for placed, module in zip(arch.places(), network.features, strict=True):
            x = module(x)
            flat = placed.row.op in ("pool", "linear")
            sides = () if flat else (placed.out_size, placed.out_size)
            assert x.shape == (1, placed.out_channels, *sides)
        assert network.classifier(x).shape == (1, 5)


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
    with pytest.raises(InputError, match="num_classes must be"):
        build(reference("mobilenet_v2"), num_classes=classes)
