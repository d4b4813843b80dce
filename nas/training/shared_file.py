"""The file of shared weights, from which an interrupted training continues: safetensors, replaced atomically."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

from nas.system.errors import InputError, NasError
from nas.system.files import write_atomic
from nas.system.text import one_line
from nas.system.validate import is_number, is_whole
from nas.training.shared import SharedWeights

MAX_BYTES = 1 << 30
MAX_TENSORS = 100_000
MAX_SIDE = 1 << 20  # of a tensor
_ABOUT = "nas_shared_weights"  # in the metadata
_SCHEMA = 1
_VECTORS = ("weights", "means", "squares", "counts")
_REMEDY = "delete it, and the weights are trained from the start"


def write_shared(path: Path, shared: SharedWeights, made_for: Mapping[str, str]) -> None:
    """Keep weights in the middle or at the end of their training.

    Args:
        path: file, replaced in one step.
        shared: the weights.
        made_for: what they are trained for, by name: the space, the images, the settings.

    Raises:
        NasError: the disk is full or gone.
    """
    about = {
        "schema": _SCHEMA,
        "made_for": dict(made_for),
        "seed": shared.seed,
        "steps": shared.steps,
        "step": shared.step,
        "seconds": shared.seconds,
        "tensors": [[key, list(shape)] for key, shape in shared.shapes.items()],
    }
    tensors = dict(zip(_VECTORS, shared.vectors, strict=True)) | {"tally": shared.tally}
    content = to_bytes({name: tensor.cpu() for name, tensor in tensors.items()}, {_ABOUT: json.dumps(about)})
    try:
        write_atomic(path, content)
    except OSError as error:
        raise NasError(f"cannot write {path}: {error.strerror}; free the disk, then resume") from None


def read_shared(path: Path, made_for: Mapping[str, str]) -> SharedWeights:
    """Read what `write_shared` wrote.

    Raises:
        InputError: there is no such file, it is damaged, or its weights are for something else.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path} may have at most {MAX_BYTES >> 20} MiB; {_REMEDY}")
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {}).get(_ABOUT, "null"))
            _check(path, about, made_for)
            vectors = [file.get_tensor(name) for name in _VECTORS]
            tally = file.get_tensor("tally")
    except InputError:
        raise
    except (SafetensorError, ValueError, RecursionError) as error:
        raise InputError(f"{path} does not hold shared weights ({one_line(error, 120)}); {_REMEDY}") from None
    except OSError as error:
        raise InputError(f"cannot read {path}: {one_line(error, 120)}") from None
    shared = SharedWeights(about["seed"], about["steps"])
    shared.step, shared.seconds = about["step"], float(about["seconds"])
    shared.place({key: tuple(shape) for key, shape in about["tensors"]})
    size = sum(torch.Size(shape).numel() for shape in shared.shapes.values())
    if not all(_good(vector, size) for vector in vectors) or not _good(tally, 2):
        raise InputError(f"{path} is damaged: {size:,} finite numbers a vector were expected; {_REMEDY}")
    shared.vectors, shared.tally = vectors, tally
    return shared


def _good(vector: Tensor, size: int) -> bool:
    return vector.dtype == torch.float32 and vector.shape == (size,) and bool(torch.isfinite(vector).all())


def _check(path: Path, about: Any, made_for: Mapping[str, str]) -> None:
    if not isinstance(about, dict) or about.get("schema") != _SCHEMA or not isinstance(about.get("made_for"), dict):
        raise InputError(f"{path} does not hold shared weights that this version reads; {_REMEDY}")
    for name, value in made_for.items():
        if (found := about["made_for"].get(name)) != value:
            raise InputError(f"the weights in {path} are for another {name} ({found!r:.40}, not {value}); {_REMEDY}")
    steps, tensors = about.get("steps"), about.get("tensors")
    if not isinstance(tensors, list) or len(tensors) > MAX_TENSORS or not all(map(_is_entry, tensors)):
        raise InputError(f"{path} is damaged: its header must list at most {MAX_TENSORS:,} tensors; {_REMEDY}")
    good = is_whole(steps) and is_whole(about.get("step"), 0, steps) and is_whole(about.get("seed"), 0)
    good = good and is_number(about.get("seconds")) and about["seconds"] >= 0
    if not good or len({key for key, _ in tensors}) != len(tensors):
        raise InputError(f"{path} is damaged: a field of its header is out of bounds; {_REMEDY}")


def _is_entry(entry: Any) -> bool:
    if not isinstance(entry, list) or len(entry) != 2:
        return False
    key, shape = entry
    is_shape = isinstance(shape, list) and 0 < len(shape) <= 4 and all(is_whole(side, 1, MAX_SIDE) for side in shape)
    return isinstance(key, str) and len(key) < 200 and is_shape
