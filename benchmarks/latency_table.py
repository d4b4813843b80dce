"""Error of the latency table of a space on networks it was not fitted to, compared with simpler models.

It builds a new table of this host, measures random networks over the whole range of the space (equally many in every
range of MACs) and the references with `nas.measure`, and prints, all from one run:

- the time to build the table and its error;
- the error of a line through MACs, fitted to the same networks that judge it (an advantage);
- the error of plain sums of blocks, each measured alone, and of a line through these sums, fitted likewise;
- predictions a second, and the references one by one.

Networks and references are measured several times, in turn, and their mean counts; the differences between single
measurements show how far to trust the figures. After each time another table is built and compared with the same
measurements, because one table may be lucky. Usage::

    python benchmarks/latency_table.py [--nets 100] [--times 2] [--sums 40] [--space mbconv] [--seed 1000] [--log FILE]
"""

from __future__ import annotations

import argparse
import json
import warnings
from pathlib import Path
from time import perf_counter

import numpy as np
from scipy.stats import spearmanr

from nas.arch.arch import Arch
from nas.arch.block import PlacedBlock
from nas.arch.cost import cost_of
from nas.arch.space import Space
from nas.arch.space_yaml import load_space
from nas.latency.isolation import isolated
from nas.latency.measure import measure
from nas.latency.runtimes.onnxruntime import onnx_session
from nas.latency.table.build import build_table
from nas.latency.table.sample_networks import sized
from nas.latency.table.table import LatencyTable
from nas.network.build import build
from nas.network.serialize.onnx import OPSET
from nas.references.table import reference, reference_names
from nas.system.errors import InputError
from nas.system.machine import host

ALONE_RUNS = 32
WITHIN = 0.05  # the goal for the error on references


def over_the_range(space: Space, count: int, seed: int) -> list[Arch]:
    """Random networks, evenly spread over the logarithm of MACs between the smallest and the largest drawn."""
    rng = np.random.default_rng(seed)
    pool = list({arch.key: arch for arch in [sized(space, rng) for _ in range(30 * count)]}.values())
    logs = np.log([cost_of(arch).macs for arch in pool])
    chosen: list[int] = []
    for goal in np.linspace(logs.min(), logs.max(), count):
        far = np.abs(logs - goal)
        far[chosen] = np.inf
        chosen.append(int(np.argmin(far)))
    return [pool[at] for at in chosen]


def sums_of_blocks(archs: list[Arch]) -> np.ndarray:
    """Sums of blocks: each distinct block is measured alone, at its place in the network."""
    import io

    import torch
    from torch import nn

    known: dict[object, float] = {}

    def alone(module: nn.Module, shape: tuple[int, ...]) -> float:
        file = io.BytesIO()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the old exporter is deprecated
            torch.onnx.export(module.eval(), (torch.zeros(shape),), file, dynamo=False, opset_version=OPSET)
        session = onnx_session(file.getvalue(), 1)
        feed = {session.get_inputs()[0].name: np.zeros(shape, np.float32)}
        taken = []
        for _ in range(ALONE_RUNS):
            begin = perf_counter()
            session.run(None, feed)
            taken.append(perf_counter() - begin)
        return float(np.median(taken[ALONE_RUNS // 4 :])) * 1e3

    def total(arch: Arch) -> float:
        network = build(arch)
        placed: list[PlacedBlock] = list(arch.places())
        ms = 0.0
        for module, place in zip(network.get_submodule("features").children(), placed, strict=True):
            if place not in known:
                flat = place.row.op == "linear"
                size = () if flat else (place.in_size, place.in_size)
                known[place] = alone(module, (1, place.in_channels, *size))
            ms += known[place]
        width = placed[-1].out_channels
        if width not in known:
            known[width] = alone(network.get_submodule("classifier"), (1, width))
        return ms + known[width]

    with isolated(1):
        found = np.array([total(arch) for arch in archs])
    print(f"{len(known)} distinct blocks of {len(archs)} networks measured alone")
    return found


def line(name: str, predicted: np.ndarray, measured: np.ndarray) -> str:
    error = np.abs(predicted / measured - 1)
    rank = spearmanr(predicted, measured)[0]
    common = np.median(predicted / measured)
    rest = np.abs(predicted / measured / common - 1).mean()
    return (
        f"{name:<28} mean error {error.mean():6.2%}   worst {error.max():6.1%}   Spearman {rank:.4f}   "
        f"common to all {common - 1:+.1%}, mean error without it {rest:.2%}"
    )


def through(values: np.ndarray, measured: np.ndarray) -> np.ndarray:
    """The best line through `values`, by relative error."""
    columns = np.column_stack([values, np.ones_like(values)])
    slope = np.linalg.lstsq(columns / measured[:, None], np.ones_like(measured), rcond=None)[0]
    return np.asarray(columns @ slope)


def many_a_second(table: LatencyTable, space: Space) -> tuple[float, float]:
    """Predictions a second of new networks, and of the same networks again."""
    archs = [space.sample(at) for at in range(20_000)]
    seconds = []
    for _ in range(3):
        start = perf_counter()
        table.many(archs)
        seconds.append(perf_counter() - start)
    return len(archs) / seconds[0], len(archs) / min(seconds[1:])


def built(space: Space) -> LatencyTable:
    start = perf_counter()
    table = build_table(space)
    print(f"table of {space.name} built in {perf_counter() - start:.1f} s, fitted to {table.fitted} networks")
    print(f"its own test: {table.error}", flush=True)
    return table


def answered(table: LatencyTable) -> dict[str, Arch]:
    """The references whose operators the table knows."""
    found = {}
    for name in reference_names():
        try:
            table(reference(name))
        except InputError as error:
            print(f"{name:<28} {error}")
            continue
        found[name] = reference(name)
    return found


def within(table: LatencyTable, archs: dict[str, Arch], measured: np.ndarray) -> str:
    off = table.many(list(archs.values())) / measured - 1
    worst = int(np.argmax(np.abs(off)))
    return (
        f"{(np.abs(off) <= WITHIN).sum()} of {len(off)} references within {WITHIN:.0%}, mean error "
        f"{np.abs(off).mean():.2%}, worst {list(archs)[worst]} {off[worst]:+.1%}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nets", type=int, default=100)
    parser.add_argument("--times", type=int, default=2, help="measurements of each network")
    parser.add_argument("--sums", type=int, default=40, help="networks whose blocks are measured alone")
    parser.add_argument("--space", default="mbconv")
    parser.add_argument("--seed", type=int, default=1000)
    parser.add_argument("--log", type=Path, help="JSON file for predictions and measurements")
    options = parser.parse_args()
    space = load_space(options.space)
    print(f"{host()}, onnxruntime, 1 thread")
    tables = [built(space)]
    references = answered(tables[0])
    archs = over_the_range(space, options.nets, options.seed)
    measured_ms = []
    for _ in range(options.times):
        measured_ms.append([measure(arch).ms for arch in [*archs, *references.values()]])
        tables.append(built(space))
    table, each = tables[0], np.array(measured_ms)
    measured, of_references = np.split(each.mean(axis=0), [len(archs)])
    if options.log:
        names = [*[arch.key for arch in archs], *references]
        guesses = [one.many([*archs, *references.values()]).tolist() for one in tables]
        options.log.write_text(json.dumps({"names": names, "measured_ms": measured_ms, "predicted_ms": guesses}))

    print(f"\n{options.nets} random networks, {measured.min():.2f} to {measured.max():.2f} ms")
    if options.times > 1:
        twice = np.abs(each[1] / each[0] - 1)
        print(f"measured {options.times} times; the first two differ by {twice.mean():.2%}, {twice.max():.1%} at most")
    print(line("latency table", table.many(archs), measured))
    print(line("with the first time alone", table.many(archs), each[0, : len(archs)]))
    for other in tables[1:]:
        print(line("a table built later", other.many(archs), measured))
    macs = np.array([cost_of(arch).macs for arch in archs], dtype=float)
    print(line("line through their MACs", through(macs, measured), measured), flush=True)
    if options.sums:
        part = list(range(0, len(archs), max(1, len(archs) // options.sums)))
        sums = sums_of_blocks([archs[at] for at in part])
        print(line(f"latency table, those {len(part)}", table.many([archs[at] for at in part]), measured[part]))
        print(line("plain sums of blocks", sums, measured[part]))
        print(line("line through those sums", through(sums, measured[part]), measured[part]))
    fresh, again_s = many_a_second(table, space)
    print(f"predictions a second, one core: {again_s:,.0f}; while rows are still new: {fresh:,.0f}\n", flush=True)
    for (name, arch), ms in zip(references.items(), of_references, strict=True):
        guess = table(arch).ms
        print(f"{name:<32} measured {ms:7.2f} ms   predicted {guess:7.2f} ms   {guess / ms - 1:+.1%}")
    print(within(table, references, of_references))
    for other in tables[1:]:
        print(f"a table built later: {within(other, references, of_references)}")


if __name__ == "__main__":
    main()
