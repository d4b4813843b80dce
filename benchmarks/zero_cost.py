"""Scores of untrained networks against published accuracies, at equal cost: rivals of the proxy that need no training.

    python benchmarks/zero_cost.py --cache FOLDER [--data ARCHIVE_OR_FOLDER] [--nets 40]

The networks and draws are those of proxy_rank.py, built as the proxy builds them, with one batch of 64 images:

- synflow: the sum over weights of |w dR/dw|, with absolute weights, an input of ones and R the sum of the outputs
  (Tanaka et al., arXiv 2006.05467; as a score of networks, Abdelfattah et al., arXiv 2101.08134);
- grad_norm: the norm of the gradient of the loss (arXiv 2101.08134);
- naswot: the log determinant of how many ReLU units agree between two images (Mellor et al., arXiv 2006.04647); a
  unit is on where its activation's output is positive.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from proxy_rank import DRAWS, images_in, truths
from torch import Tensor, nn

from nas.accuracy.ranking import tau
from nas.arch.arch import Arch
from nas.data.augment import to_input
from nas.data.load import load_data
from nas.network.build import build
from nas.system.machine import here
from nas.training.config import ProxyConfig

BATCH = 64


def synflow(network: nn.Module, images: Tensor) -> float:
    with torch.no_grad():
        for value in network.parameters():
            value.abs_()
    network.eval().double()(torch.ones_like(images[:1], dtype=torch.float64)).sum().backward()
    total = sum(float((p * p.grad).detach().abs().sum()) for p in network.parameters() if p.grad is not None)
    return float(np.log(total))


def grad_norm(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    network.train()
    F.cross_entropy(network(images), labels).backward()
    return float(np.sqrt(sum(float((p.grad**2).sum()) for p in network.parameters() if p.grad is not None)))


def naswot(network: nn.Module, images: Tensor) -> float:
    agree = torch.zeros(len(images), len(images), dtype=torch.float64)

    def count(module: nn.Module, inputs: object, output: Tensor) -> None:
        on = (output > 0).flatten(1).double()
        agree.add_(on @ on.T + (1 - on) @ (1 - on).T)

    acts = (nn.ReLU, nn.ReLU6, nn.Hardswish, nn.SiLU)
    hooks = [module.register_forward_hook(count) for module in network.modules() if isinstance(module, acts)]
    network.train()
    with torch.no_grad():
        network(images)
    for hook in hooks:
        hook.remove()
    return float(torch.linalg.slogdet(agree)[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True, help="folder for the unpacked images")
    parser.add_argument("--folder", type=Path, default=Path("../shared/data"), help="the published tables")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/cifar10/cifar10_train.tar.xz"))
    parser.add_argument("--nets", type=int, default=40, help="networks of a draw")
    options = parser.parse_args()
    options.cache.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    data = load_data(images_in(options.data, options.cache), ProxyConfig().resolution)
    batch = np.random.default_rng(0).choice(len(data.train_labels), BATCH, replace=False)
    labels = torch.from_numpy(np.array(data.train_labels[batch]))
    print(f"{here()}\n")
    for truth in truths(options.folder):
        config = ProxyConfig(full_resolution=max(truth.space.resolution))

        def fresh(arch: Arch, config: ProxyConfig = config) -> tuple[nn.Module, Tensor]:
            small = config.candidate(arch)
            return build(small, len(data.classes), 0), to_input(data.train_images[batch], small.resolution)

        for draw in DRAWS:
            at = truth.draw(draw, options.nets)
            archs, true = [truth.archs[index] for index in at], truth.accuracies[at]
            began = time.process_time()
            scores = {
                "synflow": [synflow(*fresh(arch)) for arch in archs],
                "grad_norm": [grad_norm(*fresh(arch), labels) for arch in archs],
                "naswot": [naswot(*fresh(arch)) for arch in archs],
            }
            seconds = (time.process_time() - began) / len(archs)
            figures = ", ".join(f"{name} {tau(values, true):.2f}" for name, values in scores.items())
            print(f"{truth.name}, draw {draw}, {len(archs)} networks: tau of {figures}; {seconds:.1f} CPU s a network")


if __name__ == "__main__":
    main()
