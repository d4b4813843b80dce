"""`Arch` to ``nn.Module``: one fold over the rows."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from nas.arch.arch import Arch, check_classes
from nas.arch.block import PlacedBlock
from nas.network import blocks, ops
from nas.network.seeding import cpu_seed


def recipe(placed: PlacedBlock) -> tuple[type[nn.Module], dict[str, Any]]:
    """The class and the arguments of a row's module, for `build` and for the ``model.py`` of an export."""
    row = placed.row
    if row.op == "pool":
        return ops.GlobalPool, {}
    if row.op == "max_pool":
        return nn.MaxPool2d, {"kernel_size": row.kernel, "stride": row.stride, "padding": row.kernel // 2}
    io = {"in_channels": placed.in_channels, "out_channels": placed.out_channels}
    act = {"act": row.act, "norm": row.norm}
    if row.op == "linear":
        return ops.LinearAct, io | act | {"bias": row.bias}
    window = {"kernel": row.kernel, "stride": row.stride}
    if row.op == "conv":
        return ops.ConvNormAct, io | window | {"groups": placed.groups[0]} | act
    if row.op == "spatial_sep":
        return blocks.SpatiallySeparable, io | window | act
    if row.op == "shuffle_v2":
        return blocks.ShuffleV2, io | window | act
    if row.op == "shuffle_v1":
        first, last = placed.groups
        groups = {"groups": row.groups, "groups_in": first, "groups_out": last}
        return blocks.ShuffleV1, io | window | {"bottleneck": placed.expanded} | groups | act
    window |= {"expanded": placed.expanded}
    if row.op == "dwsep":
        return blocks.DepthwiseSeparable, io | window | act
    if row.op == "uib":
        return blocks.UniversalInvertedBottleneck, io | {"kernel_start": row.kernel_start} | window | act
    gate: dict[str, Any] = {}
    if placed.squeezed:
        inner = "relu" if row.se_base == "expanded" else row.act
        gate = {"squeezed": placed.squeezed, "squeeze_act": inner, "gate": row.se_gate}
    if row.op == "fused_mbconv":
        return blocks.FusedMBConv, io | window | gate | act
    return blocks.MBConv, io | window | gate | {"keep_expand": row.keep_expand} | act


def build_row(placed: PlacedBlock) -> nn.Module:
    """The module of one row, with PyTorch's default weights."""
    kind, arguments = recipe(placed)
    return kind(**arguments)


def build(arch: Arch, num_classes: int = 1000, seed: int = 0) -> ops.Network:
    """A network with untrained weights, as float32, in training mode.

    Args:
        arch: network to build.
        num_classes: outputs of the classifier.
        seed: random seed of the weights. PyTorch's global random state is neither used nor changed.

    Returns:
        A module from images (N, 3, H, W) to logits (N, num_classes).

    Raises:
        InputError: `num_classes` is out of bounds.

    >>> import nas, torch
    >>> model = nas.build(nas.reference("mobilenet_v3_small", width=0.5), num_classes=10)
    >>> model.eval()(torch.zeros(2, 3, 64, 64)).shape
    torch.Size([2, 10])
    """
    check_classes(num_classes)
    places = list(arch.places())
    with cpu_seed(seed):  # constructors draw weights that `initialise` replaces
        network = ops.Network(
            rows=[build_row(placed) for placed in places],
            width=places[-1].out_channels,
            num_classes=num_classes,
            dropout=arch.dropout,
            bn_eps=arch.bn_eps,
            bn_momentum=arch.bn_momentum,
            stochastic_depth=arch.stochastic_depth,
        )
    ops.initialise(network, torch.Generator().manual_seed(seed))
    return network
