"""MACs and memory access of any image network, by fvcore's trace of one image.

Both follow the definitions of the closed forms (`nas.arch.layers`). MACs are those of convolutions, linear layers and
matrix products, including attention's. Memory access is what each operator reads and writes on its own: weights and
elements of feature maps. Norms, activations and softmax are fused into the operator before them; a norm's weights are
read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nas.network.eval_mode import eval_on_one_thread
from nas.system.errors import NasError

if TYPE_CHECKING:
    from torch import nn

MACS, ELEMENTS = "macs", "elements"
Handle = Callable[[list[Any], list[Any]], "Counter[str]"]

_PRODUCTS = ("addmm", "bmm", "einsum", "matmul", "mm", "linear")
_POOLS = (
    *("mean", "adaptive_avg_pool2d", "avg_pool2d", "max_pool2d", "adaptive_max_pool2d", "adaptive_avg_pool1d"),
    *("upsample_nearest2d", "upsample_bilinear2d", "upsample_bicubic2d"),
)
_MOVES = (
    "constant_pad_nd",
    "pad",
    "roll",
    "index",
    "gather",
    "clone",
    "index_select",
    "repeat",
    "repeat_interleave",
    "im2col",
    "col2im",
)
_BETWEEN = (
    "add",
    "sub",
    "rsub",
    "mul",
    "div",
    "addcmul",
    "maximum",
    "minimum",
)  # between two tensors; with a number, the operator is fused
_ACTIVATIONS = (
    *("relu", "relu6", "hardtanh", "leaky_relu", "elu", "selu", "celu", "prelu", "clamp", "clamp_min", "clamp_max"),
    *("hardswish", "hardsigmoid", "sigmoid", "silu", "mish", "gelu", "tanh", "softplus", "softmax", "log_softmax"),
    *("exp", "sqrt", "rsqrt", "pow", "abs", "neg", "reciprocal", "square", "sin", "cos"),
    *("dropout", "feature_dropout", "fill", "zero"),
)
_NORMS = {"batch_norm": 1, "group_norm": 2, "layer_norm": 2, "rms_norm": 2, "instance_norm": 1, "native_group_norm": 1}
_REDUCED = ("linalg_vector_norm", "sum", "var", "std", "amax", "amin", "var_mean", "std_mean", "max", "min", "norm")
_VIEWS = (  # views of the same memory, and arithmetic on shapes
    *("flatten", "unflatten", "unfold", "movedim", "swapaxes", "expand_as", "view_as", "reshape_as", "alias"),
    *("numpy_T", "adjoint", "rot90", "diagonal", "meshgrid", "scalar_tensor", "numel", "ne", "lt", "le", "where"),
    *("tensor_split", "linspace", "lift_fresh", "result_type", "ones_like", "ceil", "round", "detach_"),
)
_COPIED = ("reshape", "contiguous")  # these copy a transposed map into a new order
_TURNS = frozenset({"aten::transpose", "aten::permute", "aten::movedim", "aten::swapaxes"})


@dataclass(frozen=True, slots=True)
class Traced:
    """What a trace of one image counts.

    Args:
        macs: number of multiply-accumulates.
        elements: number of weights and activations read and written.
        modules: (macs, elements) of each submodule by its dotted name; ``""`` is the whole network.
    """

    macs: int
    elements: int
    modules: dict[str, tuple[int, int]]


def trace(network: nn.Module, resolution: int) -> Traced:
    """Run one black image through `network`, in evaluation mode, and count.

    Args:
        network: network for images (N, 3, H, W).
        resolution: side of the image in pixels.

    Raises:
        NasError: the trace has an operator without a rule. The text names it; it is never counted as zero.
    """
    import torch
    from fvcore.nn.jit_analysis import JitModelAnalysis

    image = torch.zeros(1, 3, resolution, resolution, device=next(network.parameters()).device)
    with eval_on_one_thread(network), _plain_attention(), torch.no_grad():
        analysis = JitModelAnalysis(network, (image,)).set_op_handle(**_handles())
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
        counted = analysis.by_module_and_operator()
        unsupported = analysis.unsupported_ops()
    if unknown := sorted({operator.removeprefix("aten::") for operator in unsupported}):
        raise NasError(f"MACs cannot be counted: no rule for operator {', '.join(unknown)}")
    modules = {name: (int(counts[MACS]), int(counts[ELEMENTS])) for name, counts in counted.items()}
    return Traced(*modules[""], modules)


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Switch off PyTorch's fused attention of evaluation mode, an operator whose trace has no shapes."""
    import torch

    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def _size(value: Any) -> int:
    """Elements of a traced tensor, or of all tensors in a list; 0 for anything else."""
    if value.node().kind() == "prim::ListConstruct" and not value.isCompleteTensor():
        return sum(_size(item) for item in value.node().inputs())
    if not value.isCompleteTensor():
        return 0
    size = 1
    for side in value.type().sizes():
        size *= side
    return size


def _traffic(inputs: list[Any], outputs: list[Any]) -> int:
    return sum(map(_size, [*inputs, *outputs]))


def _moved(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    return Counter({ELEMENTS: _size(inputs[0]) + sum(map(_size, outputs))})


def _joined(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    return Counter({ELEMENTS: _traffic(inputs, outputs)})


def _between(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    tensors = sum(value.isCompleteTensor() and bool(value.type().sizes()) for value in inputs)  # numbers have no sides
    return _joined(inputs, outputs) if tensors > 1 else Counter()


def _reordered(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    return _moved(inputs, outputs) if inputs[0].node().kind() in _TURNS else Counter()


def _nothing(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    return Counter()


def _norm(first: int) -> Handle:
    return lambda inputs, outputs: Counter({ELEMENTS: sum(map(_size, inputs[first : first + 2]))})


def _product(macs: Callable[[list[Any], list[Any]], Any]) -> Handle:
    """`macs` is fvcore's rule for the operator; it returns a number, or a counter that holds one."""

    def handle(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
        counted = macs(inputs, outputs)
        total = sum(counted.values()) if isinstance(counted, Counter) else counted
        return Counter({MACS: int(total), ELEMENTS: _traffic(inputs, outputs)})

    return handle


def _convolution_mode(inputs: list[Any], outputs: list[Any]) -> Any:
    """A convolution whose padding is given by name, as ``same``."""
    from fvcore.nn.jit_handles import conv_flop_count

    shapes = [value.type().sizes() for value in (inputs[0], inputs[1], outputs[0])]
    return conv_flop_count(*shapes)


def _attention(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """softmax(Q K') V: both products count; the matrix between them is not stored."""
    query, value = inputs[0].type().sizes(), inputs[2].type().sizes()
    keys = value[-2]
    rows = 1
    for side in query[:-1]:
        rows *= side
    macs = rows * keys * (query[-1] + value[-1])
    return Counter({MACS: macs, ELEMENTS: _traffic(inputs[:4], outputs)})


def _handles() -> dict[str, Handle]:
    from fvcore.nn import jit_handles

    rules = {"mm": jit_handles.matmul_flop_jit} | {
        name: getattr(jit_handles, f"{name}_flop_jit") for name in _PRODUCTS if name != "mm"
    }
    handles: dict[str, Handle] = {name: _product(rule) for name, rule in rules.items()}
    handles |= {"_convolution": _product(jit_handles.conv_flop_jit), "scaled_dot_product_attention": _attention}
    handles["_convolution_mode"] = _product(_convolution_mode)
    handles |= dict.fromkeys((*_POOLS, *_MOVES, *_REDUCED), _moved)
    handles |= dict.fromkeys(("cat", "stack"), _joined)
    handles |= dict.fromkeys(_COPIED, _reordered)
    handles |= dict.fromkeys((*_ACTIVATIONS, *_VIEWS), _nothing)
    handles |= dict.fromkeys((f"{name}_" for name in _ACTIVATIONS), _nothing)
    handles |= dict.fromkeys((*_BETWEEN, *(f"{name}_" for name in _BETWEEN)), _between)
    handles |= {name: _norm(first) for name, first in _NORMS.items()}
    return {f"aten::{name}": handle for name, handle in handles.items()}
