"""A stage: the blocks that share one row of a space's table, with the options of its cells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from nas.arch.block import CELLS, Block
from nas.arch.genes import Choose, Scalar, pick
from nas.arch.rounding import ROUNDINGS, rounded

SCALES = ("always", "never", "up")


@dataclass(frozen=True)
class Stage:
    """Blocks that share a table row. The stem and each row of the head are stages of one block.

    Args:
        name: prefix of the names of its genes.
        cells: options of each cell; those of ``op`` may include ``skip``.
        repeat: options for the number of blocks.
        shared: cells that have one value for all blocks; `channels` always has.
        choice: joint choices by label: cells that replace the stage's own for one block.
        scale: whether the width multiplier applies to `channels`: ``always``, ``never`` or only ``up`` (above 1).
        rounding: rule for scaled channels, as `rounded` takes it.
        channels_at: channels by width multiplier, for multipliers at which they are stated instead of scaled.
        may_open_with_skip: whether the first block may be skipped, because it keeps size and width.
    """

    name: str
    cells: Mapping[str, tuple[Scalar, ...]]
    repeat: tuple[int, ...] = (1,)
    shared: frozenset[str] = frozenset()
    choice: Mapping[str, Mapping[str, Scalar]] = field(default_factory=dict)
    scale: str = "always"
    rounding: str = ROUNDINGS[0]
    channels_at: Mapping[float, int] = field(default_factory=dict)
    may_open_with_skip: bool = False

    def settle(self, choose: Choose) -> dict[str, Scalar]:
        """Choose the cells that all blocks share."""
        names = [name for name in self.cells if name == "channels" or name in self.shared]
        return {name: pick(choose, f"{self.name}.{name}", self.cells[name]) for name in names}

    def block(self, at: int, settled: Mapping[str, Scalar], width: float, choose: Choose) -> Block | None:
        """Choose the row of block `at`, counted from 0; None if it is skipped."""
        prefix = self.name if max(self.repeat) == 1 else f"{self.name}.b{at + 1}"
        given = dict(settled)
        if self.choice:
            labels = tuple(label for label, row in self.choice.items() if self._is_possible(row, at))
            given |= self.choice[pick(choose, f"{prefix}.choice", labels)]

        def cell(name: str) -> Any:
            if name in given:
                return given[name]
            options = self.cells[name]
            if name == "op" and not self._may_skip(at):
                options = tuple(op for op in options if op != "skip")
            if name == "kernel" and self._halves(at) and set(options) != {0}:
                options = tuple(kernel for kernel in options if kernel)
            return pick(choose, f"{prefix}.{name}", options)

        op = cell("op")
        if op == "skip":
            return None
        row: dict[str, Any] = {}
        for name in CELLS[op]:
            is_set = name in given or name in self.cells
            has_no_effect = (name == "stride" and at > 0) or (name in ("se_base", "se_gate") and not row.get("se"))
            if is_set and not has_no_effect:
                row[name] = cell(name)
        if "channels" in row:
            row["channels"] = self._scaled(row["channels"], width)
        return _block(op, tuple(row.items()))

    def _may_skip(self, at: int) -> bool:
        return at > 0 or self.may_open_with_skip

    def _halves(self, at: int) -> bool:
        return at == 0 and 2 in self.cells.get("stride", ())

    def _is_possible(self, row: Mapping[str, Scalar], at: int) -> bool:
        """Whether block `at` may be this joint choice: not every first block may be skipped, and none can halve the map
        without a depthwise."""
        if row.get("op") == "skip":
            return self._may_skip(at)
        without_depthwise = row.get("op") == "uib" and not row.get("kernel", 1) and not row.get("kernel_start", 0)
        return not (without_depthwise and self._halves(at))

    def _scaled(self, channels: int, width: float) -> int:
        if width in self.channels_at:
            return self.channels_at[width]
        factor = {"always": width, "never": 1, "up": max(width, 1)}[self.scale]
        return channels if factor == 1 else rounded(channels * factor, self.rounding)


@lru_cache(maxsize=1 << 16)
def _block(op: str, cells: tuple[tuple[str, Any], ...]) -> Block:
    """Equal rows of a space are one object, which is checked once and is quick to look up."""
    return Block(op, **dict(cells))
