"""The primitive operators inside a row, with their weights, MACs and memory traffic, in closed form."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from nas.arch.block import Block, PlacedBlock


@dataclass(frozen=True, slots=True)
class Layer:
    """One primitive operator inside a row.

    Args:
        kind: ``conv``, ``spatial`` (kx1 or 1xk), ``depthwise``, ``pointwise``, ``grouped`` (1x1 in groups), ``linear``,
            ``se`` (its two layers), ``pool``, ``max_pool``, ``avg_pool``, ``add``, ``scale``, ``shuffle``, ``concat``.
        kernel: side of the convolution, 1 if there is none.
        stride: stride of the convolution.
        in_channels: channels read.
        out_channels: channels written.
        in_size: side of the feature map read.
        out_size: side of the feature map written.
        act: activation applied to the output.
        params: trainable parameters.
        macs: multiply-accumulates.
        elements: activations read plus activations written.
        groups: groups of the convolution.
    """

    kind: str
    kernel: int
    stride: int
    in_channels: int
    out_channels: int
    in_size: int
    out_size: int
    act: str
    params: int
    macs: int
    elements: int
    groups: int = 1


def _layer(kind: str, ci: int, co: int, k: int, s: int, size: int, row: Block, act: str = "", groups: int = 1) -> Layer:
    """A convolution with its norm; `act` is the row's own by default."""
    out = -(-size // s)
    weights = k * k * co * (ci // groups)
    params = weights + (co if row.norm == "none" else 2 * co)
    elements = ci * size**2 + co * out**2
    return Layer(kind, k, s, ci, co, size, out, act or row.act, params, weights * out * out, elements, groups)


def linear(ci: int, co: int, act: str, extra: int) -> Layer:
    """A fully connected layer; `extra` is the number of parameters besides its matrix."""
    return Layer("linear", 1, 1, ci, co, 1, 1, act, ci * co + extra, ci * co, ci + co)


def _depthwise(ci: int, co: int, k: int, s: int, size: int, row: Block, act: str = "") -> Layer:
    return _layer("depthwise", ci, co, k, s, size, row, act, groups=ci)


def _pointwise(ci: int, co: int, size: int, row: Block, act: str = "", groups: int = 1) -> Layer:
    return _layer("grouped" if groups > 1 else "pointwise", ci, co, 1, 1, size, row, act, groups)


def _moved(kind: str, channels: int, size: int, elements: int, kernel: int = 1, stride: int = 1) -> Layer:
    """An operator without weights, MACs or activation."""
    out = -(-size // stride)
    return Layer(kind, kernel, stride, channels, channels, size, out, "none", 0, 0, elements)


def layers_of(placed: PlacedBlock) -> Iterator[Layer]:
    """The primitive operators of a row, in order of execution."""
    yield from _LAYERS[placed.row.op](placed)
    if placed.residual and placed.row.op != "shuffle_v1":  # shuffle_v1 adds before its last activation
        yield _add(placed)


def _add(placed: PlacedBlock) -> Layer:
    return _moved("add", placed.out_channels, placed.out_size, 3 * placed.out_channels * placed.out_size**2)


def _of_pool(placed: PlacedBlock) -> Iterator[Layer]:
    ci, size = placed.in_channels, placed.in_size
    yield Layer("pool", 1, 1, ci, ci, size, 1, "none", 0, 0, ci * size**2 + ci)


def _of_max_pool(placed: PlacedBlock) -> Iterator[Layer]:
    ci, size, row = placed.in_channels, placed.in_size, placed.row
    yield _moved("max_pool", ci, size, ci * (size**2 + placed.out_size**2), row.kernel, row.stride)


def _of_linear(placed: PlacedBlock) -> Iterator[Layer]:
    row = placed.row
    extra = row.channels * (2 if row.norm != "none" else row.bias)
    yield linear(placed.in_channels, row.channels, row.act, extra)


def _of_conv(placed: PlacedBlock) -> Iterator[Layer]:
    row, ci, groups = placed.row, placed.in_channels, placed.groups[0]
    kind = "conv" if row.kernel > 1 else "grouped" if groups > 1 else "pointwise"
    if groups == ci == row.channels and row.kernel > 1:
        kind = "depthwise"
    yield _layer(kind, ci, row.channels, row.kernel, row.stride, placed.in_size, row, groups=groups)


def _of_dwsep(placed: PlacedBlock) -> Iterator[Layer]:
    row, wide = placed.row, placed.expanded
    yield _depthwise(placed.in_channels, wide, row.kernel, row.stride, placed.in_size, row)
    yield _pointwise(wide, row.channels, placed.out_size, row)


def _of_spatial_sep(placed: PlacedBlock) -> Iterator[Layer]:
    row, ci, co, k, size, out = (
        *(placed.row, placed.in_channels, placed.row.channels, placed.row.kernel),
        *(placed.in_size, placed.out_size),
    )
    extra = co if row.norm == "none" else 2 * co
    between = co * out * size  # after kx1: the height is strided, the width not yet
    for read, inputs, written in ((ci * size**2, ci, between), (between, co, co * out**2)):
        macs = k * inputs * written
        weights = k * inputs * co
        yield Layer(
            *("spatial", k, row.stride, inputs, co, size, out, row.act),
            *(weights + extra, macs, read + written),
        )


def _gate(placed: PlacedBlock, wide: int, out: int) -> Iterator[Layer]:
    """Squeeze-and-excitation: two layers with biases, 2 * wide * squeezed weights."""
    if squeezed := placed.squeezed:
        macs = 2 * wide * squeezed
        gate = 2 * wide + 2 * squeezed
        yield Layer("pool", 1, 1, wide, wide, out, 1, "none", 0, 0, wide * out**2 + wide)
        yield Layer("se", 1, 1, wide, wide, 1, 1, placed.row.se_gate, macs + squeezed + wide, macs, gate)
        yield Layer("scale", 1, 1, wide, wide, out, out, "none", 0, 0, 2 * wide * out**2 + wide)


def _of_mbconv(placed: PlacedBlock) -> Iterator[Layer]:
    row, ci, wide = placed.row, placed.in_channels, placed.expanded
    if wide != ci or row.keep_expand:
        yield _pointwise(ci, wide, placed.in_size, row)
    yield _depthwise(wide, wide, row.kernel, row.stride, placed.in_size, row)
    yield from _gate(placed, wide, placed.out_size)
    yield _pointwise(wide, row.channels, placed.out_size, row, "none")


def _of_fused_mbconv(placed: PlacedBlock) -> Iterator[Layer]:
    row, ci = placed.row, placed.in_channels
    alone = placed.expanded == ci
    wide = row.channels if alone else placed.expanded
    yield _layer("conv" if row.kernel > 1 else "pointwise", ci, wide, row.kernel, row.stride, placed.in_size, row)
    yield from _gate(placed, wide, placed.out_size)
    if not alone:
        yield _pointwise(wide, row.channels, placed.out_size, row, "none")


def _of_uib(placed: PlacedBlock) -> Iterator[Layer]:
    row, ci, wide, size = placed.row, placed.in_channels, placed.expanded, placed.in_size
    if row.kernel_start:
        layer = _depthwise(ci, ci, row.kernel_start, 1 if row.kernel else row.stride, size, row, "none")
        yield layer
        size = layer.out_size
    yield _pointwise(ci, wide, size, row)
    if row.kernel:
        yield _depthwise(wide, wide, row.kernel, row.stride, size, row)
    yield _pointwise(wide, row.channels, placed.out_size, row, "none")


def _of_shuffle_v1(placed: PlacedBlock) -> Iterator[Layer]:
    row, ci, inner, bypassed = placed.row, placed.in_channels, placed.expanded, placed.bypassed
    size, out = placed.in_size, placed.out_size
    first, last = placed.groups
    end = row.act if not (bypassed or placed.residual) else "none"
    yield _pointwise(ci, inner, size, row, groups=first)
    if row.groups > 1:
        yield _moved("shuffle", inner, size, 2 * inner * size**2)
    yield _depthwise(inner, inner, row.kernel, row.stride, size, row, "none")
    yield _pointwise(inner, row.channels - bypassed, out, row, end, groups=last)
    if bypassed:
        yield _moved("avg_pool", ci, size, ci * (size**2 + out**2), 3, 2)
        yield replace(_moved("concat", row.channels, out, 2 * row.channels * out**2), act=row.act)
    if placed.residual:
        yield replace(_add(placed), act=row.act)


def _of_shuffle_v2(placed: PlacedBlock) -> Iterator[Layer]:
    row, half, size, out = placed.row, placed.bypassed, placed.in_size, placed.out_size
    ci = half if placed.splits else placed.in_channels
    if not placed.splits:
        yield _depthwise(ci, ci, row.kernel, row.stride, size, row, "none")
        yield _pointwise(ci, half, out, row)
    yield _pointwise(ci, half, size, row)
    yield _depthwise(half, half, row.kernel, row.stride, size, row, "none")
    yield _pointwise(half, half, out, row)
    for kind in ("concat", "shuffle"):
        yield _moved(kind, row.channels, out, 2 * row.channels * out**2)


_LAYERS = {
    **{"conv": _of_conv, "dwsep": _of_dwsep, "spatial_sep": _of_spatial_sep, "mbconv": _of_mbconv},
    **{"fused_mbconv": _of_fused_mbconv, "uib": _of_uib, "shuffle_v1": _of_shuffle_v1, "shuffle_v2": _of_shuffle_v2},
    **{"max_pool": _of_max_pool, "pool": _of_pool, "linear": _of_linear},
}
