"""Show what the two anchors contribute to the repeatability of measurements.

    python benchmarks/anchors.py [--space mbconv] [--nets 12] [--times 5]

Networks over the range of a space are measured several times in turn. Three methods compute latencies from the same
samples: plain medians, quotients with the anchor, and quotients with correction by the far anchor. For each method it
prints how far the measurements of a network are from their median, on average and at most, and the spread of each
network.
"""

from __future__ import annotations

import argparse
from contextlib import ExitStack

import numpy as np

from nas.arch.cost import cost_of
from nas.arch.space_yaml import load_space
from nas.latency.anchor import Anchors
from nas.latency.isolation import isolated
from nas.latency.runtimes.base import runtime_of
from nas.latency.sampling import Samples, sample
from nas.latency.table.sample_networks import sized
from nas.network.build import build
from nas.system.machine import host

POOL = 400


def latencies(samples: list[list[Samples]]) -> dict[str, np.ndarray]:
    """Milliseconds by method, shape ``(networks, times)``."""
    flat = [one for times in samples for one in times]
    baseline_ms = float(np.median([one.anchor_ms for one in flat]))
    state = float(np.median([one.state for one in flat]))
    methods = {
        "plain": lambda one: np.median(one.rounds) * 1e3,
        "anchor": lambda one: np.median(np.array(one.rounds) / np.array(one.anchors)) * baseline_ms,
        "both": lambda one: np.median(one.at_baseline(baseline_ms, state)),
    }
    return {name: np.array([[method(one) for one in times] for times in samples]) for name, method in methods.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", default="mbconv")
    parser.add_argument("--nets", type=int, default=12)
    parser.add_argument("--times", type=int, default=5)
    options = parser.parse_args()
    space, rng = load_space(options.space), np.random.default_rng(0)
    pool = sorted((sized(space, rng) for _ in range(POOL)), key=lambda arch: cost_of(arch).macs)
    archs = [pool[at] for at in np.linspace(0, POOL - 1, options.nets).round().astype(int)]
    runtime = runtime_of("onnxruntime")
    samples: list[list[Samples]] = [[] for _ in archs]
    with ExitStack() as stack:
        stack.enter_context(isolated(1))
        anchors = stack.enter_context(Anchors(runtime, 1))
        runs = [stack.enter_context(runtime.prepare(build(arch), arch.resolution, 1, 1)) for arch in archs]
        for _ in range(options.times):
            for at, run in enumerate(runs):
                samples[at].append(sample([run], anchors.near, far=anchors.far))
    print(f"{host()}; {options.nets} networks of {space.name}, {options.times} times in turn")
    for name, ms in latencies(samples).items():
        off = np.abs(ms / np.median(ms, axis=1, keepdims=True) - 1)
        spread = ms.max(axis=1) / ms.min(axis=1) - 1
        each = " ".join(f"{100 * one:.1f}" for one in spread)
        print(f"{name:7} off by {off.mean():.2%} on average, {off.max():.1%} at most; spread of each, %: {each}")
    print("ms:", " ".join(f"{one:.2f}" for one in np.median(latencies(samples)["both"], axis=1)))


if __name__ == "__main__":
    main()
