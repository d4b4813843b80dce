"""Each reference equals the same network of torchvision and timm, with random weights and batch norm statistics carried
over: outputs in evaluation mode, gradients of the loss."""

import pytest
import torch
from torch import nn

from nas.network.build import build
from nas.network.weights import load_weights
from nas.references.pretrained import TIMM, TORCHVISION, Twin
from nas.references.table import reference
from tests.network.twins import Norms, twin

pytestmark = pytest.mark.torch

TABLES = {"torchvision": TORCHVISION, "timm": TIMM}
LARGE = {f"efficientnet_b{size}" for size in (3, 4, 5, 6, 7)}  # a second or more each
TWINS = [
    pytest.param(library, name, marks=pytest.mark.slow if name in LARGE else ())
    for library, table in TABLES.items()
    for name in table
]
GRADIENTS = ["mobilenet_v2", "mobilenet_v3_large", "efficientnet_b0", "mnasnet_b1", "shufflenet_v2"]


def ours_and_theirs(library: str, name: str) -> tuple[nn.Module, nn.Module]:
    """Our network with their weights, as the table says they were trained; and their network."""
    entry = TABLES[library][name]
    arch, theirs = entry.as_trained(reference(name)), twin(library, entry.model)
    assert {module.eps for module in theirs.modules() if isinstance(module, Norms)} == {arch.bn_eps}
    return load_weights(build(arch), theirs.state_dict()).eval(), theirs


@pytest.mark.parametrize(("library", "name"), TWINS)
def test_outputs_equal(library: str, name: str) -> None:
    ours, theirs = ours_and_theirs(library, name)
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected, outputs = theirs(images), ours(images)
    assert 0.2 < expected.std() < 5, "a signal that dies out equals any other"
    assert (expected[0] - expected[1]).std() > 0.05, "so does one that does not depend on the image"
    assert (outputs - expected).abs().max() <= 1e-4


@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients_equal_torchvisions(name: str) -> None:
    ours, theirs = ours_and_theirs("torchvision", name)
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    gradients = []
    for network in (ours, theirs):  # in eval mode dropout and stochastic depth are off, and gradients still flow
        nn.functional.cross_entropy(network(images), torch.tensor([3, 5])).backward()
        gradients.append([p.grad for p in network.parameters()])
    for mine, other in zip(*gradients, strict=True):
        assert other is not None
        assert other.abs().max() > 1e-6
        assert (mine.reshape(other.shape) - other).abs().max() <= 1e-3 * max(1.0, float(other.abs().max()))


def test_epsilon_and_activation_of_the_tables_matter() -> None:
    """Weights of timm's MobileNetV1 compute something else in a network with ReLU."""
    arch, theirs = reference("mobilenet_v1"), twin("timm", TIMM["mobilenet_v1"].model)
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    theirs.get_submodule("bn1").weight.data.mul_(8)  # so that some values exceed 6
    with torch.inference_mode():
        expected = theirs(images)
        for entry, same in ((Twin("x"), False), (TIMM["mobilenet_v1"], True)):
            ours = load_weights(build(entry.as_trained(arch)), theirs.state_dict()).eval()
            assert ((ours(images) - expected).abs().max() <= 1e-4) == same
