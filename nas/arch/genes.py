"""Genes, which are named choices, and procedures that call a function to make each choice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

Scalar = str | int | float
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Gene:
    """A named choice among at least two options."""

    name: str
    options: tuple[Scalar, ...]


Choose = Callable[[Gene], Scalar]
"""Returns one of the options of a gene."""


def pick(choose: Choose, name: str, options: tuple[Scalar, ...]) -> Any:
    """The option that `choose` returns; with a single option there is no gene, and that option is returned."""
    return options[0] if len(options) == 1 else choose(Gene(name, options))


def every(procedure: Callable[[Choose], T]) -> Iterator[tuple[dict[str, Gene], dict[str, Scalar], T]]:
    """Run `procedure` once for every combination of its choices, also if one choice decides whether another is met.

    Yields:
        The genes it met by name, the options chosen for them, and its outcome.

    >>> [outcome for _, _, outcome in every(lambda choose: pick(choose, "a", (1, 2)) * pick(choose, "b", (1, 10)))]
    [1, 10, 2, 20]
    """
    script: list[int] = []
    while True:
        met: dict[str, Gene] = {}
        chosen: dict[str, Scalar] = {}

        def choose(gene: Gene) -> Scalar:
            if len(met) == len(script):  # noqa: B023
                script.append(0)
            chosen[gene.name] = gene.options[script[len(met)]]  # noqa: B023
            met[gene.name] = gene  # noqa: B023
            return chosen[gene.name]  # noqa: B023

        outcome = procedure(choose)
        yield met, chosen, outcome
        counts = [len(gene.options) for gene in met.values()]
        while script and script[-1] + 1 == counts[len(script) - 1]:
            script.pop()
        if not script:
            return
        script[-1] += 1
