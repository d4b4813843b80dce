"""How long a network takes on this host: a distribution, of which median, spread and circumstances are told."""

from __future__ import annotations

import math
import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

import numpy as np

from nas.arch import MAX_RESOLUTION, Arch
from nas.errors import InputError, known
from nas.latency.runtimes import MAX_BATCH, onnx_session, runtime_of
from nas.machine import usable_cores

GOAL = 0.01  # half the confidence interval of the median, relative to it
CONFIDENCE = 0.95
MIN_RUNS = 20
MAX_RUNS = 2000
MIN_SECONDS = 0.15  # noise comes in bursts: runs of one burst agree among themselves
MAX_SECONDS = 2.5
WARM_UP_SECONDS = 0.75
WARM_UP_RUNS = 4
WARM_UP_GOAL = 0.02
SOURCES = ("measured", "predicted")

Run = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Latency:
    """How long one forward pass takes, and how that is known.

    Args:
        ms: median in milliseconds (of `batch` images together), never rounded; or the prediction of it.
        iqr_ms: interquartile range of the runs; None if predicted.
        runs: timed runs; None if predicted.
        device: CPU model and cores, or the name of the device.
        runtime: what ran it; None if unknown.
        threads: it could use; None if unknown.
        batch: images per pass.
        source: ``measured`` or ``predicted``.
        warning: why the figure deserves less trust than usual; None if nothing was wrong.

    Raises:
        InputError: a time is not positive and finite, or a field is out of bounds.
    """

    ms: float
    iqr_ms: float | None
    runs: int | None
    device: str
    runtime: str | None
    threads: int | None
    batch: int
    source: Literal["measured", "predicted"]
    warning: str | None = None

    def __post_init__(self) -> None:
        if not _is_number(self.ms) or self.ms <= 0:
            raise InputError(f"a latency must be a positive number of milliseconds, got {self.ms!r}")
        if self.iqr_ms is not None and (not _is_number(self.iqr_ms) or self.iqr_ms < 0):
            raise InputError(f"iqr_ms must be None or a number from 0, got {self.iqr_ms!r}")
        for name, low in (("runs", 1), ("threads", 1), ("batch", 1)):
            value = getattr(self, name)
            if value is None and name != "batch":
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < low:
                raise InputError(f"{name} must be a whole number from {low}, got {value!r}")
        if not isinstance(self.device, str) or not 1 <= len(self.device) <= 200:
            raise InputError(f"device must be a text of 1 to 200 characters, got {self.device!r:.60}")
        for name in ("runtime", "warning"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, str) or len(value) > 400):
                raise InputError(f"{name} must be None or a text of at most 400 characters, got {value!r:.60}")
        if self.source not in SOURCES:
            raise InputError(f"source is not one of the known, got {self.source!r:.60}; {known(SOURCES)}")

    def __str__(self) -> str:
        """For people, e.g. ``6.21 ms ± 0.13 IQR (measured, 58 runs; AMD EPYC, 2 cores, onnxruntime, 1 thread)``."""
        spread = "" if self.iqr_ms is None else f" ± {self.iqr_ms:.2g} IQR"
        runs = "" if self.runs is None else f", {self.runs} runs"
        where = [self.device, *([self.runtime] if self.runtime else [])]
        if self.threads:
            where.append(f"{self.threads} thread{'s' if self.threads > 1 else ''}")
        if self.batch != 1:
            where.append(f"batch {self.batch}")
        tail = f"; {self.warning}" if self.warning else ""
        return f"{self.ms:.3g} ms{spread} ({self.source}{runs}; {', '.join(where)}{tail})"

    def to_dict(self) -> dict[str, Any]:
        """Plain values; `from_dict` reads them back to an equal `Latency`."""
        return asdict(self)

    @staticmethod
    def from_dict(data: Any) -> Latency:
        """Read what `to_dict` wrote.

        Raises:
            InputError: not an object, unknown or missing fields, or a value out of bounds.
        """
        names = [field.name for field in fields(Latency)]
        if not isinstance(data, dict):
            raise InputError(f"a latency is an object with {', '.join(names)}; got {type(data).__name__}")
        if unknown := set(data) - set(names):
            raise InputError(f"a latency has no field {min(map(str, unknown))[:60]!r}; {known(names)}")
        if missing := [name for name in names if name not in data]:
            raise InputError(f"a latency needs {', '.join(missing)}")
        return Latency(**data)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -1e300 < value < 1e300


@lru_cache(maxsize=1)
def host() -> str:
    """This machine: CPU model and the number of cores this process may use."""
    model = platform.processor() or platform.machine() or "unknown CPU"
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        model = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass  # not Linux, or a CPU that does not name itself
    cores = usable_cores()
    return f"{model[:120]}, {cores} core{'s' if cores > 1 else ''}"


def measure(
    arch: Arch, runtime: str = "onnxruntime", threads: int = 1, batch: int = 1, *, num_classes: int = 1000
) -> Latency:
    """Build `arch`, run it on this host and time it: 0.3 to 0.6 s for a mobile network, at most about 4 s.

    Args:
        arch: what to time; weights are random, which does not matter for dense arithmetic.
        runtime: ``onnxruntime`` (exported to ONNX first) or ``torch`` (eager).
        threads: inside an operator; at most the cores this process may use.
        batch: images per pass.
        num_classes: outputs of the classifier.

    Raises:
        InputError: unknown runtime, or a number out of bounds.
    """
    from nas.build import build

    runner = runtime_of(runtime)
    check_load(threads, batch)
    with runner.prepare(build(arch, num_classes), arch.resolution, batch, threads) as run:
        return timed(run, runtime, threads, batch)


def measure_onnx(model: bytes | Path, threads: int = 1, batch: int = 1) -> Latency:
    """Time an ONNX model of one image input (N, 3, side, side) with ONNX Runtime; N may be open.

    Raises:
        InputError: not a model ONNX Runtime reads, another kind of input, or a number out of bounds.
    """
    check_load(threads, batch)
    if isinstance(model, Path) and not model.is_file():
        raise InputError(f"no such file: {model}; give an exported .onnx file")
    session = onnx_session(model, threads)
    inputs = session.get_inputs()
    shape = list(inputs[0].shape) if len(inputs) == 1 else []
    side = shape[-1] if len(shape) == 4 else None
    if not isinstance(side, int) or shape[1:] != [3, side, side] or not 8 <= side <= MAX_RESOLUTION:
        shapes = ", ".join(f"{one.name} {one.shape}" for one in inputs)
        raise InputError(
            f"the model must have one input (N, 3, side, side), side from 8 to {MAX_RESOLUTION}; got {shapes:.200}"
        )
    if inputs[0].type != "tensor(float)":
        raise InputError(f"the model's input must be float32, got {inputs[0].type}; other types are not timed yet")
    if isinstance(shape[0], int) and shape[0] != batch:
        raise InputError(
            f"the model was exported for batch {shape[0]}, got batch {batch}; export it with an open batch"
        )
    images = np.random.default_rng(0).standard_normal((batch, 3, side, side), dtype=np.float32)
    feed = {inputs[0].name: images}
    return timed(lambda: session.run(None, feed), "onnxruntime", threads, batch)


def check_load(threads: int, batch: int) -> None:
    """Raises `InputError` unless both are whole numbers within bounds."""
    for name, value, high in (("threads", threads, usable_cores()), ("batch", batch, MAX_BATCH)):
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= high:
            raise InputError(f"{name} must be a whole number from 1 to {high}, got {value!r}")


def timed(run: Run, runtime: str, threads: int, batch: int) -> Latency:
    """The latency of a prepared callable."""
    sample_ms = np.array(sample(run)) * 1e3
    low, high = median_interval(sample_ms)
    median = float(np.median(sample_ms))
    half = (high - low) / 2 / median
    quartiles = np.quantile(sample_ms, [0.25, 0.75])
    return Latency(
        ms=median,
        iqr_ms=float(quartiles[1] - quartiles[0]),
        runs=len(sample_ms),
        device=host(),
        runtime=runtime,
        threads=threads,
        batch=batch,
        source="measured",
        warning=None if half <= GOAL else f"noisy machine: the median is known to ±{half:.1%} only, not ±{GOAL:.0%}",
    )


def sample(run: Run, clock: Callable[[], float] = perf_counter) -> list[float]:
    """Run until steady, then take durations in seconds until their median is known closely, or a cap is met."""

    def once() -> float:
        start = clock()
        run()
        return clock() - start

    begin = clock()
    before = math.inf
    while clock() - begin < WARM_UP_SECONDS:
        now = float(np.median([once() for _ in range(WARM_UP_RUNS)]))
        if abs(now - before) <= WARM_UP_GOAL * now:
            break
        before = now
    taken: list[float] = []
    begin = clock()
    check_at = MIN_RUNS
    while len(taken) < MAX_RUNS:
        taken.append(once())
        spent = clock() - begin
        if spent >= MAX_SECONDS and len(taken) >= 3:
            break
        if len(taken) >= check_at and spent >= MIN_SECONDS:
            low, high = median_interval(taken)
            if (high - low) / 2 <= GOAL * float(np.median(taken)):
                break
            check_at = math.ceil(len(taken) * 1.2)
    return taken


def median_interval(values: list[float] | np.ndarray, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """A confidence interval of the median that holds for any distribution: two order statistics.

    The number of values below the true median is binomial (n, 1/2), so the k-th smallest and the k-th largest enclose
    it with probability ``1 - 2 P(B < k)``; the largest k that gives `confidence` is taken. Values too few for any k
    give all of their range.

    >>> median_interval([5.0, 1.0, 4.0, 2.0, 3.0, 6.0])
    (1.0, 6.0)
    """
    ordered = np.sort(np.asarray(values, dtype=float))
    k = _order(len(ordered), confidence)
    return float(ordered[k - 1]), float(ordered[-k])


@lru_cache(maxsize=4096)
def _order(n: int, confidence: float) -> int:
    """The largest k >= 1 with ``P(Binomial(n, 1/2) < k) <= (1 - confidence) / 2``; 1 if there is none."""
    allowed = (1 - confidence) / 2 * 2.0**n if n < 1000 else None
    total, ways, k = 0, 1, 0
    while k < n:
        total += ways
        below = total <= allowed if allowed is not None else total / (1 << n) <= (1 - confidence) / 2
        if not below:
            break
        ways = ways * (n - k) // (k + 1)
        k += 1
    return max(k, 1)
