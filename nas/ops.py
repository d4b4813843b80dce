"""The modules a row can become. Plain PyTorch, explicit widths; `nas export` copies this source into ``model.py``."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def activation(name: str) -> nn.Module:
    """The activation of that name; ``none`` is the identity."""
    modules: dict[str, nn.Module] = {
        "none": nn.Identity(),
        "relu": nn.ReLU(inplace=True),
        "relu6": nn.ReLU6(inplace=True),
        "h_swish": nn.Hardswish(inplace=True),
        "swish": nn.SiLU(inplace=True),
        "sigmoid": nn.Sigmoid(),
        "hard_sigmoid": nn.Hardsigmoid(inplace=True),
    }
    return modules[name]


class ConvNormAct(nn.Sequential):
    """Convolution without bias, batch norm, activation. Padding keeps the size at stride 1."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int = 1, stride: int = 1, groups: int = 1, act: str = "none"
    ) -> None:
        super().__init__(
            nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False),
            nn.BatchNorm2d(out_channels),
            activation(act),
        )


class SqueezeExcite(nn.Module):
    """Squeeze-and-excitation (arXiv 1709.01507): each channel is scaled by a gate computed from all of them."""

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


class MBConv(nn.Module):
    """Inverted residual (arXiv 1801.04381): 1x1 expand, depthwise, squeeze-and-excitation, linear 1x1 project."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        stride: int,
        expanded: int,
        act: str,
        squeezed: int = 0,
        squeeze_act: str = "relu",
        gate: str = "hard_sigmoid",
    ) -> None:
        super().__init__()
        self.residual = stride == 1 and in_channels == out_channels
        layers: list[nn.Module] = []
        if expanded != in_channels:
            layers.append(ConvNormAct(in_channels, expanded, act=act))
        layers.append(ConvNormAct(expanded, expanded, kernel, stride, groups=expanded, act=act))
        if squeezed:
            layers.append(SqueezeExcite(expanded, squeezed, squeeze_act, gate))
        layers.append(ConvNormAct(expanded, out_channels))
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return x + y if self.residual else y


class GlobalPool(nn.Module):
    """The mean over the feature map: (N, C, H, W) to (N, C)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


class LinearAct(nn.Sequential):
    """Fully connected layer with bias, activation, no norm (the last stage of MobileNetV3)."""

    def __init__(self, in_channels: int, out_channels: int, act: str) -> None:
        super().__init__(nn.Linear(in_channels, out_channels), activation(act))


class Network(nn.Module):
    """Rows, then dropout and a linear classifier: (N, 3, H, W) images to (N, num_classes) logits."""

    def __init__(
        self, rows: list[nn.Module], width: int, num_classes: int, dropout: float, bn_eps: float, bn_momentum: float
    ) -> None:
        super().__init__()
        self.features = nn.Sequential(*rows)
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(width, num_classes))
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eps, module.momentum = bn_eps, bn_momentum

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.features(x))
        return logits


def initialise(network: nn.Module, generator: torch.Generator) -> None:
    """Fresh weights, as torchvision sets them for MobileNetV2 and V3: He fan-out, linear N(0, 0.01)."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0, 0.01, generator=generator)
            nn.init.zeros_(module.bias)
