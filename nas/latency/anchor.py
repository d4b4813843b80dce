"""The two anchor networks that every measurement runs beside, and the time each takes on this machine at baseline.

The anchor has convolutions of the kinds that mobile networks are made of, on maps and weights that stay in a core's own
caches; it takes four milliseconds. The far anchor, MobileNetV3-Small, depends on the cache that cores share. The
baseline is the lower quartile of the measurements of the last week, kept in the cache, so that a latency does not
depend on the hour in which it was measured.
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
from nas.system.errors import InputError
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
REMEMBERED = 1000  # measurements, an hour's worth or more: with fewer, the baseline would follow the hour
LASTING_S = 7 * 86400.0  # older measurements may come from another system or power plan
PROTOCOL = "4"  # version of the sampling method: times taken by different methods are not compared
BASELINE_QUANTILE = 0.25
MAX_BYTES = 128 << 10


@cache
def far_anchor() -> Arch:
    """10 MB of weights, each used a few times within two milliseconds, so it feels the load on the shared cache."""
    return reference("mobilenet_v3_small")


@dataclass(frozen=True)
class AnchorRuns:
    """The anchors, ready to run beside a measurement.

    Args:
        near: runs the anchor.
        far: runs the far anchor; None under a runtime that takes long to prepare one.
    """

    near: Prepared
    far: Prepared | None


class Anchors(AbstractContextManager[AnchorRuns]):
    """Within the context, the anchors can be run, in float32. They are prepared once per process, because under some
    runtimes that takes longer than a measurement."""

    def __init__(self, runtime: Runtime, threads: int) -> None:
        self._near = _load(type(runtime), threads, ANCHOR, CLASSES)
        self._far = _load(type(runtime), threads, far_anchor(), FAR_CLASSES) if runtime.quick else None

    def __enter__(self) -> AnchorRuns:
        with ExitStack() as stack:
            near = stack.enter_context(self._near)
            far = stack.enter_context(self._far) if self._far else None
            self._open = stack.pop_all()
        return AnchorRuns(near, far)

    def __exit__(self, *error: Any) -> bool | None:
        return self._open.__exit__(*error)


@cache
def _load(kind: type[Runtime], threads: int, arch: Arch, classes: int) -> Load:
    from nas.network.build import build

    return kind().prepare(build(arch, classes), arch.resolution, 1, threads)


def baseline_ms(now_ms: float, *circumstances: object) -> float:
    """The anchor's time at baseline, after `now_ms` was added to its history.

    Args:
        now_ms: median of the anchor's runs in a measurement.
        circumstances: what the time depends on: device, runtime, version of the runtime, threads.
    """
    return _baseline([ANCHOR.key, *map(str, circumstances)], now_ms)


def baseline_state(now: float, *circumstances: object) -> float:
    """As `baseline_ms`, for `nas.latency.sampling.Samples.state`: the far anchor's time over the anchor's."""
    return _baseline([ANCHOR.key, far_anchor().key, *map(str, circumstances)], now)


def known_baseline_state(*circumstances: object) -> float | None:
    """The baseline state by the history so far; None without one."""
    try:
        seen = _read(_history([ANCHOR.key, far_anchor().key, *map(str, circumstances)]))
    except InputError:
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
    except (InputError, OSError):  # the cache cannot be written: this measurement is its own baseline
        seen = [(time(), now)]
    return float(np.quantile([value for _, value in seen], BASELINE_QUANTILE))


def _read(path: Path) -> list[tuple[float, float]]:
    """The measurements of the last `LASTING_S`: moment in seconds since 1970, and value."""
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
