"""Genes of many networks as arrays of option numbers: draws, mutants and mixtures without building a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.arch.arch import Arch
from nas.arch.batch import Batch, Rows, current_rows
from nas.arch.block import Block
from nas.arch.genes import Gene, Scalar, every
from nas.arch.space import Space
from nas.arch.stage import Stage
from nas.system.errors import InputError

INACTIVE = -1
MAX_SETTINGS = 1 << 40  # of the genes of one block

Codes = NDArray[np.int16]
Ints = NDArray[np.int64]


class Coder:
    """Turns genes into networks and back, many at a time.

    The genes of a network are a row of option numbers, one for each gene of the space; an inactive gene is -1. What a
    block becomes depends on few genes and on where it is, so each such combination is worked out once.

    >>> from nas.arch.space_yaml import load_space
    >>> space = load_space("mbconv")
    >>> coder = Coder(space)
    >>> batch = coder.batch(coder.random(3, np.random.default_rng(0)))
    >>> [space.decode(genes) for genes in map(coder.genes, batch.codes)] == list(batch)
    True
    """

    def __init__(self, space: Space) -> None:
        self.space = space
        self.counts: Ints = np.array([len(gene.options) for gene in space.genes], dtype=np.int64)
        self._at = {gene.name: at for at, gene in enumerate(space.genes)}
        self._rows: Rows | None = None

    def random(self, count: int, rng: np.random.Generator) -> Codes:
        """Every gene drawn uniformly, shape (count, genes); inactive ones are not marked yet."""
        return rng.integers(0, self.counts, (count, len(self.counts)), dtype=np.int16)

    def children(self, parents: Codes, count: int, rng: np.random.Generator, mixed: float = 0.5) -> Codes:
        """Mutants of random parents; a share of them are mixtures of two parents, gene by gene.

        Args:
            parents: shape (n, genes).
            count: number of children.
            rng: random numbers.
            mixed: share of mixtures.
        """
        one, other = (parents[rng.integers(len(parents), size=count)] for _ in range(2))
        swap = (rng.random(count) < mixed)[:, None] & (rng.random(one.shape) < 0.5) & (other != INACTIVE)
        child = np.where(swap, other, one)
        # One mutation and a few more, as many as a Poisson distribution of mean 1 has.
        active = np.maximum((child != INACTIVE).sum(axis=1), 1)
        rate = (1 + rng.poisson(1.0, count)) / active
        drawn = self.random(count, rng)
        change = (rng.random(child.shape) < rate[:, None]) | (child == INACTIVE)
        return np.where(change, drawn, child)

    def batch(self, codes: Codes) -> Batch:
        """The networks of these genes; `Batch.codes` has inactive genes marked.

        Args:
            codes: shape (n, genes); an active gene must have an option.
        """
        if self._rows is not current_rows():
            self._rows = current_rows()
            self._blocks: dict[tuple[int, int], _BlockTable] = {}
        rows, space, count = self._rows, self.space, len(codes)
        out = np.full_like(codes, INACTIVE)
        side = self._column(codes, "resolution", out)
        width = self._column(codes, "width", out)
        place = np.array([rows.start(resolution).number for resolution in space.resolution])[side]
        ids = np.full((count, sum(max(stage.repeat) for stage in space.stages)), -1)
        position = 0
        for number, stage in enumerate(space.stages):
            repeat = np.array(stage.repeat)[self._column(codes, f"{stage.name}.repeat", out)]
            shared = self._stage_columns[number][0]
            opens = repeat > 0
            for column in shared:
                out[opens, column] = codes[opens, column]
            for at in range(max(stage.repeat)):
                here = np.flatnonzero(repeat > at)
                if len(here):
                    table = self._table(number, at)
                    found = table.look_up(place[here], width[here], codes[here])
                    ids[here, position], place[here] = found[:, 0], found[:, 1]
                    table.mark(out, codes, here, found[:, 2])
                position += 1
        return Batch(rows, _left(ids), np.array(space.resolution)[side], space.arch_options, out, space_key=space.key)

    def genes(self, codes: NDArray[np.int16]) -> dict[str, Scalar]:
        """The active genes of one network by name."""
        pairs = zip(self.space.genes, codes.tolist(), strict=True)
        return {gene.name: gene.options[code] for gene, code in pairs if code != INACTIVE}

    def codes(self, genes: Mapping[str, Scalar]) -> NDArray[np.int16]:
        """The option numbers of genes, as `Space.encode` returns them; shape (genes,)."""
        found = np.full(len(self.counts), INACTIVE, dtype=np.int16)
        for at, gene in enumerate(self.space.genes):
            if gene.name in genes:
                found[at] = gene.options.index(genes[gene.name])
        return found

    def encoded(self, archs: Sequence[Arch]) -> Codes:
        """The option numbers of networks of the space, shape (n, genes).

        Raises:
            InputError: a network is not in the space.
        """
        rows = [self.codes(self.space.encode(arch)) for arch in archs]
        return np.array(rows, dtype=np.int16).reshape(len(archs), len(self.counts))

    def one_hot(self, codes: Codes) -> NDArray[np.float64]:
        """The genes one-hot, as `Space.features` orders them; zero for inactive genes."""
        total = int(self.counts.sum())
        starts = np.concatenate([[0], np.cumsum(self.counts)[:-1]])
        found = np.zeros((len(codes), total + 1))
        columns = np.where(codes == INACTIVE, total, starts + codes)
        found[np.arange(len(codes))[:, None], columns] = 1.0
        return found[:, :total]

    def _column(self, codes: Codes, name: str, out: Codes) -> Ints:
        """The option of a gene that is always active; 0 if there is no choice."""
        at = self._at.get(name)
        if at is None:
            return np.zeros(len(codes), dtype=np.int64)
        out[:, at] = codes[:, at]
        return codes[:, at].astype(np.int64)

    @cached_property
    def _stage_columns(self) -> list[tuple[list[int], list[list[int]]]]:
        """For each stage the columns of the genes that its blocks share, and of each block's own."""
        found = []
        for stage in self.space.stages:
            shared: dict[str, Gene] = {}
            own: list[dict[str, Gene]] = [{} for _ in range(max(stage.repeat))]
            for met, _, settled in every(stage.settle):
                shared |= met
                for at, genes in enumerate(own):
                    for met, _, _ in every(lambda choose: stage.block(at, settled, 1.0, choose)):  # noqa: B023
                        genes |= met
            columns = [[self._at[name] for name in genes] for genes in (shared, *own)]
            found.append((columns[0], columns[1:]))
        return found

    def _table(self, number: int, at: int) -> _BlockTable:
        if (number, at) not in self._blocks:
            shared, own = self._stage_columns[number]
            assert self._rows is not None
            self._blocks[number, at] = _BlockTable(
                self.space, self._rows, self.space.stages[number], at, shared, own[at]
            )
        return self._blocks[number, at]


class _BlockTable:
    """What one block of a stage becomes, by its genes and where it is."""

    def __init__(
        self, space: Space, rows: Rows, stage: Stage, at: int, shared: Sequence[int], own: Sequence[int]
    ) -> None:
        self._space, self._rows, self._stage, self._at = space, rows, stage, at
        self._columns = np.array([*shared, *own], dtype=np.int64)
        self._own, self._shared = np.array(own, dtype=np.int64), len(shared)
        options = [len(space.genes[column].options) for column in self._columns]
        sizes = [len(space.width), *options]
        self._settings = int(np.prod(sizes, dtype=object))
        if self._settings > MAX_SETTINGS:
            raise InputError(f"a block of stage {stage.name} has more than {MAX_SETTINGS:.0e} settings of its genes")
        self._radix = np.array([int(np.prod(sizes[k + 1 :], dtype=object)) for k in range(len(sizes))], dtype=np.int64)
        self._keys = np.zeros(0, dtype=np.int64)
        self._found = np.zeros((0, 3), dtype=np.int64)

    def look_up(self, place: Ints, width: Ints, codes: Codes) -> Ints:
        """For each network the number of the row (-1: skipped), the number of the place after it, and which of its own
        genes are active, as bits; shape (n, 3)."""
        picked = np.maximum(codes[:, self._columns].astype(np.int64), 0)  # an inactive gene changes nothing
        keys = place * self._settings + np.hstack([width[:, None], picked]) @ self._radix
        at = np.searchsorted(self._keys, keys)
        known = at < len(self._keys)
        known[known] = self._keys[at[known]] == keys[known]
        if not known.all():
            new, first = np.unique(keys[~known], return_index=True)
            where = np.flatnonzero(~known)[first]
            made = [self._make(int(place[one]), int(width[one]), picked[one].tolist()) for one in where]
            keys_now = np.concatenate([self._keys, new])
            order = np.argsort(keys_now, kind="stable")
            self._keys = keys_now[order]
            self._found = np.concatenate([self._found, np.array(made, dtype=np.int64)])[order]
            at = np.searchsorted(self._keys, keys)
        return self._found[at]

    def mark(self, out: Codes, codes: Codes, here: Ints, bits: Ints) -> None:
        """Copy the active genes of this block."""
        for bit, column in enumerate(self._own):
            active = here[(bits >> bit) & 1 == 1]
            out[active, column] = codes[active, column]

    def _make(self, place: int, width: int, picked: list[int]) -> tuple[int, int, int]:
        genes = self._space.genes
        values: dict[str, Scalar] = {
            genes[column].name: genes[column].options[code] for column, code in zip(self._columns, picked, strict=True)
        }
        met: set[str] = set()

        def choose(gene: Gene) -> Scalar:
            met.add(gene.name)
            return values[gene.name]

        settled: dict[str, Any] = self._stage.settle(choose)
        met.clear()
        block: Block | None = self._stage.block(self._at, settled, self._space.width[width], choose)
        bits = sum(1 << bit for bit, column in enumerate(self._own) if genes[column].name in met)
        if block is None:
            return -1, place, bits
        number, after, _ = self._rows.add(self._rows.places[place], block)
        return number, after.number, bits


def _left(ids: Ints) -> Ints:
    """The rows of each network without gaps."""
    order = np.argsort(ids < 0, axis=1, kind="stable")
    moved = np.take_along_axis(ids, order, axis=1)
    longest = int((moved >= 0).sum(axis=1).max(initial=0))
    return moved[:, :longest]
