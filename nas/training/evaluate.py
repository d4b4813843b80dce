"""What a worker does: an `Arch` in, an `Evaluation` out. Pure and picklable; torch is loaded only to train a proxy."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

from nas.arch.arch import Arch
from nas.arch.cost import cost_of
from nas.system.errors import InputError
from nas.system.text import one_line
from nas.system.validate import is_number, is_whole

if TYPE_CHECKING:
    from nas.data.dataset import ImageData
    from nas.training.accelerator import Kind
    from nas.training.config import ProxyConfig
    from nas.training.shared import SharedWeights

State = Literal["COMPLETE", "FAILED"]
STATES: tuple[State, ...] = ("COMPLETE", "FAILED")
MAX_REASON = 300


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The outcome of evaluating one candidate.

    Args:
        key: key of the `Arch`.
        state: ``COMPLETE`` with a score, or ``FAILED`` with a reason.
        proxy_accuracy: share of held-out images classified correctly, or a custom evaluator's score; higher is better.
            None if and only if the candidate failed.
        proxy_loss: held-out cross-entropy in nats; None if there is none.
        params: weights of the full network, with a classifier of the evaluator's `num_classes`.
        macs: multiply-accumulates of the full network for one image.
        memory_bytes: float32 weights and activations the full network reads and writes for one image.
        seconds: wall-clock time of the evaluation.
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
            _check(isinstance(value, int) and is_whole(value, 0), name, "a whole number from 0", value)
        for name in ("proxy_accuracy", "proxy_loss"):
            value = getattr(self, name)
            _check(value is None or is_number(value), name, "a finite number or null", value)
        _check(is_number(self.seconds) and self.seconds >= 0, "seconds", "a finite number, 0 or more", self.seconds)
        _check(self.reason is None or isinstance(self.reason, str), "reason", "text or null", self.reason)
        failed = self.state == "FAILED"
        _check(
            (self.proxy_accuracy is None) == failed,
            "proxy_accuracy",
            "null exactly if the state is FAILED",
            self.proxy_accuracy,
        )
        _check((self.reason is not None) == failed, "reason", "given exactly if the state is FAILED", self.reason)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)

    @staticmethod
    def from_dict(data: Any) -> Evaluation:
        """Read what `to_dict` returned.

        Raises:
            InputError: not an object, an unknown or missing field, or a value that breaks a rule.
        """
        names = [field.name for field in fields(Evaluation)]
        if not isinstance(data, dict):
            raise InputError(f"an evaluation must be an object, got {data!r:.80}")
        if wrong := set(data) ^ set(names):
            raise InputError(
                f"an evaluation has the fields {', '.join(names)}; {min(wrong)!r:.80} is missing or unknown"
            )
        return Evaluation(**data)


def _check(good: bool, name: str, rule: str, value: object) -> None:
    if not good:
        raise InputError(f"{name} of an evaluation must be {rule}, got {value!r:.80}")


class Evaluator(Protocol):
    """Scores a candidate. Called in worker processes; must pickle; never raises for a fault of the candidate."""

    def __call__(self, arch: Arch, seed: int) -> Evaluation: ...


class RungEvaluator(Protocol):
    """An `Evaluator` whose trainings may also end at a rung, that is after `stop` steps."""

    def __call__(self, arch: Arch, seed: int, stop: int | None = None) -> Evaluation: ...


def guarded(
    evaluator: Evaluator, arch: Arch, seed: int, stop: int | None = None, num_classes: int = 1000
) -> Evaluation:
    """Evaluate; an exception is an outcome (``FAILED``), not a fault of the search. Interruptions pass through.

    Args:
        evaluator: what to run; with `stop` a `RungEvaluator`.
        arch: the network.
        seed: of the evaluation.
        stop: rung to train to, in steps; None trains to the end.
        num_classes: size of the classifier that params and MACs of a failure are counted with.
    """
    start = time.monotonic()
    try:
        return evaluator(arch, seed) if stop is None else cast(RungEvaluator, evaluator)(arch, seed, stop)
    except Exception as error:
        reason = one_line(f"{type(error).__name__}: {error}", MAX_REASON)
        return failed(arch, reason, time.monotonic() - start, num_classes)


def failed(arch: Arch, reason: str, seconds: float = 0.0, num_classes: int = 1000) -> Evaluation:
    """The evaluation of a network that could not be evaluated."""
    return _evaluation(arch, num_classes, seconds, reason=reason)


def _evaluation(
    arch: Arch,
    num_classes: int,
    seconds: float,
    accuracy: float | None = None,
    loss: float | None = None,
    reason: str | None = None,
) -> Evaluation:
    cost = cost_of(arch, num_classes)
    return Evaluation(
        key=arch.key,
        state="COMPLETE" if reason is None else "FAILED",
        proxy_accuracy=accuracy,
        proxy_loss=loss,
        params=cost.params,
        macs=cost.macs,
        memory_bytes=cost.memory_bytes,
        seconds=seconds,
        reason=reason,
    )


@dataclass(frozen=True)
class ProxyEvaluator:
    """Scores a candidate after a short training, or by shared weights, as `nas.training.proxy` does.

    Args:
        data: images to train on.
        config: how to train.
        threads: PyTorch threads in the worker; None leaves PyTorch's own number.
        num_classes: size of the classifier that params and MACs are counted with.
        accelerator: kind of device to train on; the first one that the worker sees is used.
        shared: trained weights that candidates take; None trains each from scratch. They pickle by value.
        checkpoints: folder for the trainings of rungs (`nas.training.checkpoint`); None, or a folder that the worker
            does not see, trains to each rung from scratch.
    """

    data: ImageData
    config: ProxyConfig
    threads: int | None = None
    num_classes: int = 1000
    accelerator: Kind = "cpu"
    shared: SharedWeights | None = None
    checkpoints: Path | None = None

    def __call__(self, arch: Arch, seed: int, stop: int | None = None) -> Evaluation:
        return guarded(self._train, arch, seed, stop, self.num_classes)

    def _train(self, arch: Arch, seed: int, stop: int | None = None) -> Evaluation:
        begun = time.monotonic()
        import torch

        from nas.training.accelerator import Accelerator, choose
        from nas.training.proxy import train_proxy

        if self.threads is not None and torch.get_num_threads() != self.threads:
            torch.set_num_threads(self.threads)
        accelerator = Accelerator.here(choose(self.accelerator))
        try:
            score = train_proxy(
                arch, self.data, self.config, seed, accelerator, self.shared, stop=stop, checkpoints=self.checkpoints
            )
            return _evaluation(arch, self.num_classes, time.monotonic() - begun, score.accuracy, score.loss)
        except RuntimeError as error:
            if not accelerator.ran_out(error):
                raise
            reason = f"out of GPU memory; use fewer --workers or a larger --gpus-per-trial ({error})"
        accelerator.empty_cache()  # here, where no traceback holds the candidate's tensors any more
        return failed(arch, one_line(reason, MAX_REASON), time.monotonic() - begun, self.num_classes)

    def with_threads(self, threads: int | None) -> ProxyEvaluator:
        """The same evaluator with another number of threads."""
        return replace(self, threads=threads)

    def in_memory(self) -> ProxyEvaluator:
        """The same evaluator with its images held by value, for machines that cannot see the cache."""
        return replace(self, data=self.data.in_memory())


@dataclass(frozen=True)
class CustomEvaluator:
    """A caller's own score, higher is better. Nothing is built or trained. An exception, or a score that is not a
    finite number, is a failure with its reason.

    Args:
        function: returns the score of an `Arch`.
        num_classes: size of the classifier that params and MACs are counted with.

    >>> from nas.references.table import reference
    >>> CustomEvaluator(lambda arch: arch.resolution)(reference("mobilenet_v2"), seed=0).proxy_accuracy
    224.0
    >>> CustomEvaluator(lambda arch: 1 / 0)(reference("mobilenet_v2"), seed=0).reason
    'ZeroDivisionError: division by zero'
    """

    function: Callable[[Arch], float]
    num_classes: int = 1000

    def __call__(self, arch: Arch, seed: int) -> Evaluation:
        return guarded(self._score, arch, seed, num_classes=self.num_classes)

    def _score(self, arch: Arch, seed: int) -> Evaluation:
        begun = time.monotonic()
        score = self.function(arch)
        if not is_number(score):
            raise ValueError(f"the score must be a finite number, got {score!r:.60}")
        return _evaluation(arch, self.num_classes, time.monotonic() - begun, float(score))
