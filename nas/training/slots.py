"""Which weights different networks share: the place of every parameter, by name.

A row's place is the number of times the image was halved before its output, its number among the rows at that size, and
its kind. The last convolution before the pool, the rows after it and the classifier have places of their own, however
deep the network is. Inside a row, layers are named by what they do, so that a block with squeeze-and-excitation shares
its convolutions with the same block without. Activations, strides and kernel sizes make no difference.
"""

from __future__ import annotations

from collections import Counter

from nas.arch.arch import Arch
from nas.arch.block import PlacedBlock


def places_of(arch: Arch) -> list[str]:
    """The place of each row; all are different.

    >>> from nas.references.table import reference
    >>> places_of(reference("mobilenet_v2"))[:3]
    ['1/0 conv', '1/1 mbconv narrow', '2/0 mbconv']
    """
    rows = list(arch.places())
    pool = next(at for at, placed in enumerate(rows) if placed.row.op == "pool")
    halvings, seen, found = 0, Counter[str](), []
    for at, placed in enumerate(rows):
        halvings += placed.row.stride == 2
        where = "tail" if at >= pool else str(halvings)
        if at == pool - 1 and at > 0 and placed.row.op == "conv":
            where = "head"
        found.append(f"{where}/{seen[where]} {_kind(placed)}")
        seen[where] += 1
    return found


def _kind(placed: PlacedBlock) -> str:
    """What else must be equal for two rows to share weights."""
    row, words = placed.row, [placed.row.op]
    if row.op == "conv" and placed.groups[0] > 1:
        depthwise = placed.groups[0] == placed.in_channels == placed.out_channels
        words.append("depthwise" if depthwise else f"groups {placed.groups[0]}")
    elif row.op == "shuffle_v1":
        words += [f"groups {placed.groups[0]} {placed.groups[1]}", "joined" if placed.bypassed else "added"]
    elif row.op == "shuffle_v2":
        words.append("split" if placed.splits else "whole")
    elif row.op == "dwsep" and row.depth_multiplier > 1:
        words.append(f"times {row.depth_multiplier}")
    elif row.op in ("mbconv", "fused_mbconv") and not _widens(placed):
        words.append("narrow")
    if row.norm not in (None, "batch"):
        words.append(str(row.norm))
    return " ".join(words)


def _widens(placed: PlacedBlock) -> bool:
    return placed.expanded != placed.in_channels or placed.row.keep_expand


def path_in(placed: PlacedBlock, name: str) -> str:
    """The name of a parameter of a row's module, with the number of its layer replaced by what the layer does.

    >>> from nas.references.table import reference
    >>> row = list(reference("mobilenet_v3_large").places())[4]
    >>> path_in(row, "layers.2.squeeze.weight"), path_in(row, "layers.3.0.weight")
    ('se.squeeze.weight', 'project.0.weight')
    """
    roles = _roles(placed)
    first, _, rest = name.partition(".")
    if first != "layers" or not roles:
        return name
    number, _, rest = rest.partition(".")
    return f"{roles[int(number)]}.{rest}"


def _roles(placed: PlacedBlock) -> list[str]:
    """What the layers of a row do, in their order; empty where they are the same in every row of the kind."""
    row = placed.row
    if row.op == "mbconv":
        roles = {"expand": _widens(placed), "depthwise": True, "se": placed.squeezed > 0, "project": True}
    elif row.op == "fused_mbconv":
        roles = {"conv": True, "se": placed.squeezed > 0, "project": placed.expanded != placed.in_channels}
    elif row.op == "uib":
        roles = {"start": row.kernel_start > 0, "expand": True, "depthwise": row.kernel > 0, "project": True}
    else:
        roles = {}
    return [role for role, there in roles.items() if there]
