"""What the two anchors are good for: networks over the range of a space measured several times in turn, told in three
ways from the same samples: plain medians, held against the anchor, and against the far anchor too.

    python benchmarks/anchors.py [--space mbconv] [--nets 12] [--times 5]

Of each way it prints how far the measurements of a network are from their median, on average and at most, over all
networks, and the spread of each network.
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


def latency_from_samples(found: list[list[Samples]]) -> dict[str, np.ndarray]:
    """Ms of each network (rows) each time, by the way they are told."""
    flat = [one for times in found for one in times]
    baseline_ms = float(np.median([one.anchor_ms for one in flat]))
    state = float(np.median([one.state for one in flat]))
    ways = {
        "plain": lambda one: np.median(one.rounds) * 1e3,
        "anchor": lambda one: np.median(np.array(one.rounds) / np.array(one.anchors)) * baseline_ms,
        "both": lambda one: np.median(one.at_baseline(baseline_ms, state)),
    }
    return {name: np.array([[way(one) for one in times] for times in found]) for name, way in ways.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", default="mbconv")
    parser.add_argument("--nets", type=int, default=12)
    parser.add_argument("--times", type=int, default=5)
    asked = parser.parse_args()
    space, rng = load_space(asked.space), np.random.default_rng(0)
    pool = sorted((sized(space, rng) for _ in range(POOL)), key=lambda arch: cost_of(arch).macs)
    archs = [pool[at] for at in np.linspace(0, POOL - 1, asked.nets).round().astype(int)]
    runtime = runtime_of("onnxruntime")
    found: list[list[Samples]] = [[] for _ in archs]
    with ExitStack() as stack:
        stack.enter_context(isolated(1))
        held = stack.enter_context(Anchors(runtime, 1))
        runs = [stack.enter_context(runtime.prepare(build(arch), arch.resolution, 1, 1)) for arch in archs]
        for _ in range(asked.times):
            for at, run in enumerate(runs):
                found[at].append(sample([run], held.near, far=held.far))
    print(f"{host()}; {asked.nets} networks of {space.name}, {asked.times} times in turn")
    for name, ms in latency_from_samples(found).items():
        off = np.abs(ms / np.median(ms, axis=1, keepdims=True) - 1)
        spread = ms.max(axis=1) / ms.min(axis=1) - 1
        each = " ".join(f"{100 * one:.1f}" for one in spread)
        print(f"{name:7} off by {off.mean():.2%} on average, {off.max():.1%} at most; spread of each, %: {each}")
    print("ms:", " ".join(f"{one:.2f}" for one in np.median(latency_from_samples(found)["both"], axis=1)))


if __name__ == "__main__":
    main()
