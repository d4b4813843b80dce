"""The proxy: a short training of a candidate at reduced width and resolution; its score replaces that of a full one."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from nas.arch.arch import Arch
from nas.data.dataset import ImageData
from nas.network.build import build
from nas.network.ops import ConvNormAct
from nas.system.errors import InputError, NasError, known
from nas.system.validate import is_number, whole_number
from nas.training.accelerator import CPU, Accelerator
from nas.training.images import DeviceImages
from nas.training.small_maps import adapt

_EVAL_BATCH = 250
_BETA1, _BETA2 = 0.9, 0.99
_BOUNDS: dict[str, tuple[float, float]] = {
    "steps": (1, 10**7),
    "batch": (2, 4096),
    "width": (0.05, 4),
    "resolution": (8, 256),
    "full_resolution": (8, 2048),
    "lr": (1e-8, 100),
    "weight_decay": (0, 1),
    "label_smoothing": (0, 0.9),
    "warmup": (0, 1),
    "decay": (0, 1),
    "average": (0, 1),
    "clip": (1e-6, 1e9),
    "val_images": (1, 10**7),
}


class DivergedError(NasError):
    """The training loss is not a finite number."""


@dataclass(frozen=True)
class ProxyConfig:
    """How a candidate is trained. With the defaults the largest network of mbconv takes under 10 s on two cores.

    Args:
        steps: training steps.
        batch: images per step.
        width: multiplier of all channels.
        resolution: input side in pixels for a candidate of `full_resolution` or more. Smaller candidates get a side in
            proportion, rounded to a multiple of 4.
        full_resolution: largest resolution of the space.
        lr: peak learning rate of AdamW.
        weight_decay: decay of convolution and linear weights per step, as a multiple of the learning rate.
        label_smoothing: share of the target that is spread over all classes.
        warmup: share of the steps, at the start, over which the learning rate rises linearly.
        decay: share of the steps, at the end, over which the learning rate falls linearly to a tenth.
        average: share of the steps, at the end, whose weights are averaged.
        clip: largest norm of the gradient.
        val_images: largest number of held-out images to score.

    Raises:
        InputError: a value is out of bounds.
    """

    steps: int = 140
    batch: int = 64
    width: float = 0.25
    resolution: int = 24
    full_resolution: int = 224
    lr: float = 0.003
    weight_decay: float = 0.05
    label_smoothing: float = 0.1
    warmup: float = 0.1
    decay: float = 0.3
    average: float = 0.2
    clip: float = 2.0
    val_images: int = 2000

    def __post_init__(self) -> None:
        for field in fields(self):
            value, (low, high) = getattr(self, field.name), _BOUNDS[field.name]
            name = f"{field.name} of the proxy"
            if field.type == "int":
                object.__setattr__(self, field.name, whole_number(name, value, int(low), int(high)))
            elif not is_number(value) or not low <= value <= high:
                raise InputError(f"{name} must be a number from {low:g} to {high:g}, got {value!r:.60}")

    def candidate(self, arch: Arch) -> Arch:
        """The network that is trained in place of `arch`: thinner, with a smaller input, and without dropout and
        stochastic depth, which only slow down a short training.

        >>> from nas.references.table import reference
        >>> small = ProxyConfig().candidate(reference("mobilenet_v2"))
        >>> small.resolution, small.rows[0].channels
        (24, 8)
        """
        ideal = min(arch.resolution / self.full_resolution, 1) * self.resolution
        return replace(arch.scaled(self.width, max(8, 4 * round(ideal / 4))), dropout=0.0, stochastic_depth=0.0)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)

    @staticmethod
    def from_dict(data: Any) -> ProxyConfig:
        """Read what `to_dict` returned.

        Raises:
            InputError: unknown fields, or a value out of bounds.
        """
        names = [field.name for field in fields(ProxyConfig)]
        if not isinstance(data, dict):
            raise InputError(f"the proxy's options must be an object, got {data!r:.80}")
        if unknown := set(data) - set(names):
            raise InputError(f"the proxy's options have no {sorted(unknown)[0]!r}; {known(names)}")
        return ProxyConfig(**data)


@dataclass(frozen=True)
class ProxyScore:
    """The outcome of one short training.

    Args:
        accuracy: share of held-out images that the averaged weights classify correctly.
        loss: their mean cross-entropy on these images in nats, without label smoothing.
        train_loss: mean training loss over the second half of the steps (smoothed labels, augmented images).
        width: multiplier of all channels in training.
        resolution: input side in training, in pixels.
        steps: training steps.
        seconds: wall-clock time, including building and scoring.
    """

    accuracy: float
    loss: float
    train_loss: float
    width: float
    resolution: int
    steps: int
    seconds: float


def train_proxy(
    arch: Arch, data: ImageData, config: ProxyConfig, seed: int, accelerator: Accelerator = CPU
) -> ProxyScore:
    """Train a candidate briefly and score it on held-out images. On one machine with one number of threads, equal
    arguments give equal scores; on a GPU, nearly equal ones. The global random state is neither read nor changed.

    Raises:
        DivergedError: the loss is not finite.
        MemoryError, RuntimeError: raised by PyTorch when memory runs out.
    """
    begun = time.perf_counter()
    small = config.candidate(arch)
    network: nn.Module = build(small, len(data.classes), seed)
    if accelerator.kind == "cpu":
        network = adapt(network)
    network.to(device=accelerator.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    _zero_init_residual(network)
    images = DeviceImages.of(data, accelerator.device)
    rng = np.random.default_rng(seed)
    weights = _Weights(network)
    losses = _train(network, weights, images, config, small.resolution, rng, accelerator)
    weights.use_average()
    _refresh_norms(network, images, small.resolution, rng)
    accuracy, loss = _score(network, images, small.resolution, config.val_images)
    if not math.isfinite(loss):
        raise DivergedError("the held-out loss is not finite")
    late = losses[len(losses) // 2 :]
    seconds = time.perf_counter() - begun
    return ProxyScore(accuracy, loss, sum(late) / len(late), config.width, small.resolution, config.steps, seconds)


def _zero_init_residual(network: nn.Module) -> None:
    """Start residual branches at zero (arXiv 1706.02677, section 5.1): deep candidates then learn from the first step.

    The last norm of a branch is set to zero, or, without norm, the last convolution. A branch that ends in an
    activation is left alone: at zero no gradient would pass through it.
    """
    for module in network.modules():
        last = list(module.get_submodule("layers").children())[-1] if getattr(module, "residual", False) else None
        if isinstance(last, ConvNormAct) and isinstance(last[2], nn.Identity):
            weight = last[0].weight if isinstance(last[1], nn.Identity) else last[1].weight
            assert isinstance(weight, Tensor)
            nn.init.zeros_(weight)


class _Weights:
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
        self.mean.lerp_(self.grad, 1 - _BETA1)
        self.square.mul_(_BETA2).addcmul_(self.grad, self.grad, value=1 - _BETA2)
        scale = (self.square / (1 - _BETA2**self.steps)).sqrt_().add_(1e-8)
        self.value.addcmul_(self.value, self.decayed, value=-lr * config.weight_decay)
        self.value.addcdiv_(self.mean, scale, value=-lr / (1 - _BETA1**self.steps))
        self.grad.zero_()

    def keep(self) -> None:
        """Add the current weights to the average."""
        self.averaged += 1
        self.average.lerp_(self.value, 1 / self.averaged)

    def use_average(self) -> None:
        """Replace the weights by their average, if there is one."""
        if self.averaged:
            self.value.copy_(self.average)


def _train(
    network: nn.Module,
    weights: _Weights,
    images: DeviceImages,
    config: ProxyConfig,
    resolution: int,
    rng: np.random.Generator,
    accelerator: Accelerator,
) -> list[float]:
    losses: list[float] = []
    unread: list[Tensor] = []
    network.train()
    for step, batch in enumerate(_batches(images.train_count, config.batch, config.steps, rng)):
        x, labels = images.augmented(batch, resolution, rng)
        with accelerator.autocast():
            loss = F.cross_entropy(network(x), labels, label_smoothing=config.label_smoothing)
        unread.append(loss.detach())
        if len(unread) == accelerator.check_every or step == config.steps - 1:
            losses += _finite(torch.stack(unread).tolist(), len(losses), config.steps)
            unread.clear()
        loss.backward()  # type: ignore[no-untyped-call]
        weights.step(_rate(step, config), config)
        if step >= config.steps * (1 - config.average):
            weights.keep()
    return losses


def _finite(losses: list[float], before: int, steps: int) -> list[float]:
    """The losses of the steps after `before`; raises `DivergedError` unless all are finite."""
    for step, loss in enumerate(losses, before + 1):
        if not math.isfinite(loss):
            raise DivergedError(f"the training loss is {loss} at step {step} of {steps}")
    return losses


def _rate(step: int, config: ProxyConfig) -> float:
    """Learning rate: rises linearly, stays constant, falls linearly."""
    up = (step + 1) / max(1.0, config.warmup * config.steps)
    down = (config.steps - step) / max(1.0, config.decay * config.steps)
    return config.lr * min(1.0, up, max(0.1, down))


def _batches(count: int, batch: int, steps: int, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """Indices of the images of each batch; every image is used once before any is used twice."""
    order = np.empty(0, np.int64)
    for _ in range(steps):
        while len(order) < batch:
            order = np.concatenate([order, rng.permutation(count)])
        yield order[:batch]
        order = order[batch:]


def _refresh_norms(network: nn.Module, images: DeviceImages, resolution: int, rng: np.random.Generator) -> None:
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
        for step, batch in enumerate(_batches(images.train_count, min(128, images.train_count), 8, rng)):
            for norm in norms:
                norm.momentum = 1 / (step + 1)  # a plain mean over all batches; None would read a tensor each time
            network(images.augmented(batch, resolution, rng)[0])


@torch.no_grad()
def _score(network: nn.Module, images: DeviceImages, resolution: int, limit: int) -> tuple[float, float]:
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
