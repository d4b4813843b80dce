"""Weights of other libraries, matched by structure: by the order and shapes of layers, whatever their names.

A state dict is read as a tree of its names. The tensors of one module are a layer. The search looks for an order of the
siblings of each branch in which their layers are ours, in order of execution.
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
MAX_SIBLINGS = 128  # unnumbered names in one branch
MAX_TRIES = 100_000

_COUNTERS = ("num_batches_tracked", "n_averaged")  # of batch norm and of averaged weights; no output depends on them

Signature = tuple[tuple[str, tuple[int, ...]], ...]


def load_weights(model: nn.Module, state_dict: Mapping[str, Tensor]) -> nn.Module:
    """Fill a network of `nas.build` with the weights of the same network from torchvision, timm or elsewhere.

    If all names are those of `model`, tensors are matched by name. Otherwise layers are matched by order and shape:

    - Numbered siblings (``features.0``, ``features.1``) keep the order of their numbers.
    - Other siblings (``conv_pw``, ``bn1``) take whichever order fits. If several fit, the order of the dict decides; if
      the dict is sorted by name, the order of the names does, with their numbers read as numbers.
    - Prefixes such as ``module.`` are ignored. The matrix of a linear layer fits a 1x1 convolution, and the other way
      round. Batch counters may be missing.

    A state dict does not contain activations, the epsilon of norms, strides or padding (timm's ``tf_`` models pad
    differently), so these cannot be compared. `nas.references.pretrained` lists the networks that were checked.

    Args:
        model: network to fill, in place; it is unchanged after an error.
        state_dict: tensors by name, of any floating type.

    Returns:
        `model`.

    Raises:
        InputError: a tensor is missing, left over, or of another shape or type; or no order was found within the limit
            on attempts.

    >>> import nas
    >>> arch = nas.reference("mobilenet_v3_small", width=0.5)
    >>> theirs = {f"module.{name}": tensor for name, tensor in nas.build(arch, seed=1).state_dict().items()}
    >>> model = nas.load_weights(nas.build(arch), theirs)
    >>> bool((model.classifier[1].weight == theirs["module.classifier.1.weight"]).all())
    True
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
        note = f" (after {MAX_TRIES} attempts to order unnumbered layers)"
    if placed is None or len(placed) < len(ours):
        raise InputError(_explain(model, ours, search if placed is None else None, len(placed or ())) + note)
    with torch.no_grad():
        for mine, match in zip(ours, placed, strict=True):
            for leaf, tensor in mine.tensors.items():
                tensor.copy_(match.tensors[leaf].reshape(tensor.shape))
            if mine.counter is not None and match.counter is not None:
                mine.counter.copy_(match.counter)
    return model


def classes_of(model: nn.Module, state_dict: Mapping[str, Tensor]) -> int | None:
    """The number of classes of weights for `model`, whatever its own number of classes; None if they do not fit it.

    Raises:
        InputError: `state_dict` does not hold weights.
    """
    *ours, last = (layer for name, module in model.named_modules() if (layer := _layer_of(name, module)))
    theirs = list(_tree(state_dict).layers())
    left = Counter(layer.signature for layer in theirs) - Counter(layer.signature for layer in ours)
    shapes = dict(next(iter(left), ()))
    fits = len(theirs) == len(ours) + 1 and left.total() == 1 and shapes.keys() == last.tensors.keys()
    return shapes["weight"][0] if fits and shapes["weight"][1:] == _weight(last)[1:] else None


@dataclass(slots=True)
class _Layer:
    """The tensors of one module, by the last part of their names."""

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
    """A part of the names and what is below it: its own layer, if any, then its children."""

    layer: _Layer | None = None
    children: dict[str, _Branch] = field(default_factory=dict)

    def layers(self) -> Iterator[_Layer]:
        """Layers with tensors, in the order of the dict."""
        if self.layer and self.layer.tensors:
            yield self.layer
        for child in self.children.values():
            yield from child.layers()


def _shape(tensor: Tensor) -> tuple[int, ...]:
    """The shape of a tensor; a 1x1 convolution has the shape of its matrix."""
    shape = tuple(tensor.shape)
    return shape[:2] if len(shape) == 4 and shape[2:] == (1, 1) else shape


def _layer_of(name: str, module: nn.Module) -> _Layer | None:
    tensors = dict(module.named_parameters(recurse=False)) | dict(module.named_buffers(recurse=False))
    counter = tensors.pop(_COUNTERS[0], None)
    return _Layer(name, tensors, counter) if tensors else None


def _tree(state_dict: Mapping[str, Tensor]) -> _Branch:
    if not isinstance(state_dict, Mapping) or len(state_dict) > MAX_TENSORS:
        got = len(state_dict) if isinstance(state_dict, Mapping) else type(state_dict).__name__
        raise InputError(f"weights must be a dict of at most {MAX_TENSORS} tensors by name, got {got}")
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
        raise InputError(f"weights must be tensors by name, at most {MAX_DEPTH} names deep, got {got}")
    is_number = tensor.is_floating_point() or name.rpartition(".")[2] in _COUNTERS
    if tensor.layout != torch.strided or tensor.is_meta or not is_number:
        raise InputError(f"weights must be dense float tensors, got {name:.80} of {tensor.dtype}, {tensor.layout}")


def _is_by_name(state_dict: Mapping[str, Tensor]) -> bool:
    """Whether the dict is sorted by name, so its order means nothing. A safetensors file is, within each dtype."""
    groups: dict[torch.dtype, list[str]] = {}
    for name, tensor in state_dict.items():
        groups.setdefault(tensor.dtype, []).append(name)
    return all(names == sorted(names) for names in groups.values())


def _natural(name: str) -> list[tuple[int, str]]:
    """A key that sorts ``bn2`` before ``bn10``."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d{1,18})", name)]


class _ExhaustedError(Exception):
    """The limit on attempts is reached."""


class _Search:
    """Tries orders of siblings until the layers of a branch match ours from a given position on.

    The answer depends only on the branch and the position, and is remembered.
    """

    def __init__(self, ours: Sequence[_Layer]) -> None:
        self._ours = [layer.signature for layer in ours]
        self._known: dict[tuple[int, int], list[_Layer] | None] = {}
        self._dead: set[tuple[int, ...]] = set()
        self._tries = 0
        self.furthest = -1
        self.misfits: list[_Layer] = []  # layers tried at the furthest position

    def place(self, branch: _Branch, at: int) -> list[_Layer] | None:
        """The layers of `branch` in an order that fits from position `at`; None if there is none."""
        key = id(branch), at
        if key not in self._known:
            parts: list[_Layer | _Branch] = [branch.layer] if branch.layer and branch.layer.tensors else []
            if branch.children and all(name.isdecimal() for name in branch.children):
                numbered = sorted(branch.children.items(), key=lambda item: int(item[0]))
                self._known[key] = self._in_order([*parts, *(child for _, child in numbered)], at)
            else:
                parts += branch.children.values()
                if len(parts) > MAX_SIBLINGS:
                    raise InputError(
                        f"weights may have at most {MAX_SIBLINGS} unnumbered names in one branch, got {len(parts)}"
                    )
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
        tried: set[Signature] = set()  # of layers with equal shapes only the first is tried
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
            self.furthest, self.misfits = at, []
        if at == self.furthest:
            self.misfits.append(part)
        return None


def _explain(model: nn.Module, ours: Sequence[_Layer], search: _Search | None, placed: int) -> str:
    """Why the weights do not fit, in one line: the first of our layers that no order reaches."""
    again = "give weights of exactly this network"
    at = placed if search is None else search.furthest
    if at >= len(ours):
        extra = search.misfits[0] if search else ours[-1]
        return f"weights do not fit: {_their_tensor(extra)} comes after our last layer; {again}"
    mine = ours[at]
    if search is None:
        return f"weights do not fit: {_our_tensor(model, mine, next(iter(mine.tensors)))} is missing; {again}"

    def similarity(layer: _Layer) -> int:
        same = sum(leaf in mine.tensors for leaf in layer.tensors)
        return same + len(mine.tensors) * (len(_weight(layer)) == len(_weight(mine)))

    misfit = max(search.misfits, key=similarity)  # the first of the most similar
    if at == len(ours) - 1 and len(_weight(misfit)) == 2 and _weight(misfit)[1:] == _weight(mine)[1:]:
        there, here = _weight(misfit)[0], _weight(mine)[0]
        if there != here:
            return (
                f"weights do not fit: the weights have {there} classes, the network {here}; "
                f"build with num_classes={there} (--classes {there})"
            )
    for leaf, tensor in mine.tensors.items():
        ours_here = _our_tensor(model, mine, leaf)
        if leaf not in misfit.tensors:
            return f"weights do not fit: {ours_here} has no counterpart in {_their_tensor(misfit)}; {again}"
        if _shape(tensor) != _shape(misfit.tensors[leaf]):
            other = f"their {misfit.name(leaf)} {tuple(misfit.tensors[leaf].shape)}"
            return f"weights do not fit: {ours_here} meets {other}; {again}"
    leaf = next(leaf for leaf in misfit.tensors if leaf not in mine.tensors)
    return f"weights do not fit: {misfit.name(leaf)} has no counterpart in our {mine.path}; {again}"


def _weight(layer: _Layer) -> tuple[int, ...]:
    return _shape(layer.tensors["weight"]) if "weight" in layer.tensors else ()


def _their_tensor(layer: _Layer) -> str:
    leaf = next(iter(layer.tensors))
    return f"their {layer.name(leaf)} {tuple(layer.tensors[leaf].shape)}"


def _our_tensor(model: nn.Module, layer: _Layer, leaf: str) -> str:
    """``our features.3.layers.1.0.weight (144, 1, 3, 3) of row 3 (MBConv)``."""
    text = f"our {layer.name(leaf)} {tuple(layer.tensors[leaf].shape)}"
    row = re.match(r"features\.(\d+)", layer.path)
    return f"{text} of row {row[1]} ({type(model.get_submodule(row[0])).__name__})" if row else text
