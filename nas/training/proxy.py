"""The proxy: a short training of a candidate at reduced width and resolution, or weights that it shares with others of
its space; its score replaces that of a full training."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from nas.arch.arch import Arch
from nas.data.dataset import ImageData
from nas.network.build import build
from nas.training.accelerator import CPU, Accelerator
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
        train_loss: mean training loss over the second half of the steps (smoothed labels, augmented images); None
            without any.
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
) -> ProxyScore:
    """Score a candidate on held-out images after a short training from scratch or, with `shared`, by the weights it
    takes from there, trained for another `config.tune` steps. On one machine with one number of threads, equal
    arguments give equal scores; on a GPU, nearly equal ones. The global random state is neither read nor changed, nor
    is `shared`.

    Raises:
        DivergedError: the loss is not finite.
        MemoryError, RuntimeError: raised by PyTorch when memory runs out.
    """
    begun = time.perf_counter()
    small = config.candidate(arch)
    network: nn.Module = build(small, len(data.classes), seed)
    if accelerator.kind == "cpu":
        network = adapt(network)
    schedule: ProxyConfig | None = config
    if shared is None:
        zero_init_residual(network)
    else:
        shared.copy_into(network, small)
        schedule = _tuning(config) if config.tune else None
    network.to(device=accelerator.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    images = DeviceImages.of(data, accelerator.device)
    rng = np.random.default_rng(seed)
    losses: list[float] = []
    if schedule is not None:
        weights = Weights(network)
        losses = train(network, weights, images, schedule, small.resolution, rng, accelerator)
        weights.use_average()
    refresh_norms(network, images, small.resolution, rng)
    accuracy, loss = score(network, images, small.resolution, config.val_images)
    if not math.isfinite(loss):
        raise DivergedError("the held-out loss is not finite")
    late = losses[len(losses) // 2 :]
    mean = sum(late) / len(late) if late else None
    seconds = time.perf_counter() - begun
    return ProxyScore(accuracy, loss, mean, config.width, small.resolution, len(losses), seconds)


def _tuning(config: ProxyConfig) -> ProxyConfig:
    """How a candidate is trained further from shared weights."""
    warmup = min(1.0, _TUNED_WARMUP / config.tune)
    return replace(config, steps=config.tune, lr=config.lr * _TUNED_RATE, warmup=warmup, decay=0.5)
