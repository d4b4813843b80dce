"""How similar a network is to the published ones, compared with random networks."""

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
    """The share of choices, 0..1, in which two networks agree; symmetric.

    The choices are kernels, expansion, groups, SE or none, and activation, as far as the ops have them. Blocks are
    compared if they have the same place: the same reduction of the input, and the same position within it. All choices
    differ where only one network has a block. A different op counts as one more difference. ReLU6 equals ReLU.
    """
    left, right = ({(c.group, c.slot): c for c in main_blocks(arch)} for arch in (one, other))
    pairs = [(left.get(place), right.get(place)) for place in left.keys() | right.keys()]
    compared = [_equal(a, b) for a, b in pairs]
    return sum(equal for equal, _ in compared) / sum(choices for _, choices in compared)


def _equal(one: Cell | None, other: Cell | None) -> tuple[int, int]:
    """Number of equal choices and of all choices."""
    present = [cell for cell in (one, other) if cell is not None]
    names = [name for name in CHOICES if any(cell.has(name) for cell in present)]
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
    """The choices that `similarity` compares in these networks."""
    blocks = [cell for arch in archs for cell in main_blocks(arch)]
    words = {
        "kind of block": len({cell.row.op for cell in blocks}) > 1,
        "kernel": True,
        "expansion": any(cell.has("expand") for cell in blocks),
        "groups": any(cell.has("groups") for cell in blocks),
        "SE": any(cell.has("se") for cell in blocks),
        "activation": True,
    }
    return and_list(word for word, compared in words.items() if compared)


@dataclass(frozen=True)
class NearestReference:
    """The reference most similar to the best network, compared with random networks.

    Args:
        name: name of the reference.
        share: its `similarity` to the best network.
        choices: the compared choices, in words.
        random_mean: mean similarity of random networks of the space, each to its own nearest reference.
        random_high: 95th percentile of that similarity.
    """

    name: str
    share: float
    choices: str
    random_mean: float
    random_high: float


def nearest_reference(record: Record, entries: Sequence[Entry]) -> NearestReference | None:
    """The reference most similar to the best network; None without a best network or references."""
    references = [e for e in entries if e.kind == "reference"]
    best = record.best
    if best is None or not references:
        return None
    closest = max(references, key=lambda e: similarity(best, e.candidate.arch))
    rng = np.random.default_rng(0)
    random = [record.space.sample(rng) for _ in range(RANDOM_NETWORKS)]
    by_chance = [max(similarity(arch, e.candidate.arch) for e in references) for arch in random]
    share = similarity(best, closest.candidate.arch)
    return NearestReference(
        closest.name,
        share,
        choices_in_words(best, closest.candidate.arch),
        float(np.mean(by_chance)),
        float(np.quantile(by_chance, 0.95)),
    )
