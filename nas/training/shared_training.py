"""The training of shared weights: a network of the space each step."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas.arch.arch import Arch
from nas.arch.block import PlacedBlock
from nas.data.augment import to_device
from nas.data.dataset import ImageData
from nas.network.build import build_row, recipe
from nas.network.ops import Network
from nas.network.seeding import cpu_seed
from nas.system.progress import Step, no_step
from nas.training.accelerator import CPU, Accelerator
from nas.training.config import ProxyConfig
from nas.training.images import DeviceImages
from nas.training.loop import BETA1, BETA2, DivergedError, Order
from nas.training.shared import SharedParameter, SharedWeights, at_places, named
from nas.training.small_maps import adapt

Draw = Callable[[np.random.Generator], Arch]

WARMUP, DECAY, LAST_RATE = 50, 0.3, 0.05  # steps; share of the steps; share of the rate
SAVE_EVERY_S = 30.0
TEXT = "training shared weights"
_TIMED, _UNTIMED = 20, 10  # throw-away steps for `seconds_per_step`
_LOOK_EVERY = 50  # steps between two looks at how many were skipped: each look waits for a GPU
_MOST_SKIPPED = 0.1  # share of the steps
_FEW = 10  # skipped steps that are no reason to stop
_MAX_ROWS = 2000  # modules of rows kept for the next step


def train(
    shared: SharedWeights,
    data: ImageData,
    config: ProxyConfig,
    draw: Draw,
    accelerator: Accelerator = CPU,
    save: Callable[[SharedWeights], None] | None = None,
    progress: Step = no_step,
) -> None:
    """Train shared weights until `shared.steps` steps are done. They are on the CPU after that.

    Each step depends on the weights, the seed and its number alone. A training that continues from saved weights
    therefore ends with the same weights as one that was never interrupted (bit for bit on the CPU).

    Args:
        shared: weights to train, new or saved in the middle of their training.
        data: images to train on.
        config: how candidates are trained; of the lengths, only `shared.steps` matters.
        draw: the network to train next; full networks, which `config` makes smaller.
        accelerator: device to train on.
        save: called about every 30 s and at the end.
        progress: called after every step.

    Raises:
        DivergedError: more than a tenth of the steps were not finite.
        MemoryError, RuntimeError: raised by PyTorch when memory runs out.
    """
    images = DeviceImages.of(data, accelerator.device)
    order = Order(images.train_count, config.batch, shared.seed)
    networks = _Networks(len(data.classes), accelerator)
    shared.move(accelerator.device)
    began, before = time.monotonic(), shared.seconds
    saved_at, saved = began, shared.step
    while shared.step < shared.steps:
        step = shared.step
        rng = np.random.default_rng((shared.seed, step))
        small = config.candidate(draw(rng))
        network, parameters = networks.of(small)
        shared.grow(parameters)
        x, labels = images.augmented(order.batch(step), small.resolution, rng)
        _update(shared, network, parameters, x, labels, _rate(step, shared.steps, config.lr), config, accelerator)
        shared.step, shared.seconds = step + 1, before + time.monotonic() - began
        if shared.step % _LOOK_EVERY == 0 or shared.step == shared.steps:
            _check(shared)
        if save is not None and time.monotonic() - saved_at >= SAVE_EVERY_S and shared.step < shared.steps:
            save(shared)
            saved_at, saved = time.monotonic(), shared.step
        progress(shared.step, shared.steps, TEXT)
    shared.move(torch.device("cpu"))
    if save is not None and saved < shared.step:
        save(shared)


def seconds_per_step(
    data: ImageData, config: ProxyConfig, draw: Draw, seed: int, accelerator: Accelerator = CPU
) -> float:
    """Time some steps of a training that is thrown away. They train the networks of the steps before them, whose
    modules are built."""
    rng = np.random.default_rng(seed)
    few = [draw(rng) for _ in range(_UNTIMED)]
    at = itertools.cycle(few)
    trial = SharedWeights(seed, _UNTIMED + _TIMED)
    took: list[float] = []
    train(trial, data, config, lambda _: next(at), accelerator, progress=lambda *_: took.append(trial.seconds))
    return (trial.seconds - took[_UNTIMED - 1]) / _TIMED


def _rate(step: int, steps: int, lr: float) -> float:
    """Learning rate: rises linearly, stays constant, falls linearly."""
    return lr * min(1.0, (step + 1) / WARMUP) * max(LAST_RATE, min(1.0, (steps - step) / (DECAY * steps)))


def _update(
    shared: SharedWeights,
    network: nn.Module,
    parameters: Sequence[SharedParameter],
    x: Tensor,
    labels: Tensor,
    lr: float,
    config: ProxyConfig,
    accelerator: Accelerator,
) -> None:
    """One step of AdamW on the slices of one network. Each element counts its own updates. If the loss or the gradient
    is not finite, nothing changes; no value is read, for which a GPU would be waited for."""
    index = shared.index(parameters)
    before = [vector.index_select(0, index) for vector in shared.vectors]
    value, mean, square, count = before
    weights: list[Tensor] = [one.value for one in parameters]
    sizes = [weight.numel() for weight in weights]
    with torch.no_grad():
        pieces = torch.split(value, sizes)
        slices = [piece.view(weight.shape) for piece, weight in zip(pieces, weights, strict=True)]
        torch._foreach_copy_(weights, slices)
    with accelerator.autocast():
        loss = F.cross_entropy(network(x), labels, label_smoothing=config.label_smoothing)
    loss.backward()  # type: ignore[no-untyped-call]
    loss = loss.detach().float()
    grad = torch.cat([weight.grad.reshape(-1) for weight in weights if weight.grad is not None])
    for weight in weights:
        weight.grad = None
    decayed = to_device(np.repeat(np.array([weight.ndim > 1 for weight in weights], np.float32), sizes), x.device)
    norm = grad.norm()
    good = torch.isfinite(norm) & torch.isfinite(loss)
    grad.mul_((config.clip / (norm + 1e-6)).clamp_(max=1.0))
    count = count + 1
    mean = mean.lerp(grad, 1 - BETA1)
    square = square.mul(BETA2).addcmul_(grad, grad, value=1 - BETA2)
    scale = (square / _unbiased(BETA2, count)).sqrt_().add_(1e-8)
    value = value.addcmul(value, decayed, value=-lr * config.weight_decay)
    value.addcdiv_(mean / _unbiased(BETA1, count), scale, value=-lr)
    for vector, old, new in zip(shared.vectors, before, (value, mean, square, count), strict=True):
        vector.index_copy_(0, index, torch.where(good, new, old))
    smoothed = shared.tally[0].lerp(loss, 0.02 if shared.step else 1.0)
    shared.tally = torch.stack([torch.where(good, smoothed, shared.tally[0]), shared.tally[1] + ~good])


def _unbiased(beta: float, count: Tensor) -> Tensor:
    """1 - beta ** count."""
    return 1 - torch.exp(count * math.log(beta))


def _check(shared: SharedWeights) -> None:
    if shared.skipped > max(_FEW, _MOST_SKIPPED * shared.step):
        raise DivergedError(
            f"the shared training diverges: {shared.skipped} of {shared.step} steps were not finite; "
            "--shared-steps 0 trains each candidate from scratch"
        )


@dataclass(frozen=True)
class _Row:
    """The module of a row with its parameters: name, tensor, whether it starts at zero."""

    module: nn.Module
    parameters: tuple[tuple[str, nn.Parameter, bool], ...]


class _Networks:
    """Networks made of modules that are kept: a module is built once for all rows of its kind. What is in the
    parameters when a network is made is left from another.

    Args:
        classes: outputs.
        accelerator: where they are trained.
    """

    def __init__(self, classes: int, accelerator: Accelerator) -> None:
        self._classes, self._accelerator = classes, accelerator
        self._rows: dict[tuple[object, ...], _Row] = {}

    def of(self, arch: Arch) -> tuple[nn.Module, list[SharedParameter]]:
        """The network, in training mode, and its parameters at their places."""
        if len(self._rows) > _MAX_ROWS:
            self._rows.clear()
        places, used, rows = list(arch.places()), dict[tuple[object, ...], int](), []
        with cpu_seed(0):  # constructors draw weights
            for placed in places:
                kind, arguments = recipe(placed)
                key = (kind, *arguments.items())
                used[key] = used.get(key, 0) + 1
                rows.append(self._row((used[key], *key), placed))
            network = Network(
                [row.module for row in rows],
                places[-1].out_channels,
                self._classes,
                arch.dropout,
                arch.bn_eps,
                arch.bn_momentum,
                arch.stochastic_depth,
            )
        self._ready(network.classifier)
        return network, at_places(arch, places, [row.parameters for row in rows], network)

    def _row(self, key: tuple[object, ...], placed: PlacedBlock) -> _Row:
        if key not in self._rows:
            module = build_row(placed)
            self._ready(module)
            self._rows[key] = _Row(module, tuple(named(module)))
        return self._rows[key]

    def _ready(self, module: nn.Module) -> None:
        if self._accelerator.kind == "cpu":
            adapt(module)
        module.to(device=self._accelerator.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
