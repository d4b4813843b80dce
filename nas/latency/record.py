"""The record of a latency: milliseconds, and how they are known."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from nas.system.errors import InputError, known
from nas.system.validate import is_number

FLOAT32 = "float32"
SOURCES = ("measured", "predicted")
SHOWN = 0.005  # drift, rounded to whole percents


@dataclass(frozen=True, slots=True)
class Latency:
    """How long one forward pass takes, and how that is known.

    Args:
        ms: median in milliseconds (of `batch` images together), never rounded; or the prediction of it.
        iqr_ms: interquartile range of the bursts of runs, relative to the anchors; None if predicted.
        runs: timed runs; None if predicted.
        device: CPU model and cores, or the name of the device.
        runtime: what ran it; None if unknown.
        threads: it could use; None if unknown.
        batch: images per pass.
        source: ``measured`` or ``predicted``.
        warning: why the figure deserves less trust than usual; None if nothing was wrong.
        drift: how much longer it took just now than it usually would on this machine, by the anchors; that is taken
            out: the network itself took ``ms * (1 + drift)``. None if there was no anchor.
        samples_ms: every run as it was, in order, drift and all; None unless they were asked for.
        dtype: that weights and arithmetic were in; of an exported file that of its images, whatever is inside.
        resolution: side of the images in pixels, if other than the network's own; else None.
        holds_ms: what 95 of 100 further measurements are to stay within, where it was measured several times to know
            (`nas.latency.close_calls`); else None.
        half_width: half the 95 % confidence interval of `ms`, relative to it; None if predicted.
        confirmed: whether it was measured again after it was chosen, by measurements that it was not chosen by.

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
    drift: float | None = None
    samples_ms: tuple[float, ...] | None = None
    dtype: str = FLOAT32
    resolution: int | None = None
    holds_ms: float | None = None
    half_width: float | None = None
    confirmed: bool = False

    def __post_init__(self) -> None:
        if not is_number(self.ms) or self.ms <= 0:
            raise InputError(f"a latency must be a positive number of milliseconds, got {self.ms!r}")
        if self.iqr_ms is not None and (not is_number(self.iqr_ms) or self.iqr_ms < 0):
            raise InputError(f"iqr_ms must be None or a number from 0, got {self.iqr_ms!r}")
        for name, low in (("runs", 1), ("threads", 1), ("batch", 1), ("resolution", 1)):
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
        if self.drift is not None and (not is_number(self.drift) or self.drift <= -1):
            raise InputError(f"drift must be None or a number above -1, got {self.drift!r:.60}")
        samples = () if self.samples_ms is None else self.samples_ms
        if not isinstance(samples, tuple) or not all(is_number(ms) and ms > 0 for ms in samples):
            raise InputError("samples_ms must be None or positive numbers")
        if not isinstance(self.dtype, str) or not 1 <= len(self.dtype) <= 40:
            raise InputError(f"dtype must be a text of 1 to 40 characters, got {self.dtype!r:.60}")
        if self.holds_ms is not None and (not is_number(self.holds_ms) or self.holds_ms < self.ms):
            raise InputError(f"holds_ms must be None or a number from ms on, got {self.holds_ms!r:.60}")
        if self.half_width is not None and (not is_number(self.half_width) or self.half_width < 0):
            raise InputError(f"half_width must be None or a number from 0, got {self.half_width!r:.60}")
        if not isinstance(self.confirmed, bool):
            raise InputError(f"confirmed must be true or false, got {self.confirmed!r:.60}")
        if self.source not in SOURCES:
            raise InputError(f"source is not one of the known, got {self.source!r:.60}; {known(SOURCES)}")

    def __str__(self) -> str:
        """For people, e.g. ``6.21 ms ± 0.13 IQR (measured, 58 runs; AMD EPYC, 2 cores, onnxruntime, 1 thread)``."""
        spread = "" if self.iqr_ms is None else f" ± {self.iqr_ms:.2g} IQR"
        runs = "" if self.runs is None else f", {self.runs} runs"
        drift = "" if self.drift is None or abs(self.drift) < SHOWN else f", drift {self.drift:+.0%} taken out"
        where = [self.device, *([self.runtime] if self.runtime else [])]
        if self.threads:
            where.append(f"{self.threads} thread{'s' if self.threads > 1 else ''}")
        if self.batch != 1:
            where.append(f"batch {self.batch}")
        if self.resolution is not None:
            where.append(f"{self.resolution} px")
        if self.dtype != FLOAT32:
            where.append(self.dtype)
        tail = f"; {self.warning}" if self.warning else ""
        return f"{self.ms:.3g} ms{spread} ({self.source}{runs}{drift}; {', '.join(where)}{tail})"

    @property
    def at_most_ms(self) -> float:
        """What is compared with a target: `holds_ms` if it is known, else `ms`."""
        return self.ms if self.holds_ms is None else self.holds_ms

    def meets(self, target_ms: float | None) -> bool:
        """Whether a latency target is met; there is no other rule for that in this program. None is no target."""
        return target_ms is None or self.at_most_ms <= target_ms

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
        if missing := [name for name in names[: names.index("drift")] if name not in data]:
            raise InputError(f"a latency needs {', '.join(missing)}")
        samples = data.get("samples_ms")
        return Latency(**data | {"samples_ms": tuple(samples) if isinstance(samples, list) else samples})
