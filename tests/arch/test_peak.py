"""Peak activation memory against the liveness of every tensor in a trace of the built network."""

import math
from typing import TYPE_CHECKING

import pytest
from hypothesis import assume, given, settings

from nas.arch.arch import Arch
from nas.arch.batch import Batch
from nas.arch.peak import peak_memory, peaks
from nas.arch.space_yaml import load_space
from nas.references.table import reference
from tests.strategies import archs

if TYPE_CHECKING:
    from torch.fx import Node

pytestmark = pytest.mark.torch

FUSED = ("batch_norm", "group_norm", "relu", "hardtanh", "hardswish", "hardsigmoid", "sigmoid", "silu", "gelu")
VIEWS = ("aten.view", "split", "transpose", "permute", "aten.t.", "getitem", "detach", "expand", "squeeze")
REFERENCES = (
    *("mobilenet_v1", "mobilenet_v2", "mobilenet_v3_small", "mobilenet_v4_conv_small"),
    *("mnasnet_a1", "shufflenet_v1_g3", "shufflenet_v2"),
)


def traced_peak(arch: Arch, num_classes: int) -> int:
    """The most bytes of maps alive at once in a trace of PyTorch's operators: each allocates what it returns, unless
    that is a view, or an activation or norm, which runtimes fuse."""
    import torch
    from torch.fx.experimental.proxy_tensor import make_fx

    from nas.network.build import build

    image = torch.zeros(1, 3, arch.resolution, arch.resolution)
    with torch.no_grad():
        graph = make_fx(build(arch, num_classes).eval())(image).graph
    nodes = [node for node in graph.nodes if node.op in ("placeholder", "call_function")]
    map_of: dict[Node, int] = {}  # where the map was made that a node returns
    sizes: dict[int, int] = {}
    last: dict[int, int] = {}
    for at, node in enumerate(nodes):
        inputs = [map_of[one] for one in node.all_input_nodes if one in map_of]
        last |= dict.fromkeys(inputs, at)
        if inputs and any(part in str(node.target) for part in (*FUSED, *VIEWS)):
            map_of[node] = inputs[0]
        elif inputs or node.op == "placeholder":
            value = node.meta.get("tensor_meta", node.meta.get("val"))
            shape = value.shape if hasattr(value, "shape") else value[0].shape  # pools also return indices
            map_of[node], last[at], sizes[at] = at, at, 4 * math.prod(shape)
    return max(sum(size for made, size in sizes.items() if made <= at <= last[made]) for at in range(len(nodes)))


@pytest.mark.parametrize("name", REFERENCES)
def test_the_closed_form_equals_the_trace_of_references(name: str) -> None:
    arch = reference(name, resolution=64)
    assert peak_memory(arch) == traced_peak(arch, 1000)


@settings(max_examples=15, deadline=None)
@given(archs)
def test_the_closed_form_equals_the_trace_on_any_rows(arch: Arch) -> None:
    assume(not any(placed.row.norm == "group" and placed.out_size == 1 for placed in arch.places()))
    assert peak_memory(arch, num_classes=7) == traced_peak(arch, 7)


@pytest.mark.parametrize("name", ["mbconv", "efficientnet", "mobilenet_v4", "shufflenet"])
def test_many_networks_at_once_agree_with_one_and_with_the_trace(name: str) -> None:
    space = load_space(name)
    drawn = [space.sample(seed).scaled(0.5, 32) for seed in range(20)]
    found = peaks(drawn)
    assert found.tolist() == [peak_memory(arch, "int8") for arch in drawn] == peaks(Batch.of(drawn)).tolist()
    assert [4 * value for value in found[:3]] == [traced_peak(arch, 1000) for arch in drawn[:3]]
