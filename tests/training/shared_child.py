"""Trains shared weights on tiny images in a process of its own, for tests that kill it.

python -m tests.training.shared_child FILE [PROGRESS]
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import numpy as np

from nas.arch.arch import Arch
from nas.arch.space_yaml import load_space
from nas.training import shared_training
from nas.training.config import ProxyConfig
from nas.training.shared import SharedWeights
from nas.training.shared_file import read_shared, write_shared
from nas.training.shared_training import train
from tests.training.test_proxy import stripes

SPACE = load_space("nas_bench_macro", "tabular")
CONFIG = ProxyConfig(batch=8, val_images=64, resolution=16, full_resolution=32, width=0.125)
STEPS = 40
MADE_FOR = {"space": "s", "images": "i"}


def draw(rng: np.random.Generator) -> Arch:
    return SPACE.sample(rng)


def trained(path: Path, die_after: int | None = None) -> SharedWeights:
    """Train to the end, from the file if it is there, saving after every second step; or die, as by ``kill -9``."""
    shared = read_shared(path, MADE_FOR) if path.exists() else SharedWeights(3, STEPS)
    shared_training.SAVE_EVERY_S = 0.0

    def die(done: int, total: int, text: str) -> None:
        if done == die_after:
            os.kill(os.getpid(), signal.SIGKILL)

    def save(weights: SharedWeights) -> None:
        if weights.step % 2 == 0:
            write_shared(path, weights, MADE_FOR)

    train(shared, stripes(), CONFIG, draw, save=save, progress=die)
    return shared


if __name__ == "__main__":
    import torch

    torch.set_num_threads(1)
    trained(Path(sys.argv[1]), int(sys.argv[2]))
