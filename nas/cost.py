"""Parameters, MACs and memory access of an `Arch`.

`count` traces the built network with fvcore. `estimate` sums closed forms over the rows without torch, thousands of
times faster, for the paths where every candidate needs its figures; they agree exactly on parameters and MACs
(``tests/test_cost.py``). Memory access is the closed form's in both: a trace does not know it.

A MAC is one multiply-accumulate of a convolution or a linear layer, squeeze-and-excitation included; batch norm, bias,
activation, pooling and the scaling of SE are not counted (the papers' "MAdds").
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nas.arch import Arch
from nas.errors import NasError
from nas.layers import layers_of, linear

if TYPE_CHECKING:
    from torch import nn

BYTES = 4  # float32

# Operators of a trace that hold no MAC by the definition above, in fvcore's names; it counts some of them.
_ELEMENTWISE = (
    *("add", "sub", "mul", "div", "clamp", "relu", "relu6", "hardtanh"),
    *("hardswish", "hardsigmoid", "sigmoid", "silu", "gelu", "dropout"),
)
_NO_MACS = frozenset(
    [
        *_ELEMENTWISE,
        *(f"{name}_" for name in _ELEMENTWISE),
        *("mean", "batch_norm", "group_norm", "native_group_norm"),
        *("adaptive_avg_pool2d", "avg_pool2d", "max_pool2d", "flatten"),
    ]
)


@dataclass(frozen=True, slots=True)
class Cost:
    """What one forward pass of one image takes.

    Args:
        params: trainable parameters (batch norm's scale and shift included, running statistics not).
        macs: multiply-accumulates.
        memory_bytes: float32 weights and activations read and written, each operator on its own, activations fused.
    """

    params: int
    macs: int
    memory_bytes: int


def estimate(arch: Arch, num_classes: int = 1000) -> Cost:
    """The cost by closed forms: equal to `count`, without building anything."""
    params = macs = memory = 0
    width = 0
    for placed in arch.places():
        for layer in layers_of(placed):
            params, macs = params + layer.params, macs + layer.macs
            memory += BYTES * (layer.params + layer.elements)
        width = placed.out_channels
    head = linear(width, num_classes, "none", num_classes)
    return Cost(params + head.params, macs + head.macs, memory + BYTES * (head.params + head.elements))


def count(arch: Arch, num_classes: int = 1000) -> Cost:
    """The cost by building the network and tracing one image through it.

    >>> from nas.references import reference
    >>> count(reference("mobilenet_v2")).params
    3504872
    """
    from nas.build import build

    network = build(arch, num_classes)
    return Cost(
        params=sum(parameter.numel() for parameter in network.parameters()),
        macs=traced_macs(network, arch.resolution),
        memory_bytes=estimate(arch, num_classes).memory_bytes,
    )


def traced_macs(network: nn.Module, resolution: int) -> int:
    """MACs of any image network, by fvcore.

    Raises:
        NasError: the trace holds an operator fvcore cannot count; it is named, never taken for zero.
    """
    import torch
    from fvcore.nn import FlopCountAnalysis

    device = next(network.parameters()).device
    training = network.training
    analysis = FlopCountAnalysis(network.eval(), torch.zeros(1, 3, resolution, resolution, device=device))
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    macs = int(sum(counted for operator, counted in analysis.by_operator().items() if operator not in _NO_MACS))
    network.train(training)
    if unknown := {operator.removeprefix("aten::") for operator in analysis.unsupported_ops()} - _NO_MACS:
        raise NasError(f"MACs cannot be counted: no rule for operator {', '.join(sorted(unknown))}")
    return macs
