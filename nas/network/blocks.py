"""The building blocks of the mobile families, in plain PyTorch with explicit widths. `nas export` copies this source
into ``model.py``."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nas.network.ops import ConvNormAct, SqueezeExcite, activation


def shuffle(x: Tensor, groups: int) -> Tensor:
    """Channel shuffle (arXiv 1707.01083): each group of the next convolution gets channels of every group before it."""
    c, h, w = map(int, x.shape[1:])  # plain numbers: exported files with an open batch need not compute them
    return x.reshape(-1, groups, c // groups, h, w).transpose(1, 2).reshape(-1, c, h, w)


def drop_path(x: Tensor, rate: float, training: bool) -> Tensor:
    """Stochastic depth (arXiv 1603.09382): in training, each image skips the whole branch with probability `rate`."""
    if not training or rate == 0:
        return x
    kept = torch.rand(x.shape[0], 1, 1, 1, device=x.device, dtype=x.dtype) >= rate
    return x * kept / (1 - rate)


class DepthwiseSeparable(nn.Module):
    """Depthwise separable convolution (arXiv 1704.04861): depthwise, then 1x1, each with norm and activation.
    `expanded` is a multiple of `in_channels`."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        stride: int,
        expanded: int,
        act: str,
        norm: str = "batch",
    ) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            ConvNormAct(in_channels, expanded, kernel, stride, in_channels, act, norm),
            ConvNormAct(expanded, out_channels, act=act, norm=norm),
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return y


class SpatiallySeparable(nn.Module):
    """Spatially separable convolution (arXiv 1512.00567, section 3.2): kx1, then 1xk, each with norm and activation."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, stride: int, act: str, norm: str = "batch"
    ) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            ConvNormAct(in_channels, out_channels, (kernel, 1), (stride, 1), act=act, norm=norm),
            ConvNormAct(out_channels, out_channels, (1, kernel), (1, stride), act=act, norm=norm),
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return y


class MBConv(nn.Module):
    """Inverted residual (arXiv 1801.04381): 1x1 expand, depthwise, squeeze-and-excitation, linear 1x1 project."""

    drop_path = 0.0

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
        keep_expand: bool = False,
        norm: str = "batch",
    ) -> None:
        super().__init__()
        self.residual = stride == 1 and in_channels == out_channels
        layers: list[nn.Module] = []
        if expanded != in_channels or keep_expand:
            layers.append(ConvNormAct(in_channels, expanded, act=act, norm=norm))
        layers.append(ConvNormAct(expanded, expanded, kernel, stride, expanded, act, norm))
        if squeezed:
            layers.append(SqueezeExcite(expanded, squeezed, squeeze_act, gate))
        layers.append(ConvNormAct(expanded, out_channels, norm=norm))
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return x + drop_path(y, self.drop_path, self.training) if self.residual else y


class FusedMBConv(nn.Module):
    """Fused inverted residual (arXiv 2104.00298, figure 2): a full convolution that expands, squeeze-and-excitation,
    linear 1x1 project. Without expansion there is no project layer."""

    drop_path = 0.0

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
        norm: str = "batch",
    ) -> None:
        super().__init__()
        self.residual = stride == 1 and in_channels == out_channels
        alone = expanded == in_channels
        layers: list[nn.Module] = [
            ConvNormAct(in_channels, out_channels if alone else expanded, kernel, stride, act=act, norm=norm)
        ]
        if squeezed:
            layers.append(SqueezeExcite(out_channels if alone else expanded, squeezed, squeeze_act, gate))
        if not alone:
            layers.append(ConvNormAct(expanded, out_channels, norm=norm))
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return x + drop_path(y, self.drop_path, self.training) if self.residual else y


class UniversalInvertedBottleneck(nn.Module):
    """Universal inverted bottleneck (arXiv 2404.10518, figure 3): linear depthwise, 1x1 expand, depthwise, linear 1x1
    project. A kernel of 0 leaves out its depthwise. The last depthwise has the stride."""

    drop_path = 0.0

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_start: int,
        kernel: int,
        stride: int,
        expanded: int,
        act: str,
        norm: str = "batch",
    ) -> None:
        super().__init__()
        self.residual = stride == 1 and in_channels == out_channels
        layers: list[nn.Module] = []
        if kernel_start:
            first = 1 if kernel else stride
            layers.append(ConvNormAct(in_channels, in_channels, kernel_start, first, in_channels, norm=norm))
        layers.append(ConvNormAct(in_channels, expanded, act=act, norm=norm))
        if kernel:
            layers.append(ConvNormAct(expanded, expanded, kernel, stride, expanded, act, norm))
        layers.append(ConvNormAct(expanded, out_channels, norm=norm))
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return x + drop_path(y, self.drop_path, self.training) if self.residual else y


class ShuffleV1(nn.Module):
    """ShuffleNet unit (arXiv 1707.01083, figure 2): grouped 1x1, channel shuffle, linear depthwise, linear grouped 1x1.
    The shortcut is added, or at stride 2 average-pooled and concatenated. The activation comes last."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        stride: int,
        bottleneck: int,
        groups: int,
        groups_in: int,
        groups_out: int,
        act: str,
        norm: str = "batch",
    ) -> None:
        super().__init__()
        self.residual = stride == 1 and in_channels == out_channels
        self.joins = stride == 2 and in_channels < out_channels
        self.groups = groups
        main = out_channels - in_channels if self.joins else out_channels
        self.layers = nn.Sequential(
            ConvNormAct(in_channels, bottleneck, groups=groups_in, act=act, norm=norm),
            ConvNormAct(bottleneck, bottleneck, kernel, stride, bottleneck, norm=norm),
            ConvNormAct(bottleneck, main, groups=groups_out, norm=norm),
        )
        self.pool = nn.AvgPool2d(3, 2, 1) if self.joins else nn.Identity()
        self.act = activation(act)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers[0](x)
        if self.groups > 1:
            y = shuffle(y, self.groups)
        y = self.layers[2](self.layers[1](y))
        if self.residual:
            y = x + y
        elif self.joins:
            y = torch.cat([self.pool(x), y], 1)
        out: Tensor = self.act(y)
        return out


class ShuffleV2(nn.Module):
    """ShuffleNetV2 unit (arXiv 1807.11164, figure 3). One half of the channels passes unchanged or, if size or width
    change, through a depthwise and a 1x1. The other half passes through 1x1, depthwise, 1x1. Both are concatenated and
    shuffled."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, stride: int, act: str, norm: str = "batch"
    ) -> None:
        super().__init__()
        self.splits = stride == 1 and in_channels == out_channels
        half = out_channels // 2
        self.left = nn.Sequential()
        if not self.splits:
            self.left.append(ConvNormAct(in_channels, in_channels, kernel, stride, in_channels, norm=norm))
            self.left.append(ConvNormAct(in_channels, half, act=act, norm=norm))
        self.right = nn.Sequential(
            ConvNormAct(half if self.splits else in_channels, half, act=act, norm=norm),
            ConvNormAct(half, half, kernel, stride, half, norm=norm),
            ConvNormAct(half, half, act=act, norm=norm),
        )

    def forward(self, x: Tensor) -> Tensor:
        left, right = x.chunk(2, dim=1) if self.splits else (x, x)
        return shuffle(torch.cat([self.left(left), self.right(right)], 1), 2)
