"""One convolution and what can replace it: standard, depthwise separable, spatially separable."""

from __future__ import annotations

import re
from dataclasses import dataclass

from nas.arch.arch import MAX_RESOLUTION
from nas.arch.block import MAX_CHANNELS
from nas.arch.cost import BYTES, Cost
from nas.system.errors import InputError
from nas.system.validate import whole_number

_SPELLING = re.compile(r"(\d{1,5})x(\d{1,5})x(\d{1,5}):(\d{1,3}):(\d{1,5})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Convolution:
    """The shape of a convolution.

    Args:
        height: height of the map it reads.
        width: width of the map it reads.
        in_channels: channels of the map it reads.
        kernel: side of its window.
        out_channels: channels of the map it writes.
        stride: stride, 1 or more.
        padding: zeros added on each side; None for ``kernel // 2``, which keeps the size at stride 1.

    Raises:
        InputError: a number is out of bounds, or the window is larger than the padded map.
    """

    height: int
    width: int
    in_channels: int
    kernel: int
    out_channels: int
    stride: int = 1
    padding: int | None = None

    def __post_init__(self) -> None:
        if self.padding is None:
            object.__setattr__(self, "padding", self.kernel // 2)
        channels = (1, MAX_CHANNELS)
        for name, (low, high) in {
            **{"height": (1, MAX_RESOLUTION), "width": (1, MAX_RESOLUTION), "in_channels": channels},
            **{"kernel": (1, 127), "out_channels": channels, "stride": (1, 127), "padding": (0, 127)},
        }.items():
            whole_number(name, getattr(self, name), low, high)
        if min(self.height, self.width) + 2 * (self.padding or 0) < self.kernel:
            raise InputError(f"a {self.kernel}x{self.kernel} window does not fit into {self}; use more padding")

    @staticmethod
    def parse(text: str, stride: int = 1, padding: int | None = None) -> Convolution:
        """Read ``HEIGHTxWIDTHxCHANNELS:KERNEL:OUTPUTS``.

        >>> Convolution.parse("12x12x3:5:256", padding=0).out_size
        (8, 8)
        """
        match = _SPELLING.fullmatch(text.strip())
        if not match:
            form = "HEIGHTxWIDTHxCHANNELS:KERNEL:OUTPUTS"
            raise InputError(f"a convolution must be written as {form}, such as 12x12x3:5:256, got {text!r:.60}")
        height, width, channels, window, outputs = map(int, match.groups())
        return Convolution(height, width, channels, window, outputs, stride, padding)

    @property
    def out_size(self) -> tuple[int, int]:
        """Height and width of the map it writes."""
        return self._out(self.height), self._out(self.width)

    def _out(self, side: int) -> int:
        return (side + 2 * (self.padding or 0) - self.kernel) // self.stride + 1

    def __str__(self) -> str:
        """E.g. ``5x5, 3 to 256 channels, 12x12 to 8x8``."""
        (height, width), kernel = self.out_size, self.kernel
        size = f"{self.height}x{self.width} to {height}x{width}"
        return f"{kernel}x{kernel}, {self.in_channels} to {self.out_channels} channels, {size}"


@dataclass(frozen=True, slots=True)
class Variant:
    """A convolution, or the convolutions that replace it.

    Args:
        name: name of the variant.
        steps: description and MACs of each convolution.
        cost: cost of all convolutions, without biases and norms.
    """

    name: str
    steps: tuple[tuple[str, int], ...]
    cost: Cost


@dataclass(frozen=True, slots=True)
class _Step:
    text: str
    weights: int
    read: int
    written: int
    pixels: int

    @property
    def macs(self) -> int:
        return self.weights * self.pixels  # every weight is used once for every output pixel


def variants(conv: Convolution) -> list[Variant]:
    """Four variants of a convolution with the same input and output shape, without biases and norms.

    - standard: one convolution.
    - depthwise separable (MobileNetV1): one window for each input channel, then 1x1.
    - spatially separable: each window is a column times a row. There is a column for each pair of input and output,
      then a row for each pair.
    - spatially separable, full (Inception-v3, the operator ``spatial_sep``): kx1 to all outputs, then 1xk from all of
      them to all of them. This saves MACs only if there are about as many inputs as outputs.

    >>> for variant in variants(Convolution.parse("12x12x3:5:256", padding=0)):
    ...     print(variant.name, [macs for _, macs in variant.steps])
    standard [1228800]
    depthwise separable [4800, 49152]
    spatially separable [368640, 245760]
    spatially separable, full [368640, 20971520]
    """
    k, inputs, outputs = conv.kernel, conv.in_channels, conv.out_channels
    out_height, out_width = conv.out_size
    pixels, strip = out_height * out_width, out_height * conv.width  # after a column: the height is final
    start, end = inputs * conv.height * conv.width, outputs * pixels
    square, column, row = f"{k}x{k}", f"{k}x1", f"1x{k}"
    pairs = inputs * outputs
    return [
        _variant("standard", _Step(f"{square}, {inputs} to {outputs}", k * k * pairs, start, end, pixels)),
        _variant(
            "depthwise separable",
            _Step(f"{square} on each of {inputs}", k * k * inputs, start, inputs * pixels, pixels),
            _Step(f"1x1, {inputs} to {outputs}", pairs, inputs * pixels, end, pixels),
        ),
        _variant(
            "spatially separable",
            _Step(f"{column}, {inputs} to each of {outputs}", k * pairs, start, pairs * strip, strip),
            _Step(f"{row}, {inputs} for each of {outputs}", k * pairs, pairs * strip, end, pixels),
        ),
        _variant(
            "spatially separable, full",
            _Step(f"{column}, {inputs} to {outputs}", k * pairs, start, outputs * strip, strip),
            _Step(f"{row}, {outputs} to {outputs}", k * outputs * outputs, outputs * strip, end, pixels),
        ),
    ]


def _variant(name: str, *steps: _Step) -> Variant:
    weights = sum(step.weights for step in steps)
    elements = weights + sum(step.read + step.written for step in steps)
    macs = sum(step.macs for step in steps)
    return Variant(name, tuple((step.text, step.macs) for step in steps), Cost(weights, macs, BYTES * elements))
