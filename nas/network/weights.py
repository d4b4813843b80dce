"""Weights of other libraries and training scripts: matched by name, else by structure; all are loaded or none."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from nas.network.matching import (
    MAX_TRIES,
    Branch,
    ExhaustedError,
    Layer,
    Search,
    is_ordered,
    join,
    layers_of,
    shape_of,
    tree_of,
)
from nas.system.errors import InputError


def load_weights(model: nn.Module, state_dict: Mapping[str, Tensor]) -> nn.Module:
    """Fill a network of `nas.build` with the weights of the same network from torchvision, timm or elsewhere.

    If all names of `model` are found behind one prefix, or none, tensors are matched by name. Wrappers such as
    ``module.`` and ``_orig_mod.`` are ignored. Otherwise layers are matched by order and shape:

    - Numbered siblings (``features.0``, ``features.1``) keep the order of their numbers.
    - Other siblings (``conv_pw``, ``bn1``) take whichever order fits. If several fit, the order of the dict decides. If
      the dict is sorted by name, the names must decide: by number (``fc1``, ``fc2``) or word (``reduce``, ``expand``).
    - The matrix of a linear layer fits a 1x1 convolution, and the other way round. Batch counters may be missing.

    Tensors of profilers, averaging and losses (``total_ops``, ``n_averaged``, ``criterion.weight``) are ignored.

    A state dict does not contain activations, the epsilon of norms, strides or padding (timm's ``tf_`` models pad
    differently), so these cannot be compared. `nas.references.pretrained` lists the networks that were checked.

    Args:
        model: network to fill, in place; it is unchanged after an error.
        state_dict: tensors by name, of any floating type.

    Returns:
        `model`.

    Raises:
        InputError: a tensor is missing, left over, of another shape or type, or not finite; several orders fit and
            nothing decides; or no order was found within the limit on attempts.

    >>> import nas
    >>> arch = nas.reference("mobilenet_v3_small", width=0.5)
    >>> theirs = {f"module.{name}": tensor for name, tensor in nas.build(arch, seed=1).state_dict().items()}
    >>> model = nas.load_weights(nas.build(arch), theirs)
    >>> bool((model.classifier[1].weight == theirs["module.classifier.1.weight"]).all())
    True
    """
    ours = layers_of(model)
    theirs = tree_of(state_dict, ours)
    count = len(list(theirs.layers()))
    named = _by_name(ours, theirs)
    if named is not None:
        theirs, count = Branch(children={str(at): Branch(layer) for at, layer in enumerate(named)}), len(named)
    search = Search(ours, is_ordered=is_ordered(state_dict))
    fit, note = None, ""
    try:
        fit = search.place(theirs, 0)
    except ExhaustedError:
        note = f" (after {MAX_TRIES} attempts to order unnumbered layers)"
    placed = fit.layers if fit else []
    if fit is None or len(placed) < len(ours):
        raise InputError(_explain(model, ours, search if fit is None else None, len(placed), count) + note)
    if fit.doubt:
        one, other = map(_their_tensor, fit.doubt)
        raise InputError(
            f"weights fit in two ways: {one} and {other} may be swapped, and the weights are sorted by name; "
            "save them with torch.save(model.state_dict(), FILE), which keeps the order of the layers"
        )
    _check_values(placed)
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
        InputError: `state_dict` does not hold weights, or holds those of this network more than once.
    """
    ours = layers_of(model)
    tree = tree_of(state_dict, ours)
    *body, last = ours
    theirs = _by_name(ours, tree) or list(tree.layers())
    left = Counter(layer.signature for layer in theirs) - Counter(layer.signature for layer in body)
    shapes = dict(next(iter(left), ()))
    fits = len(theirs) == len(ours) and left.total() == 1 and shapes.keys() == last.tensors.keys()
    return shapes["weight"][0] if fits and shapes["weight"][1:] == last.weight[1:] else None


def _by_name(ours: Sequence[Layer], tree: Branch) -> list[Layer] | None:
    """Their layer for each of ours, if all have our names behind one prefix; None if not.

    Raises:
        InputError: several prefixes hold different weights, or there are other tensors, too.
    """
    theirs = {layer.path: layer for layer in tree.layers()}
    first = ours[0].path
    ends = [path for path in theirs if not first or f".{path}".endswith(f".{first}")]
    prefixes = [path.removesuffix(first).removesuffix(".") for path in ends]
    groups = {
        prefix: [theirs[join(prefix, mine.path)] for mine in ours]
        for prefix in prefixes
        if all(join(prefix, mine.path) in theirs for mine in ours)
    }
    if not groups:
        return None
    prefix, *others = groups
    chosen = groups[prefix]
    for other in others:
        if not all(one.equals(two) for one, two in zip(chosen, groups[other], strict=True)):
            raise InputError(
                f"weights hold this network twice, under {prefix!r} and {other!r}; keep the tensors of one of them"
            )
    by_signature: dict[object, list[Layer]] = {}
    for layer in chosen:
        by_signature.setdefault(layer.signature, []).append(layer)
    used = {id(layer) for group in groups.values() for layer in group}
    for layer in theirs.values():
        is_copy = any(layer.equals(match) for match in by_signature.get(layer.signature, ()))
        if id(layer) not in used and not is_copy:
            raise InputError(
                f"weights do not fit: {_their_tensor(layer)} has no counterpart in our network; "
                "remove it if the network does not need it"
            )
    return chosen


def _check_values(placed: Sequence[Layer]) -> None:
    """Numbers that would make every output NaN."""
    bad: list[str] = []
    for layer in placed:
        for leaf, tensor in layer.tensors.items():
            values = tensor.detach().float()  # as the network computes: a large double is infinite
            wrong = int((~values.isfinite()).sum())
            if wrong:
                bad.append(f"{layer.name(leaf)} ({wrong} of {values.numel()} values)")
            elif leaf == "running_var" and bool((values < 0).any()):
                raise InputError(f"weights have a negative variance: {layer.name(leaf)}; give an intact checkpoint")
    if bad:
        raise InputError(
            f"weights contain NaN or infinity in {len(bad)} tensor{'s' * (len(bad) > 1)}, the first is {bad[0]}; "
            "give a checkpoint from before the training diverged"
        )


def _explain(model: nn.Module, ours: Sequence[Layer], search: Search | None, placed: int, count: int) -> str:
    """Why the weights do not fit, in one line: the first of our layers that no order reaches."""
    again = "give weights of exactly this network"
    at = placed if search is None else search.furthest
    if at >= len(ours):
        extra = search.misfits[0] if search else ours[-1]
        return f"weights do not fit: {_their_tensor(extra)} comes after our last layer; {again}"
    mine = ours[at]
    if search is None:
        return f"weights do not fit: {_our_tensor(model, mine, next(iter(mine.tensors)))} is missing; {again}"

    def similarity(layer: Layer) -> int:
        same = sum(leaf in mine.tensors for leaf in layer.tensors)
        return same + len(mine.tensors) * (len(layer.weight) == len(mine.weight))

    misfit = max(search.misfits, key=similarity)  # the first of the most similar
    is_classifier = at == len(ours) - 1 and count == len(ours) and misfit.tensors.keys() == mine.tensors.keys()
    if is_classifier and len(misfit.weight) == 2 and misfit.weight[1:] == mine.weight[1:]:
        there, here = misfit.weight[0], mine.weight[0]
        if there != here:
            return (
                f"weights do not fit: the weights have {there} classes, the network {here}; "
                f"build with num_classes={there} (--classes {there})"
            )
    for leaf, tensor in mine.tensors.items():
        ours_here = _our_tensor(model, mine, leaf)
        if leaf not in misfit.tensors:
            return f"weights do not fit: {ours_here} has no counterpart in {_their_tensor(misfit)}; {again}"
        if shape_of(tensor) != shape_of(misfit.tensors[leaf]):
            other = f"their {misfit.name(leaf)} {tuple(misfit.tensors[leaf].shape)}"
            return f"weights do not fit: {ours_here} meets {other}; {again}"
    leaf = next(leaf for leaf in misfit.tensors if leaf not in mine.tensors)
    return f"weights do not fit: {misfit.name(leaf)} has no counterpart in our {mine.path}; {again}"


def _their_tensor(layer: Layer) -> str:
    leaf = "weight" if "weight" in layer.tensors else next(iter(layer.tensors))
    return f"their {layer.name(leaf)} {tuple(layer.tensors[leaf].shape)}"


def _our_tensor(model: nn.Module, layer: Layer, leaf: str) -> str:
    """``our features.3.layers.1.0.weight (144, 1, 3, 3) of row 3 (MBConv)``."""
    text = f"our {layer.name(leaf)} {tuple(layer.tensors[leaf].shape)}"
    row = re.match(r"features\.(\d+)", layer.path)
    return f"{text} of row {row[1]} ({type(model.get_submodule(row[0])).__name__})" if row else text
