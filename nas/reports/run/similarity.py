"""How much a network resembles the published ones, beside what chance gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nas.arch.arch import Arch
from nas.engine.run.record import Record
from nas.reports.formatting import and_list
from nas.reports.run.block_diagram import Cell, main_blocks
from nas.reports.run.tables import Entry

RANDOM_NETWORKS = 200
CHOICES = ("kernel_start", "kernel", "expand", "groups", "se", "act")


def similarity(one: Arch, other: Arch) -> float:
    """The share of equal choices of two networks, 0..1: kernels, expansion, groups, SE or not and activation, as far as
    the ops have them.

    Blocks are compared in their places: same reduction of the input, same position there. Of a block that only one of
    the two has every choice is a difference; another op is one more. ReLU6 is taken for ReLU.
    """
    left, right = ({(c.group, c.slot): c for c in main_blocks(arch)} for arch in (one, other))
    pairs = [(left.get(place), right.get(place)) for place in left.keys() | right.keys()]
    judged = [_equal(a, b) for a, b in pairs]
    return sum(equal for equal, _ in judged) / sum(choices for _, choices in judged)


def _equal(one: Cell | None, other: Cell | None) -> tuple[int, int]:
    """Equal choices, and choices."""
    there = [cell for cell in (one, other) if cell is not None]
    names = [name for name in CHOICES if any(cell.has(name) for cell in there)]
    if one is None or other is None:
        return 0, len(names)
    equal = sum(_choice(one, name) == _choice(other, name) for name in names)
    return equal, len(names) + (one.row.op != other.row.op)


def _choice(cell: Cell, name: str) -> object:
    if name == "se":
        return cell.row.se > 0
    value = getattr(cell.row, name)
    return "relu" if value == "relu6" else value


def choices_in_words(*archs: Arch) -> str:
    """What `similarity` compares in these networks."""
    met = [cell for arch in archs for cell in main_blocks(arch)]
    words = {
        "kind of block": len({cell.row.op for cell in met}) > 1,
        "kernel": True,
        "expansion": any(cell.has("expand") for cell in met),
        "groups": any(cell.has("groups") for cell in met),
        "SE": any(cell.has("se") for cell in met),
        "activation": True,
    }
    return and_list(word for word, compared in words.items() if compared)


@dataclass(frozen=True)
class NearestReference:
    """The reference most like the best network, beside what chance gives.

    Args:
        name: of the reference.
        share: `similarity` of the best network and it.
        choices: that were compared, in words.
        random_mean: mean likeness of random networks of the space to the reference nearest to each of them.
        random_high: 95th percentile of the same.
    """

    name: str
    share: float
    choices: str
    random_mean: float
    random_high: float


def nearest_reference(record: Record, entries: Sequence[Entry]) -> NearestReference | None:
    """None without a best network or without references."""
    references = [e for e in entries if e.kind == "reference"]
    if record.best is None or not references:
        return None
    closest = max(references, key=lambda e: similarity(record.best or e.candidate.arch, e.candidate.arch))
    rng = np.random.default_rng(0)
    drawn = [record.space.sample(rng) for _ in range(RANDOM_NETWORKS)]
    by_chance = [max(similarity(arch, e.candidate.arch) for e in references) for arch in drawn]
    share = similarity(record.best, closest.candidate.arch)
    return NearestReference(
        closest.name,
        share,
        choices_in_words(record.best, closest.candidate.arch),
        float(np.mean(by_chance)),
        float(np.quantile(by_chance, 0.95)),
    )
