"""A space: a table whose cells may hold several values; each list is a gene.

Everything a space does rests on one procedure, `Space.realise`. For each gene it meets, it calls a function that
chooses an option: at random (`sample`), from a dict (`decode`), or by a sampler (the search). Genes that are not met,
such as those of blocks beyond the chosen depth, are inactive and cannot change the network.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from nas.arch.arch import Arch
from nas.arch.automaton import Completions, RowAutomaton, read_word
from nas.arch.block import Block
from nas.arch.genes import Choose, Gene, Scalar, every, pick
from nas.arch.rounding import ROUNDINGS
from nas.arch.stage import Stage
from nas.system.errors import InputError, known


@dataclass(frozen=True)
class Space:
    """All networks that a space file describes.

    Args:
        name: name of the space.
        stages: stem, stages and head rows, in order.
        resolution: options for the side of the input, in pixels.
        width: options for the multiplier of the channels.
        arch_options: `Arch` fields that all networks share: dropout, bn_eps, bn_momentum, stochastic_depth.
        text: YAML it was read from, enough to read it again.
    """

    name: str
    stages: tuple[Stage, ...]
    resolution: tuple[int, ...]
    width: tuple[float, ...] = (1.0,)
    arch_options: Mapping[str, float] = field(default_factory=dict)
    text: str = ""

    def realise(self, choose: Choose) -> Arch:
        """Build a network row by row. `choose` is called for every gene that is met and returns one of its options."""
        resolution = pick(choose, "resolution", self.resolution)
        width = pick(choose, "width", self.width)
        rows: list[Block] = []
        for stage in self.stages:
            repeat = pick(choose, f"{stage.name}.repeat", stage.repeat)
            settled = stage.settle(choose) if repeat else {}
            blocks = (stage.block(at, settled, width, choose) for at in range(repeat))
            rows.extend(block for block in blocks if block is not None)
        return self._arch(rows, resolution)

    def _arch(self, rows: list[Block], resolution: int) -> Arch:
        return Arch(tuple(rows), resolution, **self.arch_options)

    def sample(self, rng: np.random.Generator | int) -> Arch:
        """A random network: every gene that is met is drawn uniformly from its options.

        Args:
            rng: random number generator, or a seed.
        """
        return self.decode(self.sample_genes(rng))

    def sample_genes(self, rng: np.random.Generator | int) -> dict[str, Scalar]:
        """The genes that `sample` draws, by name."""
        generator = np.random.default_rng(rng)
        return self.realised(lambda gene: gene.options[int(generator.integers(len(gene.options)))])[0]

    def realised(self, choose: Choose) -> tuple[dict[str, Scalar], Arch]:
        """The genes that `realise` meets, with the options that `choose` returned, and the network."""
        genes: dict[str, Scalar] = {}

        def note(gene: Gene) -> Scalar:
            genes[gene.name] = choose(gene)
            return genes[gene.name]

        arch = self.realise(note)
        return genes, arch

    def decode(self, genes: Mapping[str, Any]) -> Arch:
        """The network that these genes describe. Of inactive genes only the names are checked.

        Raises:
            InputError: a gene is unknown, an active gene is missing, or a value is not an option.
        """
        names = [gene.name for gene in self.genes]
        if unknown := set(genes) - set(names):
            raise InputError(f"space {self.name} has no gene {sorted(unknown)[0]!r:.60}; {known(names)}")

        def choose(gene: Gene) -> Scalar:
            if gene.name not in genes:
                raise InputError(f"gene {gene.name!r} is missing; options: {list(gene.options)}")
            return _option(gene, genes[gene.name])

        return self.realise(choose)

    def encode(self, arch: Arch) -> dict[str, Scalar]:
        """The active genes of `arch`: ``space.decode(space.encode(arch)) == arch``. Equal networks have equal genes.

        Raises:
            InputError: `arch` is not in the space. The text names the first row that does not fit.

        >>> from nas.arch.space_yaml import load_space
        >>> space = load_space("mbconv")
        >>> arch = space.sample(0)
        >>> space.decode(space.encode(arch)) == arch
        True
        """
        if arch.resolution not in self.resolution:
            raise InputError(
                f"resolution {arch.resolution} is not in space {self.name}; options: {list(self.resolution)}"
            )
        if self._arch(list(arch.rows), arch.resolution) != arch:
            raise InputError(
                f"dropout or batch norm differ from space {self.name}, which has {dict(self.arch_options)}"
            )
        genes, read = read_word(self.automaton, arch.rows)
        if genes is None:
            row = f"row {read} ({arch.rows[read]})" if read < len(arch.rows) else f"the end after row {read - 1}"
            raise InputError(f"the network is not in space {self.name}: {row} does not fit")
        if len(self.resolution) > 1:
            genes["resolution"] = arch.resolution
        return {gene.name: genes[gene.name] for gene in self.genes if gene.name in genes}

    def __contains__(self, arch: Arch) -> bool:
        try:
            self.encode(arch)
        except InputError:
            return False
        return True

    @cached_property
    def size(self) -> int:
        """The exact number of distinct networks.

        >>> from nas.arch.space_yaml import load_space
        >>> f"{load_space('mbconv').size:.1e}"
        '1.3e+40'
        """
        return len(self.resolution) * self.completions.count(0)

    @cached_property
    def genes(self) -> tuple[Gene, ...]:
        """All genes, active or not, in the order in which `realise` meets them."""
        genes: dict[str, Gene] = {}
        for name, options in (("resolution", self.resolution), ("width", self.width)):
            genes[name] = Gene(name, options)
        for stage in self.stages:
            genes[f"{stage.name}.repeat"] = Gene(f"{stage.name}.repeat", stage.repeat)
            for met, _, settled in every(stage.settle):
                genes |= met
                for at in range(max(stage.repeat)):
                    for met, _, _ in every(lambda choose: stage.block(at, settled, 1.0, choose)):  # noqa: B023
                        genes |= met
        return tuple(gene for gene in genes.values() if len(gene.options) > 1)

    def neighbours(self, arch: Arch) -> list[Arch]:
        """The distinct networks that differ from `arch` in one gene. A gene that becomes active takes the option of the
        block before.

        Raises:
            InputError: `arch` is not in the space.
        """
        genes = self.encode(arch)
        neighbours: dict[Arch, None] = {}
        for gene in self.genes:
            for option in gene.options:
                if gene.name in genes and option != genes[gene.name]:
                    neighbours[self.realise(lambda met: _nearest(met, genes | {gene.name: option}))] = None  # noqa: B023
        neighbours.pop(arch, None)
        return list(neighbours)

    @cached_property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the entries of `features`, ``gene=option``."""
        return tuple(f"{gene.name}={option}" for gene in self.genes for option in gene.options)

    def features(self, arch: Arch) -> np.ndarray:
        """The genes of `arch` one-hot: float64 of shape ``(len(feature_names),)``, zero for inactive genes."""
        genes = self.encode(arch)
        return np.array([genes.get(gene.name) == option for gene in self.genes for option in gene.options], dtype=float)

    @cached_property
    def key(self) -> str:
        """A hash of the meaning, 12 hexadecimal digits: comments and the order of cells do not change it."""

        def meaning(stage: Stage) -> tuple[Any, ...]:
            choice = [(label, sorted(row.items())) for label, row in stage.choice.items()]
            parts = stage.name, sorted(stage.cells.items()), stage.repeat, sorted(stage.shared), choice, stage.scale
            scaling = stage.rounding, sorted(stage.channels_at.items())
            return parts if scaling == (ROUNDINGS[0], []) else (*parts, *scaling)

        stages = [meaning(stage) for stage in self.stages]
        text = repr((stages, self.resolution, self.width, sorted(self.arch_options.items())))
        return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()

    @cached_property
    def completions(self) -> Completions:
        """How many networks go on from each beginning."""
        return Completions(self.automaton)

    @cached_property
    def automaton(self) -> RowAutomaton:
        """Whose words are the rows of the space's networks."""
        return RowAutomaton(self.stages, self.width)


def _option(gene: Gene, value: Any) -> Scalar:
    for option in gene.options:
        if option == value and isinstance(option, str) == isinstance(value, str):
            return option
    raise InputError(f"gene {gene.name!r} cannot be {value!r:.60}; options: {list(gene.options)}")


def _nearest(gene: Gene, genes: Mapping[str, Scalar]) -> Scalar:
    """The gene's value; else the value of the same cell in the closest earlier block; else the first option."""
    name = gene.name
    while name not in genes:
        stage, _, rest = name.partition(".b")
        at, dot, cell = rest.partition(".")
        if not dot or not at.isdigit() or at == "1":
            return gene.options[0]
        name = f"{stage}.b{int(at) - 1}.{cell}"
    return genes[name] if genes[name] in gene.options else gene.options[0]
