"""The options of a search: one object, checked once, that travels whole from the command line to the engine."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

from nas.arch.arch import Arch
from nas.engine.limit_options import Device, Target, checked_limits, read_devices
from nas.references.table import reference
from nas.system.errors import InputError
from nas.system.units import guard_share, milliseconds, seconds
from nas.system.validate import is_number, is_whole, whole_number
from nas.training.accelerator import check_name

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

REFERENCES = ("mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small", "efficientnet_b0")
DEFAULT_BUDGET_S = 180.0
OWN_IMAGES_BUDGET_S = 900.0  # shared weights need thousands of steps: docs/proxy.md
MAX_SEED = 2**32 - 1
MAX_WORKERS = 1024
MAX_SHARED_STEPS = 10**7
MAX_START = 1000
MAX_WARM_STARTS = 20
CUSTOM = "custom"  # in run.json, in place of a device that is a Python function
_WITHOUT_CUDA = ("cpu", "mps")
Objective = Literal["pareto", "accuracy"]
ACCURACIES = ("auto", "imagenet", "train")  # or file:PATH, or a function
RUNGS = ("auto", "off")  # or lengths in steps
OBSERVED = "observed"  # in runs of versions without accuracy models: the observed scores decide, as they did
FILE = "file:"
ESTIMATED_TRIALS = 300  # without trainings a candidate takes milliseconds, and a limit of time would be waited for
_TEXTS = ("device", "data", "sampler", "ray", "runtime", "accuracy")


@dataclass(frozen=True)
class SearchOptions:
    """The options of one search; `nas.search` explains each under the same name, `target_ms` as ``latency_target`` and
    `budget_s` as ``budget``.

    Attributes:
        references: names of the fixed networks; None stands for `REFERENCES`, or for none with an own `evaluate`.
        limits: bounds by quantity, in numbers and bytes.
        further: latency targets in ms of further devices, by name.

    Raises:
        InputError: a value is of the wrong kind or out of bounds, or a reference is unknown.

    >>> SearchOptions(seed=1).references
    ('mobilenet_v2', 'mobilenet_v3_large', 'mobilenet_v3_small', 'efficientnet_b0')
    """

    target_ms: float | None = None
    guard: float | None = None
    device: str | Callable[[Arch], float] = "host"
    token: str | None = field(default=None, repr=False)  # of an agent; never written down
    evaluate: Callable[[Arch], float] | None = None
    accuracy: str | Callable[[Arch], float] = "auto"
    data: str | Path | None = None
    trials: int | None = None
    budget_s: float | None = None
    sampler: str | BaseSampler = "auto"
    objective: Objective = "pareto"
    seed: int = 0
    steps: int | None = None
    shared_steps: int | None = None
    rungs: str | Sequence[int] = "auto"
    workers: int = 1
    ray: str | None = None
    cpus_per_trial: float = 1
    gpus_per_trial: float = 0
    accelerator: str = "auto"
    runtime: str = "onnxruntime"
    threads: int = 1
    references: Sequence[str] | None = None
    limits: Mapping[str, float] = field(default_factory=dict)
    further: Mapping[str, float] = field(default_factory=dict)
    start: Sequence[str | Path | Arch] = ()
    warm_start: Sequence[str | Path] = ()

    def __post_init__(self) -> None:
        for name, low, high in (
            ("seed", 0, MAX_SEED),
            ("workers", 1, MAX_WORKERS),
            ("threads", 1, None),
            *((name, 1, None) for name in ("trials", "steps") if getattr(self, name) is not None),
            *(() if self.shared_steps is None else (("shared_steps", 0, MAX_SHARED_STEPS),)),
        ):
            self._set(name, whole_number(name, getattr(self, name), low, high))
        if self.steps is not None and self.shared_steps:
            raise InputError(
                f"--steps is the length of a training from scratch, which --shared-steps {self.shared_steps} replaces; "
                "give one of them"
            )
        self._check_rungs()
        if not is_number(self.cpus_per_trial) or not 0 < self.cpus_per_trial <= 4096:
            raise InputError(f"cpus_per_trial must be a number above 0, got {self.cpus_per_trial!r:.40}")
        if not is_number(self.gpus_per_trial) or not 0 <= self.gpus_per_trial <= 1024:
            raise InputError(f"gpus_per_trial must be a number from 0, got {self.gpus_per_trial!r:.40}")
        check_name(self.accelerator)
        if self.objective not in get_args(Objective):
            raise InputError(f"objective must be {' or '.join(get_args(Objective))}, got {self.objective!r:.40}")
        if self.gpus_per_trial and self.evaluate is None and self.accelerator in _WITHOUT_CUDA:
            raise InputError(
                f"candidates train on the accelerator {self.accelerator}, so a GPU would be reserved for nothing; "
                f"got gpus_per_trial {self.gpus_per_trial:g}; leave it out"
            )
        if self.evaluate is not None and not callable(self.evaluate):
            raise InputError(f"evaluate must be a function of an Arch, got {self.evaluate!r:.60}")
        self._check_accuracy()
        self._set("data", None if self.data is None else os.path.expanduser(self.data))
        if isinstance(self.references, str):
            raise InputError(f"references must be a list of names, got the text {self.references!r:.60}")
        names = self.references
        if names is None:
            names = () if self.evaluate is not None else REFERENCES
        for name in names:
            reference(name)
        self._set("references", tuple(names))
        self._set("limits", checked_limits(self.limits))
        self._set("further", {str(name): milliseconds(target) for name, target in self.further.items()})
        self._check_warm_start()

    def _check_warm_start(self) -> None:
        for name, kinds in (("start", (str, Path, Arch)), ("warm_start", (str, Path))):
            given, most = getattr(self, name), {"start": MAX_START, "warm_start": MAX_WARM_STARTS}[name]
            listed = isinstance(given, Sequence) and not isinstance(given, str)
            if not listed or len(given) > most or not all(isinstance(one, kinds) for one in given):
                raise InputError(f"{name} must be a list of at most {most} names or paths, got {given!r:.60}")
            self._set(name, tuple(given))

    def _check_rungs(self) -> None:
        rungs = self.rungs
        if isinstance(rungs, str):
            if rungs not in RUNGS:
                raise InputError(f"rungs must be {', '.join(RUNGS)} or lengths in steps, got {rungs!r:.60}")
            return
        if not isinstance(rungs, Sequence) or not rungs:
            raise InputError(f"rungs must be {', '.join(RUNGS)} or a list of lengths in steps, got {rungs!r:.60}")
        self._set("rungs", tuple(whole_number("a rung", rung, 1) for rung in rungs))
        if self.evaluate is not None or self.estimates_only or (self.steps is None and self.shared_steps != 0):
            raise InputError(
                f"rungs are lengths of trainings from scratch, which need --steps N or --shared-steps 0, got "
                f"{','.join(map(str, self.rungs))}; add one of them, or leave --rungs out"
            )

    def _check_accuracy(self) -> None:
        accuracy = self.accuracy
        known_text = isinstance(accuracy, str) and (
            accuracy in (*ACCURACIES, CUSTOM, OBSERVED) or (accuracy.startswith(FILE) and accuracy != FILE)
        )
        if not known_text and not callable(accuracy):
            raise InputError(f"accuracy must be {', '.join(ACCURACIES)} or file:PATH, got {accuracy!r:.60}")
        if self.evaluate is not None and accuracy not in ("auto", "train", OBSERVED):
            raise InputError(
                "networks are scored by evaluate or estimated by accuracy, not both; got evaluate and "
                f"accuracy {accuracy if isinstance(accuracy, str) else 'as a function'!r}; leave one of them out"
            )

    @property
    def estimates_only(self) -> bool:
        """Whether an accuracy model, or a function, scores all candidates, so that nothing is trained."""
        return not isinstance(self.accuracy, str) or self.accuracy not in ("auto", "train", OBSERVED)

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    @classmethod
    def parse(
        cls,
        *,
        latency_target: Target | None = None,
        device: Device | Sequence[Device] = "host",
        guard: str | float | None = None,
        budget: str | float | None = None,
        **others: Any,
    ) -> Self:
        """The options as people write them: ``latency_target="66ms"``, ``guard="5%"``, ``budget="10m"``; without
        `budget` and ``trials`` the search takes three minutes, on own images fifteen, and where nothing is trained
        `ESTIMATED_TRIALS`.

        >>> SearchOptions.parse(latency_target="0.066s", budget="10m").target_ms
        66.0
        """
        if (accuracy := others.get("accuracy")) in (CUSTOM, OBSERVED):  # words of run.json alone
            raise InputError(f"accuracy must be {', '.join(ACCURACIES)} or file:PATH, got {accuracy!r}")
        first, target_ms, further = read_devices(device, latency_target)
        options = cls(
            device=first,
            target_ms=target_ms,
            further=further,
            guard=None if guard is None else guard_share(guard),
            budget_s=None if budget is None else seconds(budget),
            **others,
        )
        if options.budget_s is not None or options.trials is not None:
            return options
        if options.estimates_only:
            return replace(options, trials=ESTIMATED_TRIALS)
        own = options.data is not None and options.evaluate is None
        return replace(options, budget_s=OWN_IMAGES_BUDGET_S if own else DEFAULT_BUDGET_S)

    @property
    def custom(self) -> tuple[str, ...]:
        """Names of the options that are Python objects, which a run folder cannot hold."""
        objects = {
            "evaluate": self.evaluate is not None,
            "accuracy": not isinstance(self.accuracy, str),
            "device": not isinstance(self.device, str),
            "sampler": not isinstance(self.sampler, str),
        }
        return tuple(name for name, given in objects.items() if given)

    @property
    def reference_names(self) -> tuple[str, ...]:
        """`references`, which is never None once it was checked."""
        return tuple(self.references or ())

    def to_dict(self) -> dict[str, Any]:
        """Plain values for ``run.json``: objects by name, and no token."""
        values = {one.name: getattr(self, one.name) for one in fields(self) if one.name not in ("token", "evaluate")}
        device = self.device if isinstance(self.device, str) else CUSTOM
        accuracy = self.accuracy if isinstance(self.accuracy, str) else CUSTOM
        sampler = self.sampler if isinstance(self.sampler, str) else type(self.sampler).__name__
        values |= {"limits": dict(self.limits), "further": dict(self.further)}
        names = list(self.reference_names)
        values |= {"start": [one.key if isinstance(one, Arch) else str(one) for one in self.start]}
        values |= {"warm_start": [str(one) for one in self.warm_start]}
        return values | {"accuracy": accuracy, "device": device, "sampler": sampler, "references": names}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Read what `to_dict` wrote; fields of other versions are passed over.

        Raises:
            InputError: a value is of the wrong kind, or out of bounds.
        """
        values = {one.name: data[one.name] for one in fields(cls) if one.name in data}
        values.pop("token", None)
        values.pop("evaluate", None)
        values.setdefault("accelerator", "cpu")  # earlier versions knew no other
        values.setdefault("accuracy", OBSERVED)
        if values["accelerator"] in _WITHOUT_CUDA:
            values["gpus_per_trial"] = 0  # reserved for the evaluation of a caller, who gives it again
        for name in _TEXTS:
            optional = name in ("data", "ray")
            if name in values and not isinstance(values[name], str) and not (optional and values[name] is None):
                raise InputError(f"option {name} must be a text, got {values[name]!r:.40}")
        for name in ("target_ms", "budget_s"):
            if values.get(name) is not None and not (is_number(values[name]) and values[name] > 0):
                raise InputError(f"option {name} must be null or a positive number, got {values[name]!r:.40}")
        if values.get("guard") is not None:
            guard_share(values["guard"])
        for name in ("limits", "further"):
            if not isinstance(values.get(name, {}), Mapping):
                raise InputError(f"option {name} must be an object, got {values[name]!r:.40}")
        if isinstance(values.get("rungs"), list):
            values["rungs"] = tuple(values["rungs"])
        for name in ("references", "start", "warm_start"):
            names = values.get(name, [])
            if not isinstance(names, (list, tuple)) or not all(isinstance(one, str) for one in names):
                raise InputError(f"option {name} must be a list of names, got {names!r:.40}")
        for name in ("trials", "steps"):
            if values.get(name) is not None and not is_whole(values[name]):
                raise InputError(f"option {name} must be null or a whole number from 1, got {values[name]!r:.40}")
        shared = values.get("shared_steps")
        if shared is not None and not is_whole(shared, 0):
            raise InputError(f"option shared_steps must be null or a whole number from 0, got {shared!r:.40}")
        return cls(**values | {"references": tuple(values.get("references", []))})
