"""One candidate trained on the CPU and on this machine's accelerator: seconds, images per second, difference of losses.

    python benchmarks/accelerator.py [--accelerator auto] [--net mobilenet_v3_large] [--steps 140] [--threads 1]

Both see the same images, shifts and first weights. The first few steps must agree closely in float32. After that,
rounding grows, as it does between any two machines, and the losses of the whole training need only be near each other.
The exit code is 1 if the few steps disagree, and 2 if there is no accelerator.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace

import torch

from nas.data.load import load_data
from nas.references.table import reference
from nas.system.errors import InputError
from nas.training.accelerator import ACCELERATORS, CPU, Accelerator, choose
from nas.training.proxy import ProxyConfig, train_proxy

FEW = 5
TOLERANCE = 0.01  # nats, for the mean training loss of the later half of these few steps


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--accelerator", default="auto", choices=ACCELERATORS)
    parser.add_argument("--net", default="mobilenet_v3_large", help="a reference")
    parser.add_argument("--steps", type=int, default=ProxyConfig().steps)
    parser.add_argument("--threads", type=int, default=1, help="of the CPU")
    options = parser.parse_args()
    try:
        kind = choose(options.accelerator)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    if kind == "cpu":
        print("there is no accelerator here: PyTorch finds neither a CUDA GPU nor MPS", file=sys.stderr)
        return 2
    torch.set_num_threads(options.threads)
    there = Accelerator.here(kind)
    exact = replace(there, bf16=False)
    arch, config = reference(options.net), ProxyConfig(steps=options.steps)
    few = replace(config, steps=FEW)
    data = load_data(None, config.candidate(arch).resolution)
    print(f"{options.net}, {config.steps} steps of {config.batch} images; {data}; PyTorch {torch.__version__}")
    print(f"{'':40} {'seconds':>8} {'images/s':>9} {'loss':>7} {'difference':>10}")
    rows = {f"cpu, {options.threads} threads": CPU, str(exact): exact, str(there): there}
    scores, first = [], []
    for name, on in rows.items():
        short = train_proxy(arch, data, few, 0, on)  # moves the images and loads the kernels, too
        warm = train_proxy(arch, data, few, 0, on).seconds
        score = train_proxy(arch, data, config, 0, on)
        rate = (config.steps - FEW) * config.batch / max(score.seconds - warm, 1e-9)
        scores.append(score.loss)
        first.append(short.train_loss)
        print(f"{name:40} {score.seconds:8.2f} {rate:9.0f} {score.loss:7.4f} {score.loss - scores[0]:+10.4f}")
    apart = abs(first[1] - first[0])
    print(f"training loss after {FEW} steps in float32: {apart:.5f} apart; at most {TOLERANCE} is right")
    return 0 if apart <= TOLERANCE else 1


if __name__ == "__main__":
    raise SystemExit(main())
