"""The model inside a latency table: milliseconds as a non-negative linear function of what a network is made of.

Each row splits into parts as a runtime executes them (expansion, depthwise convolution, squeeze-and-excitation,
projection), each part into columns: a constant, multiply-accumulates as padded to blocks of 16 channels, elements read
and written, and what its activation adds. Weights cost more the larger the network is, for then they come from farther
away (on a 2-core machine, MobileNet's classifier of 5 MB took from 0.10 ms inside a network that touches 11 MB to
0.25 ms inside those that touch 28 MB and more): they stand in columns of their own, one per step of what the network
touches. Sums of parts being sums of columns, the times of parts inside networks and of whole networks are equations in
the same unknowns, solved together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from nas.arch import Arch
from nas.errors import InputError, known
from nas.layers import Layer, layers_of
from nas.row import Block, Placed

CLASSES = 1000
CHANNEL_BLOCK = 16
STEPS_M = (1.0, 2.0, 4.0, 8.0, 16.0)  # million floats: 4 to 64 MB
PART_SIGMA = 0.7  # relative; loose: parts shape the model, whole networks, timed without a profiler, settle it
PART_FLOOR_MS = 0.002
NET_SIGMA = 0.01
ROUNDS = 8

Part = tuple[Layer, ...]


def parts_of_row(placed: Placed) -> list[Part]:
    """The layers of a row grouped as they are timed: in the order of `nas.latency.runtimes.part_names`."""
    parts: list[list[Layer]] = []
    for layer in layers_of(placed):
        if layer.kind in ("se", "scale", "add"):
            parts[-1].append(layer)
        else:
            parts.append([layer])
    return [tuple(part) for part in parts]


def places(arch: Arch) -> Iterator[Placed]:
    """The rows in their places, and the classifier."""
    width = 0
    for placed in arch.places():
        width = placed.out_channels
        yield placed
    yield Placed(Block("linear", channels=CLASSES), width, 1)


def _padded(channels: int) -> int:
    return -(-channels // CHANNEL_BLOCK) * CHANNEL_BLOCK


def group_of(part: Part) -> str:
    """What shares coefficients: ``depthwise 5 2`` (kernel, stride), ``conv 3 2``, ``expand``, ``project``, ``se`` …"""
    first, last = part[0], part[-1]
    if last.kind == "scale":
        return "se"
    if first.kind == "pointwise":
        return "project" if first.act == "none" else "expand"
    if first.kind in ("depthwise", "conv"):
        return f"{first.kind} {first.kernel} {first.stride}"
    return first.kind


def _quantities(part: Part) -> dict[str, float]:
    """The columns of a part in its group."""
    layer, out = part[0], part[0].out_channels * part[0].out_size ** 2
    read = layer.in_channels * layer.in_size**2
    if part[-1].kind == "scale":
        return {"each": 1, "elements": read, "channels": layer.in_channels, "macs": part[1].macs}
    if layer.kind == "pool":
        return {"each": 1, "elements": read, "channels": layer.in_channels}
    if layer.kind == "depthwise":
        wide = _padded(layer.out_channels)
        macs = wide * layer.out_size**2 * layer.kernel**2
        return {"each": 1, "macs": macs, "lines": wide * layer.out_size, "read": read, "written": out}
    if layer.kind == "pointwise":
        macs = _padded(layer.in_channels) * _padded(layer.out_channels) * layer.out_size**2
        return {"each": 1, "macs": macs, "read": read, "written": out}
    return {"each": 1, "macs": layer.macs, "read": read, "written": out}


def part_columns(part: Part, group: str) -> dict[str, float]:
    """Named quantities of a part counted under `group`; ``weights`` ones still await the network's size."""
    layer = part[0]
    columns = {f"{group}: {name}": float(value) for name, value in _quantities(part).items()}
    if layer.kind in ("pointwise", "linear"):
        columns[f"{group}: weights"] = float(layer.in_channels * layer.out_channels)
    if part[-1].kind == "scale":
        columns[f"gate {part[1].act}"] = 1.0
    if part[-1].kind == "add":
        columns["add: each"], columns["add: elements"] = 1.0, float(part[-1].out_channels * part[-1].out_size ** 2)
    if layer.act != "none":
        columns[f"act {layer.act}: each"] = 1.0
        columns[f"act {layer.act}: elements"] = float(layer.out_channels * layer.out_size**2)
    return columns


def steps(touched: np.ndarray) -> np.ndarray:
    """How far up each step of `STEPS_M` a network is that touches so many floats, 0 to 1; shape ``(n, steps)``."""
    knots = np.log(np.array(STEPS_M) * 1e6)
    at = np.log(np.maximum(touched, 1.0))[:, None]
    return np.asarray(np.clip((at - knots[:-1]) / np.diff(knots), 0.0, 1.0))


@dataclass
class Columns:
    """Networks to numbers. Rows seen before are looked up, so that many networks cost little more than their sums.

    Args:
        groups: known to the table; a part of an unknown kernel or stride is counted as the nearest known.
        names: of the columns, before the steps of the weights are unfolded.
    """

    groups: tuple[str, ...]
    names: tuple[str, ...]
    _rows: dict[Placed, np.ndarray] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self._at = {name: at for at, name in enumerate(self.names)}
        self._weights = [at for at, name in enumerate(self.names) if name.endswith(": weights")]

    @classmethod
    def seen_in(cls, archs: Sequence[Arch]) -> Columns:
        """The columns these networks need."""
        parts = [part for arch in archs for placed in places(arch) for part in parts_of_row(placed)]
        named = {name for part in parts for name in part_columns(part, group_of(part))}
        return cls(tuple(sorted({group_of(part) for part in parts})), tuple(sorted(named)))

    @property
    def unfolded(self) -> tuple[str, ...]:
        """The names of the columns of `of_networks`."""
        more = (f"{self.names[at]} over {step:g}M" for at in self._weights for step in STEPS_M[:-1])
        return (*self.names, *more)

    def of_part(self, part: Part) -> np.ndarray:
        """Shape ``(len(names) + 1,)``; the last entry is the number of floats touched."""
        vector = np.zeros(len(self.names) + 1)
        for name, value in part_columns(part, self._known(group_of(part))).items():
            if (at := self._at.get(name)) is not None:  # an activation or gate the table never met adds nothing
                vector[at] += value
        vector[-1] = sum(layer.params + layer.elements for layer in part)
        return vector

    def _known(self, group: str) -> str:
        if group in self.groups:
            return group
        kind, *cells = group.split()
        near = {g: g.split()[1:] for g in self.groups if g.split()[0] == kind}
        if not near and group in ("expand", "project"):
            near = {g: [] for g in ("expand", "project") if g in self.groups}
        if not near:
            raise InputError(
                f"the latency table has met no {kind}; {known(self.groups)}; build one of a space that has"
            )
        return min(near, key=lambda g: [abs(int(a) - int(b)) for a, b in zip(near[g][::-1], cells[::-1], strict=False)])

    def raw(self, archs: Sequence[Arch]) -> np.ndarray:
        """Sums over the parts of each network, shape ``(n, len(names) + 1)``."""
        sums = np.zeros((len(archs), len(self.names) + 1))
        for at, arch in enumerate(archs):
            rows = []
            for placed in places(arch):
                if (row := self._rows.get(placed)) is None:
                    row = np.sum([self.of_part(part) for part in parts_of_row(placed)], axis=0)
                    self._rows[placed] = row
                rows.append(row)
            sums[at] = np.sum(rows, axis=0)
        return sums

    def unfold(self, raw: np.ndarray, touched: np.ndarray) -> np.ndarray:
        """Put the weights on the steps of their network's size: shape ``(n, len(unfolded))``."""
        up = steps(touched)
        stepped = raw[:, self._weights][:, :, None] * up[:, None, :]
        return np.hstack([raw[:, :-1], stepped.reshape(len(raw), -1)])

    def of_networks(self, archs: Sequence[Arch]) -> np.ndarray:
        """Shape ``(n, len(unfolded))``."""
        raw = self.raw(archs)
        return self.unfold(raw, raw[:, -1])


def fit(columns: Columns, archs: Sequence[Arch], parts_ms: Sequence[np.ndarray], nets_ms: np.ndarray) -> np.ndarray:
    """Non-negative coefficients, ms per unit of each unfolded column.

    Args:
        columns: made of `archs`.
        archs: that were timed.
        parts_ms: of each, the times of its parts inside it, in order; their sum is its time.
        nets_ms: of each, the median as a whole, shape ``(n,)``.
    """
    nets = columns.of_networks(archs)
    touched = columns.raw(archs)[:, -1]
    raw = [np.array([columns.of_part(p) for placed in places(arch) for p in parts_of_row(placed)]) for arch in archs]
    parts = np.vstack([columns.unfold(rows, np.full(len(rows), size)) for rows, size in zip(raw, touched, strict=True)])
    times = np.concatenate(list(parts_ms))
    sigma = np.concatenate([PART_SIGMA * times + PART_FLOOR_MS, NET_SIGMA * nets_ms])
    return _robust_nnls(np.vstack([parts, nets]), np.concatenate([times, nets_ms]), sigma)


def _robust_nnls(matrix: np.ndarray, target: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """Non-negative least squares of ``(matrix @ c - target) / sigma``, Huber's loss by reweighting."""
    from scipy.optimize import nnls

    size = np.abs(matrix).max(axis=0)
    size[size == 0] = 1.0
    scaled, aim = matrix / size / sigma[:, None], target / sigma
    weight = np.ones(len(aim))
    for _ in range(ROUNDS):
        solution = nnls(scaled * weight[:, None], aim * weight, maxiter=50 * len(size))[0]
        weight = np.sqrt(np.minimum(1.0, 1.5 / np.maximum(np.abs(scaled @ solution - aim), 1e-9)))
    return np.asarray(solution / size)
