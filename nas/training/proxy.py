"""The proxy: a short training of a candidate at reduced width and resolution, or weights that it shares with others of
its space; its score replaces that of a full training."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from nas.arch.arch import Arch
from nas.data.dataset import ImageData
from nas.network.build import build
from nas.training.accelerator import CPU, Accelerator
from nas.training.checkpoint import Checkpoint, path_of, read_checkpoint, write_checkpoint
from nas.training.config import ProxyConfig
from nas.training.images import DeviceImages
from nas.training.loop import DivergedError, Weights, refresh_norms, score, train, zero_init_residual
from nas.training.shared import SharedWeights
from nas.training.small_maps import adapt

__all__ = ["DivergedError", "ProxyConfig", "ProxyScore", "train_proxy"]

_TUNED_RATE = 1 / 3  # of the learning rate from scratch
_TUNED_WARMUP = 5  # steps


@dataclass(frozen=True)
class ProxyScore:
    """The outcome of one short training.

    Args:
        accuracy: share of held-out images that the averaged weights classify correctly.
        loss: their mean cross-entropy on these images in nats, without label smoothing.
        train_loss: mean training loss over the second half of the steps since the last rung (smoothed labels, augmented
            images); None without any.
        width: multiplier of all channels in training.
        resolution: input side in training, in pixels.
        steps: training steps of its own.
        seconds: wall-clock time, including building and scoring.
    """

    accuracy: float
    loss: float
    train_loss: float | None
    width: float
    resolution: int
    steps: int
    seconds: float


def train_proxy(
    arch: Arch,
    data: ImageData,
    config: ProxyConfig,
    seed: int,
    accelerator: Accelerator = CPU,
    shared: SharedWeights | None = None,
    stop: int | None = None,
    checkpoints: Path | None = None,
) -> ProxyScore:
    """Score a candidate on held-out images after a short training from scratch or, with `shared`, by the weights it
    takes from there, trained for another `config.tune` steps. On one machine with one number of threads, equal
    arguments give equal scores; on a GPU, nearly equal ones. The global random state is neither read nor changed, nor
    is `shared`.

    Args:
        arch: the full network.
        data: images to train on and to score.
        config: how.
        seed: of weights, batches and augmentation.
        accelerator: device to train on.
        shared: trained weights to start from.
        stop: steps after which a training from scratch is scored: one of `config.lengths`; None is the last.
        checkpoints: folder in which trainings of rungs are kept. A training goes on from the longest that is there.
            The score does not depend on that (bit for bit on the CPU).

    Raises:
        DivergedError: the loss is not finite.
        MemoryError, RuntimeError: raised by PyTorch when memory runs out.
    """
    begun = time.perf_counter()
    small = config.candidate(arch)
    network: nn.Module = build(small, len(data.classes), seed)
    if accelerator.kind == "cpu":
        network = adapt(network)
    if shared is None:
        zero_init_residual(network)
    else:
        shared.copy_into(network, small)
    network.to(device=accelerator.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    found: Mapping[str, Any]
    setup = _Setup(
        network, DeviceImages.of(data, accelerator.device), config, small.resolution, seed, accelerator, begun
    )
    if shared is not None:
        steps, found = _trained(setup, _tuning(config), Weights(network)) if config.tune else (0, setup.scored([]))
    elif checkpoints is None:
        steps, found = _trained(setup, config, Weights(network), stop)
    else:
        made_for = _made_for(data, config, seed, accelerator)
        steps, found = _trained_in_rungs(setup, arch, stop or config.steps, path_of(checkpoints, arch), made_for)
    return ProxyScore(**found, width=config.width, resolution=small.resolution, steps=steps)


@dataclass(frozen=True)
class _Setup:
    """A network on its device, with what it is trained on and scored by."""

    network: nn.Module
    images: DeviceImages
    config: ProxyConfig
    resolution: int
    seed: int
    accelerator: Accelerator
    begun: float

    def train(self, weights: Weights, schedule: ProxyConfig, stop: int) -> list[float]:
        """Train up to a step; the losses of the steps."""
        return train(self.network, weights, self.images, schedule, self.resolution, self.seed, self.accelerator, stop)

    def scored(self, losses: Sequence[float]) -> dict[str, Any]:
        """The score of the network as it is, after steps with these losses."""
        refresh_norms(self.network, self.images, self.resolution, np.random.default_rng(self.seed))
        accuracy, loss = score(self.network, self.images, self.resolution, self.config.val_images)
        if not math.isfinite(loss):
            raise DivergedError("the held-out loss is not finite")
        late = losses[len(losses) // 2 :]
        train_loss = sum(late) / len(late) if late else None
        seconds = time.perf_counter() - self.begun
        return {"accuracy": accuracy, "loss": loss, "train_loss": train_loss, "seconds": seconds}


def _trained(
    setup: _Setup, schedule: ProxyConfig, weights: Weights, stop: int | None = None
) -> tuple[int, dict[str, Any]]:
    """Train in one piece; the steps, and the score."""
    losses = setup.train(weights, schedule, stop or schedule.steps)
    weights.use_average()
    return weights.steps, setup.scored(losses)


def _trained_in_rungs(
    setup: _Setup, arch: Arch, stop: int, path: Path, made_for: Mapping[str, Any]
) -> tuple[int, Mapping[str, Any]]:
    """Train on from the checkpoint at `path`, if there is one, and keep one of this rung; the steps, and the score."""
    weights = Weights(setup.network)
    kept = read_checkpoint(path, arch, made_for, weights.value.numel())
    if kept and stop in kept.scores:
        return stop, kept.scores[stop]
    if kept and kept.step < stop:
        weights.restore(kept.step, kept.vectors)
    losses = setup.train(weights, setup.config, stop)
    vectors = weights.state() if weights.steps < setup.config.steps else None
    weights.use_average()
    found = setup.scored(losses)
    if vectors is not None:
        scores = {**(kept.scores if kept else {}), weights.steps: found}
        write_checkpoint(path, Checkpoint(arch, weights.steps, scores, vectors), made_for)
    return weights.steps, found


def _made_for(data: ImageData, config: ProxyConfig, seed: int, accelerator: Accelerator) -> dict[str, Any]:
    """What a training depends on besides the network."""
    return {"images": data.key, "proxy": config.to_dict(), "seed": seed, "accelerator": accelerator.kind}


def _tuning(config: ProxyConfig) -> ProxyConfig:
    """How a candidate is trained further from shared weights."""
    warmup = min(1.0, _TUNED_WARMUP / config.tune)
    return replace(config, steps=config.tune, lr=config.lr * _TUNED_RATE, warmup=warmup, decay=0.5)
