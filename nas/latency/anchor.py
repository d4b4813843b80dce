"""The two networks every measurement is held against, and how long they usually take on this machine.

The anchor: convolutions of the kinds that mobile networks are made of, on maps and weights that stay in a core's own
caches, for four milliseconds. The far anchor: MobileNetV3-Small, which leans on the cache that cores share. Usual is
the lower quartile of what the measurements of the last week saw, kept in the cache, so that a figure does not depend on
the hour it was taken at.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from time import time
from typing import Any

import numpy as np

from nas.arch.arch import Arch
from nas.arch.block import Block
from nas.latency.runtimes.base import Load, Prepared, Runtime
from nas.references.table import reference
from nas.system.files import cache_folder, write_atomic
from nas.system.validate import is_number

ANCHOR = Arch(
    (
        Block("conv", 32, 3, 2, act="relu"),
        Block("mbconv", 32, 3, 1, 3, act="relu"),
        Block("conv", 64, 3, 2, act="relu"),
        *[Block("mbconv", 64, 5, 1, 3, act="relu")] * 3,
        *[Block("conv", 64, 3, 1, act="relu")] * 2,
        Block("pool"),
    ),
    128,
)
CLASSES, FAR_CLASSES = 10, 1000
REMEMBERED = 1000  # an hour of measuring and more: fewer follow the hour, and two figures of one network with it
LASTING_S = 7 * 86400.0  # what a machine was like longer ago, before another system or power plan, counts no more
PROTOCOL = "4"  # of sampling: times taken in another way are not compared
BASELINE_QUANTILE = 0.25
MAX_BYTES = 128 << 10


@cache
def far_anchor() -> Arch:
    """10 MB of weights, each used a few times in two milliseconds: what cores share, it feels."""
    return reference("mobilenet_v3_small")


@dataclass(frozen=True)
class AnchorRuns:
    """What a measurement is held against.

    Args:
        near: runs the anchor.
        far: runs the far anchor; None under a runtime that takes long to prepare one.
    """

    near: Prepared
    far: Prepared | None


class Anchors(AbstractContextManager[AnchorRuns]):
    """Within the context, the anchors can be run, in float32. They are prepared once in a process: for some runtimes
    that takes longer than to measure."""

    def __init__(self, runtime: Runtime, threads: int) -> None:
        self._near = _load(type(runtime), threads, ANCHOR, CLASSES)
        self._far = _load(type(runtime), threads, far_anchor(), FAR_CLASSES) if runtime.quick else None

    def __enter__(self) -> AnchorRuns:
        with ExitStack() as stack:
            held = AnchorRuns(stack.enter_context(self._near), stack.enter_context(self._far) if self._far else None)
            self._open = stack.pop_all()
        return held

    def __exit__(self, *error: Any) -> bool | None:
        return self._open.__exit__(*error)


@cache
def _load(kind: type[Runtime], threads: int, arch: Arch, classes: int) -> Load:
    from nas.network.build import build

    return kind().prepare(build(arch, classes), arch.resolution, 1, threads)


def baseline_ms(now_ms: float, *circumstances: object) -> float:
    """The anchor's usual time, with `now_ms`, what it took just now, taken into account.

    Args:
        now_ms: median of a measurement's anchor runs.
        circumstances: what a time depends on: device, runtime, its version, threads.
    """
    return _baseline([ANCHOR.key, *map(str, circumstances)], now_ms)


def baseline_state(now: float, *circumstances: object) -> float:
    """The same of `nas.latency.sampling.Samples.state`, the far anchor's time over the anchor's."""
    return _baseline([ANCHOR.key, far_anchor().key, *map(str, circumstances)], now)


def known_baseline_state(*circumstances: object) -> float | None:
    """The usual state by what was seen so far; None at first."""
    try:
        seen = _read(_history([ANCHOR.key, far_anchor().key, *map(str, circumstances)]))
    except OSError:
        return None
    return float(np.quantile([value for _, value in seen], BASELINE_QUANTILE)) if seen else None


def _history(identity: list[str]) -> Path:
    name = hashlib.blake2b(json.dumps([PROTOCOL, *identity]).encode(), digest_size=8).hexdigest()
    return cache_folder("anchor") / f"{name}.json"


def _baseline(identity: list[str], now: float) -> float:
    try:
        path = _history(identity)
        seen = [*_read(path), (time(), now)][-REMEMBERED:]
        write_atomic(path, json.dumps(seen))
    except OSError:  # nothing can be kept here: the figure stands for this hour
        seen = [(time(), now)]
    return float(np.quantile([value for _, value in seen], BASELINE_QUANTILE))


def _read(path: Path) -> list[tuple[float, float]]:
    """Moments, in seconds since 1970, and what was seen then, of the last `LASTING_S`."""
    try:
        if path.stat().st_size > MAX_BYTES:
            return []
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    good = isinstance(values, list) and all(
        isinstance(pair, list) and len(pair) == 2 and all(is_number(one) and one > 0 for one in pair) for pair in values
    )
    since = time() - LASTING_S
    return [(when, value) for when, value in values if when >= since][-REMEMBERED:] if good else []
