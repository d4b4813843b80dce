"""Genes: named choices, and procedures that are driven by a function that makes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

Scalar = str | int | float
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Gene:
    """A named choice among at least two values."""

    name: str
    options: tuple[Scalar, ...]


Choose = Callable[[Gene], Scalar]


def pick(choose: Choose, name: str, options: tuple[Scalar, ...]) -> Any:
    """The only option there is, or the one `choose` takes: with a single option there is no gene."""
    return options[0] if len(options) == 1 else choose(Gene(name, options))


def every(procedure: Callable[[Choose], T]) -> Iterator[tuple[dict[str, Gene], dict[str, Scalar], T]]:
    """Run `procedure` once for each way its choices can fall: the genes it met, what was chosen, its outcome."""
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
