"""Many networks as arrays: what is a sum over rows is computed for tens of thousands of networks at once.

A row at its place in a network (`PlacedBlock`) is described once, when it is first seen, and has a number from then on.
A network is a list of such numbers, and its parameters, MACs, latency or features are sums over them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, overload
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from nas.arch.arch import IMAGE_CHANNELS, Arch
from nas.arch.block import Block, PlacedBlock

MAX_ROWS = 1 << 19  # distinct rows at their places; beyond, all are forgotten
AT_ONCE = 4096  # networks in one sum

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Describe = Callable[[PlacedBlock], Sequence[float] | NDArray[np.float64]]


@dataclass(slots=True)
class Place:
    """A width and size that reach a row, and the rows seen there.

    Rows are found by identity, because hashing a row takes as long as everything else, and a space shares its rows
    (`nas.arch.stage`). The row objects are kept alive, so that no other object gets the same identity.
    """

    number: int
    channels: int
    size: int
    known: dict[Block, int] = field(default_factory=dict)
    seen: dict[int, tuple[int, Place, Block]] = field(default_factory=dict)


class Rows:
    """All rows at their places that were seen, in order: `placed[number]`."""

    def __init__(self) -> None:
        self.placed: list[PlacedBlock] = []
        self.places: list[Place] = []
        self._place_of: dict[tuple[int, int], Place] = {}
        self._values: WeakKeyDictionary[Describe, tuple[NDArray[np.bool_], Floats]] = WeakKeyDictionary()

    def start(self, resolution: int) -> Place:
        """Where the first row of a network is."""
        return self._place(IMAGE_CHANNELS, resolution)

    def add(self, place: Place, row: Block) -> tuple[int, Place, Block]:
        """The number of a row at a place, the place after it, and the row."""
        found = place.seen.get(id(row))
        if found is None:
            placed = PlacedBlock(row, place.channels, place.size)
            number = place.known.setdefault(row, len(self.placed))
            if number == len(self.placed):
                self.placed.append(placed)
            found = place.seen[id(row)] = number, self._place(placed.out_channels, placed.out_size), row
        return found

    def values(self, describe: Describe, ids: Ints) -> Floats:
        """A table of what `describe` returns for each row, shape ``(number of rows + 1, k)`` or more, in which the rows
        of `ids` are filled in; the last row is zero, so that the number -1 adds nothing. What was described is
        remembered as long as `describe` exists."""
        known, table = self._values.get(describe, (np.zeros(0, bool), None))
        missing = np.zeros(len(self.placed) + 1, bool)
        missing[ids] = True
        both = min(len(known), len(self.placed))
        missing[:both] &= ~known[:both]
        new = np.flatnonzero(missing[:-1])
        if len(new) or table is None:
            found = np.array([describe(self.placed[at]) for at in new], dtype=float)
            if table is None or len(self.placed) >= len(table):
                larger = np.zeros((2 * len(self.placed) + 1, found.shape[1]))
                if table is not None:
                    larger[: len(table)] = table
                known = np.concatenate([known, np.zeros(len(larger) - 1 - len(known), bool)])
                table = larger
            table[new], known[new] = found, True
            self._values[describe] = known, table
        return table

    def _place(self, channels: int, size: int) -> Place:
        place = self._place_of.get((channels, size))
        if place is None:
            place = self._place_of[channels, size] = Place(len(self.places), channels, size)
            self.places.append(place)
        return place


_current = Rows()


def current_rows() -> Rows:
    """The rows that new batches refer to. They are started over when they become too many."""
    global _current
    if len(_current.placed) > MAX_ROWS:
        _current = Rows()
    return _current


class Batch(Sequence[Arch]):
    """Networks as arrays; as a sequence, its items are built when they are asked for.

    Attributes:
        rows: what `ids` refers to.
        ids: number of each row, shape (n, longest network), padded with -1 at the end.
        resolution: side of the input in pixels, shape (n,).
        options: other fields of the networks by name: dropout, bn_eps and so on.
        codes: genes of a space as `nas.arch.codes` numbers them, shape (n, genes), where they are known.
        space_key: key of that space.

    >>> from nas.arch.cost import costs
    >>> from nas.references.table import reference
    >>> archs = [reference("mobilenet_v2"), reference("mobilenet_v3_large")]
    >>> batch = Batch.of(archs)
    >>> list(batch) == archs, costs(batch)[:, 0]
    (True, array([3504872., 5483032.]))
    """

    def __init__(
        self,
        rows: Rows,
        ids: Ints,
        resolution: Ints,
        options: Mapping[str, Any] | None = None,
        codes: NDArray[np.int16] | None = None,
        archs: Sequence[Arch] | None = None,
        space_key: str | None = None,
    ) -> None:
        self.rows, self.ids, self.resolution = rows, ids, resolution
        self.codes, self.space_key = codes, space_key
        self.options = dict(options or {})
        self._archs: dict[int, Arch] = {} if archs is None else dict(enumerate(archs))

    @staticmethod
    def of(archs: Sequence[Arch]) -> Batch:
        """Networks as a batch; a batch is returned as it is."""
        if isinstance(archs, Batch) and archs.rows is _current:
            return archs
        rows = current_rows()
        numbers: list[list[int]] = []
        for arch in archs:
            place, own = rows.start(arch.resolution), []
            for row in arch.rows:
                number, place, _ = place.seen.get(id(row)) or rows.add(place, row)
                own.append(number)
            numbers.append(own)
        ids = np.full((len(numbers), max(map(len, numbers), default=0)), -1)
        for at, own in enumerate(numbers):
            ids[at, : len(own)] = own
        return Batch(rows, ids, np.array([arch.resolution for arch in archs], dtype=np.int64), archs=archs)

    def __len__(self) -> int:
        return len(self.ids)

    @overload
    def __getitem__(self, at: int) -> Arch: ...
    @overload
    def __getitem__(self, at: slice) -> Batch: ...
    def __getitem__(self, at: int | slice) -> Arch | Batch:
        if isinstance(at, slice):
            return self.take(np.arange(len(self))[at])
        number = range(len(self))[at]
        if number not in self._archs:
            placed = (self.rows.placed[row] for row in self.ids[number] if row >= 0)
            rows = tuple(one.row for one in placed)
            self._archs[number] = Arch(rows, int(self.resolution[number]), **self.options)
        return self._archs[number]

    def __iter__(self) -> Iterator[Arch]:
        return (self[at] for at in range(len(self)))

    def take(self, at: NDArray[Any]) -> Batch:
        """The networks at these indices, or where a mask is true."""
        at = np.flatnonzero(at) if at.dtype == bool else at
        codes = None if self.codes is None else self.codes[at]
        taken = Batch(self.rows, self.ids[at], self.resolution[at], self.options, codes, space_key=self.space_key)
        taken._archs = {new: self._archs[old] for new, old in enumerate(at.tolist()) if old in self._archs}
        return taken

    def words(self) -> list[bytes]:
        """Equal for equal networks of batches of the same `rows` and `options`."""
        numbers = self.ids.astype(np.int32)
        return [row[row >= 0].tobytes() for row in numbers]

    def values(self, describe: Describe) -> Floats:
        """What `describe` returns for each row, zero beyond the end of a network, shape (n, longest network, k)."""
        return self.rows.values(describe, self.ids)[self.ids]

    def values_at(self, position: int, describe: Describe) -> Floats:
        """What `describe` returns for the row at a position of each network, zero beyond its end, shape (n, k)."""
        ids = self.ids[:, position]
        return self.rows.values(describe, ids)[ids]

    def sums(self, describe: Describe) -> Floats:
        """The sum of what `describe` returns over the rows of each network, shape (n, k); n is at least 1."""
        table = self.rows.values(describe, self.ids)
        return np.concatenate([table[self.ids[at : at + AT_ONCE]].sum(axis=1) for at in range(0, len(self), AT_ONCE)])

    @property
    def out_channels(self) -> Ints:
        """Channels that reach the classifier, shape (n,)."""
        last = self.ids[np.arange(len(self)), (self.ids >= 0).sum(axis=1) - 1]
        found: Ints = self.rows.values(_out_channels, last)[last, 0].astype(np.int64)
        return found


def _out_channels(placed: PlacedBlock) -> Sequence[float]:
    return (placed.out_channels,)
