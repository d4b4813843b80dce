"""Weights that all networks of a space share, trained once: each step trains another network, made of slices of them.

A network's parameter is a slice of the tensor at its place (`nas.training.slots`): the first channels and the centre of
the kernel (one-shot search with weight sharing, arXiv 1802.03268; nested kernels and channels, arXiv 1908.09791). After
training, any network of the space is scored without a training of its own.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nas.arch.arch import Arch
from nas.arch.block import PlacedBlock
from nas.training.loop import last_of_branches
from nas.training.slots import path_in, places_of

Shape = tuple[int, ...]


@dataclass(frozen=True)
class SharedParameter:
    """A parameter of a network: its place, and how it starts there."""

    key: str
    value: nn.Parameter
    starts_at_zero: bool

    @property
    def shape(self) -> Shape:
        return tuple(self.value.shape)

    def initial(self, shape: Shape, seed: int) -> Tensor:
        """What `nas.network.ops.initialise` and `zero_init_residual` give a tensor of this shape. It depends on the
        place, the shape and the seed alone, not on what was drawn before."""
        if self.starts_at_zero or self.key.endswith("bias"):
            return torch.zeros(shape)
        if len(shape) == 1:  # of a norm
            return torch.ones(shape)
        text = f"{seed} {self.key} {shape}"
        number = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=7).digest(), "big")
        generator, value = torch.Generator().manual_seed(number), torch.empty(shape)
        if len(shape) == 2:
            return nn.init.normal_(value, 0, 0.01, generator=generator)
        return nn.init.kaiming_normal_(value, mode="fan_out", generator=generator)


def inside(shape: Shape, whole: Shape) -> tuple[slice, ...]:
    """Where a smaller tensor lies in a larger one: the first channels, the centre of the kernel.

    >>> inside((8, 4, 3, 3), (16, 4, 5, 5))
    (slice(0, 8, None), slice(0, 4, None), slice(1, 4, None), slice(1, 4, None))
    """
    starts = [(most - size) // 2 if at >= 2 else 0 for at, (size, most) in enumerate(zip(shape, whole, strict=True))]
    return tuple(slice(start, start + size) for start, size in zip(starts, shape, strict=True))


class SharedWeights:
    """The shared tensors, with the state of their training. Pickled, it holds the weights alone, by value.

    Args:
        seed: random seed of initial values, batches, and networks drawn.
        steps: training steps, all together.

    Attributes:
        step: steps done.
        seconds: wall-clock time of them.
        shapes: shape of each tensor by its place; each grows to the largest that any network needed.
        vectors: weights, averages of gradients and of their squares, and numbers of updates, each as one float32 vector
            of all tensors, in the order of `shapes`.
        tally: smoothed training loss, and number of steps that were skipped because they were not finite.
    """

    def __init__(self, seed: int, steps: int) -> None:
        self.seed, self.steps = seed, steps
        self.step, self.seconds = 0, 0.0
        self.shapes: dict[str, Shape] = {}
        self.vectors: list[Tensor] = [torch.zeros(0) for _ in range(4)]
        self.tally = torch.zeros(2)
        self._starts: dict[str, int] = {}
        self._indices: dict[tuple[str, Shape], Tensor] = {}

    @property
    def loss(self) -> float:
        """Training loss, smoothed over some fifty steps."""
        return float(self.tally[0])

    @property
    def skipped(self) -> int:
        """Steps that changed nothing because the loss or its gradient was not finite."""
        return int(self.tally[1])

    def __getstate__(self) -> dict[str, Any]:
        state = {name: getattr(self, name) for name in ("seed", "steps", "step", "seconds", "shapes", "_starts")}
        return state | {"weights": self.vectors[0].cpu().numpy(), "tally": self.tally.cpu().numpy()}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        weights, tally = np.array(state["weights"]), np.array(state["tally"])
        self.__dict__.update({name: value for name, value in state.items() if name not in ("weights", "tally")})
        self.vectors, self.tally = [torch.from_numpy(weights)], torch.from_numpy(tally)
        self._indices = {}

    def tensor(self, key: str) -> Tensor:
        """The shared tensor at a place, as a view."""
        start, shape = self._starts[key], self.shapes[key]
        return self.vectors[0][start : start + math.prod(shape)].view(shape)

    def copy_into(self, network: nn.Module, arch: Arch) -> None:
        """Give a network its slices. Where it is larger than any network before, the rest has initial values; nothing
        here changes.

        Args:
            network: as `nas.network.build.build` makes it of `arch`, adapted to small maps or not.
            arch: as it is trained (`ProxyConfig.candidate`).
        """
        parameters = parameters_of(network, arch)
        holder = self
        if not self._covers(parameters):
            holder = SharedWeights(self.seed, self.steps)
            holder.shapes, holder.vectors, holder._starts = dict(self.shapes), self.vectors[:1], dict(self._starts)
            holder.grow(parameters)
        with torch.no_grad():
            for one in parameters:
                whole = holder.tensor(one.key)
                one.value.copy_(whole[inside(one.shape, tuple(whole.shape))])

    def grow(self, parameters: Sequence[SharedParameter]) -> None:
        """Make room for these parameters. Values that are there stay in their slices; new ones have initial values."""
        if self._covers(parameters):
            return
        needed: dict[str, tuple[SharedParameter, Shape]] = {}
        for one in parameters:
            before = self.shapes.get(one.key, one.shape)
            whole = tuple(max(sizes) for sizes in zip(before, one.shape, strict=True))
            if whole != self.shapes.get(one.key):
                needed[one.key] = one, whole
        shapes = self.shapes | {key: whole for key, (_, whole) in needed.items()}
        for number, vector in enumerate(self.vectors):
            pieces = []
            for key, shape in shapes.items():
                start, old = self._starts.get(key, 0), self.shapes.get(key)
                piece = vector[:0] if old is None else vector[start : start + math.prod(old)]
                if key in needed:
                    one, _ = needed[key]
                    new = (torch.zeros(shape) if number else one.initial(shape, self.seed)).to(vector.device)
                    if old is not None:
                        new[inside(old, shape)] = piece.view(old)
                    piece = new.reshape(-1)
                pieces.append(piece)
            self.vectors[number] = torch.cat(pieces)
        self.place(shapes)

    def place(self, shapes: Mapping[str, Shape]) -> None:
        """Note where each tensor lies in the vectors."""
        sizes = [math.prod(shape) for shape in shapes.values()]
        self.shapes = dict(shapes)
        self._starts = dict(zip(shapes, np.cumsum([0, *sizes[:-1]]).tolist(), strict=True))
        self._indices.clear()

    def index(self, parameters: Sequence[SharedParameter]) -> Tensor:
        """Where the elements of these parameters are in the vectors, int64; all are different."""
        return torch.cat([self._index_of(one.key, one.shape) for one in parameters])

    def _index_of(self, key: str, shape: Shape) -> Tensor:
        if (key, shape) not in self._indices:
            whole, start = self.shapes[key], self._starts[key]
            every = np.arange(start, start + math.prod(whole)).reshape(whole)
            index = torch.from_numpy(every[inside(shape, whole)].reshape(-1).copy())
            self._indices[key, shape] = index.to(self.vectors[0].device)
        return self._indices[key, shape]

    def _covers(self, parameters: Sequence[SharedParameter]) -> bool:
        wholes = ((self.shapes.get(one.key), one.shape) for one in parameters)
        return all(whole is not None and all(map(int.__ge__, whole, shape)) for whole, shape in wholes)

    def move(self, device: torch.device) -> None:
        """Keep everything on another device."""
        self.vectors, self.tally = [vector.to(device) for vector in self.vectors], self.tally.to(device)
        self._indices.clear()


def named(module: nn.Module) -> Iterator[tuple[str, nn.Parameter, bool]]:
    """Parameters by name, and whether they start at zero."""
    zero = {id(weight) for weight in last_of_branches(module)}
    for name, parameter in module.named_parameters():
        yield name, parameter, id(parameter) in zero


def parameters_of(network: nn.Module, arch: Arch) -> list[SharedParameter]:
    """The parameters of a built network at their places."""
    rows = [list(named(row)) for row in network.get_submodule("features").children()]
    return at_places(arch, list(arch.places()), rows, network)


def at_places(
    arch: Arch,
    places: Sequence[PlacedBlock],
    rows: Sequence[Sequence[tuple[str, nn.Parameter, bool]]],
    network: nn.Module,
) -> list[SharedParameter]:
    found = []
    for place, placed, row in zip(places_of(arch), places, rows, strict=True):
        found += [SharedParameter(f"{place} {path_in(placed, name)}", value, zero) for name, value, zero in row]
    classifier = network.get_submodule("classifier")
    return found + [
        SharedParameter(f"classifier {name}", value, False) for name, value in classifier.named_parameters()
    ]
