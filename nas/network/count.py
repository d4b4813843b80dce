"""Parameters, MACs and memory access of a network, by closed forms or by a trace of the built network."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.arch.arch import Arch
from nas.arch.cost import BYTES, Cost, cost_of
from nas.network.trace import trace as trace_network

if TYPE_CHECKING:
    from torch import nn


def count(arch: Arch, num_classes: int = 1000, *, trace: bool = False) -> Cost:
    """Parameters, MACs and memory access of one forward pass of one image.

    Args:
        arch: network to count; its own resolution is the side of the image.
        num_classes: outputs of the classifier.
        trace: whether to build the network and count it with fvcore instead. The figures are the same; it takes about a
            thousand times as long.

    >>> from nas.references.table import reference
    >>> count(reference("mobilenet_v2"))
    Cost(params=3504872, macs=300774272, memory_bytes=70657344)
    """
    if not trace:
        return cost_of(arch, num_classes)
    from nas.network.build import build

    return traced_cost(build(arch, num_classes), arch.resolution)


def traced_cost(network: nn.Module, resolution: int) -> Cost:
    """The cost of any image network, counted by fvcore (`nas.network.trace.trace`).

    Args:
        network: network for images (N, 3, H, W).
        resolution: side of the image in pixels.

    Raises:
        NasError: the trace has an operator without a rule. The text names it; it is never counted as zero.
    """
    traced = trace_network(network, resolution)
    params = sum(parameter.numel() for parameter in network.parameters())
    return Cost(params, traced.macs, BYTES * traced.elements)
