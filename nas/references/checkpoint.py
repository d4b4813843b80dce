"""The weights in a checkpoint: under which of its keys they are, and averaged ones first."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.references.weight_file import REMEDY, Foreign, content_of, refuse
from nas.system.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    _Found = tuple[dict[str, Tensor], tuple[str, ...], bool]  # tensors, the keys they are under, whether averaged

MAX_NESTING = 4
_AVERAGED = re.compile(r"(^|[_-])(ema|swa|avg|averaged?|shadow)([_-]|$)", re.IGNORECASE)
_NO_NETWORK = re.compile(
    r"optim|sched|scaler|criterion|loss|callback|rng|discriminator|(^|_)args?($|_)|conf|hyper", re.I
)
_KNOWN = re.compile(  # model_state_dict, net, netG_weights, best_state ...
    r"(best[_-]?)?(state[_-]?dict|((model|net|network|module|params|weights|generator|student|backbone)"
    r"([_-]?(state([_-]?dict)?|weights|params))?)|state|checkpoint)",
    re.IGNORECASE,
)
_WRAPPERS = ("module.", "_orig_mod.")
_BUFFERS = ("running_mean", "running_var", "num_batches_tracked")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The weights of a file.

    Args:
        tensors: tensors by name.
        note: which of several weights they are; empty where there is no choice.
        files: the file and, for an index of a sharded checkpoint, its shards.
    """

    tensors: dict[str, Tensor]
    note: str
    files: tuple[Path, ...]


def read_checkpoint(path: str | Path) -> Checkpoint:
    """The tensors of a PyTorch checkpoint, of a safetensors file, or of the shards that an index (JSON) lists.

    The content decides what the file is, not its suffix. A checkpoint may hold its tensors at the top or under a key
    such as ``state_dict``, ``model`` or ``net``; averaged weights (``model_ema``, ``params_ema``) come first. It is
    read with ``weights_only=True``: objects of other types beside the weights are skipped, and nothing is executed.

    Raises:
        InputError: the file does not exist, is too large, is something else, or holds several networks.
    """
    path = Path(path)
    content, files = content_of(path)
    if isinstance(content, Foreign):
        refuse(path, f"a pickled {content.name}; {REMEDY}")
    tensors, keys, is_averaged = _weights_in(path, content, ())
    if not tensors:
        foreign = [f"{key!r} ({value.name})" for key, value in _items(content) if isinstance(value, Foreign)]
        others = f"; it holds the pickled objects {', '.join(foreign[:3])}" if foreign else ""
        raise InputError(f"{path} does not hold tensors by name{others}; {REMEDY}")
    return Checkpoint(tensors, f"EMA weights: {'.'.join(keys)}" if is_averaged else "", files)


def read_state(path: str | Path) -> dict[str, Tensor]:
    """The tensors by name that `read_checkpoint` finds.

    Raises:
        InputError: as `read_checkpoint`.
    """
    return read_checkpoint(path).tensors


def _items(content: Any) -> list[tuple[Any, Any]]:
    return list(content.items()) if isinstance(content, dict) else []


def _weights_in(path: Path, content: Any, keys: tuple[str, ...]) -> _Found:
    """The tensors of a checkpoint, under which keys they were, and whether they are averaged ones; empty if none."""
    from torch import Tensor

    if not isinstance(content, dict) or len(keys) > MAX_NESTING:
        return {}, keys, False
    nested: dict[str, _Found] = {}
    for key, value in content.items():
        if isinstance(key, str) and isinstance(value, dict) and not _NO_NETWORK.search(key):
            found = _weights_in(path, value, (*keys, key))
            if found[0]:
                nested[key] = found
    averaged = {key: found for key, found in nested.items() if found[2] or _AVERAGED.search(key)}
    plain = {key: found for key, found in nested.items() if key not in averaged}
    known = {key: found for key, found in plain.items() if _KNOWN.fullmatch(key)} or plain
    if averaged:
        tensors, where, _ = _only(path, averaged)
        raw = next(iter(known.values()))[0] if known else {}
        return _completed(tensors, raw), where, True
    named = [key for key, value in content.items() if isinstance(value, Tensor) and isinstance(key, str)]
    if known and not any("." in key for key in named):  # a tensor beside may be the best score, say
        return _only(path, known)
    state = {
        name: value
        for name, value in content.items()
        if isinstance(value, Tensor) or not isinstance(name, str) or "." in name  # what is no tensor there is refused
    }
    if not named:
        return {}, keys, False
    part, tensors = _averaged_part(state)
    return (tensors, (*keys, part), True) if part else (state, keys, False)


def _only(path: Path, found: Mapping[str, _Found]) -> _Found:
    import torch

    (_, first), *others = found.items()
    for key, other in others:
        one, two = _bare(first[0]), _bare(other[0])
        if one.keys() != two.keys() or not all(torch.equal(one[name], two[name]) for name in one):
            names = ", ".join(repr(key) for key in found)
            raise InputError(f"{path} holds several weights: {names}; save one of them alone ({key!r}, for example)")
    return first


def _bare(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors without the wrappers that begin all names."""
    for wrapper in _WRAPPERS * 2:
        if all(name.startswith(wrapper) or "." not in name for name in tensors):
            tensors = {name.removeprefix(wrapper): tensor for name, tensor in tensors.items()}
    return dict(tensors)


def _completed(averaged: dict[str, Tensor], raw: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Averaged parameters, with the statistics of batch norm from the raw weights where those were not averaged."""
    ours, theirs = _bare(averaged), _bare(raw)
    missing = theirs.keys() - ours.keys()
    if not missing or ours.keys() - theirs.keys() or not all(name.endswith(_BUFFERS) for name in missing):
        return averaged
    return theirs | ours


def _averaged_part(state: Mapping[str, Tensor]) -> tuple[str, dict[str, Tensor]]:
    """Averaged weights that lie beside the raw ones in one dict (``model.`` and ``model_ema.``), and their prefix."""
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in state.items():
        part, _, rest = name.partition(".") if isinstance(name, str) else ("", "", "")
        if rest:
            parts.setdefault(part, {})[rest] = tensor
    for part, averaged in parts.items():
        if _AVERAGED.search(part):
            for other, raw in parts.items():
                both = _completed(averaged, raw)
                if other != part and _bare(raw).keys() <= _bare(both).keys():
                    return part, both
    return "", {}
