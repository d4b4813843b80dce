"""The training loop of a candidate, and its score on held-out images."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from nas.network.ops import ConvNormAct
from nas.system.errors import NasError
from nas.training.accelerator import Accelerator
from nas.training.config import ProxyConfig
from nas.training.images import DeviceImages

BETA1, BETA2 = 0.9, 0.99  # of AdamW
_EVAL_BATCH = 250
_STATE = ("value", "mean", "square")


class DivergedError(NasError):
    """The training loss is not a finite number."""


def last_of_branches(network: nn.Module) -> Iterator[nn.Parameter]:
    """The weight that scales each residual branch: that of its last norm, or, without norm, of its last convolution. A
    branch that ends in an activation has none: at zero no gradient would pass through it."""
    for module in network.modules():
        last = list(module.get_submodule("layers").children())[-1] if getattr(module, "residual", False) else None
        if isinstance(last, ConvNormAct) and isinstance(last[2], nn.Identity):
            weight = last[0].weight if isinstance(last[1], nn.Identity) else last[1].weight
            assert isinstance(weight, nn.Parameter)
            yield weight


def zero_init_residual(network: nn.Module) -> None:
    """Start residual branches at zero (arXiv 1706.02677, section 5.1): deep candidates learn from the first step."""
    for weight in last_of_branches(network):
        nn.init.zeros_(weight)


class Weights:
    """All parameters as one vector, and all gradients as another: a step of AdamW is ten operators, not hundreds."""

    def __init__(self, network: nn.Module) -> None:
        parameters = list(network.parameters())
        self.value = torch.cat([p.detach().reshape(-1) for p in parameters])
        self.decayed = torch.cat([torch.full_like(p.detach().reshape(-1), float(p.ndim > 1)) for p in parameters])
        self.grad, self.mean, self.square, self.average = (torch.zeros_like(self.value) for _ in range(4))
        self.steps = self.averaged = 0
        at = 0
        for p in parameters:
            part = slice(at, at + p.numel())
            p.data, p.grad = self.value[part].view(p.shape), self.grad[part].view(p.shape)
            at += p.numel()

    def step(self, lr: float, config: ProxyConfig) -> None:
        """One step of AdamW (arXiv 1711.05101, algorithm 2) on the clipped gradient; then clear the gradient."""
        self.steps += 1
        norm = self.grad.norm()
        if norm.device.type == "cpu":
            self.grad.mul_(min(1.0, config.clip / (float(norm) + 1e-6)))
        else:  # a number would wait for the device
            self.grad.mul_((config.clip / (norm + 1e-6)).clamp_(max=1.0))
        self.mean.lerp_(self.grad, 1 - BETA1)
        self.square.mul_(BETA2).addcmul_(self.grad, self.grad, value=1 - BETA2)
        scale = (self.square / (1 - BETA2**self.steps)).sqrt_().add_(1e-8)
        self.value.addcmul_(self.value, self.decayed, value=-lr * config.weight_decay)
        self.value.addcdiv_(self.mean, scale, value=-lr / (1 - BETA1**self.steps))
        self.grad.zero_()

    def keep(self) -> None:
        """Add the current weights to the average."""
        self.averaged += 1
        self.average.lerp_(self.value, 1 / self.averaged)

    def state(self) -> dict[str, NDArray[np.float32]]:
        """Copies of the weights and of the moments of AdamW, on the CPU."""
        return {name: getattr(self, name).cpu().numpy().copy() for name in _STATE}

    def restore(self, steps: int, state: Mapping[str, NDArray[np.float32]]) -> None:
        """Go on from a `state` after that many steps."""
        self.steps = steps
        for name in _STATE:
            getattr(self, name).copy_(torch.from_numpy(state[name]))

    def use_average(self) -> None:
        """Replace the weights by their average, if there is one."""
        if self.averaged:
            self.value.copy_(self.average)


def train(
    network: nn.Module,
    weights: Weights,
    images: DeviceImages,
    config: ProxyConfig,
    resolution: int,
    seed: int,
    accelerator: Accelerator,
    stop: int | None = None,
) -> list[float]:
    """Train from step `weights.steps` up to step `stop`, and average the weights of the last `config.average` of the
    steps up to there.

    Each step depends on the weights, the seed and its number alone. A training that goes on from the weights and the
    moments of a shorter one is therefore the longer training, bit for bit (on the CPU).

    Args:
        network: to train.
        weights: its weights, with the state of the optimizer.
        images: to train on.
        config: how to train.
        resolution: side of the input in pixels.
        seed: of the order of the images and of the augmentation.
        accelerator: device of `network`.
        stop: number of steps after which to stop: one of `config.lengths`; None is the last.

    Returns:
        The losses of the steps that were done.

    Raises:
        DivergedError: a loss is not finite.
    """
    losses: list[float] = []
    unread: list[Tensor] = []
    order = Order(images.train_count, config.batch, seed)
    start, stop = weights.steps, config.steps if stop is None else stop
    weights.averaged = 0
    network.train()
    for step in range(start, stop):
        rng = np.random.default_rng((seed, step))
        x, labels = images.augmented(order.batch(step), resolution, rng)
        with accelerator.autocast():
            loss = F.cross_entropy(network(x), labels, label_smoothing=config.label_smoothing)
        unread.append(loss.detach())
        if len(unread) == accelerator.check_every or step == stop - 1:
            losses += _finite(torch.stack(unread).tolist(), start + len(losses), config.steps)
            unread.clear()
        loss.backward()  # type: ignore[no-untyped-call]
        weights.step(_rate(step, config), config)
        if step >= stop * (1 - config.average):
            weights.keep()
    return losses


def _finite(losses: list[float], before: int, steps: int) -> list[float]:
    """The losses of the steps after `before`; raises `DivergedError` unless all are finite."""
    for step, loss in enumerate(losses, before + 1):
        if not math.isfinite(loss):
            raise DivergedError(f"the training loss is {loss} at step {step} of {steps}")
    return losses


def _rate(step: int, config: ProxyConfig) -> float:
    """Learning rate: rises linearly, stays constant and, if the training has one length alone, falls linearly."""
    rate = config.lr * min(1.0, (step + 1) / max(1.0, config.warmup * config.steps))
    if config.rungs:
        return rate
    return min(rate, config.lr * max(0.1, (config.steps - step) / max(1.0, config.decay * config.steps)))


@dataclass
class Order:
    """Which images each step takes: every image is used once before any is used twice."""

    count: int
    size: int
    seed: int
    _epochs: dict[int, NDArray[np.int64]] = field(default_factory=dict)

    def batch(self, step: int) -> NDArray[np.int64]:
        """Indices of the images of a step."""
        at = np.arange(step * self.size, (step + 1) * self.size)
        epochs = at // self.count
        first, last = int(epochs[0]), int(epochs[-1])
        self._epochs = {number: self._epoch(number) for number in range(first, last + 1)}
        return np.concatenate([self._epochs[n][at[epochs == n] - n * self.count] for n in range(first, last + 1)])

    def _epoch(self, number: int) -> NDArray[np.int64]:
        if number in self._epochs:
            return self._epochs[number]
        return np.random.default_rng((self.seed, number, 1)).permutation(self.count)


def batches(count: int, batch: int, steps: int, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """Indices of the images of each batch; every image is used once before any is used twice."""
    order = np.empty(0, np.int64)
    for _ in range(steps):
        while len(order) < batch:
            order = np.concatenate([order, rng.permutation(count)])
        yield order[:batch]
        order = order[batch:]


def refresh_norms(network: nn.Module, images: DeviceImages, resolution: int, rng: np.random.Generator) -> None:
    """Recompute the statistics of batch norm from training images: those of single steps do not fit averaged weights.
    Group norm has none.
    """
    norms = [module for module in network.modules() if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d))]
    if not norms:
        return
    for norm in norms:
        norm.reset_running_stats()
    network.train()
    with torch.no_grad():
        for step, batch in enumerate(batches(images.train_count, min(128, images.train_count), 8, rng)):
            for norm in norms:
                norm.momentum = 1 / (step + 1)  # a plain mean over all batches; None would read a tensor each time
            network(images.augmented(batch, resolution, rng)[0])


@torch.no_grad()
def score(network: nn.Module, images: DeviceImages, resolution: int, limit: int) -> tuple[float, float]:
    """Accuracy and mean loss on at most `limit` held-out images, taken at even distances."""
    network.eval()
    count = min(limit, images.val_count)
    indices = np.linspace(0, images.val_count, count, endpoint=False).astype(np.int64)
    correct, loss = 0, 0.0
    for start in range(0, count, _EVAL_BATCH):
        x, labels = images.held_out(indices[start : start + _EVAL_BATCH], resolution)
        logits: Tensor = network(x)
        correct += int((logits.argmax(1) == labels).sum())
        loss += float(F.cross_entropy(logits, labels, reduction="sum"))
    return correct / count, loss / count
