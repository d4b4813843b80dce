"""How candidates are trained and scored."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from itertools import pairwise
from typing import Any

from nas.arch.arch import Arch
from nas.system.errors import InputError, known
from nas.system.validate import is_number, whole_number

MAX_RUNGS = 20
_BOUNDS: dict[str, tuple[float, float]] = {
    "steps": (1, 10**7),
    "batch": (2, 4096),
    "width": (0.05, 4),
    "resolution": (8, 256),
    "full_resolution": (8, 2048),
    "lr": (1e-8, 100),
    "weight_decay": (0, 1),
    "label_smoothing": (0, 0.9),
    "warmup": (0, 1),
    "decay": (0, 1),
    "average": (0, 1),
    "clip": (1e-6, 1e9),
    "val_images": (1, 10**7),
    "shared_steps": (0, 10**7),
    "tune": (0, 10**7),
}


@dataclass(frozen=True)
class ProxyConfig:
    """How candidates are trained and scored. From scratch, the largest network of mbconv takes under 10 s on two cores.

    Args:
        steps: training steps of a candidate that is trained from scratch.
        batch: images per step.
        width: multiplier of all channels.
        resolution: input side in pixels for a candidate of `full_resolution` or more. Smaller candidates get a side in
            proportion, rounded to a multiple of 4.
        full_resolution: largest resolution of the space.
        lr: peak learning rate of AdamW.
        weight_decay: decay of convolution and linear weights per step, as a multiple of the learning rate.
        label_smoothing: share of the target that is spread over all classes.
        warmup: share of the steps, at the start, over which the learning rate rises linearly.
        decay: share of the steps, at the end, over which the learning rate falls linearly to a tenth. With `rungs` it
            does not fall.
        average: share of the steps, at the end, whose weights are averaged.
        clip: largest norm of the gradient.
        val_images: largest number of held-out images to score.
        shared_steps: training steps of the weights that the networks of a space share (`nas.training.shared`); 0 trains
            each candidate from scratch.
        tune: steps for which a candidate is trained further from the shared weights.
        rungs: lengths below `steps`, in ascending order, at which a training from scratch may end: there it is scored
            by the weights averaged up to there, and from there it goes on as if it had not stopped.

    Raises:
        InputError: a value is out of bounds.
    """

    steps: int = 140
    batch: int = 64
    width: float = 0.25
    resolution: int = 24
    full_resolution: int = 224
    lr: float = 0.003
    weight_decay: float = 0.05
    label_smoothing: float = 0.1
    warmup: float = 0.1
    decay: float = 0.3
    average: float = 0.2
    clip: float = 2.0
    val_images: int = 2000
    shared_steps: int = 4000
    tune: int = 0
    rungs: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for field in fields(self):
            if field.name == "rungs":
                continue
            value, (low, high) = getattr(self, field.name), _BOUNDS[field.name]
            name = f"{field.name} of the proxy"
            if field.type == "int":
                object.__setattr__(self, field.name, whole_number(name, value, int(low), int(high)))
            elif not is_number(value) or not low <= value <= high:
                raise InputError(f"{name} must be a number from {low:g} to {high:g}, got {value!r:.60}")
        self._check_rungs()

    def _check_rungs(self) -> None:
        if not isinstance(self.rungs, (tuple, list)) or len(self.rungs) > MAX_RUNGS:
            raise InputError(f"rungs of the proxy must be a list of at most {MAX_RUNGS}, got {self.rungs!r:.60}")
        rungs = tuple(whole_number("a rung of the proxy", rung, 1, self.steps) for rung in self.rungs)
        object.__setattr__(self, "rungs", rungs)
        for before, after in pairwise(self.lengths):
            if before > after * (1 - self.average) or before == after:  # averages must not reach beyond a rung
                raise InputError(
                    f"each rung must be at least {1 / (1 - min(self.average, 0.99)):.3g} times as long as the one "
                    f"before, up to the {self.steps} steps of the whole training; got {before} before {after}"
                )

    @property
    def lengths(self) -> tuple[int, ...]:
        """The lengths at which a training may end: the rungs and `steps`."""
        return (*self.rungs, self.steps)

    def candidate(self, arch: Arch) -> Arch:
        """The network that is trained in place of `arch`: thinner, with a smaller input, and without dropout and
        stochastic depth, which only slow down a short training.

        >>> from nas.references.table import reference
        >>> small = ProxyConfig().candidate(reference("mobilenet_v2"))
        >>> small.resolution, small.rows[0].channels
        (24, 8)
        """
        ideal = min(arch.resolution / self.full_resolution, 1) * self.resolution
        return replace(arch.scaled(self.width, max(8, 4 * round(ideal / 4))), dropout=0.0, stochastic_depth=0.0)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        values = asdict(self)
        rungs = values.pop("rungs")
        return values | ({"rungs": list(rungs)} if rungs else {})  # without, as versions that knew none wrote it

    @staticmethod
    def from_dict(data: Any) -> ProxyConfig:
        """Read what `to_dict` returned. Without `shared_steps`, candidates were trained from scratch: earlier versions
        knew nothing else.

        Raises:
            InputError: unknown fields, or a value out of bounds.
        """
        names = [field.name for field in fields(ProxyConfig)]
        if not isinstance(data, dict):
            raise InputError(f"the proxy's options must be an object, got {data!r:.80}")
        if unknown := set(data) - set(names):
            raise InputError(f"the proxy's options have no {sorted(unknown)[0]!r}; {known(names)}")
        values: dict[str, Any] = {"shared_steps": 0} | data
        return ProxyConfig(**values)
