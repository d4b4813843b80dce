"""`Arch` to ``nn.Module``: one fold over the rows."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from nas import ops
from nas.arch import Arch, Placed
from nas.errors import InputError

MAX_CLASSES = 100_000


def recipe(placed: Placed) -> tuple[type[nn.Module], dict[str, Any]]:
    """The module of a row and its arguments. `build` calls it; ``model.py`` of an export writes it down."""
    row = placed.row
    io = {"in_channels": placed.in_channels, "out_channels": placed.out_channels}
    if row.op == "conv":
        return ops.ConvNormAct, io | {"kernel": row.kernel, "stride": row.stride, "act": row.act}
    if row.op == "pool":
        return ops.GlobalPool, {}
    if row.op == "linear":
        return ops.LinearAct, io | {"act": row.act}
    cells = io | {"kernel": row.kernel, "stride": row.stride, "expanded": placed.expanded, "act": row.act}
    if placed.squeezed:
        inner = "relu" if row.se_base == "expanded" else row.act
        cells |= {"squeezed": placed.squeezed, "squeeze_act": inner, "gate": row.se_gate}
    return ops.MBConv, cells


def build_row(placed: Placed) -> nn.Module:
    """One row as a module, with PyTorch's default weights."""
    kind, arguments = recipe(placed)
    return kind(**arguments)


def build(arch: Arch, num_classes: int = 1000, seed: int = 0) -> ops.Network:
    """The network, in training mode, float32, with fresh weights.

    Args:
        arch: what to build.
        num_classes: outputs of the classifier.
        seed: of the weights; the global random state of torch is neither read nor changed.

    Raises:
        InputError: `num_classes` is out of bounds.
    """
    if not 1 <= num_classes <= MAX_CLASSES:
        raise InputError(f"num_classes must be from 1 to {MAX_CLASSES}, got {num_classes!r}")
    places = list(arch.places())
    with torch.random.fork_rng(devices=[]):  # constructors draw weights that `initialise` replaces
        network = ops.Network(
            rows=[build_row(placed) for placed in places],
            width=places[-1].out_channels,
            num_classes=num_classes,
            dropout=arch.dropout,
            bn_eps=arch.bn_eps,
            bn_momentum=arch.bn_momentum,
        )
    ops.initialise(network, torch.Generator().manual_seed(seed))
    return network
