"""The fast convolutions compute the same function and the same gradients as those they replace."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from nas.arch.space_yaml import load_space, names
from nas.network.build import build
from nas.training.small_maps import DepthwiseConv2d, adapt

pytestmark = pytest.mark.torch


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7, 12])
@pytest.mark.parametrize("kernel", [3, 5, 7])
@pytest.mark.parametrize("stride", [1, 2])
def test_depthwise_equals_conv2d(kernel: int, stride: int, size: int) -> None:
    """Outputs and both gradients equal Conv2d's, weights that only meet padding included."""
    torch.manual_seed(0)
    conv = nn.Conv2d(8, 8, kernel, stride, kernel // 2, groups=8, bias=False).double()
    ours = DepthwiseConv2d(copy.deepcopy(conv))
    x = torch.randn(3, 8, size, size, dtype=torch.double).to(memory_format=torch.channels_last)
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    ya, yb = conv(a), ours(b)
    torch.testing.assert_close(yb, ya)
    out = torch.randn_like(ya)
    ya.backward(out)
    yb.backward(out)
    torch.testing.assert_close(b.grad, a.grad)
    torch.testing.assert_close(ours.weight.grad, conv.weight.grad)


@pytest.mark.parametrize("name", names())
@pytest.mark.parametrize("seed", [0, 1])
def test_adapted_network_equals_the_original(seed: int, name: str) -> None:
    """Logits, every parameter's gradient and the names of the state dict are those of the original network."""
    arch = load_space(name).sample(seed).scaled(0.25, 28)
    plain = build(arch, 5).double().eval().to(memory_format=torch.channels_last)
    ours = adapt(copy.deepcopy(plain))
    assert list(ours.state_dict()) == list(plain.state_dict())
    assert any(isinstance(module, DepthwiseConv2d) for module in ours.modules())
    x = torch.randn(2, 3, 28, 28, dtype=torch.double).to(memory_format=torch.channels_last)
    ya, yb = plain(x), ours(x)
    torch.testing.assert_close(yb, ya)
    ya.square().sum().backward()
    yb.square().sum().backward()
    for (name, p), q in zip(plain.named_parameters(), ours.parameters(), strict=True):
        torch.testing.assert_close(q.grad, p.grad, msg=lambda text, name=name: f"{name}: {text}")
