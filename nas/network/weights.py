"""Weights from elsewhere, carried over by structure: which layer follows which, and of what shape, whatever its name.

A state dict is read as a tree of its names. The tensors of one module are a layer; our layers, in order of execution,
are what theirs must be once the siblings of each branch stand in the right order.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from nas.system.errors import InputError

MAX_TENSORS = 20_000
MAX_DEPTH = 32
MAX_SIBLINGS = 128  # that are not numbered
MAX_TRIES = 100_000

_COUNTERS = ("num_batches_tracked", "n_averaged")  # of batch norm and of averaged weights; they compute nothing

Signature = tuple[tuple[str, tuple[int, ...]], ...]


def load_weights(model: nn.Module, state_dict: Mapping[str, Tensor]) -> nn.Module:
    """Fill a network of `nas.build` with the weights of the same network from torchvision, timm or elsewhere.

    Layers are matched by their order and shapes. Numbered siblings (``features.0``, ``features.1``) come in the order
    of their numbers; others (``conv_pw``, ``bn1``) in whichever order fits, so that a dict sorted by name does as well.
    Where several fit, because their shapes are equal, the order of the dict decides, or if it is sorted by name, that
    of the names, with their numbers read as numbers. Prefixes such as ``module.`` do not matter; the matrix of a linear
    layer and that of a 1x1 convolution may stand for each other; counters of batches may be absent. Where all names are
    those of `model`, they alone decide.

    What a state dict does not hold cannot be compared: activations, the epsilon of the norms, strides and padding (the
    ``tf_`` models of timm pad otherwise). `nas.network.weights.TORCHVISION` and ``TIMM`` list what was
    checked to be equal.

    Args:
        model: is changed in place, all of it or, on an error, nothing.
        state_dict: their tensors by name, of any floating type.

    Returns:
        `model`.

    Raises:
        InputError: a tensor is missing, left over, of another shape or type, or no order was found in bounded work.
    """
    ours = [layer for name, module in model.named_modules() if (layer := _layer_of(name, module))]
    search, theirs = _Search(ours), _tree(state_dict)
    by_path = {layer.path: layer for layer in theirs.layers()}
    if by_path.keys() == {layer.path for layer in ours}:
        theirs = _Branch(children={str(at): _Branch(by_path[layer.path]) for at, layer in enumerate(ours)})
    placed, note = None, ""
    try:
        placed = search.place(theirs, 0)
    except _ExhaustedError:
        note = f" (after {MAX_TRIES} tried orders of unnumbered layers)"
    if placed is None or len(placed) < len(ours):
        raise InputError(_explain(model, ours, search if placed is None else None, len(placed or ())) + note)
    with torch.no_grad():
        for mine, found in zip(ours, placed, strict=True):
            for leaf, tensor in mine.tensors.items():
                tensor.copy_(found.tensors[leaf].reshape(tensor.shape))
            if mine.counter is not None and found.counter is not None:
                mine.counter.copy_(found.counter)
    return model


def classes_of(model: nn.Module, state_dict: Mapping[str, Tensor]) -> int | None:
    """The classes of weights of `model`, whatever its own number: outputs of the layer that is left of them without all
    its others. None if they are not its weights. Raises `InputError` if they are no weights at all."""
    *ours, last = (layer for name, module in model.named_modules() if (layer := _layer_of(name, module)))
    theirs = list(_tree(state_dict).layers())
    left = Counter(layer.signature for layer in theirs) - Counter(layer.signature for layer in ours)
    shapes = dict(next(iter(left), ()))
    fits = len(theirs) == len(ours) + 1 and left.total() == 1 and shapes.keys() == last.tensors.keys()
    return shapes["weight"][0] if fits and shapes["weight"][1:] == _weight(last)[1:] else None


@dataclass(slots=True)
class _Layer:
    """The tensors of one module, by their last name."""

    path: str
    tensors: dict[str, Tensor] = field(default_factory=dict)
    counter: Tensor | None = None

    @property
    def signature(self) -> Signature:
        return tuple(sorted((leaf, _shape(tensor)) for leaf, tensor in self.tensors.items()))

    def name(self, leaf: str) -> str:
        return f"{self.path}.{leaf}" if self.path else leaf


@dataclass(slots=True)
class _Branch:
    """A name and what is below it: its own layer, if any, then its children."""

    layer: _Layer | None = None
    children: dict[str, _Branch] = field(default_factory=dict)

    def layers(self) -> Iterator[_Layer]:
        """Those that hold tensors, in the order given."""
        if self.layer and self.layer.tensors:
            yield self.layer
        for child in self.children.values():
            yield from child.layers()


def _shape(tensor: Tensor) -> tuple[int, ...]:
    """The shape, that of a 1x1 convolution as the matrix it is."""
    shape = tuple(tensor.shape)
    return shape[:2] if len(shape) == 4 and shape[2:] == (1, 1) else shape


def _layer_of(name: str, module: nn.Module) -> _Layer | None:
    tensors = dict(module.named_parameters(recurse=False)) | dict(module.named_buffers(recurse=False))
    counter = tensors.pop(_COUNTERS[0], None)
    return _Layer(name, tensors, counter) if tensors else None


def _tree(state_dict: Mapping[str, Tensor]) -> _Branch:
    if not isinstance(state_dict, Mapping) or len(state_dict) > MAX_TENSORS:
        got = len(state_dict) if isinstance(state_dict, Mapping) else type(state_dict).__name__
        raise InputError(f"weights are a dict of at most {MAX_TENSORS} tensors by name, got {got}")
    for name, tensor in state_dict.items():
        _check(name, tensor)
    root = _Branch()
    for name in sorted(state_dict, key=_natural) if _is_by_name(state_dict) else state_dict:
        tensor = state_dict[name]
        path, _, leaf = name.rpartition(".")
        counts = leaf in _COUNTERS
        if counts and (tensor.numel() != 1 or leaf != _COUNTERS[0]):
            continue
        branch = root
        for part in path.split(".") if path else ():
            branch = branch.children.setdefault(part, _Branch())
        branch.layer = branch.layer or _Layer(path)
        if counts:
            branch.layer.counter = tensor.reshape(())
        else:
            branch.layer.tensors[leaf] = tensor
    return root


def _check(name: Any, tensor: Any) -> None:
    if not isinstance(name, str) or not isinstance(tensor, Tensor) or name.count(".") >= MAX_DEPTH:
        got = f"{str(name)[:80]!r}: {type(tensor).__name__}"
        raise InputError(f"weights are tensors by name, at most {MAX_DEPTH} names deep; got {got}")
    is_number = tensor.is_floating_point() or name.rpartition(".")[2] in _COUNTERS
    if tensor.layout != torch.strided or tensor.is_meta or not is_number:
        raise InputError(f"weights are plain tensors of floats, got {name:.80} of {tensor.dtype}, {tensor.layout}")


def _is_by_name(state_dict: Mapping[str, Tensor]) -> bool:
    """Whether the order says nothing: safetensors files come sorted by name within each type of number."""
    groups: dict[torch.dtype, list[str]] = {}
    for name, tensor in state_dict.items():
        groups.setdefault(tensor.dtype, []).append(name)
    return all(names == sorted(names) for names in groups.values())


def _natural(name: str) -> list[tuple[int, str]]:
    """Sorts ``bn2`` before ``bn10``."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d{1,18})", name)]


class _ExhaustedError(Exception):
    """The bound of tries is reached."""


class _Search:
    """Orders of siblings, tried until the layers of a branch are ours from a position on.

    Whether they are depends on the branch and the position alone, so each answer is kept.
    """

    def __init__(self, ours: Sequence[_Layer]) -> None:
        self._ours = [layer.signature for layer in ours]
        self._known: dict[tuple[int, int], list[_Layer] | None] = {}
        self._dead: set[tuple[int, ...]] = set()
        self._tries = 0
        self.furthest = -1
        self.found: list[_Layer] = []  # what was met at the furthest position, in vain

    def place(self, branch: _Branch, at: int) -> list[_Layer] | None:
        """The layers of `branch` in the order that fits from `at`; None if none does."""
        key = id(branch), at
        if key not in self._known:
            parts: list[_Layer | _Branch] = [branch.layer] if branch.layer and branch.layer.tensors else []
            if branch.children and all(name.isdecimal() for name in branch.children):
                numbered = sorted(branch.children.items(), key=lambda item: int(item[0]))
                self._known[key] = self._in_order([*parts, *(child for _, child in numbered)], at)
            else:
                parts += branch.children.values()
                if len(parts) > MAX_SIBLINGS:
                    raise InputError(f"weights have at most {MAX_SIBLINGS} unnumbered names side by side: {len(parts)}")
                self._known[key] = self._in_any_order(parts, at)
        return self._known[key]

    def _in_order(self, parts: Sequence[_Layer | _Branch], at: int) -> list[_Layer] | None:
        placed: list[_Layer] = []
        for part in parts:
            more = self._one(part, at + len(placed))
            if more is None:
                return None
            placed += more
        return placed

    def _in_any_order(self, parts: list[_Layer | _Branch], at: int) -> list[_Layer] | None:
        if not parts:
            return []
        state = (at, *map(id, parts))
        if state in self._dead:
            return None
        tried: set[Signature] = set()  # of equal layers the first stands for all
        for chosen, part in enumerate(parts):
            if isinstance(part, _Layer):
                if part.signature in tried:
                    continue
                tried.add(part.signature)
            first = self._one(part, at)
            if first is None:
                continue
            rest = self._in_any_order(parts[:chosen] + parts[chosen + 1 :], at + len(first))
            if rest is not None:
                return first + rest
        self._dead.add(state)
        return None

    def _one(self, part: _Layer | _Branch, at: int) -> list[_Layer] | None:
        self._tries += 1
        if self._tries > MAX_TRIES:
            raise _ExhaustedError
        if isinstance(part, _Branch):
            return self.place(part, at)
        if at < len(self._ours) and part.signature == self._ours[at]:
            return [part]
        if at > self.furthest:
            self.furthest, self.found = at, []
        if at == self.furthest:
            self.found.append(part)
        return None


def _explain(model: nn.Module, ours: Sequence[_Layer], search: _Search | None, placed: int) -> str:
    """The first place at which no order goes on, as one line."""
    again = "give weights of this very network"
    at = placed if search is None else search.furthest
    if at >= len(ours):
        extra = search.found[0] if search else ours[-1]
        return f"weights do not fit: {_one_of(extra)} comes after our last layer; {again}"
    mine = ours[at]
    if search is None:
        return f"weights do not fit: {_place(model, mine, next(iter(mine.tensors)))} is missing; {again}"

    def likeness(layer: _Layer) -> int:
        same = sum(leaf in mine.tensors for leaf in layer.tensors)
        return same + len(mine.tensors) * (len(_weight(layer)) == len(_weight(mine)))

    found = max(search.found, key=likeness)  # the first of the likest
    if at == len(ours) - 1 and len(_weight(found)) == 2 and _weight(found)[1:] == _weight(mine)[1:]:
        there, here = _weight(found)[0], _weight(mine)[0]
        if there != here:
            return (
                f"weights do not fit: the classifier has {there} classes there and {here} here; "
                f"build with num_classes={there} (--classes {there})"
            )
    for leaf, tensor in mine.tensors.items():
        if leaf not in found.tensors:
            return f"weights do not fit: {_place(model, mine, leaf)} has no counterpart in {_one_of(found)}; {again}"
        if _shape(tensor) != _shape(found.tensors[leaf]):
            other = f"their {found.name(leaf)} {tuple(found.tensors[leaf].shape)}"
            return f"weights do not fit: {_place(model, mine, leaf)} meets {other}; {again}"
    leaf = next(leaf for leaf in found.tensors if leaf not in mine.tensors)
    return f"weights do not fit: {found.name(leaf)} has no counterpart in our {mine.path}; {again}"


def _weight(layer: _Layer) -> tuple[int, ...]:
    return _shape(layer.tensors["weight"]) if "weight" in layer.tensors else ()


def _one_of(layer: _Layer) -> str:
    leaf = next(iter(layer.tensors))
    return f"their {layer.name(leaf)} {tuple(layer.tensors[leaf].shape)}"


def _place(model: nn.Module, layer: _Layer, leaf: str) -> str:
    """``features.3.layers.1.0.weight (144, 1, 3, 3) of row 3 (MBConv)``."""
    text = f"our {layer.name(leaf)} {tuple(layer.tensors[leaf].shape)}"
    row = re.match(r"features\.(\d+)", layer.path)
    return f"{text} of row {row[1]} ({type(model.get_submodule(row[0])).__name__})" if row else text
