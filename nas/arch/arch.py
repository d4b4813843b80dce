"""``Arch``: one complete network description. Frozen, lossless in JSON, with a key computed from its content.

Rows (`nas.arch.block`) hold choices only. What follows from a row's position in the network is derived by one fold,
`Arch.places`, which the builder, the cost model and the latency table all walk.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

from nas.arch.block import CELLS, OPS, Block, PlacedBlock, check_number
from nas.arch.rounding import make_divisible
from nas.system.errors import InputError, known
from nas.system.validate import whole_number

SCHEMA = 1
MAX_ROWS = 256
MAX_RESOLUTION = 2048
MAX_JSON_BYTES = 1 << 20
MAX_CLASSES = 100_000
IMAGE_CHANNELS = 3


@dataclass(frozen=True)
class Arch:
    """One complete network, except for the number of classes, which is an argument of the builder.

    Args:
        rows: convolutional rows, one ``pool``, then any ``linear`` rows.
        resolution: side of the square input in pixels.
        dropout: dropout probability before the classifier.
        bn_eps: epsilon of every batch norm.
        bn_momentum: momentum of every batch norm, in PyTorch's sense (weight of the new batch).
        stochastic_depth: probability that a training step skips the last block and keeps only its shortcut; for earlier
            blocks it falls linearly to 0 (arXiv 1603.09382).

    Raises:
        InputError: the rows are in an impossible order, or a value is out of bounds.
    """

    rows: tuple[Block, ...]
    resolution: int
    dropout: float = 0.0
    bn_eps: float = 1e-5
    bn_momentum: float = 0.1
    stochastic_depth: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "rows", tuple(self.rows))
        side = check_number("resolution", self.resolution, 8, MAX_RESOLUTION, whole=True)
        object.__setattr__(self, "resolution", int(side))
        for name, high in (("dropout", 0.99), ("bn_eps", 1), ("bn_momentum", 1), ("stochastic_depth", 0.99)):
            object.__setattr__(self, name, float(check_number(name, getattr(self, name), 0, high)))
        if not 2 <= len(self.rows) <= MAX_ROWS:
            raise InputError(f"a network has 2 to {MAX_ROWS} rows, got {len(self.rows)}")
        ops = [row.op for row in self.rows]
        if ops.count("pool") != 1:
            raise InputError(f"a network has exactly one pool row, got {ops.count('pool')}")
        at = ops.index("pool")
        if at == 0 or "linear" in ops[:at] or set(ops[at + 1 :]) - {"linear"}:
            raise InputError(f"rows must be convolutions, then pool, then linear, got {' '.join(ops)}")

    def places(self) -> Iterator[PlacedBlock]:
        """Each row at its position: with the channels and the map size that it receives."""
        channels, size = IMAGE_CHANNELS, self.resolution
        for row in self.rows:
            placed = PlacedBlock(row, channels, size)
            yield placed
            channels, size = placed.out_channels, placed.out_size

    def scaled(self, width: float, resolution: int) -> Arch:
        """The same network with its channels multiplied and another input size, as the proxy trains it."""

        def scale(row: Block) -> Block:
            if width == 1 or "channels" not in CELLS[row.op]:
                return row
            return replace(row, channels=make_divisible(row.channels * width))

        rows = tuple(scale(row) for row in self.rows)
        return replace(self, rows=rows, resolution=resolution)

    def to_json(self) -> str:
        """The network as JSON, from which `from_json` makes an equal `Arch`.

        >>> from nas.references.table import reference
        >>> arch = reference("mobilenet_v2")
        >>> Arch.from_json(arch.to_json()) == arch
        True
        """
        return json.dumps(self._content())

    def _content(self) -> dict[str, Any]:
        content: dict[str, Any] = {
            "schema": SCHEMA,
            "resolution": self.resolution,
            "dropout": self.dropout,
            "bn_eps": self.bn_eps,
            "bn_momentum": self.bn_momentum,
        }
        if self.stochastic_depth:
            content["stochastic_depth"] = self.stochastic_depth
        return content | {"rows": [row.cells() for row in self.rows]}

    @staticmethod
    def from_json(text: str) -> Arch:
        """Read what `to_json` wrote.

        Raises:
            InputError: the text is too long or not JSON, has another schema, has unknown or missing fields, or has a
                value that is out of bounds.
        """
        if len(text) > MAX_JSON_BYTES:
            raise InputError(f"an architecture may have at most {MAX_JSON_BYTES} bytes of JSON, got {len(text)}")
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InputError(f"not an architecture: broken JSON ({error!s:.80})") from None
        if not isinstance(data, dict) or data.get("schema") != SCHEMA:
            got = data.get("schema") if isinstance(data, dict) else type(data).__name__
            raise InputError(f"not an architecture that this version reads: schema must be {SCHEMA}, got {got!r:.40}")
        names = {field.name for field in fields(Arch)} | {"schema"}
        if unknown := set(data) - names:
            raise InputError(f"unknown field {sorted(unknown)[0]!r:.60} in an architecture; {known(sorted(names))}")
        rows = data.get("rows")
        if not isinstance(rows, list) or len(rows) > MAX_ROWS or "resolution" not in data:
            raise InputError(f"an architecture needs a resolution and a list of at most {MAX_ROWS} rows")
        options = {name: data[name] for name in names - {"schema", "rows"} if name in data}
        return Arch(rows=tuple(_block(row, at) for at, row in enumerate(rows)), **options)

    @cached_property
    def key(self) -> str:
        """A hash of the content, 12 hexadecimal digits: equal networks have equal keys."""
        text = json.dumps(self._content(), sort_keys=True, separators=(",", ":"))
        return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()

    def __str__(self) -> str:
        """One line: the resolution, then the rows."""
        return f"{self.resolution}px | " + " | ".join(str(row) for row in self.rows)


def _block(cells: Any, at: int) -> Block:
    if not isinstance(cells, dict) or not isinstance(cells.get("op"), str):
        raise InputError(f"row {at} of an architecture must be an object with an op, got {cells!r:.80}")
    if cells["op"] not in OPS:
        raise InputError(f"row {at} of an architecture: unknown op {cells['op']!r:.60}; {known(OPS)}")
    allowed = ("op", *CELLS[cells["op"]])
    if unknown := set(cells) - set(allowed):
        raise InputError(f"row {at} ({cells['op']}) has no cell {sorted(unknown)[0]!r:.60}; {known(allowed)}")
    if "channels" in allowed and "channels" not in cells:
        raise InputError(f"row {at} ({cells['op']}) needs channels")
    try:
        return Block(**cells)
    except InputError as error:
        raise InputError(f"row {at} of an architecture: {error}") from None


def check_classes(num_classes: int) -> None:
    """Raises `InputError` unless it is a whole number from 1 to `MAX_CLASSES`."""
    whole_number("num_classes", num_classes, 1, MAX_CLASSES)
