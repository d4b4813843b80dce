"""NAS-Bench-Macro (github.com/xiusu/NAS-Bench-Macro, Apache-2.0), which only benchmarks and tests read."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nas.accuracy.sources import Source
from nas.arch.arch import Arch
from nas.arch.space import Space
from nas.arch.space_yaml import load_space

TABULAR = "tabular"  # folder of search_spaces/ with the spaces of tabular benchmarks
MACRO_FILE = Path("nas-bench-macro") / "nas-bench-macro_cifar10.json"


@cache
def macro_space() -> Space:
    """The space of NAS-Bench-Macro. Its 6,561 codes are 3,969 networks: an identity may be before or after a block."""
    return load_space("nas_bench_macro", TABULAR)


def macro_network(code: str) -> Arch:
    """The network of an eight-digit code, one gene a digit, such as ``02012100``."""
    space = macro_space()
    genes = {gene.name: gene.options[int(digit)] for gene, digit in zip(space.genes, code, strict=True)}
    return space.decode(genes)


def nas_bench_macro(path: Path) -> tuple[list[str], Source]:
    """Codes and networks of the published JSON with their mean accuracy on CIFAR-10, in the file's order."""
    records = json.loads(path.read_text(encoding="utf-8"))
    codes = list(records)
    source = Source(
        name="nas-bench-macro",
        archs=tuple(map(macro_network, codes)),
        accuracies=np.array([records[code]["mean_acc"] for code in codes]) / 100,
        families=("",) * len(codes),
        task="CIFAR-10",
        licence="Apache-2.0",
        origin="NAS-Bench-Macro (arXiv 2103.11922), mean of three trainings: github.com/xiusu/NAS-Bench-Macro",
    )
    return codes, source


def nas_bench_macro_seeds(path: Path) -> NDArray[np.float64]:
    """Accuracy of each of the three trainings, shape (networks, 3), in the order of `nas_bench_macro`."""
    records = json.loads(path.read_text(encoding="utf-8"))
    return np.array([record["test_acc"] for record in records.values()]) / 100
