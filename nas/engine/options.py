"""What a search is asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from nas.arch.arch import Arch
from nas.system.errors import InputError

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler


REFERENCES = ("mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small", "efficientnet_b0")


@dataclass(frozen=True)
class Options:
    """What a search was asked for, as ``run.json`` keeps it; the meaning is that of `nas.search`'s arguments."""

    target_ms: float | None = None
    guard: float | None = None
    device: str = "host"
    runtime: str = "onnxruntime"
    threads: int = 1
    images: str | None = None
    trials: int | None = None
    budget_s: float | None = None
    sampler: str = "auto"
    seed: int = 0
    steps: int | None = None
    workers: int = 1
    ray: str | None = None
    cpus_per_trial: float = 1
    gpus_per_trial: float = 0
    references: tuple[str, ...] = REFERENCES
    custom: tuple[str, ...] = ()

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Options:
        """Read what ``run.json`` holds; other fields of it are passed over.

        Raises:
            InputError: a value is of the wrong kind.
        """
        text, number, count = str, (int, float), int
        kinds: dict[str, Any] = {
            "target_ms": number,
            "guard": number,
            "budget_s": number,
            "cpus_per_trial": number,
            "gpus_per_trial": number,
        }
        kinds |= dict.fromkeys(("trials", "seed", "steps", "workers", "threads"), count)
        kinds |= dict.fromkeys(("device", "runtime", "images", "sampler", "ray"), text)
        read: dict[str, Any] = {}
        for option in fields(Options):
            if option.name not in data:
                continue
            value = data[option.name]
            if option.name in ("references", "custom"):
                good = isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value)
                read[option.name] = tuple(value) if good else ()
            else:
                good = isinstance(value, kinds[option.name]) and not isinstance(value, bool)
                good = good or (value is None and option.default is None)
                read[option.name] = value
            if not good:
                raise InputError(
                    f"option {option.name} of the run cannot be {value!r:.40}; restore run.json from a copy"
                )
        return Options(**read)


@dataclass(frozen=True)
class Custom:
    """Parts given as Python objects, which a run folder cannot hold."""

    evaluate: Callable[[Arch], float] | None = None
    device: Callable[[Arch], float] | None = None
    sampler: BaseSampler | None = None
    token: str | None = field(default=None, repr=False)  # of an agent; kept nowhere

    def names(self) -> tuple[str, ...]:
        return tuple(name for name in ("evaluate", "device", "sampler") if getattr(self, name) is not None)
