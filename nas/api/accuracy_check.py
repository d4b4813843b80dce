"""`nas accuracy check`: trains shared weights at several lengths on the user's images, and says what they are worth."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from nas.accuracy.check import FEWEST_NETWORKS, Check, Training, check
from nas.accuracy.prior import bundled
from nas.api.check_cache import Scores, keep_recommendation
from nas.api.shared import draw_of, proxy_of, shared_weights
from nas.arch.arch import Arch
from nas.arch.cost import cost_of
from nas.arch.space import Space
from nas.arch.space_yaml import load_space
from nas.engine.options import SearchOptions
from nas.engine.progress import Silent, Watcher
from nas.latency.devices import LatencyModel, is_modelled
from nas.latency.devices import device as device_of
from nas.latency.equal_cost import of_equal_cost
from nas.latency.feasibility import feasibility
from nas.latency.remembering import Remembering
from nas.system.errors import InputError, NasError
from nas.system.units import clock, milliseconds
from nas.system.validate import whole_number
from nas.training.config import ProxyConfig

if TYPE_CHECKING:
    from nas.data.dataset import ImageData
    from nas.training.accelerator import Kind

NETWORKS, STEPS = 24, 4000
PARTS = (8, 4, 2, 1)  # of the longest training
FEWEST_STEPS, MOST_STEPS, MOST_NETWORKS = 40, 10**6, 200
BAND = 0.08  # below the target, or around the median of the MACs
_DRAWS = 500  # for that median
_QUESTIONS = 500  # to a device that is a Python function


@dataclass(frozen=True, slots=True)
class CheckedImages:
    """The outcome of a check.

    Args:
        space: name of the space.
        data: the images, in words.
        band: the cost of the networks, in words.
        figures: what the trainings are worth.
        trainings: their scores.
        keys: keys of the networks, in the order of these scores.
        failed: networks that a training could not score; they are in no figure.
    """

    space: str
    data: str
    band: str
    figures: Check
    trainings: tuple[Training, ...]
    keys: tuple[str, ...]
    failed: int

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)


def check_accuracy(
    space: Space | str | Path,
    data: str | Path,
    *,
    latency_target: str | float | None = None,
    device: str | Callable[[Arch], float] = "host",
    token: str | None = None,
    networks: int = NETWORKS,
    steps: int = STEPS,
    seed: int = 0,
    accelerator: str = "auto",
    runtime: str = "onnxruntime",
    threads: int = 1,
    watch: Watcher | None = None,
) -> CheckedImages:
    """Find out, before a search, what its trainings are worth on these images among networks of equal cost.

    Shared weights are trained for an eighth, a quarter and a half of the steps, and twice for all of them. Finished
    trainings are kept in the cache, and an interrupted one continues. `nas.search` takes over the recommended length
    for the same space and images.

    Args:
        space: a `Space`, a name, or a path to a space file.
        data: folder of images, or name of a data set.
        latency_target: the networks are predicted at most 8 % below it; None: their MACs are within 8 % of the space's
            median.
        device: target device, as `nas.search` takes it; unused without a target.
        token: token of a device that is an agent.
        networks: number of networks.
        steps: length of the longest training.
        seed: random seed of the trainings and the networks; the second of the longest has the next.
        accelerator: device that trains, as in `nas.search`.
        runtime: runtime that the host's latency is measured with.
        threads: number of threads of the timed network.
        watch: sees progress; None is silent.

    Raises:
        InputError: an argument cannot be used, or the space has too few networks of equal cost.
        InfeasibleError: no network of the space can meet the target.
        KeyboardInterrupt: interrupted; the same call continues.
    """
    from nas.data.load import load_data
    from nas.training.accelerator import choose

    networks = whole_number("networks", networks, FEWEST_NETWORKS, MOST_NETWORKS)
    steps = whole_number("steps", steps, FEWEST_STEPS, MOST_STEPS)
    target_ms = None if latency_target is None else milliseconds(latency_target)
    if data is None:
        raise InputError("a check needs your images; give a folder with one subfolder per class, or a data set")
    watcher, searched = watch or Silent(), space if isinstance(space, Space) else load_space(space)
    options = SearchOptions(seed=seed, data=data, accelerator=choose(accelerator))
    config = proxy_of(options, searched, None)
    images = load_data(options.data, config.resolution, watcher.step)
    watcher.say(f"images: {images}")
    if target_ms is None:
        archs, band = _around_the_median(searched, networks, seed)
    else:
        model = device_of(
            device, searched, runtime=runtime, threads=threads, seed=seed, progress=watcher.step, token=token
        )
        archs, band = _below_the_target(searched, model, target_ms, networks, seed, watcher)
    if len(archs) < FEWEST_NETWORKS:
        raise InputError(
            f"only {len(archs)} networks of space {searched.name} were found at {band}; at least {FEWEST_NETWORKS} are "
            "required; give another --latency-target"
        )
    watcher.say(f"{len(archs)} networks at {band}")
    made = _Trainings(searched, images, config, options, archs, watcher)
    try:
        scores = made.all(steps)
    except KeyboardInterrupt:
        watcher.say("interrupted; finished work is kept, and the same command continues")
        raise
    return _checked(searched, images, config, archs, band, scores)


def _around_the_median(space: Space, wanted: int, seed: int) -> tuple[list[Arch], str]:
    rng = np.random.default_rng([seed, 5])
    middle = float(np.median(_macs([space.sample(rng) for _ in range(_DRAWS)])))
    archs = of_equal_cost(space, _macs, middle * (1 - BAND), middle * (1 + BAND), wanted, rng)
    return archs, f"{middle / 1e6:.3g} M MACs ± {BAND:.0%}"


def _below_the_target(
    space: Space, model: LatencyModel, target_ms: float, wanted: int, seed: int, watch: Watcher
) -> tuple[list[Arch], str]:
    if model.table is None:
        model = Remembering(model)
    most = _QUESTIONS if model.table is None else None
    word = "modelled" if is_modelled(model) else "predicted"
    found = feasibility(space, model, target_ms, seed, most=most, word=word)
    watch.say(str(found))
    low_ms = target_ms * (1 - BAND)
    if found.slowest_ms < low_ms:
        raise InputError(
            f"the slowest network of space {space.name} takes {found.slowest_ms:.3g} ms ({word}), far below the target "
            f"of {target_ms:g} ms; give a lower --latency-target, or none"
        )
    archs = of_equal_cost(space, model.many, low_ms, target_ms, wanted, np.random.default_rng([seed, 5]), most)
    return archs, f"{low_ms:.3g} to {target_ms:.3g} ms {word}"


def _macs(archs: Sequence[Arch]) -> np.ndarray:
    return np.array([cost_of(arch).macs for arch in archs], dtype=float)


@dataclass(frozen=True)
class _Trainings:
    """Trains and scores, and keeps what is finished."""

    space: Space
    data: ImageData
    config: ProxyConfig
    options: SearchOptions
    archs: Sequence[Arch]
    watch: Watcher

    def all(self, steps: int) -> list[tuple[int, int, Scores]]:
        """The scores of each training with its length and seed, from the shortest to the two longest."""
        seed = self.options.seed
        plan = [*((steps // part, seed) for part in PARTS), (steps, seed + 1)]
        kept = [(length, at, Scores.of(self._made_for(length, at))) for length, at in plan]
        missing = sum(length for length, _, scores in kept if not scores.weights.exists())
        if missing and any(self._left(scores) for *_, scores in kept):
            self.watch.say(f"{missing:,} steps in {len(plan)} trainings, about {clock(missing * self._step_s())}")
        for number, (length, at, scores) in enumerate(kept, 1):
            self._complete(scores, length, at, f"training {number} of {len(plan)}, {length:,} steps")
        return kept

    def _complete(self, scores: Scores, steps: int, seed: int, text: str) -> None:
        from nas.training.evaluate import ProxyEvaluator

        left = self._left(scores)
        if not left:
            return
        config = replace(self.config, shared_steps=steps)
        options, watch = replace(self.options, seed=seed), _Renamed(self.watch, text)
        try:
            shared = shared_weights(config, options, self.space, self.data, scores.weights, watch)
        except InputError:  # a damaged file
            scores.weights.unlink(missing_ok=True)
            shared = shared_weights(config, options, self.space, self.data, scores.weights, watch)
        evaluator = ProxyEvaluator(self.data, config, accelerator=cast("Kind", options.accelerator), shared=shared)
        scores.seconds = shared.seconds
        for at, arch in enumerate(left):
            evaluation = evaluator(arch, seed)
            scores.found[arch.key] = evaluation.proxy_accuracy, evaluation.proxy_loss, evaluation.seconds
            scores.keep()
            self.watch.step(at + 1, len(left), f"{text}: scoring networks")

    def _left(self, scores: Scores) -> list[Arch]:
        return [arch for arch in self.archs if arch.key not in scores.found]

    def _step_s(self) -> float:
        from nas.training.accelerator import Accelerator
        from nas.training.shared_training import seconds_per_step

        accelerator = Accelerator.here(cast("Kind", self.options.accelerator))
        draw = draw_of(self.space, self.options)
        return seconds_per_step(self.data, self.config, draw, self.options.seed, accelerator)

    def _made_for(self, steps: int, seed: int) -> list[Any]:
        import nas

        config, options = replace(self.config, shared_steps=steps).to_dict(), self.options
        where = [options.accelerator, *sorted(options.reference_names), nas.__version__]
        return [self.space.key, self.data.key, config, seed, where]


class _Renamed(Silent):
    """Shows the steps of one training under its own name."""

    def __init__(self, watch: Watcher, text: str) -> None:
        self._watch, self._text = watch, text

    def step(self, done: int, total: int, text: str) -> None:
        self._watch.step(done, total, self._text)


def _checked(
    space: Space,
    data: ImageData,
    config: ProxyConfig,
    archs: Sequence[Arch],
    band: str,
    found: Sequence[tuple[int, int, Scores]],
) -> CheckedImages:
    good = [arch for arch in archs if all(scores.found[arch.key][0] is not None for _, _, scores in found)]
    failed = len(archs) - len(good)
    if len(good) < FEWEST_NETWORKS:
        raise NasError(
            f"{failed} of {len(archs)} networks could not be scored; at least {FEWEST_NETWORKS} are required; "
            "give more --networks or --steps"
        )
    trainings = tuple(
        Training(steps, seed, scores.seconds or 0.0, _column(scores, good, 0), _column(scores, good, 1))
        for steps, seed, scores in found
    )
    scoring_s = float(np.median([scores.found[arch.key][2] for _, _, scores in found for arch in good]))
    costs = [cost_of(arch) for arch in good]
    untrained: Mapping[str, Any] = {
        "ImageNet model": bundled().many(good)[0],
        "MACs": [cost.macs for cost in costs],
        "parameters": [cost.params for cost in costs],
    }
    figures = check(trainings, untrained, scoring_s)
    steps = figures.recommended.steps if figures.recommended else None
    if steps == max(training.steps for training in trainings) and steps < ProxyConfig().shared_steps:
        steps = None  # more may help: no reason for a search to train less than usual
    keep_recommendation(space, data, config, steps)
    return CheckedImages(space.name, str(data), band, figures, trainings, tuple(a.key for a in good), failed)


def _column(scores: Scores, archs: Sequence[Arch], at: int) -> tuple[float, ...]:
    return tuple(cast(float, scores.found[arch.key][at]) for arch in archs)
