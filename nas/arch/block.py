"""One row of an architecture table, and what follows from its position in the network.

`Block` holds choices only. `PlacedBlock` derives the rest: expanded and squeezed widths, groups, shortcut, output size.
The builder, the cost model and the latency table all read it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from nas.arch.rounding import make_divisible
from nas.system.errors import InputError, known

MAX_CHANNELS = 16384

ACTS = ("none", "relu", "relu6", "h_swish", "swish", "gelu")
SE_BASES = ("expanded", "input")
SE_GATES = ("hard_sigmoid", "sigmoid")
NORMS = ("batch", "group", "none")

_SE = ("se", "act", "se_base", "se_gate")
# The cells each op uses. A row keeps all others at their defaults: equal networks have equal rows.
CELLS: Mapping[str, tuple[str, ...]] = {
    "conv": ("channels", "kernel", "stride", "groups", "act", "norm"),
    "dwsep": ("channels", "kernel", "stride", "depth_multiplier", "act", "norm"),
    "spatial_sep": ("channels", "kernel", "stride", "act", "norm"),
    "mbconv": ("channels", "kernel", "stride", "expand", "keep_expand", *_SE, "norm"),
    "fused_mbconv": ("channels", "kernel", "stride", "expand", *_SE, "norm"),
    "uib": ("channels", "kernel_start", "kernel", "stride", "expand", "act", "norm"),
    "shuffle_v1": ("channels", "kernel", "stride", "groups", "groups_in", "act", "norm"),
    "shuffle_v2": ("channels", "kernel", "stride", "act", "norm"),
    "max_pool": ("kernel", "stride"),
    "pool": (),
    "linear": ("channels", "act", "norm", "bias"),
}
OPS = tuple(CELLS)
BLOCK_OPS = ("dwsep", "spatial_sep", "mbconv", "fused_mbconv", "uib", "shuffle_v1", "shuffle_v2")
# Left out of JSON at these defaults: rows stay short, and rows written before these cells existed keep their keys.
_OMITTED = {"groups": 1, "depth_multiplier": 1, "keep_expand": False, "groups_in": 0, "bias": True}
_CHOICES: Mapping[str, tuple[Any, ...]] = {
    "op": OPS,
    "act": ACTS,
    "se_base": SE_BASES,
    "se_gate": SE_GATES,
    "norm": NORMS,
    "keep_expand": (False, True),
    "bias": (False, True),
}
BOUNDS: Mapping[str, tuple[float, float, bool]] = {
    "channels": (1, MAX_CHANNELS, True),
    "kernel": (0, 15, True),
    "kernel_start": (0, 15, True),
    "stride": (1, 2, True),
    "expand": (0.25, 32, False),
    "se": (0, 1, False),
    "groups": (1, 256, True),
    "groups_in": (0, 256, True),
    "depth_multiplier": (1, 8, True),
}
_SHORT = {
    **{"conv": "conv", "dwsep": "ds", "spatial_sep": "sp", "mbconv": "mb", "fused_mbconv": "fmb", "uib": "uib"},
    **{"shuffle_v1": "shv1.", "shuffle_v2": "shv2.", "max_pool": "maxpool", "linear": "fc"},
}
_SHORT_ACTS = {"none": "-", "relu": "re", "relu6": "r6", "h_swish": "hs", "swish": "sw", "gelu": "ge"}


def default_norm(op: str) -> str:
    """The norm of an op whose row names none."""
    return "none" if op == "linear" else "batch"


@dataclass(frozen=True, slots=True)
class Block:
    """One row of an architecture table.

    Args:
        op: ``conv`` (convolution, norm, act); ``dwsep`` (depthwise separable, MobileNetV1: depthwise, norm, act, 1x1,
            norm, act); ``spatial_sep`` (spatially separable: kx1, norm, act, 1xk, norm, act); ``mbconv`` (inverted
            residual: 1x1 expand, depthwise, SE, linear 1x1 project; no expand layer at ``expand: 1``);
            ``fused_mbconv`` (EfficientNetV2: one full convolution in place of expand and depthwise; no project layer at
            ``expand: 1``); ``uib`` (universal inverted bottleneck, MobileNetV4: optional linear depthwise, 1x1 expand,
            optional depthwise, linear 1x1 project); ``shuffle_v1``, ``shuffle_v2`` (the units of the two ShuffleNets);
            ``max_pool``; ``pool`` (global average); ``linear`` (after the pool).
        channels: output channels.
        kernel: side of the (depthwise) convolution, odd; 0 leaves out the middle depthwise of a ``uib``.
        stride: 1 or 2.
        expand: expanded width / input width, rounded by `make_divisible`.
        se: squeezed width / base width of squeeze-and-excitation; 0 for none.
        act: activation; ``none`` is linear.
        se_base: base width of `se`: ``expanded`` (MobileNetV3; rounded to 8, ReLU inside) or ``input`` (MnasNet,
            EfficientNet; width of the block's input, rounded down, the block's own act inside).
        se_gate: activation of the gate: ``hard_sigmoid`` (MobileNetV3) or ``sigmoid``.
        kernel_start: side of the depthwise before the expansion of a ``uib``; 0 for none.
        keep_expand: whether an ``mbconv`` keeps its 1x1 expand at ``expand: 1`` (FBNet).
        groups: groups of a ``conv``, or of the 1x1 convolutions of a ``shuffle_v1``. If a width is not divisible by it,
            their greatest common divisor is used.
        groups_in: groups of the first 1x1 of a ``shuffle_v1``; 0 for `groups` (the paper's first unit has 1).
        depth_multiplier: outputs per input channel of the depthwise of a ``dwsep``.
        norm: ``batch``, ``group`` (8 channels a group if they divide) or ``none`` (then a bias); None for the default:
            ``none`` for ``linear``, ``batch`` for all other ops.
        bias: whether a ``linear`` without norm has a bias.

    Raises:
        InputError: a cell is out of bounds, or cells contradict each other.
    """

    op: str
    channels: int = 0
    kernel: int = 1
    stride: int = 1
    expand: float = 1
    se: float = 0
    act: str = "none"
    se_base: str = "expanded"
    se_gate: str = "hard_sigmoid"
    kernel_start: int = 0
    keep_expand: bool = False
    groups: int = 1
    groups_in: int = 0
    depth_multiplier: int = 1
    norm: str | None = None
    bias: bool = True

    def __post_init__(self) -> None:
        _check_choice("op", self.op, OPS)
        for cell in fields(self)[1:]:
            value = cell.default
            if cell.name in CELLS[self.op]:
                given = getattr(self, cell.name)
                value = None if given is None and cell.name == "norm" else check_cell(cell.name, given)
            object.__setattr__(self, cell.name, value)
        self._normalise()
        if not self.kernel and self.op != "uib":
            raise InputError("kernel must be at least 1, got 0; only a uib may omit its middle depthwise")
        if self.stride == 2 and not self.kernel and not self.kernel_start:
            raise InputError("a uib of stride 2 needs a depthwise: kernel or kernel_start must not be 0")
        if self.op == "shuffle_v2" and self.channels % 2:
            raise InputError(f"channels of shuffle_v2 must be even, for its two halves, got {self.channels}")

    def _normalise(self) -> None:
        """Give equal rows one form: cells that have no effect take their defaults."""
        put = object.__setattr__
        if self.se == 0:  # no gate to describe
            put(self, "se_base", "expanded")
            put(self, "se_gate", "hard_sigmoid")
        if self.expand != 1:
            put(self, "keep_expand", False)
        if self.groups_in == self.groups:
            put(self, "groups_in", 0)
        if self.norm is None:
            put(self, "norm", default_norm(self.op))
        if self.norm != "none":
            put(self, "bias", True)

    def cells(self) -> dict[str, Any]:
        """The cells this op uses, `op` first; some are left out at their defaults."""
        defaults = _OMITTED | {"norm": default_norm(self.op)}
        skip = {name for name, value in defaults.items() if getattr(self, name) == value}
        skip |= set() if self.se else {"se_base", "se_gate"}
        return {"op": self.op} | {name: getattr(self, name) for name in CELLS[self.op] if name not in skip}

    def __str__(self) -> str:
        """Short text, e.g. ``mb5 e3 se.25 hs s2 >40``."""
        if self.op == "pool":
            return "pool"
        cells = CELLS[self.op]
        kernel = f"{self.kernel_start}.{self.kernel}" if self.op == "uib" else str(self.kernel)
        parts = [_SHORT[self.op] + (kernel if "kernel" in cells else "")]
        if "expand" in cells:
            parts.append(f"e{self.expand:g}" + ("+" if self.keep_expand else ""))
        if self.depth_multiplier > 1:
            parts.append(f"m{self.depth_multiplier}")
        if self.groups > 1:
            parts.append(f"g{self.groups}" + (f"/{self.groups_in}" if self.groups_in else ""))
        if self.se:
            parts.append(f"se{self.se:g}".replace("0.", "."))
        if "act" in cells:
            parts.append(_SHORT_ACTS[self.act])
        if "norm" in cells and self.norm != default_norm(self.op):
            parts.append({"group": "gn", "none": "nonorm", "batch": "bn"}[str(self.norm)])
        if self.stride != 1:
            parts.append(f"s{self.stride}")
        return " ".join(parts) + (f" >{self.channels}" if "channels" in cells else "")


def _check_choice(name: str, value: object, options: tuple[object, ...]) -> None:
    if value not in options or isinstance(value, bool) != isinstance(options[0], bool):
        raise InputError(f"unknown {name} {value!r:.60}; {known(options)}")


def check_number(
    name: str, value: object, low: float, high: float, whole: bool = False, shown: str | None = None
) -> float:
    """A number within bounds: as an ``int`` if it is whole (8.0 is), else as a ``float``.

    Args:
        name: name of the value, for the error.
        value: value to check.
        low: smallest number accepted.
        high: largest number accepted.
        whole: whether the number must be whole.
        shown: text of the value, for the error; None is its ``repr``.

    Raises:
        InputError: the value is not such a number.
    """
    kind = "a whole number" if whole else "a number"
    rule = f"{name} must be {kind} from {low:g} to {high:g}, got {shown or repr(value):.40}"
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:  # nan is neither
        raise InputError(rule)
    if whole and value != int(value):
        raise InputError(rule)
    return int(value) if value == int(value) else float(value)


def check_cell(name: str, value: Any) -> Any:
    """The value of a cell, checked; numbers as `check_number` returns them.

    Raises:
        InputError: the cell cannot have this value; the text says which values it can have.
    """
    if name in _CHOICES:
        _check_choice(name, value, _CHOICES[name])
        return value
    checked = check_number(name, value, *BOUNDS[name])
    if name in ("kernel", "kernel_start") and checked % 2 == 0 and checked:
        raise InputError(f"{name} must be odd, got {value!r}; an even kernel has no centre")
    return checked


@dataclass(frozen=True, slots=True)
class PlacedBlock:
    """A row at its position in a network.

    Args:
        row: choices of the row.
        in_channels: channels of the feature map it reads.
        in_size: side of the feature map it reads.
    """

    row: Block
    in_channels: int
    in_size: int

    @property
    def out_channels(self) -> int:
        return self.row.channels if "channels" in CELLS[self.row.op] else self.in_channels

    @property
    def out_size(self) -> int:
        if self.row.op in ("pool", "linear"):
            return 1
        return -(-self.in_size // self.row.stride)  # odd kernels, padding kernel // 2

    @property
    def expanded(self) -> int:
        """Width between the row's 1x1 convolutions: expanded, multiplied, or the bottleneck of a ShuffleNetV1 unit (a
        quarter of its output, rounded up to a multiple of its groups)."""
        row = self.row
        if row.op == "shuffle_v1":
            return -(-max(1, row.channels // 4) // row.groups) * row.groups
        if row.op == "dwsep":
            return self.in_channels * row.depth_multiplier
        return self.in_channels if row.expand == 1 else make_divisible(row.expand * self.in_channels)

    @property
    def squeezed(self) -> int:
        """Width inside squeeze-and-excitation; 0 for none."""
        if not self.row.se:
            return 0
        if self.row.se_base == "expanded":
            return make_divisible(self.row.se * self.expanded)
        return max(1, int(self.row.se * self.in_channels))

    @property
    def residual(self) -> bool:
        """Whether a shortcut is added: in the ops that have one, if size and width stay the same."""
        shortcut = self.row.op in ("mbconv", "fused_mbconv", "uib", "shuffle_v1")
        return shortcut and self.row.stride == 1 and self.in_channels == self.row.channels

    @property
    def bypassed(self) -> int:
        """Channels that bypass the main branch of a ShuffleNet unit and are concatenated to its output: the pooled
        input of a strided ``shuffle_v1``, half the output of a ``shuffle_v2``."""
        if self.row.op == "shuffle_v2":
            return self.row.channels // 2
        joins = self.row.op == "shuffle_v1" and self.row.stride == 2 and self.in_channels < self.row.channels
        return self.in_channels if joins else 0

    @property
    def splits(self) -> bool:
        """Whether a ``shuffle_v2`` passes on one half of its input unchanged."""
        return self.row.op == "shuffle_v2" and self.row.stride == 1 and self.in_channels == self.row.channels

    @property
    def groups(self) -> tuple[int, int]:
        """Groups of the first and of the last convolution; each divides the channels it reads and writes."""
        row, first = self.row, self.row.groups_in or self.row.groups
        inner = self.expanded if row.op == "shuffle_v1" else row.channels
        return math.gcd(first, self.in_channels, inner), math.gcd(row.groups, inner, row.channels - self.bypassed)
