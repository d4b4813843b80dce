"""Accuracy, latency and size of trained networks before and after int8 quantisation.

Each network is trained for some minutes on a folder of images, with the proxy's normalisation. The weights are stored
in --keep and reused the next time. Then it is exported with int8 for ONNX Runtime and XNNPACK, and the figures of
`nas export --int8` are printed.

    python benchmarks/int8.py --data cifar10 --seconds 200 --keep weights/
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

import nas
from nas.artifacts.export import Exported
from nas.data.augment import shifted_and_flipped, to_input
from nas.data.dataset import ImageData
from nas.data.load import load_data
from nas.references.resolve import resolve_arch
from nas.training.small_maps import adapt

NETWORKS = (
    "mobilenet_v3_small@resolution=64",  # h_swish and SE
    "mobilenet_v2@width=0.5,resolution=64",  # ReLU6
    "efficientnet_b0@width=0.5,resolution=64",  # swish and SE
)
PEAK, BATCH = 3e-3, 64


def train(arch: nas.Arch, data: ImageData, seconds: float) -> dict[str, torch.Tensor]:
    """Weights after `seconds` of AdamW; the rate rises for a twentieth of the time and falls over the last 60 %."""
    network = nas.build(arch, len(data.classes)).to(memory_format=torch.channels_last).train()
    adapt(network)
    optimizer = torch.optim.AdamW(network.parameters(), lr=PEAK, weight_decay=0.05, fused=True)
    labels = torch.from_numpy(np.array(data.train_labels))
    rng = np.random.default_rng(0)
    begun, steps = time.monotonic(), 0
    while (spent := (time.monotonic() - begun) / seconds) < 1:
        for group in optimizer.param_groups:
            group["lr"] = PEAK * min(1, spent / 0.05, max(0.01, (1 - spent) / 0.6))
        chosen = rng.integers(0, len(labels), BATCH)
        images = to_input(shifted_and_flipped(data.train_images, chosen, rng), arch.resolution)
        loss = F.cross_entropy(network(images), labels[chosen], label_smoothing=0.1)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 2.0)
        optimizer.step()
        steps += 1
    print(
        f"  trained {steps} steps of {BATCH} images in {seconds:g} s, last loss {float(loss.detach()):.2f}", flush=True
    )
    return {name: tensor.contiguous() for name, tensor in network.state_dict().items()}


def show(name: str, done: Exported) -> None:
    for one in done.int8:
        assert one.accuracy_before is not None
        assert one.accuracy_after is not None
        assert one.latency_before is not None
        assert one.latency_after is not None
        print(
            f"| {name} | {one.runtime} | {one.accuracy_before:.1%} | {one.accuracy_after:.1%} | {one.agreement:.1%} | "
            f"{one.latency_before.ms:.3f} | {one.latency_after.ms:.3f} | "
            f"{one.bytes_before / 1e6:.2f} | {one.bytes_after / 1e6:.2f} |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="cifar10", help="folder of images, or the name of a set")
    parser.add_argument("--seconds", type=float, default=200, help="training time of each network")
    parser.add_argument("--keep", type=Path, help="folder for the trained weights")
    parser.add_argument("--train-only", action="store_true")
    parser.add_argument("networks", nargs="*", default=NETWORKS)
    options = parser.parse_args()
    folder = options.keep or Path(tempfile.mkdtemp(prefix="nas-int8-"))
    folder.mkdir(parents=True, exist_ok=True)
    for name in options.networks:
        path = folder / f"{name.replace('@', '-')}.safetensors"
        if not path.is_file():
            print(name)
            save_file(train(resolve_arch(name), load_data(options.data, 32), options.seconds), path)
    if options.train_only:
        return
    head = ("network", "runtime", "float", "int8", "same class", "ms", "int8 ms", "MB", "int8 MB")
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}", flush=True)
    for name in options.networks:
        with tempfile.TemporaryDirectory() as out:
            done = nas.export(
                resolve_arch(name),
                out,
                ("onnx", "executorch"),
                weights=folder / f"{name.replace('@', '-')}.safetensors",
                int8=True,
                data=options.data,
                normalise="nas",
            )
            show(name, done)


if __name__ == "__main__":
    main()
