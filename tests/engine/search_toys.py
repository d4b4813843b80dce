"""A small space, a latency that is a sum, and evaluators that leave traces: what the tests of the search work with."""

from __future__ import annotations

import hashlib
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from nas.arch.arch import Arch
from nas.arch.space import Space
from nas.arch.space_yaml import parse_space
from nas.engine.options import SearchOptions
from nas.engine.run.info import RunInfo
from nas.latency.record import Latency
from nas.training.evaluate import Evaluation

ROW = "kernel: [3, 5, 7], expand: [1, 3, 6], se: [0, 0.25], act: [relu, h_swish]"
SPACE = parse_space(
    f"""
name: toy
resolution: [32, 64]
stem: {{op: conv, kernel: 3, channels: 8, stride: 2, act: relu}}
stages:
  - {{op: mbconv, repeat: [1, 2], channels: 16, stride: 2, {ROW}}}
  - {{op: mbconv, repeat: [1, 2, 3], channels: [24, 32], stride: 2, {ROW}}}
""",
    "toy.yaml",
)
TINY = parse_space(
    """
name: tiny
resolution: 32
stages:
  - {op: conv, kernel: [3, 5], channels: [8, 16, 24], stride: 2, act: [relu, h_swish]}
""",
    "tiny.yaml",
)


def cost_ms(arch: Arch) -> float:
    """A latency every cell adds to on its own."""
    return sum(row.kernel + 2 * row.expand + 10 * row.se + row.channels / 8 for row in arch.rows) + arch.resolution / 16


class Model:
    """The latency model of `cost_ms`."""

    device, table = "toy", None

    def __call__(self, arch: Arch) -> Latency:
        return Latency(cost_ms(arch), None, None, "toy", None, None, 1, "predicted")

    def many(self, archs: Sequence[Arch]) -> np.ndarray:
        return np.array([cost_ms(arch) for arch in archs])


def info_of(target_ms: float | None = None, space: Space = SPACE, **changes: Any) -> RunInfo:
    """What ``run.json`` says of a toy run."""
    info = RunInfo(SearchOptions(target_ms=target_ms, references=()), space, "toy", custom=("evaluate",))
    return replace(info, **changes)


def target_of(share: float) -> float:
    """The target that this share of random networks of `SPACE` meets."""
    return float(np.quantile([cost_ms(SPACE.sample(seed)) for seed in range(300)], share))


def noise(arch: Arch, seed: int) -> float:
    """0..1, a function of the network and the seed alone."""
    return hashlib.blake2b(f"{arch.key} {seed}".encode(), digest_size=1).digest()[0] / 255


def evaluation(arch: Arch, seed: int) -> Evaluation:
    score = 0.5 * noise(arch, seed) + 0.5 * (1 - np.exp(-cost_ms(arch) / 50))
    return Evaluation(
        key=arch.key,
        state="COMPLETE",
        proxy_accuracy=float(score),
        proxy_loss=1 - float(score),
        params=10,
        macs=20,
        memory_bytes=30,
        seconds=0.01,
        reason=None,
    )


@dataclass(frozen=True)
class Traced:
    """Scores at once; before that appends ``key seed`` to `log` and syncs it."""

    log: Path
    seconds: float = 0.0

    def __call__(self, arch: Arch, seed: int) -> Evaluation:
        descriptor = os.open(self.log, os.O_APPEND | os.O_CREAT | os.O_WRONLY)
        os.write(descriptor, f"{arch.key} {seed}\n".encode())
        os.fsync(descriptor)
        os.close(descriptor)
        time.sleep(self.seconds)  # the work
        return evaluation(arch, seed)


@dataclass(frozen=True)
class Deadly:
    """As `Traced`, but kills its own process with SIGKILL from the `after`-th line of the log on: each time, or, if
    `once` is given, only while that file is absent."""

    log: Path
    once: Path | None = None
    after: int = 3

    def __call__(self, arch: Arch, seed: int) -> Evaluation:
        found = Traced(self.log)(arch, seed)
        if len(evaluated(self.log)) >= self.after and not (self.once and self.once.exists()):
            if self.once:
                self.once.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return found


def raising(arch: Arch, seed: int) -> Evaluation:
    raise ValueError("no such\nlayer")


def evaluated(log: Path) -> list[str]:
    """The keys in a log of `Traced`, in the order of evaluation."""
    return [line.split()[0] for line in log.read_text().splitlines()] if log.exists() else []
