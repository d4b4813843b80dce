"""Compare the spread of the proxy score over random networks with its spread over seeds.

    python benchmarks/data_spread.py [--nets 16] [--seeds 4] [--data PATH] [--space mbconv] [--workers 2] [--set
    steps=300 ...]

Every network is trained once with seed 0, and four of them with more seeds. The range over networks should be at least
5 times the standard deviation over seeds.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

import numpy as np

from nas.arch.space_yaml import load_space
from nas.data.load import load_data
from nas.training.evaluate import Evaluation, ProxyEvaluator
from nas.training.proxy import ProxyConfig

REPEATED = 4
REQUIRED = 5.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nets", type=int, default=16)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--data", default=None, help="folder or name; the generated set if absent")
    parser.add_argument("--space", default="mbconv")
    parser.add_argument("--workers", type=int, default=2, help="processes of one thread each")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="options of the proxy")
    options = parser.parse_args()
    space = load_space(options.space)
    config = ProxyConfig(full_resolution=max(space.resolution))
    for item in options.set:
        name, _, value = item.partition("=")
        config = replace(config, **{name: json.loads(value)})
    rng = np.random.default_rng(0)
    archs = [space.sample(rng) for _ in range(options.nets)]
    repeated = archs[:: max(1, options.nets // REPEATED)][:REPEATED]
    jobs = [(arch, 0) for arch in archs] + [(arch, seed) for arch in repeated for seed in range(1, options.seeds)]
    data = load_data(options.data, config.resolution)
    evaluator = ProxyEvaluator(data, config, threads=1)
    with ProcessPoolExecutor(options.workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        results: list[Evaluation] = list(pool.map(evaluator, *zip(*jobs, strict=True)))
    if failed := [result.reason for result in results if result.state == "FAILED"]:
        print(f"{len(failed)} of {len(results)} failed: {failed[0]}")
        return 1
    print(data)
    print(config)
    seconds = [result.seconds for result in results]
    print(f"{np.mean(seconds):.1f} s a network in one thread, {max(seconds):.1f} at most; {options.workers} at a time")
    worst = np.inf
    for name in ("proxy_accuracy", "proxy_loss"):
        first = np.array([getattr(result, name) for result in results[: len(archs)]])
        again = [
            [getattr(result, name) for (arch, _), result in zip(jobs, results, strict=True) if arch == one]
            for one in repeated
        ]
        noise = float(np.sqrt(np.mean([np.var(scores, ddof=1) for scores in again])))
        ratio = float(np.ptp(first)) / noise
        worst = min(worst, ratio)
        print(
            f"{name}: {first.min():.3f} to {first.max():.3f}, sd {first.std(ddof=1):.4f}; seed sd {noise:.4f}; "
            f"range/sd {ratio:.1f}, sd/sd {first.std(ddof=1) / noise:.1f}"
        )
    print(f"required range/sd: {REQUIRED}: {'met' if worst >= REQUIRED else 'missed'}")
    return 0 if worst >= REQUIRED else 1


if __name__ == "__main__":
    raise SystemExit(main())
