"""Checkpoints of trainings in rungs: the state of a training at the last rung it finished, and its scores so far.

One safetensors file a network, read and written with NumPy alone. A checkpoint only saves time: one that is absent,
damaged or of another training is ignored, and the network is trained from scratch.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from nas.arch.arch import Arch
from nas.system.errors import InputError
from nas.system.files import write_atomic
from nas.system.validate import is_number, is_whole
from nas.training.config import MAX_RUNGS

MAX_BYTES = 4 << 30
SUFFIX = ".safetensors"
_ABOUT = "nas_checkpoint"  # in the metadata
_SCHEMA = 1
_VECTORS = ("value", "mean", "square")
_NUMBERS = ("accuracy", "loss", "seconds")

Vectors = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Checkpoint:
    """A training at the end of a rung.

    Args:
        arch: the full network.
        step: steps that were done.
        scores: accuracy, loss, seconds and mean training loss by length in steps.
        vectors: the weights, and the two moments of AdamW, each float32 of shape (parameters,).
    """

    arch: Arch
    step: int
    scores: Mapping[int, Mapping[str, Any]]
    vectors: Vectors


def path_of(folder: Path, arch: Arch) -> Path:
    """The file of a network."""
    return folder / f"{arch.key}{SUFFIX}"


def write_checkpoint(path: Path, checkpoint: Checkpoint, made_for: Mapping[str, Any]) -> None:
    """Write a checkpoint in one step, if its folder exists on this machine and has room: else training goes on without.

    Args:
        path: file to replace.
        checkpoint: to keep.
        made_for: what decides the weights besides the network: images, settings, seed.
    """
    about = {
        "schema": _SCHEMA,
        "made_for": dict(made_for),
        "arch": json.loads(checkpoint.arch.to_json()),
        "step": checkpoint.step,
        "scores": {str(length): dict(score) for length, score in checkpoint.scores.items()},
    }
    with suppress(OSError):
        write_atomic(path, save(dict(checkpoint.vectors), {_ABOUT: json.dumps(about)}))


def read_checkpoint(path: Path, arch: Arch, made_for: Mapping[str, Any], size: int) -> Checkpoint | None:
    """The checkpoint of a network with `size` parameters; None if there is none that its training can go on from."""
    try:
        if path.stat().st_size > MAX_BYTES:
            return None
        with safe_open(path, framework="np") as file:
            about = _about(file)
            if about is None or about["made_for"] != json.loads(json.dumps(made_for)):
                return None
            vectors = {name: file.get_tensor(name) for name in _VECTORS}
            found = Arch.from_json(json.dumps(about["arch"]))
    except (OSError, SafetensorError, InputError, ValueError, RecursionError):
        return None
    good = all(one.dtype == np.float32 and one.shape == (size,) and np.isfinite(one).all() for one in vectors.values())
    if not good or found != arch:
        return None
    return Checkpoint(arch, about["step"], {int(at): score for at, score in about["scores"].items()}, vectors)


def unfinished(folder: Path) -> Iterator[tuple[Path, Arch | None]]:
    """The files of a folder of checkpoints with their networks, also what a killed process had not finished writing;
    None for a file that is damaged."""
    for path in sorted(folder.glob(f"*{SUFFIX}*")):
        try:
            with safe_open(path, framework="np") as file:
                about = _about(file)
                arch = None if about is None else Arch.from_json(json.dumps(about["arch"]))
        except (OSError, SafetensorError, InputError, ValueError, RecursionError):
            arch = None
        yield path, arch


def _about(file: Any) -> dict[str, Any] | None:
    """What the header says; None if that is not what `write_checkpoint` writes."""
    about = json.loads((file.metadata() or {}).get(_ABOUT, "null"))
    if not isinstance(about, dict) or about.get("schema") != _SCHEMA or not isinstance(about.get("made_for"), dict):
        return None
    scores, step = about.get("scores"), about.get("step")
    if not isinstance(scores, dict) or not 0 < len(scores) <= MAX_RUNGS or not is_whole(step):
        return None
    good = all(length.isascii() and length.isdigit() and len(length) < 9 for length in scores)
    good = good and max(map(int, scores)) == step and all(map(_is_score, scores.values()))
    return about if good else None


def _is_score(score: Any) -> bool:
    return (
        isinstance(score, dict)
        and set(score) == {*_NUMBERS, "train_loss"}
        and all(is_number(score[name]) for name in _NUMBERS)
        and (score["train_loss"] is None or is_number(score["train_loss"]))
    )
