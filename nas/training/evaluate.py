"""What one worker does: an `Arch` in, an `Evaluation` out. Pure and picklable; torch loads only to train a proxy."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol

from nas.arch.arch import Arch
from nas.arch.cost import cost_of
from nas.system.errors import InputError, known
from nas.system.validate import is_number

if TYPE_CHECKING:
    from nas.data.dataset import ImageData
    from nas.training.proxy import ProxyConfig

State = Literal["COMPLETE", "FAILED"]
STATES: tuple[State, ...] = ("COMPLETE", "FAILED")
MAX_REASON = 300


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What became of one candidate.

    Args:
        key: of the `Arch`.
        state: ``COMPLETE`` with a score, or ``FAILED`` with a reason.
        proxy_accuracy: higher is better; share of held-out images, or a custom evaluator's score. None iff failed.
        proxy_loss: held-out cross-entropy, nats; None where there is none.
        params: of the full network, with a classifier of 1000 classes unless the evaluator knows better.
        macs: likewise.
        memory_bytes: likewise.
        seconds: wall clock of the evaluation.
        reason: why it failed, one line; None if it did not.

    Raises:
        InputError: the fields contradict these rules.
    """

    key: str
    state: State
    proxy_accuracy: float | None
    proxy_loss: float | None
    params: int
    macs: int
    memory_bytes: int
    seconds: float
    reason: str | None = None

    def __post_init__(self) -> None:
        _check(isinstance(self.key, str) and 0 < len(self.key) <= 64, "key", "short text", self.key)
        _check(self.state in STATES, "state", f"one of {', '.join(STATES)}", self.state)
        for name in ("params", "macs", "memory_bytes"):
            value = getattr(self, name)
            _check(isinstance(value, int) and not isinstance(value, bool) and value >= 0, name, "a count", value)
        for name in ("proxy_accuracy", "proxy_loss"):
            value = getattr(self, name)
            _check(value is None or is_number(value), name, "a finite number or null", value)
        _check(is_number(self.seconds) and self.seconds >= 0, "seconds", "a finite number, 0 or more", self.seconds)
        _check(self.reason is None or isinstance(self.reason, str), "reason", "text or null", self.reason)
        failed = self.state == "FAILED"
        _check(
            (self.proxy_accuracy is None) == failed,
            "proxy_accuracy",
            "null iff the state is FAILED",
            self.proxy_accuracy,
        )
        _check((self.reason is not None) == failed, "reason", "given iff the state is FAILED", self.reason)

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return asdict(self)

    @staticmethod
    def from_dict(data: Any) -> Evaluation:
        """Read what `to_dict` gave.

        Raises:
            InputError: not an object, unknown or missing fields, or a value that breaks a rule.
        """
        names = [field.name for field in fields(Evaluation)]
        if not isinstance(data, dict):
            raise InputError(f"an evaluation must be an object, got {data!r:.80}")
        if wrong := set(data) ^ set(names):
            raise InputError(
                f"an evaluation has exactly its fields, {sorted(wrong)[0]!r} is missing or unknown; {known(names)}"
            )
        return Evaluation(**data)


def _check(good: bool, name: str, rule: str, value: object) -> None:
    if not good:
        raise InputError(f"{name} of an evaluation must be {rule}, got {value!r:.80}")


class Evaluator(Protocol):
    """Scores a candidate. Called in worker processes; must pickle; never raises for a fault of the candidate."""

    def __call__(self, arch: Arch, seed: int) -> Evaluation: ...


def _outcome(arch: Arch, num_classes: int, score: Callable[[], tuple[float, float | None]]) -> Evaluation:
    """Run `score`, which gives accuracy and loss; every fault but an interruption becomes a reason."""
    begun = time.perf_counter()
    accuracy: float | None = None
    loss: float | None = None
    reason: str | None = None
    try:
        accuracy, loss = score()
    except Exception as error:  # the candidate's fault is an outcome; the search goes on
        text = " ".join(str(error).split())
        reason = f"{type(error).__name__}: {text}"[:MAX_REASON]
    cost = cost_of(arch, num_classes)
    return Evaluation(
        key=arch.key,
        state="FAILED" if reason else "COMPLETE",
        proxy_accuracy=accuracy,
        proxy_loss=loss,
        params=cost.params,
        macs=cost.macs,
        memory_bytes=cost.memory_bytes,
        seconds=time.perf_counter() - begun,
        reason=reason,
    )


@dataclass(frozen=True)
class ProxyEvaluator:
    """Trains a candidate shortly, as `nas.training.proxy` does.

    Args:
        data: what to train on.
        config: how.
        threads: of torch in the worker; None leaves torch's own number.
        num_classes: of the classifier that params and MACs are counted with.
    """

    data: ImageData
    config: ProxyConfig
    threads: int | None = None
    num_classes: int = 1000

    def __call__(self, arch: Arch, seed: int) -> Evaluation:
        def score() -> tuple[float, float | None]:
            import torch

            from nas.training.proxy import train_proxy

            if self.threads is not None and torch.get_num_threads() != self.threads:
                torch.set_num_threads(self.threads)
            done = train_proxy(arch, self.data, self.config, seed)
            return done.accuracy, done.loss

        return _outcome(arch, self.num_classes, score)

    def with_threads(self, threads: int | None) -> ProxyEvaluator:
        """The same with another number of threads."""
        return replace(self, threads=threads)

    def in_memory(self) -> ProxyEvaluator:
        """The same with its images held by value, for machines that do not see the cache."""
        return replace(self, data=self.data.in_memory())


@dataclass(frozen=True)
class CustomEvaluator:
    """A caller's own score, higher is better. Nothing is built or trained; exceptions and scores that are not finite
    numbers become failures with their reason.

    Args:
        function: gets the `Arch`.
        num_classes: of the classifier that params and MACs are counted with.
    """

    function: Callable[[Arch], float]
    num_classes: int = 1000

    def __call__(self, arch: Arch, seed: int) -> Evaluation:
        def score() -> tuple[float, float | None]:
            value = float(self.function(arch))
            if not math.isfinite(value):
                raise ValueError(f"the score is {value}")
            return value, None

        return _outcome(arch, self.num_classes, score)
