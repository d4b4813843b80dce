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
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from nas.arch.arch import Arch
from nas.arch.block import BLOCK_OPS, PlacedBlock
from nas.arch.cost import cost_of

SLOTS = ("1", "2", "3", "4a", "4b", "5a", "5b")
MAIN = ("n", "n>=1", "n>=2", "n>=3", "n>=4", "e", "e1", "k5", "k7", "se", "act", "w")
PRODUCTS = ("k5*e", "k7*e", "se*e", "k5*se", "d*e", "d*k5", "d*k7", "d*se", "d*e1")
CAPACITY = {"params": 22.0, "macs": 28.0, "memory": 25.0, "side": 7.8}  # typical values of the logarithms
_SQUARES = ("params*params", "macs*macs", "memory*memory", "side*side", "params*macs", "macs*side")
_KNOWN_OPS = ("dwsep", "mbconv", "fused_mbconv", "uib")
_SMOOTH = ("h_swish", "swish", "gelu")

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
    if not archs:
        return np.zeros((0, len(NAMES)))
    base = np.array([_base(arch) for arch in archs])
    slots, capacity, rest = np.split(base, [len(_SLOT_NAMES), len(_SLOT_NAMES) + len(CAPACITY)], axis=1)
    at = {name: index for index, name in enumerate(CAPACITY)}
    pairs = (name.split("*") for name in _SQUARES)
    squares = np.stack([capacity[:, at[one]] * capacity[:, at[other]] for one, other in pairs], axis=1)
    return np.hstack([slots, capacity, squares, rest])


@lru_cache(maxsize=1 << 16)
def _base(arch: Arch) -> tuple[float, ...]:
    """All features but the products with capacity."""
    slots: dict[str, list[PlacedBlock]] = {slot: [] for slot in SLOTS}
    first: dict[int, int] = {}
    for placed in arch.places():
        if placed.row.op in BLOCK_OPS:
            halvings = min(5, max(1, round(math.log2(arch.resolution / placed.out_size))))
            narrow = first.setdefault(halvings, placed.out_channels)
            part = "" if halvings < 4 else "b" if placed.out_channels > narrow else "a"
            slots[f"{halvings}{part}"].append(placed)
    blocks = [placed for slot in slots.values() for placed in slot]
    others = sum(placed.row.op not in _KNOWN_OPS for placed in blocks)
    cost = cost_of(arch)
    sizes = (cost.params, cost.macs, cost.memory_bytes, arch.resolution)
    capacity = [math.log2(size) - usual for size, usual in zip(sizes, CAPACITY.values(), strict=True)]
    numbers = [number for slot in SLOTS for number in _slot(slots[slot])]
    return (*numbers, *capacity, float(len(blocks)), others / max(1, len(blocks)))


def _slot(blocks: list[PlacedBlock]) -> list[float]:
    """The features of one slot, in the order of `MAIN` and `PRODUCTS`."""
    n = len(blocks)
    if n == 0:
        return [0.0] * (len(MAIN) + len(PRODUCTS))
    ratios = [max(1.0, placed.expanded / placed.in_channels) for placed in blocks]
    kernels = [max(placed.row.kernel, placed.row.kernel_start) for placed in blocks]
    e = sum(map(math.log2, ratios)) / n
    e1 = sum(ratio < 1.01 for ratio in ratios) / n
    k5, k7 = sum(kernel == 5 for kernel in kernels) / n, sum(kernel >= 7 for kernel in kernels) / n
    se = sum(placed.row.se > 0 for placed in blocks) / n
    act = sum(placed.row.act in _SMOOTH for placed in blocks) / n
    w = sum(math.log2(placed.out_channels) for placed in blocks) / n
    d = n - 1
    main = [n, *(float(n >= least) for least in (1, 2, 3, 4)), e, e1, k5, k7, se, act, w]
    return [*map(float, main), k5 * e, k7 * e, se * e, k5 * se, d * e, d * k5, d * k7, d * se, d * e1]
