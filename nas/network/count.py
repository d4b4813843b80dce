"""Parameters, MACs and memory access of a network: by closed forms, or by a trace of the built network."""

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
        arch: to count; its own resolution is the side of the image.
        num_classes: outputs of the classifier.
        trace: build the network and count it with fvcore instead of summing the closed forms: the same figures, about
            a thousand times slower.

    >>> from nas.references.table import reference
    >>> count(reference("mobilenet_v2"))
    Cost(params=3504872, macs=300774272, memory_bytes=70657344)
    """
    if not trace:
        return cost_of(arch, num_classes)
    from nas.network.build import build

    return traced_cost(build(arch, num_classes), arch.resolution)


def traced_cost(network: nn.Module, resolution: int) -> Cost:
    """The cost of any image network, by fvcore; see `nas.network.trace.trace`.

    Raises:
        NasError: the trace holds an operator that cannot be counted; it is named, never taken for zero.
    """
    traced = trace_network(network, resolution)
    params = sum(parameter.numel() for parameter in network.parameters())
    return Cost(params, traced.macs, BYTES * traced.elements)
