"""Kendall's tau between the proxy's scores and published accuracies of full trainings.

    python benchmarks/proxy_rank.py --truth imagenet-mbconv --data PATH [--nets 24] [--workers 2] [--set steps=300 ...]

``imagenet-mbconv`` (Accel-NASBench, Apache-2.0): MBConv networks with their ImageNet top-1. ``nas-bench-macro``
(Apache-2.0): small networks of a CIFAR-10 space with their mean CIFAR-10 accuracy. Both are read from ``--folder``,
which has a subfolder for each. For comparison, it prints tau for counting MACs and parameters on the same networks.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.stats import kendalltau
from tables import MACRO_FILE, nas_bench_macro

from nas.accuracy.sources import Source, read_source
from nas.arch.cost import cost_of
from nas.data.load import load_data
from nas.training.evaluate import Evaluation, ProxyEvaluator
from nas.training.proxy import ProxyConfig


def truth(name: str, folder: Path) -> Source:
    if name == "nas-bench-macro":
        return nas_bench_macro(folder / MACRO_FILE)[1]
    return read_source(folder / name / "imagenet_mbconv_dev.csv")


def z(values: list[float]) -> np.ndarray:
    array = np.array(values)
    return (array - array.mean()) / array.std()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--truth", choices=("imagenet-mbconv", "nas-bench-macro"), default="imagenet-mbconv")
    parser.add_argument("--folder", type=Path, default=Path("../shared/data"))
    parser.add_argument("--data", default=None, help="folder or name; the generated set if absent")
    parser.add_argument("--nets", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0, help="which networks")
    parser.add_argument("--workers", type=int, default=2, help="processes of one thread each")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="options of the proxy")
    options = parser.parse_args()
    config = ProxyConfig()
    for item in options.set:
        name, _, value = item.partition("=")
        config = replace(config, **{name: json.loads(value)})
    source = truth(options.truth, options.folder)
    chosen = np.random.default_rng(options.seed).choice(len(source.archs), options.nets, replace=False)
    archs = [source.archs[at] for at in chosen]
    accuracy = source.accuracies[chosen]
    config = replace(config, full_resolution=archs[0].resolution)
    evaluator = ProxyEvaluator(load_data(options.data, config.resolution), config, threads=1)
    with ProcessPoolExecutor(options.workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        results: list[Evaluation] = list(pool.map(evaluator, archs, [0] * len(archs)))
    losses = [float(result.proxy_loss or 99) for result in results]
    macs = [float(np.log(cost_of(arch).macs)) for arch in archs]
    figures = {
        "proxy accuracy": [result.proxy_accuracy or 0 for result in results],
        "proxy loss": [-loss for loss in losses],
        "MACs": macs,
        "params": [cost_of(arch).params for arch in archs],
        "loss and MACs": list(z(macs) - z(losses)),
    }
    taus = ", ".join(f"{name} {kendalltau(values, accuracy).statistic:.2f}" for name, values in figures.items())
    seconds = [result.seconds for result in results]
    print(f"{options.truth}, {options.nets} nets, {config}")
    scores = figures["proxy accuracy"]
    print(f"{np.mean(seconds):.1f} s a net in one thread (most {max(seconds):.1f}); ", end="")
    print(f"accuracy {min(scores):.3f} to {max(scores):.3f}; Kendall tau: {taus}")


if __name__ == "__main__":
    main()
