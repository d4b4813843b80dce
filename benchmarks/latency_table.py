"""How well the latency table of a space predicts networks it has never seen, beside counting MACs.

Builds a fresh table of this host, times random networks (in rounds, all in turn) and the references, and prints, all
from one run: the time the table took, its error on the random networks, the error of a line fitted to MACs on the very
networks it is judged by (an advantage it is given), and the references one by one. Usage::

    python benchmarks/latency_table.py [--nets 40] [--space mbconv] [--runtime onnxruntime] [--seed 1000]
"""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from time import perf_counter

import numpy as np
from scipy.stats import spearmanr

from nas.arch import Arch
from nas.build import build
from nas.cost import estimate
from nas.latency.measure import measure
from nas.latency.runtimes import runtime_of
from nas.latency.table import build_table
from nas.latency.table_sample import typical_ms, visits
from nas.machine import host
from nas.references import reference, reference_names
from nas.space_file import load_space

ROUNDS = 8


def timed_in_rounds(archs: list[Arch], runtime: str) -> tuple[np.ndarray, float]:
    """Typical ms over rounds of each network, and the repeatability: mean difference between odd and even rounds."""
    with ExitStack() as stack:
        runner = runtime_of(runtime)
        runs = [stack.enter_context(runner.prepare(build(a), a.resolution, 1, 1)) for a in archs]
        taken, order = visits(runs, ROUNDS, ROUNDS, 0.0, lambda *_: None)
    odd, even = typical_ms(taken[::2], order[::2]), typical_ms(taken[1::2], order[1::2])
    return typical_ms(taken, order), float(np.abs(odd / even - 1).mean())


def line(name: str, predicted: np.ndarray, measured: np.ndarray) -> str:
    error = np.abs(predicted / measured - 1)
    rank = spearmanr(predicted, measured)[0]
    common = np.median(predicted / measured)
    alike = np.abs(predicted / measured / common - 1).mean()
    return (
        f"{name:<18} mean error {error.mean():5.1%}   worst {error.max():5.1%}   Spearman {rank:.4f}   "
        f"common to all {common - 1:+.1%}, mean error beside it {alike:.1%}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nets", type=int, default=40)
    parser.add_argument("--space", default="mbconv")
    parser.add_argument("--runtime", default="onnxruntime")
    parser.add_argument("--seed", type=int, default=1000)
    options = parser.parse_args()
    space = load_space(options.space)
    print(f"{host()}, {options.runtime}, 1 thread")
    start = perf_counter()
    table = build_table(space, options.runtime)
    print(f"table of {space.name} built in {perf_counter() - start:.1f} s, fitted to {table.fitted} networks")
    print(f"its own test: {table.error}\n")

    archs = [space.sample(options.seed + at) for at in range(options.nets)]
    measured, repeat = timed_in_rounds(archs, options.runtime)
    predicted = table.many(archs)
    crowd = [space.sample(at) for at in range(2000)]
    start = perf_counter()
    table.many(crowd)
    per_net_us = (perf_counter() - start) / len(crowd) * 1e6
    macs = np.array([estimate(arch).macs for arch in archs], dtype=float)
    fitted = np.column_stack([macs, np.ones_like(macs)]) / measured[:, None]
    slope = np.linalg.lstsq(fitted, np.ones_like(macs), rcond=None)[0]
    print(f"{options.nets} random networks, {measured.min():.2f} to {measured.max():.2f} ms")
    print(line("latency table", predicted, measured))
    print(line("line through MACs", np.column_stack([macs, np.ones_like(macs)]) @ slope, measured))
    print(f"two halves of the rounds differ by {repeat:.1%} on average; a prediction takes {per_net_us:.0f} µs\n")
    for name in reference_names():
        arch = reference(name)
        latency, guess = measure(arch, options.runtime), table(arch).ms
        print(f"{name:<22} measured {latency.ms:7.2f} ms   predicted {guess:7.2f} ms   {guess / latency.ms - 1:+.1%}")


if __name__ == "__main__":
    main()
