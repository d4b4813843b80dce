"""The basic layers and the whole network, in plain PyTorch with explicit widths. `nas export` copies this source into
``model.py``."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def activation(name: str) -> nn.Module:
    """The activation with this name; ``none`` is the identity."""
    modules: dict[str, nn.Module] = {
        "none": nn.Identity(),
        "relu": nn.ReLU(inplace=True),
        "relu6": nn.ReLU6(inplace=True),
        "h_swish": nn.Hardswish(inplace=True),
        "swish": nn.SiLU(inplace=True),
        "gelu": nn.GELU(),
        "sigmoid": nn.Sigmoid(),
        "hard_sigmoid": nn.Hardsigmoid(inplace=True),
    }
    return modules[name]


def norm_layer(name: str, channels: int) -> nn.Module:
    """The normalisation with this name over the channels of a map; ``none`` is the identity."""
    if name == "batch":
        return nn.BatchNorm2d(channels)
    if name == "group":  # arXiv 1803.08494, with 8 channels a group, or 4 or 2; one group for odd widths
        share = math.gcd(channels, 8)
        return nn.GroupNorm(channels // share if share > 1 else 1, channels)
    return nn.Identity()


class ConvNormAct(nn.Sequential):
    """Convolution, norm, activation. There is a bias only without norm. Padding keeps the size at stride 1. `kernel`
    and `stride` may be pairs (height, width)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int | tuple[int, int] = 1,
        stride: int | tuple[int, int] = 1,
        groups: int = 1,
        act: str = "none",
        norm: str = "batch",
    ) -> None:
        padding = kernel // 2 if isinstance(kernel, int) else (kernel[0] // 2, kernel[1] // 2)
        bias = norm == "none"
        super().__init__(
            nn.Conv2d(in_channels, out_channels, kernel, stride, padding, groups=groups, bias=bias),
            norm_layer(norm, out_channels),
            activation(act),
        )


class SqueezeExcite(nn.Module):
    """Squeeze-and-excitation (arXiv 1709.01507): each channel is scaled by a gate computed from all channels."""

    def __init__(self, channels: int, squeezed: int, act: str, gate: str) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, squeezed, 1)
        self.act = activation(act)
        self.excite = nn.Conv2d(squeezed, channels, 1)
        self.gate = activation(gate)

    def forward(self, x: Tensor) -> Tensor:
        pooled = x.mean((2, 3), keepdim=True)
        scale: Tensor = self.gate(self.excite(self.act(self.squeeze(pooled))))
        return x * scale


class GlobalPool(nn.Module):
    """The mean over the feature map: (N, C, H, W) to (N, C)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


class LinearAct(nn.Sequential):
    """Fully connected layer, norm, activation: the last stage of MobileNetV3 (without norm) and of MobileNetV4."""

    def __init__(self, in_channels: int, out_channels: int, act: str, norm: str = "none", bias: bool = True) -> None:
        layers: list[nn.Module] = [nn.Linear(in_channels, out_channels, bias and norm == "none")]
        if norm != "none":
            layers.append(nn.BatchNorm1d(out_channels) if norm == "batch" else norm_layer(norm, out_channels))
        super().__init__(*layers, activation(act))


class Network(nn.Module):
    """Rows, then dropout and a linear classifier: (N, 3, H, W) images to (N, num_classes) logits."""

    def __init__(
        self,
        rows: list[nn.Module],
        width: int,
        num_classes: int,
        dropout: float,
        bn_eps: float,
        bn_momentum: float,
        stochastic_depth: float = 0.0,
    ) -> None:
        super().__init__()
        self.features = nn.Sequential(*rows)
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(width, num_classes))
        for module in self.modules():
            if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
                module.eps, module.momentum = bn_eps, bn_momentum
        blocks = [row for row in rows if hasattr(row, "drop_path")]
        for at, block in enumerate(blocks):
            setattr(block, "drop_path", stochastic_depth * at / len(blocks))  # noqa: B010

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.features(x))
        return logits


def initialise(network: nn.Module, generator: torch.Generator) -> None:
    """Draw new weights as torchvision does for MobileNetV2 and V3: He fan-out, linear N(0, 0.01)."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0, 0.01, generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
