"""Images per second of the proxy's training loop, compared with a plain torchvision loop in the same run.

    python benchmarks/proxy_throughput.py [--net mobilenet_v3_large] [--steps 60] [--threads 2] [--rounds 3]

Both use the same network, batch, resolution, optimiser and threads. The plain loop is the one people write:
`ImageFolder` of JPEG files of that size, RandomCrop, RandomHorizontalFlip, ToTensor, Normalize, `DataLoader` with two
worker processes, and the network as it is built. Its workers are warm before the clock starts. The rounds of both
alternate; the best of each counts.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image
from torch.nn.functional import cross_entropy

from nas.arch.arch import Arch
from nas.data.augment import MEAN, STD
from nas.data.dataset import ImageData
from nas.data.load import load_data
from nas.data.torchvision_sets import torchvision_datasets
from nas.network.build import build
from nas.references.table import reference
from nas.training.proxy import ProxyConfig, train_proxy

REQUIRED = 2.0
WARM_UP = 10


def plain(arch: Arch, folder: Path, config: ProxyConfig, steps: int) -> float:
    """Images per second of the plain loop."""
    datasets = torchvision_datasets()
    from torch.utils.data import DataLoader
    from torchvision import transforms

    small = config.candidate(arch)
    size = small.resolution
    steps_of = [
        transforms.RandomCrop(size, padding=size // 8, padding_mode="reflect"),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Normalize([MEAN] * 3, [STD] * 3),
    ]
    dataset = datasets.ImageFolder(str(folder), transforms.Compose(steps_of))
    loader = DataLoader(dataset, batch_size=config.batch, shuffle=True, num_workers=2, drop_last=True)
    network = build(small, len(dataset.classes)).train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    done = 0
    begun = 0.0
    while True:
        for images, labels in loader:
            if done == WARM_UP:
                begun = time.perf_counter()
            if done == WARM_UP + steps:
                return steps * config.batch / (time.perf_counter() - begun)
            optimiser.zero_grad()
            loss = cross_entropy(network(images), labels, label_smoothing=config.label_smoothing)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), config.clip)
            optimiser.step()
            loss.item()
            done += 1


def ours(arch: Arch, data: ImageData, config: ProxyConfig, steps: int) -> float:
    """Images per second of the proxy's loop: a long training less a short one, so that building and scoring cancel."""
    short = train_proxy(arch, data, replace(config, steps=WARM_UP), seed=0).seconds
    long = train_proxy(arch, data, replace(config, steps=WARM_UP + steps), seed=0).seconds
    return steps * config.batch / (long - short)


def write_folder(data: ImageData, root: Path) -> None:
    for at, (image, label) in enumerate(zip(data.train_images, data.train_labels, strict=True)):
        folder = root / data.classes[label]
        folder.mkdir(exist_ok=True)
        Image.fromarray(image).save(folder / f"{at:05}.jpg", quality=95)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--net", default="mobilenet_v3_large", help="a reference")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    arch, config = reference(options.net), ProxyConfig(val_images=250)
    data = load_data(None, config.candidate(arch).resolution)
    rates: dict[str, list[float]] = {"plain": [], "ours": []}
    with tempfile.TemporaryDirectory() as name:
        write_folder(data, Path(name))
        for _ in range(options.rounds):
            rates["plain"].append(plain(arch, Path(name), config, options.steps))
            rates["ours"].append(ours(arch, data, config, options.steps))
    ratio = max(rates["ours"]) / max(rates["plain"])
    shown = {name: " ".join(f"{rate:.0f}" for rate in values) for name, values in rates.items()}
    print(f"{options.net} at width {config.width}, {data.size} px, batch {config.batch}, {options.threads} threads")
    print(f"images/s: plain {shown['plain']}; ours {shown['ours']}; ratio of the best {ratio:.2f}")
    print(f"required: {REQUIRED}: {'met' if ratio >= REQUIRED else 'missed'}")
    return 0 if ratio >= REQUIRED else 1


if __name__ == "__main__":
    raise SystemExit(main())
