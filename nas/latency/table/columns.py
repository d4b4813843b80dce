"""Describes a network by the quantities ("columns") that its milliseconds are a linear function of.

Each row splits into parts, as a runtime executes them: expansion, depthwise convolution, squeeze-and-excitation,
projection. Each part splits into columns: a constant, multiply-accumulates with channels padded to blocks of 16,
elements read and written, and the work of its activation, norm, shuffle or shortcut. The columns of a network are the
sums over its parts.

Weights and the start of each kernel cost more in a larger network, because they come from memory farther away: on a
2-core machine, MobileNet's classifier of 5 MB took from 0.10 ms in the smallest networks to 0.25 ms in large ones. So
they have additional columns, one for each step of what the network touches, its weights and maps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from nas.arch.arch import Arch
from nas.arch.block import Block, PlacedBlock
from nas.arch.layers import Layer, layers_of
from nas.system.errors import InputError, known

CLASSES = 1000
CLASSIFIER = Block("linear", channels=CLASSES)
CHANNEL_BLOCK = 16
LANES = 4
ALIKE = {  # kinds that stand in for an unknown kind
    "expand": ("project", "pointwise-plain"),
    "project": ("expand", "pointwise-plain"),
    "pointwise-plain": ("expand", "project"),
    "depthwise": ("depthwise-plain",),
    "depthwise-plain": ("depthwise",),
    "grouped": ("grouped-plain",),
    "grouped-plain": ("grouped",),
}
JOINTS = ("add", "shuffle", "concat", "split", "avg_pool")  # run between the parts of a row
STEPPED = ("weights", "each")  # cost more in larger networks; the second takes many networks to determine
STEPS_M = (2.0, 2.8, 4.0, 5.7, 8.0, 11.3, 16.0)  # million floats: 8 to 64 MB, half octaves
ACTS_ALIKE = {  # activations that stand in for an unknown one, nearest first
    "relu": ("relu6",),
    "relu6": ("relu",),
    "h_swish": ("swish",),
    "swish": ("h_swish",),
    "gelu": ("swish", "h_swish"),
    "sigmoid": ("hard_sigmoid",),
    "hard_sigmoid": ("sigmoid",),
}

Part = tuple[Layer, ...]


def parts_of_row(placed: PlacedBlock) -> list[Part]:
    """The layers of a row, grouped as they are timed, in the order of `nas.latency.runtimes.base.part_names`. What
    joins a row's branches belongs to its last part."""
    parts: list[list[Layer]] = []
    joints = [_moved("split", placed, 2)] if placed.splits else []
    for layer in layers_of(placed):
        if layer.kind in ("se", "scale"):
            parts[-1].append(layer)
        elif layer.kind in JOINTS:
            joints.append(layer)
        else:
            parts.append([layer])
            if placed.row.norm == "group" and (layer.params and layer.kind != "se"):
                parts[-1].append(replace(layer, kind="norm", act="none", params=0, macs=0))
    parts[-1] += joints
    return [tuple(part) for part in parts]


def _moved(kind: str, placed: PlacedBlock, times: int) -> Layer:
    channels, size = placed.in_channels, placed.in_size
    return Layer(kind, 1, 1, channels, channels, size, size, "none", 0, 0, times * channels * size**2)


def places(arch: Arch) -> Iterator[PlacedBlock]:
    """The rows at their places, and the classifier."""
    width = 0
    for placed in arch.places():
        width = placed.out_channels
        yield placed
    yield PlacedBlock(CLASSIFIER, width, 1)


def _padded(channels: int) -> int:
    return -(-channels // CHANNEL_BLOCK) * CHANNEL_BLOCK


def _plain(layer: Layer) -> str:
    """``-plain`` for convolutions that ONNX Runtime does not run in its blocked layout; depthwise ones are then many
    times slower.

    For the blocked layout, the input channels must be divisible by 4, and both widths of a group by a block (its
    NchwcTransformer).
    """
    read, written = layer.in_channels // layer.groups, layer.out_channels // layer.groups
    by_group = layer.groups > 1 and not read == written == 1
    blocked = layer.in_channels % LANES == 0 and not (by_group and (read % CHANNEL_BLOCK or written % CHANNEL_BLOCK))
    return "" if blocked else "-plain"


def group_of(part: Part) -> str:
    """The group of parts that share coefficients: ``depthwise 5 2`` (kernel, stride), ``conv 3 2`` (reads an image),
    ``fullconv 3 2``, ``grouped 1 1``, ``expand``, ``project``, ``se`` …, and the same with ``-plain``."""
    first = part[0]
    if is_gate(part):
        return "se"
    if first.kind == "pointwise":
        return "pointwise-plain" if _plain(first) else "project" if first.act == "none" else "expand"
    if first.kind == "depthwise" and _plain(first):
        return f"depthwise-plain {first.stride}"  # rare; one coefficient per MAC for all kernels
    if first.kind == "conv" and first.in_channels < CHANNEL_BLOCK:
        return f"conv {first.kernel} {first.stride}"
    if first.kind in ("depthwise", "conv", "grouped"):
        kind = "grouped" if first.kind == "conv" and first.groups > 1 else first.kind.replace("conv", "fullconv")
        return f"{kind}{_plain(first)} {first.kernel} {first.stride}"
    return f"{first.kind} {first.kernel} {first.stride}" if first.kind in ("spatial", "max_pool") else first.kind


def is_gate(part: Part) -> bool:
    """Whether the part is a squeeze-and-excitation."""
    return any(layer.kind == "scale" for layer in part)


def _quantities(part: Part) -> dict[str, float]:
    """The quantities of a part by name."""
    layer, out = part[0], part[0].out_channels * part[0].out_size ** 2
    read = layer.in_channels * layer.in_size**2
    if is_gate(part):
        return {"each": 1, "elements": read, "channels": layer.in_channels, "macs": part[1].macs}
    if layer.kind == "pool":
        return {"each": 1, "elements": read, "channels": layer.in_channels}
    if layer.kind == "max_pool":
        return {"each": 1, "read": read, "macs": out * layer.kernel**2}
    if layer.kind == "spatial":
        return {"each": 1, "macs": layer.macs, "elements": layer.elements}
    filled = _padded if layer.kind != "grouped" and not _plain(layer) else int
    if layer.kind == "depthwise" and _plain(layer):
        return {"each": 1, "macs": layer.macs, "channels": layer.out_channels, "read": read, "written": out}
    if layer.kind == "depthwise":
        wide = _padded(layer.out_channels)
        macs = wide * layer.out_size**2 * layer.kernel**2
        return {"each": 1, "macs": macs, "lines": wide * layer.out_size, "read": read, "written": out}
    moved: dict[str, float] = {"each": 1, "read": read, "written": out}
    if layer.kind == "pointwise" or _is_full(layer):
        taps = layer.kernel**2 * layer.out_size**2
        return moved | {"macs": filled(layer.in_channels) * filled(layer.out_channels) * taps}
    return moved | {"macs": layer.macs} | ({"groups": layer.groups} if layer.groups > 1 else {})


def _is_full(layer: Layer) -> bool:
    return layer.kind == "conv" and layer.groups == 1 and layer.in_channels >= CHANNEL_BLOCK


def part_columns(part: Part, group: str) -> dict[str, float]:
    """The columns of a part under `group`, before the steps of `Columns.with_steps`."""
    first = part[0]
    columns = {f"{group}: {name}": float(value) for name, value in _quantities(part).items()}
    if first.kind in ("pointwise", "linear") or _is_full(first):
        columns[f"{group}: weights"] = float(first.kernel**2 * first.in_channels * first.out_channels)
    if is_gate(part):
        columns[f"gate {part[1].act}"] = 1.0
    for layer in part:
        out = float(layer.out_channels * layer.out_size**2)
        named: list[tuple[str, float]] = []
        if layer.kind in JOINTS or layer.kind == "norm":
            named += [(f"{layer.kind}: each", 1.0), (f"{layer.kind}: elements", out)]
        if layer.act != "none" and layer.kind != "se":
            named += [(f"act {layer.act}: each", 1.0), (f"act {layer.act}: elements", out)]
        for name, value in named:
            columns[name] = columns.get(name, 0.0) + value
    return columns


def steps(touched: np.ndarray) -> np.ndarray:
    """How far up each step of `STEPS_M` networks are that touch so many floats, 0 to 1; shape ``(n, steps)``."""
    knots = np.log(np.array(STEPS_M) * 1e6)
    at = np.log(np.maximum(touched, 1.0))[:, None]
    return np.asarray(np.clip((at - knots[:-1]) / np.diff(knots), 0.0, 1.0))


@dataclass
class Columns:
    """Turns networks into columns. The columns of each distinct row are computed once.

    Args:
        groups: groups that the table knows; a part with an unknown kernel or stride counts as the nearest known one.
        names: names of the columns, without those of the steps.
        stepped: quantities that cost more in larger networks, a subset of `STEPPED`.
    """

    groups: tuple[str, ...]
    names: tuple[str, ...]
    stepped: tuple[str, ...] = STEPPED[:1]
    _rows: dict[PlacedBlock, np.ndarray] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self._at = {name: at for at, name in enumerate(self.names)}
        self._stepped = [at for at, name in enumerate(self.names) if name.rpartition(": ")[2] in self.stepped]

    @classmethod
    def seen_in(cls, archs: Sequence[Arch], stepped: tuple[str, ...] = STEPPED[:1]) -> Columns:
        """The columns that these networks need."""
        parts = [part for arch in archs for placed in places(arch) for part in parts_of_row(placed)]
        named = {name for part in parts for name in part_columns(part, group_of(part))}
        return cls(tuple(sorted({group_of(part) for part in parts})), tuple(sorted(named)), stepped)

    @property
    def all_names(self) -> tuple[str, ...]:
        """The names of the columns of `of_networks`, including those of the steps."""
        more = (f"{self.names[at]} over {step:g}M" for at in self._stepped for step in STEPS_M[:-1])
        return (*self.names, *more)

    def of_part(self, part: Part) -> np.ndarray:
        """Shape ``(len(names) + 1,)``; the last entry is the number of floats touched, weights and maps."""
        vector = np.zeros(len(self.names) + 1)
        for name, value in part_columns(part, self.known_group(group_of(part))).items():
            if (at := self._at.get(self._nearest_known(name))) is not None:
                vector[at] += value
        # Maps are written once and read once, so half of the elements lie in memory.
        vector[-1] = sum(layer.params + layer.elements / 2 for layer in part)
        return vector

    def _nearest_known(self, name: str) -> str:
        """The name itself if the table has this column, else that of the most similar activation or gate."""
        kind, _, rest = name.partition(" ")
        own, colon, quantity = rest.partition(":")
        alike = ACTS_ALIKE.get(own, ()) if kind in ("act", "gate") else ()
        likes = (f"{kind} {like}{colon}{quantity}" for like in alike)
        return next((column for column in (name, *likes) if column in self._at), name)

    def known_group(self, group: str) -> str:
        """The group that a part counts as: its own, or the nearest one that the table knows.

        Raises:
            InputError: the table knows no group of its kind.
        """
        if group in self.groups:
            return group
        kind, *cells = group.split()
        for alike in (kind, *ALIKE.get(kind, ())):
            if near := {g: g.split()[1:] for g in self.groups if g.split()[0] == alike}:
                break
        else:
            raise InputError(
                f"the latency table does not know {kind}; {known(self.groups)}; build the table of a space that has it"
            )
        return min(near, key=lambda g: [abs(int(a) - int(b)) for a, b in zip(near[g][::-1], cells[::-1], strict=False)])

    def raw(self, archs: Sequence[Arch]) -> np.ndarray:
        """Sums over the parts of each network, without steps, shape ``(n, len(names) + 1)``."""
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

    def with_steps(self, raw: np.ndarray, touched: np.ndarray) -> np.ndarray:
        """Add the columns of the steps, for networks that touch so many floats; shape ``(n, len(all_names))``."""
        up = steps(touched)
        stepped = raw[:, self._stepped][:, :, None] * up[:, None, :]
        return np.hstack([raw[:, :-1], stepped.reshape(len(raw), -1)])

    def of_networks(self, archs: Sequence[Arch]) -> np.ndarray:
        """The columns of networks, shape ``(n, len(all_names))``."""
        raw = self.raw(archs)
        return self.with_steps(raw, raw[:, -1])

    def unit_costs(self, coefficients: np.ndarray) -> np.ndarray:
        """The cost of one unit of each entry of `of_part`, shape ``(len(names) + 1, 1 + len(STEPS_M))``.

        The first column is milliseconds in any network, the second the floats touched, and the others the additional
        milliseconds in a network at the top of each step.
        """
        names = len(self.names)
        costs = np.zeros((names + 1, 1 + len(STEPS_M)))
        costs[:names, 0] = coefficients[:names]
        costs[-1, 1] = 1.0
        costs[self._stepped, 2:] = coefficients[names:].reshape(len(self._stepped), -1)
        return costs
