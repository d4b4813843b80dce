"""The network every measurement is held against, and how long it usually takes on this machine.

Convolutions of the kinds that mobile networks are made of, on maps and weights that stay in the caches, for four
milliseconds: smaller ones, and ones that touch more memory, vary by several percent on their own. Its usual time is the
lower quartile of what past measurements saw, kept in the cache, so that a figure does not depend on the hour it was
taken at.
"""

from __future__ import annotations

import hashlib
import json
import math
from functools import cache
from pathlib import Path

import numpy as np

from nas.arch import Arch
from nas.files import cache_folder, write_atomic
from nas.latency.runtimes import Load, Runtime
from nas.row import Block

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
CLASSES = 10
REMEMBERED = 64
USUAL = 0.25
MAX_BYTES = 64 << 10


def anchor(runtime: Runtime, threads: int) -> Load:
    """Within the context, the anchor can be run, in float32. It is prepared once in a process: for some runtimes that
    takes longer than to measure."""
    return _load(type(runtime), threads)


@cache
def _load(kind: type[Runtime], threads: int) -> Load:
    from nas.build import build

    return kind().prepare(build(ANCHOR, CLASSES), ANCHOR.resolution, 1, threads)


def usual_ms(now_ms: float, *circumstances: object) -> float:
    """The anchor's usual time, with `now_ms`, what it took just now, taken into account.

    Args:
        now_ms: median of a measurement's anchor runs.
        circumstances: what a time depends on: device, runtime, its version, threads.
    """
    identity = json.dumps([ANCHOR.key, *map(str, circumstances)])
    name = f"{hashlib.blake2b(identity.encode(), digest_size=8).hexdigest()}.json"
    try:
        path = cache_folder("anchor") / name
        seen = [*_read(path), now_ms][-REMEMBERED:]
        write_atomic(path, json.dumps(seen))
    except OSError:  # nothing can be kept here: the figure stands for this hour
        seen = [now_ms]
    return float(np.quantile(seen, USUAL))


def _read(path: Path) -> list[float]:
    try:
        if path.stat().st_size > MAX_BYTES:
            return []
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    good = isinstance(values, list) and all(
        isinstance(v, (int, float)) and not isinstance(v, bool) and math.isfinite(v) and v > 0 for v in values
    )
    return [float(v) for v in values][-REMEMBERED:] if good else []
