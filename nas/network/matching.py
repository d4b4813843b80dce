"""Layers of two networks, matched by structure: by the order and shapes of layers, whatever their names.

A state dict is read as a tree of its names. The tensors of one module are a layer. The search looks for an order of the
siblings of each branch in which their layers are ours, in order of execution.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from nas.system.errors import InputError

MAX_TENSORS = 20_000
MAX_DEPTH = 32
MAX_SIBLINGS = 128  # unnumbered names in one branch
MAX_TRIES = 100_000

Signature = tuple[tuple[str, tuple[int, ...]], ...]

_COUNTER = "num_batches_tracked"  # of batch norm; no output depends on it
_LEFTOVERS = frozenset(  # of profilers (thop), of averaged weights, and of modules with a state of their own
    ("total_ops", "total_params", "n_averaged", "num_updates", "decay", "initted", "step", "_extra_state")
)
_LOSSES = frozenset(("criterion", "loss", "loss_fn", "loss_func", "train_loss", "val_loss"))  # class weights
_WRAPPERS = frozenset(("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"))
_IN_ORDER = (  # words that name siblings in order of execution
    ("squeeze", "excite"),
    ("squeeze", "excitation"),
    ("reduce", "expand"),
    ("down", "up"),
    ("expand", "depthwise", "project"),
    ("exp", "proj"),
    ("pw", "pwl"),
    ("start", "mid", "end"),
    ("stem", "head"),
    ("first", "last"),
    ("in", "out"),
    ("pre", "post"),
    ("left", "right"),
    ("features", "classifier"),
    ("backbone", "head"),
)


@dataclass(slots=True)
class Layer:
    """The tensors of one module, by the last part of their names.

    Args:
        path: name of the module, without wrappers.
        original: name of the module in the state dict.
        tensors: tensors by the last part of their names.
        counter: batches that a batch norm has seen.
    """

    path: str
    original: str
    tensors: dict[str, Tensor] = field(default_factory=dict)
    counter: Tensor | None = None

    @property
    def signature(self) -> Signature:
        return tuple(sorted((leaf, shape_of(tensor)) for leaf, tensor in self.tensors.items()))

    @property
    def weight(self) -> tuple[int, ...]:
        """The shape of the weight; () without one."""
        return shape_of(self.tensors["weight"]) if "weight" in self.tensors else ()

    def name(self, leaf: str) -> str:
        return join(self.original, leaf)

    def equals(self, other: Layer) -> bool:
        """Whether all tensors have the same values."""
        return self.signature == other.signature and all(
            torch.equal(tensor.reshape(shape_of(tensor)), other.tensors[leaf].reshape(shape_of(tensor)))
            for leaf, tensor in self.tensors.items()
        )


@dataclass(slots=True)
class Branch:
    """A part of the names and what is below it: its own layer, if any, then its children."""

    layer: Layer | None = None
    children: dict[str, Branch] = field(default_factory=dict)

    def layers(self) -> Iterator[Layer]:
        """Layers with tensors, in the order of the dict."""
        if self.layer and self.layer.tensors:
            yield self.layer
        for child in self.children.values():
            yield from child.layers()


def join(path: str, name: str) -> str:
    return f"{path}.{name}" if path and name else path or name


def shape_of(tensor: Tensor) -> tuple[int, ...]:
    """The shape of a tensor; a 1x1 convolution has the shape of its matrix."""
    shape = tuple(tensor.shape)
    return shape[:2] if len(shape) == 4 and shape[2:] == (1, 1) else shape


def layers_of(model: nn.Module) -> list[Layer]:
    """Layers with tensors, in order of definition, which is our order of execution."""
    layers = []
    for name, module in model.named_modules():
        tensors = dict(module.named_parameters(recurse=False)) | dict(module.named_buffers(recurse=False))
        counter = tensors.pop(_COUNTER, None)
        if tensors:
            layers.append(Layer(name, name, tensors, counter))
    return layers


def tree_of(state_dict: Mapping[str, Tensor], ours: Sequence[Layer]) -> Branch:
    """The tree of the names of a state dict, without wrappers and what is no part of a network.

    Raises:
        InputError: it is not a dict of dense float tensors by name, or exceeds a limit.
    """
    if not isinstance(state_dict, Mapping) or len(state_dict) > MAX_TENSORS:
        got = len(state_dict) if isinstance(state_dict, Mapping) else type(state_dict).__name__
        raise InputError(f"weights must be a dict of at most {MAX_TENSORS} tensors by name, got {got}")
    known = {leaf for layer in ours for leaf in layer.tensors}
    ignored = _LEFTOVERS - known
    roots = {layer.path.partition(".")[0] for layer in ours}
    names = [
        name
        for name in state_dict
        if not isinstance(name, str)
        or not (name.rpartition(".")[2] in ignored or (name.partition(".")[0] in _LOSSES - roots and "." in name))
    ]
    for name in names:
        _check(name, state_dict[name])
    paths = {name: name.rpartition(".")[0] for name in names}
    bare = {
        path: ".".join(part for part in path.split(".") if part not in _WRAPPERS - roots) for path in paths.values()
    }
    if len(set(bare.values())) < len(bare):  # a module with this name has tensors of its own
        bare = {path: path for path in bare}
    root = Branch()
    for name in names if is_ordered(state_dict) else sorted(names, key=_natural):
        tensor, leaf = state_dict[name], name.rpartition(".")[2]
        if leaf == _COUNTER and tensor.numel() != 1:
            continue
        branch = root
        path = bare[paths[name]]
        for part in path.split(".") if path else ():
            branch = branch.children.setdefault(part, Branch())
        branch.layer = branch.layer or Layer(path, paths[name])
        if leaf == _COUNTER:
            branch.layer.counter = tensor.reshape(())
        else:
            branch.layer.tensors[leaf] = tensor
    return root


def _check(name: Any, tensor: Any) -> None:
    if not isinstance(name, str) or not isinstance(tensor, Tensor) or name.count(".") >= MAX_DEPTH:
        got = f"{str(name)[:80]!r}: {type(tensor).__name__}"
        raise InputError(f"weights must be tensors by name, at most {MAX_DEPTH} names deep, got {got}")
    is_number = tensor.is_floating_point() or name.rpartition(".")[2] == _COUNTER
    if tensor.layout != torch.strided or tensor.is_meta or tensor.is_quantized or not is_number:
        remedy = "; give the weights from before quantisation" if "int" in str(tensor.dtype) else ""
        raise InputError(
            f"weights must be dense float tensors, got {name:.80} of {tensor.dtype}, {tensor.layout}{remedy}"
        )


def is_ordered(state_dict: Mapping[str, Tensor]) -> bool:
    """Whether the order of the dict can be that of a network. It is not if the dict is sorted by name, as a safetensors
    file is within each dtype, or lists a bias before its weight."""
    groups: dict[torch.dtype, list[str]] = {}
    for name, tensor in state_dict.items():
        if isinstance(tensor, Tensor):  # what else a module keeps is ignored
            groups.setdefault(tensor.dtype, []).append(name)
    if all(names == sorted(names) for names in groups.values()):
        return False
    places = {name: at for at, name in enumerate(state_dict)}
    return all(
        places.get(f"{name.removesuffix('bias')}weight", -1) < at
        for name, at in places.items()
        if name.endswith("bias")
    )


def _natural(name: str) -> list[tuple[int, str]]:
    """A key that sorts ``bn2`` before ``bn10``."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d{1,18})", name)]


def comes_before(name: str, other: str) -> bool:
    """Whether two names of siblings say that the first is executed first: by a number, or by a word.

    >>> comes_before("bn2", "bn10"), comes_before("conv_reduce", "conv_expand"), comes_before("alpha", "beta")
    (True, True, False)
    """
    one, two = re.split(r"(\d{1,18}|_)", name), re.split(r"(\d{1,18}|_)", other)
    differing = [pair for pair in zip(one, two, strict=False) if pair[0] != pair[1]]
    if len(one) != len(two) or len(differing) != 1:
        return False
    first, second = differing[0]
    if first.isdecimal() and second.isdecimal():
        return int(first) < int(second)
    first, second = first.lower(), second.lower()
    return any(first in words and second in words and words.index(first) < words.index(second) for words in _IN_ORDER)


@dataclass(frozen=True, slots=True)
class Fit:
    """An order of their layers that fits.

    Args:
        layers: layers in our order of execution.
        doubt: two layers that fit in either order, although names and the order of the dict do not say which is right.
    """

    layers: list[Layer]
    doubt: tuple[Layer, Layer] | None = None

    def __add__(self, other: Fit) -> Fit:
        return Fit(self.layers + other.layers, self.doubt or other.doubt)

    def difference(self, other: Fit) -> tuple[Layer, Layer] | None:
        """The first two layers with other values at one position."""
        pairs = zip(self.layers, other.layers, strict=True)
        return next(((one, two) for one, two in pairs if one is not two and not one.equals(two)), None)


class ExhaustedError(Exception):
    """The limit on attempts is reached."""


class Search:
    """Tries orders of siblings until the layers of a branch match ours from a given position on.

    The answer depends only on the branch and the position, and is remembered.

    Args:
        ours: layers in order of execution.
        is_ordered: whether the order of the dict decides where several orders fit. If not, names must decide.
    """

    def __init__(self, ours: Sequence[Layer], *, is_ordered: bool) -> None:
        self._ours = [layer.signature for layer in ours]
        self._is_ordered = is_ordered
        self._known: dict[tuple[int, int], Fit | None] = {}
        self._dead: set[tuple[int, ...]] = set()
        self._tries = 0
        self.furthest = -1
        self.misfits: list[Layer] = []  # layers tried at the furthest position

    def place(self, branch: Branch, at: int) -> Fit | None:
        """The layers of `branch` in an order that fits from position `at`; None if there is none."""
        key = id(branch), at
        if key not in self._known:
            own = [branch.layer] if branch.layer and branch.layer.tensors else []
            children = [(name, child) for name, child in branch.children.items() if any(child.layers())]
            if children and all(name.isdecimal() for name, _ in children):
                numbered = sorted(children, key=lambda item: int(item[0]))
                self._known[key] = self._in_order([*own, *(child for _, child in numbered)], at)
            else:
                if len(children) > MAX_SIBLINGS:
                    raise InputError(
                        f"weights may have at most {MAX_SIBLINGS} unnumbered names in one branch, got {len(children)}"
                    )
                self._known[key] = self._in_any_order([*(("", layer) for layer in own), *children], at)
        return self._known[key]

    def _in_order(self, parts: Sequence[Layer | Branch], at: int) -> Fit | None:
        placed = Fit([])
        for part in parts:
            more = self._one(part, at + len(placed.layers))
            if more is None:
                return None
            placed += more
        return placed

    def _in_any_order(self, named: Sequence[tuple[str, Layer | Branch]], at: int) -> Fit | None:
        parts = [part for _, part in named]
        if self._is_ordered or len(parts) < 2:
            return next(self._orders(parts, at, {}), None)
        rules = {id(part): {id(before) for other, before in named if comes_before(other, name)} for name, part in named}
        for ruled in (rules, {}) if any(rules.values()) else ({},):  # names may be wrong where shapes are clear
            fits = self._orders(parts, at, ruled)
            first = next(fits, None)
            if first is not None:
                doubt = next((two for other in fits if (two := first.difference(other))), None)
                return Fit(first.layers, first.doubt or doubt)
        return None

    def _orders(self, parts: list[Layer | Branch], at: int, rules: Mapping[int, set[int]]) -> Iterator[Fit]:
        """All orders of `parts` that fit from position `at` and in which each comes after those that its rule names."""
        if not parts:
            yield Fit([])
            return
        state = (at, bool(rules), *map(id, parts))
        if state in self._dead:
            return
        left, fits = {id(part) for part in parts}, False
        failed: set[Signature] = set()  # layers with equal shapes fail alike
        for chosen, part in enumerate(parts):
            if rules and rules[id(part)] & left:
                continue
            if isinstance(part, Layer) and part.signature in failed:
                continue
            first = self._one(part, at)
            fits_here = False
            if first is not None:
                rest = parts[:chosen] + parts[chosen + 1 :]
                for more in self._orders(rest, at + len(first.layers), rules):
                    fits = fits_here = True
                    yield first + more
            if not fits_here and isinstance(part, Layer):
                failed.add(part.signature)
        if not fits:
            self._dead.add(state)

    def _one(self, part: Layer | Branch, at: int) -> Fit | None:
        self._tries += 1
        if self._tries > MAX_TRIES:
            raise ExhaustedError
        if isinstance(part, Branch):
            return self.place(part, at)
        if at < len(self._ours) and part.signature == self._ours[at]:
            return Fit([part])
        if at > self.furthest:
            self.furthest, self.misfits = at, []
        if at == self.furthest:
            self.misfits.append(part)
        return None
