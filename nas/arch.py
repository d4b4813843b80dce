"""``Arch``: one complete network description. Frozen, lossless in JSON, with a key made of its content.

Rows hold choices only. What follows from a row's place in the network (input channels, feature map
size, expanded and squeezed widths, whether there is a shortcut) is derived by the one fold,
`Arch.places`, which the builder, the cost model and the latency table all walk.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

from nas.errors import InputError, known

SCHEMA = 1
MAX_ROWS = 256
MAX_CHANNELS = 16384
MAX_RESOLUTION = 2048
MAX_JSON_BYTES = 1 << 20
IMAGE_CHANNELS = 3

ACTS = ("none", "relu", "relu6", "h_swish", "swish")
SE_BASES = ("expanded", "input")
SE_GATES = ("hard_sigmoid", "sigmoid")

# The cells that mean something for each op; all others are held at their defaults: equal networks are equal rows.
CELLS: Mapping[str, tuple[str, ...]] = {
    "conv": ("channels", "kernel", "stride", "act"),
    "mbconv": ("channels", "kernel", "stride", "expand", "se", "act", "se_base", "se_gate"),
    "pool": (),
    "linear": ("channels", "act"),
}
OPS = tuple(CELLS)


def make_divisible(value: float, divisor: int = 8) -> int:
    """The nearest multiple of `divisor` that does not lose more than 10 % (MobileNetV2's reference code).

    >>> make_divisible(2.3 * 80), make_divisible(16 * 0.75), make_divisible(3)
    (184, 16, 8)
    """
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


@dataclass(frozen=True, slots=True)
class Block:
    """One row of an architecture table.

    Args:
        op: ``conv`` (convolution, batch norm, act), ``mbconv`` (inverted residual: 1x1 expand, depthwise, SE, 1x1
            project; no expand layer at ``expand: 1``), ``pool`` (global average), ``linear`` (after the pool).
        channels: output channels.
        kernel: side of the (depthwise) convolution, odd.
        stride: 1 or 2.
        expand: expanded width / input width, rounded by `make_divisible`.
        se: squeezed width / base width of squeeze-and-excitation; 0 is none.
        act: activation; ``none`` is linear.
        se_base: what `se` is a share of: ``expanded`` (MobileNetV3; rounded to 8, ReLU inside) or ``input`` (MnasNet,
            EfficientNet; the block input, rounded down, the block's own act inside).
        se_gate: ``hard_sigmoid`` (MobileNetV3) or ``sigmoid``.

    Raises:
        InputError: a cell is outside its bounds.
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

    def __post_init__(self) -> None:
        _one_of("op", self.op, OPS)
        used = CELLS[self.op]
        for cell in fields(self):
            value = getattr(self, cell.name)
            if cell.name == "op":
                continue
            if cell.name not in used:
                object.__setattr__(self, cell.name, cell.default)
            else:
                object.__setattr__(self, cell.name, check_cell(cell.name, value))
        if self.se == 0:  # no gate to describe
            object.__setattr__(self, "se_base", "expanded")
            object.__setattr__(self, "se_gate", "hard_sigmoid")

    def cells(self) -> dict[str, Any]:
        """The cells that mean something for this op, `op` first."""
        skip = () if self.se else ("se_base", "se_gate")
        return {"op": self.op} | {name: getattr(self, name) for name in CELLS[self.op] if name not in skip}

    def __str__(self) -> str:
        """Short text for people, e.g. ``mb5 e3 se.25 hs s2 >40``."""
        if self.op == "pool":
            return "pool"
        parts = [{"conv": f"conv{self.kernel}", "mbconv": f"mb{self.kernel}", "linear": "fc"}[self.op]]
        if self.op == "mbconv":
            parts.append(f"e{self.expand:g}")
        if self.se:
            parts.append(f"se{self.se:g}".replace("0.", "."))
        parts.append({"none": "-", "relu": "re", "relu6": "r6", "h_swish": "hs", "swish": "sw"}[self.act])
        if self.stride != 1:
            parts.append(f"s{self.stride}")
        return " ".join(parts) + f" >{self.channels}"


def _one_of(name: str, value: object, options: tuple[object, ...]) -> None:
    if value not in options:
        raise InputError(f"{name} is not one of the known, got {value!r}; {known(options)}")


def _number(name: str, value: object, low: float, high: float, whole: bool) -> float:
    kind = "a whole number" if whole else "a number"
    rule = f"{name} must be {kind} from {low:g} to {high:g}, got {value!r:.40}"
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:  # nan is neither
        raise InputError(rule)
    if whole and value != int(value):
        raise InputError(rule)
    return int(value) if value == int(value) else float(value)


def check_cell(name: str, value: Any) -> Any:
    """`value` in its one form if it may stand in cell `name` of a row.

    Raises:
        InputError: it may not; the text says what may.
    """
    if name in ("op", "act", "se_base", "se_gate"):
        _one_of(name, value, {"op": OPS, "act": ACTS, "se_base": SE_BASES, "se_gate": SE_GATES}[name])
        return value
    if name == "kernel":
        number = _number(name, value, 1, 15, whole=True)
        if number % 2 == 0:
            raise InputError(f"kernel must be odd, got {value!r}; an even kernel has no centre")
        return number
    low, high, whole = {
        "channels": (1, MAX_CHANNELS, True),
        "stride": (1, 2, True),
        "expand": (0.25, 32, False),
        "se": (0, 1, False),
    }[name]
    return _number(name, value, low, high, whole)


@dataclass(frozen=True, slots=True)
class Placed:
    """A row in its place: with the channels and the feature map side it receives."""

    row: Block
    in_channels: int
    in_size: int

    @property
    def out_channels(self) -> int:
        return self.in_channels if self.row.op == "pool" else self.row.channels

    @property
    def out_size(self) -> int:
        if self.row.op in ("pool", "linear"):
            return 1
        return -(-self.in_size // self.row.stride)  # odd kernels, padding kernel // 2

    @property
    def expanded(self) -> int:
        """Width of the depthwise convolution."""
        return self.in_channels if self.row.expand == 1 else make_divisible(self.row.expand * self.in_channels)

    @property
    def squeezed(self) -> int:
        """Width inside squeeze-and-excitation; 0 is none."""
        if not self.row.se:
            return 0
        if self.row.se_base == "expanded":
            return make_divisible(self.row.se * self.expanded)
        return max(1, int(self.row.se * self.in_channels))

    @property
    def residual(self) -> bool:
        """An inverted residual has a shortcut iff it keeps size and width."""
        return self.row.op == "mbconv" and self.row.stride == 1 and self.in_channels == self.row.channels


@dataclass(frozen=True)
class Arch:
    """One complete network up to its classifier, whose width is the builder's argument.

    Args:
        rows: convolutional rows, one ``pool``, then any ``linear`` rows.
        resolution: side of the square input in pixels.
        dropout: probability before the classifier.
        bn_eps: epsilon of every batch norm.
        bn_momentum: momentum of every batch norm, in PyTorch's sense (weight of the new batch).

    Raises:
        InputError: rows in an impossible order, or a bound is broken.
    """

    rows: tuple[Block, ...]
    resolution: int
    dropout: float = 0.0
    bn_eps: float = 1e-5
    bn_momentum: float = 0.1

    def __post_init__(self) -> None:
        object.__setattr__(self, "rows", tuple(self.rows))
        object.__setattr__(self, "resolution", int(_number("resolution", self.resolution, 8, MAX_RESOLUTION, True)))
        for name, high in (("dropout", 0.99), ("bn_eps", 1.0), ("bn_momentum", 1.0)):
            object.__setattr__(self, name, float(_number(name, getattr(self, name), 0, high, False)))
        if not 2 <= len(self.rows) <= MAX_ROWS:
            raise InputError(f"a network has 2 to {MAX_ROWS} rows, got {len(self.rows)}")
        ops = [row.op for row in self.rows]
        if ops.count("pool") != 1:
            raise InputError(f"a network has exactly one pool row, got {ops.count('pool')}")
        at = ops.index("pool")
        if at == 0 or "linear" in ops[:at] or set(ops[at + 1 :]) - {"linear"}:
            raise InputError(f"rows go: convolutions, pool, linear ones; got {' '.join(ops)}")

    def places(self) -> Iterator[Placed]:
        """The fold: each row with the channels and the size that reach it."""
        channels, size = IMAGE_CHANNELS, self.resolution
        for row in self.rows:
            placed = Placed(row, channels, size)
            yield placed
            channels, size = placed.out_channels, placed.out_size

    def scaled(self, width: float, resolution: int) -> Arch:
        """The same network, thinner and at another input size: what the proxy trains."""
        rows = tuple(
            replace(row, channels=make_divisible(row.channels * width)) if row.op != "pool" and width != 1 else row
            for row in self.rows
        )
        return replace(self, rows=rows, resolution=resolution)

    def to_json(self) -> str:
        """Lossless; `from_json` reads it back to an equal `Arch`."""
        return json.dumps(self._content())

    def _content(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "resolution": self.resolution,
            "dropout": self.dropout,
            "bn_eps": self.bn_eps,
            "bn_momentum": self.bn_momentum,
            "rows": [row.cells() for row in self.rows],
        }

    @staticmethod
    def from_json(text: str) -> Arch:
        """Read what `to_json` wrote.

        Raises:
            InputError: too long, not JSON, another schema, unknown or missing fields, or a value out of bounds.
        """
        if len(text) > MAX_JSON_BYTES:
            raise InputError(f"an architecture is at most {MAX_JSON_BYTES} bytes of JSON, got {len(text)}")
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InputError(f"not an architecture: broken JSON ({error!s:.80})") from None
        if not isinstance(data, dict) or data.get("schema") != SCHEMA:
            got = data.get("schema") if isinstance(data, dict) else type(data).__name__
            raise InputError(f"not an architecture this version reads: schema must be {SCHEMA}, got {got!r}")
        names = {field.name for field in fields(Arch)} | {"schema"}
        if unknown := set(data) - names:
            raise InputError(f"unknown field {sorted(unknown)[0]!r} in an architecture; {known(sorted(names))}")
        rows = data.get("rows")
        if not isinstance(rows, list) or len(rows) > MAX_ROWS or "resolution" not in data:
            raise InputError(f"an architecture has a resolution and a list of at most {MAX_ROWS} rows")
        options = {name: data[name] for name in names - {"schema", "rows"} if name in data}
        return Arch(rows=tuple(_block(row, at) for at, row in enumerate(rows)), **options)

    @cached_property
    def key(self) -> str:
        """12 hexadecimal digits of a hash of the content: equal descriptions, equal keys."""
        text = json.dumps(self._content(), sort_keys=True, separators=(",", ":"))
        return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()

    def __str__(self) -> str:
        """One line for people: resolution, then the rows."""
        return f"{self.resolution}px | " + " | ".join(str(row) for row in self.rows)


def _block(cells: Any, at: int) -> Block:
    if not isinstance(cells, dict) or not isinstance(cells.get("op"), str):
        raise InputError(f"row {at} of an architecture must be an object with an op, got {cells!r:.80}")
    _one_of("op", cells["op"], OPS)
    allowed = ("op", *CELLS[cells["op"]])
    if unknown := set(cells) - set(allowed):
        raise InputError(f"row {at} ({cells['op']}) has no cell {sorted(unknown)[0]!r}; {known(allowed)}")
    if "channels" in allowed and "channels" not in cells:
        raise InputError(f"row {at} ({cells['op']}) needs channels")
    try:
        return Block(**cells)
    except InputError as error:
        raise InputError(f"row {at} of an architecture: {error}") from None
