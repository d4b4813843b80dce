"""Numbers that describe any network, for accuracy models: what happens at each feature-map size, and capacity.

Blocks are counted in seven *slots*, by the number of times the image was halved: ``1``, ``2``, ``3``, ``4a``, ``4b``,
``5a``, ``5b``. After four and five halvings a network usually has two stages, the second one wider: ``b`` holds the
blocks wider than the first at that size. The mobile networks, from MobileNetV2 to EfficientNet, all have these slots.

======================  ==============================================================================================
feature                 meaning
======================  ==============================================================================================
``S.n``                 number of blocks in slot S
``S.n>=1`` … ``>=4``    1 if there are at least so many, else 0
``S.e``, ``S.e1``       mean log2 of the expansion; share of blocks without expansion
``S.k5``, ``S.k7``      share of blocks whose depthwise kernel is 5; 7 or more
``S.se``                share of blocks with squeeze-and-excitation
``S.act``               share of blocks with h_swish, swish or gelu
``S.w``                 mean log2 of the output channels
``S.a*b``               products of two of these, ``d`` being the number of blocks after the first
``params``, ``macs``,   log2 of parameters, MACs and memory access (`nas.arch.cost`, 1,000 classes), and of the input
``memory``, ``side``    side; each less a typical value
``a*b``                 squares and products of these four
``depth``               number of blocks
``other``               share of blocks of other operators than depthwise separable and inverted residual ones
======================  ==============================================================================================
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nas.arch.arch import Arch
from nas.arch.batch import Batch
from nas.arch.block import BLOCK_OPS, PlacedBlock
from nas.arch.cost import costs

SLOTS = ("1", "2", "3", "4a", "4b", "5a", "5b")
MAIN = ("n", "n>=1", "n>=2", "n>=3", "n>=4", "e", "e1", "k5", "k7", "se", "act", "w")
PRODUCTS = ("k5*e", "k7*e", "se*e", "k5*se", "d*e", "d*k5", "d*k7", "d*se", "d*e1")
CAPACITY = {"params": 22.0, "macs": 28.0, "memory": 25.0, "side": 7.8}  # typical values of the logarithms
_SQUARES = ("params*params", "macs*macs", "memory*memory", "side*side", "params*macs", "macs*side")
_KNOWN_OPS = ("dwsep", "mbconv", "fused_mbconv", "uib")
_SMOOTH = ("h_swish", "swish", "gelu")

Floats = NDArray[np.float64]

_SLOT_NAMES = tuple(f"{slot}.{name}" for slot in SLOTS for name in MAIN + PRODUCTS)
NAMES: tuple[str, ...] = (*_SLOT_NAMES, *CAPACITY, *_SQUARES, "depth", "other")
"""Names of the entries of `features`, in order."""


def group_of(name: str) -> str:
    """The group a feature belongs to: features of one group have effects of about one size, whatever their slot.

    >>> group_of("4a.k5"), group_of("4a.k5*e"), group_of("params"), group_of("params*macs")
    ('k5', 'k5*e', 'params', 'squares')
    """
    if name in _SQUARES:
        return "squares"
    return name.partition(".")[2] or name


def is_capacity(name: str) -> bool:
    """Whether a feature says how large a network is, not how it is made.

    >>> is_capacity("macs*side"), is_capacity("4a.k5")
    (True, False)
    """
    return "." not in name and name != "other"


def is_product(name: str) -> bool:
    """Whether a feature is a product of others.

    >>> is_product("4a.k5*e"), is_product("4a.k5")
    (True, False)
    """
    return "*" in name


def features(archs: Sequence[Arch]) -> NDArray[np.float64]:
    """The features of networks.

    Args:
        archs: n networks.

    Returns:
        float64 of shape ``(n, len(NAMES))``.

    >>> from nas.references.table import reference
    >>> row = dict(zip(NAMES, features([reference("mobilenet_v3_large")])[0], strict=True))
    >>> row["4a.n"], row["4b.n"], row["5a.k5"], row["4b.se"]
    (np.float64(4.0), np.float64(2.0), np.float64(1.0), np.float64(1.0))
    """
    batch = Batch.of(archs)
    if not len(batch):
        return np.zeros((0, len(NAMES)))
    slots, depth, others = _slots(batch)
    sizes = np.hstack([costs(batch), batch.resolution[:, None]])
    capacity = np.log2(sizes) - np.array(list(CAPACITY.values()))
    at = {name: index for index, name in enumerate(CAPACITY)}
    pairs = (name.split("*") for name in _SQUARES)
    squares = np.stack([capacity[:, at[one]] * capacity[:, at[other]] for one, other in pairs], axis=1)
    rest = np.stack([depth, others / np.maximum(1, depth)], axis=1)
    return np.hstack([slots, capacity, squares, rest])


_QUANTITIES = ("n", "e", "e1", "k5", "k7", "se", "act", "w", "other")
"""What is added up over the blocks of a slot; all but the first are turned into means."""


def _quantities(placed: PlacedBlock) -> tuple[float, ...]:
    """Of one row: `_QUANTITIES`, its output size and channels; zero for a row that is no block."""
    row = placed.row
    if row.op not in BLOCK_OPS:
        return (0.0,) * (len(_QUANTITIES) + 2)
    ratio = max(1.0, placed.expanded / placed.in_channels)
    kernel = max(row.kernel, row.kernel_start)
    flags = (ratio < 1.01, kernel == 5, kernel >= 7, row.se > 0, row.act in _SMOOTH)
    width = math.log2(placed.out_channels)
    return (
        *(1.0, math.log2(ratio), *map(float, flags), width, float(row.op not in _KNOWN_OPS)),
        *(placed.out_size, placed.out_channels),
    )


def _slots(batch: Batch) -> tuple[Floats, Floats, Floats]:
    """The features of all slots, shape (n, slots x features); the number of blocks, and that of other operators."""
    count, at = len(batch), np.arange(len(batch))
    sums = np.zeros((count, len(SLOTS), len(_QUANTITIES)))
    narrow = np.zeros((count, 6))  # channels of the first block after so many halvings
    for position in range(batch.ids.shape[1]):
        found = batch.values_at(position, _quantities)
        blocks = found[:, 0] > 0
        size, channels = np.where(blocks, found[:, -2], 1), found[:, -1]
        halvings = np.clip(np.rint(np.log2(batch.resolution / size)), 1, 5).astype(int)
        first = narrow[at, halvings]
        narrow[at, halvings] = np.where(blocks & (first == 0), channels, first)
        wider = (halvings >= 4) & (first > 0) & (channels > first)
        sums[at, _SLOT_AT[halvings] + wider] += found[:, : len(_QUANTITIES)]
    n = sums[:, :, 0]
    means = sums / np.maximum(n, 1)[:, :, None]
    value = dict(zip(_QUANTITIES, np.moveaxis(means, 2, 0), strict=True))
    value |= {"n": n, "d": np.maximum(n - 1, 0)} | {f"n>={least}": (n >= least).astype(float) for least in (1, 2, 3, 4)}
    columns = [value[name] for name in MAIN]
    columns += [value[one] * value[other] for one, other in (name.split("*") for name in PRODUCTS)]
    slots = np.stack(columns, axis=2).reshape(count, -1)
    return slots, n.sum(axis=1), sums[:, :, -1].sum(axis=1)


_SLOT_AT = np.array([0, 0, 1, 2, 3, 5])  # index of the first slot after so many halvings
