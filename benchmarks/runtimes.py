"""Latency of the same networks under every installed runtime, and how far their outputs differ from PyTorch's.

    python benchmarks/runtimes.py [NETWORK ...]

Each runs with one thread and one image, in turn with the anchors under the same runtime. Weights are random, and the
batch norms have the statistics of noise, so that logits are neither all alike nor tiny. Differences are relative to the
largest logit.
"""

from __future__ import annotations

import sys
from time import perf_counter

import numpy as np
import torch
from torch import nn

from nas.arch.arch import Arch
from nas.latency.anchor import Anchors
from nas.latency.isolation import isolated
from nas.latency.measure import timed
from nas.latency.record import Latency
from nas.latency.runtimes.base import installed, noise, runtime_of
from nas.network.build import build
from nas.references.table import reference
from nas.system.machine import host

NETWORKS = ("mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large", "efficientnet_b0")
MOST_DIFFERENCE = {"executorch": 1e-3}
MOST_DIFFERENCE_ELSEWHERE = 1e-4


def settled(arch: Arch) -> nn.Module:
    """The network in evaluation mode, with the batch norm statistics of one batch of noise."""
    torch.manual_seed(0)
    network = build(arch)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # a plain mean
    with torch.no_grad():
        network.train()(torch.from_numpy(noise(8, arch.resolution)))
    return network.eval()


def under(name: str, arch: Arch, network: nn.Module) -> tuple[Latency, float, float]:
    """Latency, largest difference to PyTorch relative to the largest logit, and seconds to prepare the network."""
    runtime = runtime_of(name)
    with torch.no_grad():
        expected = network(torch.from_numpy(noise(1, arch.resolution))).numpy()
    begin = perf_counter()
    load = runtime.prepare(network, arch.resolution, 1, 1)
    taken_s = perf_counter() - begin
    anchored = Anchors(runtime, 1)
    with isolated(1), anchored as anchors, load as run:
        latency = timed([run], anchors, name, 1, 1)
        difference = float(np.abs(run.logits() - expected).max() / np.abs(expected).max())
    return latency, difference, taken_s


def main(names: list[str]) -> int:
    runtimes = installed()
    print(host())
    print(*(f"{name} {runtime_of(name).version()}" for name in runtimes), sep=", ")
    failed = 0
    for name in names:
        arch = reference(name)
        network = settled(arch)
        first_ms = None
        for runtime in runtimes:
            latency, difference, taken_s = under(runtime, arch, network)
            first_ms = first_ms or latency.ms
            good = difference <= MOST_DIFFERENCE.get(runtime, MOST_DIFFERENCE_ELSEWHERE)
            failed += not good
            ratio = latency.ms / first_ms
            print(
                f"{name:20} {runtime:14} {latency.ms:7.2f} ms  x{ratio:4.2f}  IQR {latency.iqr_ms:5.2f}  "
                f"drift {latency.drift:+.0%}  difference {difference:.1e} {'ok' if good else 'TOO LARGE'}  "
                f"prepared in {taken_s:.1f} s{'  ' + latency.warning if latency.warning else ''}",
                flush=True,
            )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or list(NETWORKS)))
