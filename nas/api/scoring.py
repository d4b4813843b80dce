"""How the candidates of a search are scored: on which images and accelerator, by which model, and by which workers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from nas.accuracy.prior import PriorModel
from nas.api.rungs import in_rungs
from nas.api.shared import proxy_of, within_budget
from nas.arch.arch import Arch
from nas.engine.options import FILE, SearchOptions
from nas.engine.progress import Watcher
from nas.engine.run.info import DataInfo, RunInfo
from nas.engine.warm_start import NOTHING, WarmStart
from nas.system.errors import InputError

if TYPE_CHECKING:
    from nas.data.dataset import ImageData
    from nas.engine.executors.base import Executor
    from nas.engine.judge import Judge
    from nas.training.accelerator import Kind
    from nas.training.evaluate import Evaluator


@dataclass(frozen=True)
class Scoring:
    """How candidates are scored.

    Args:
        evaluator: what workers do.
        judge: estimates accuracies; None where the observed scores decide.
        data: the images; None where nothing is trained.
        proxy: settings of the proxy; None where nothing is trained.
    """

    evaluator: Evaluator
    judge: Judge | None
    data: DataInfo | None = None
    proxy: Mapping[str, Any] | None = None


def scoring_of(
    options: SearchOptions, info: RunInfo, folder: Path | None, watch: Watcher, warm: WarmStart = NOTHING
) -> Scoring:
    """Read the images, or the accuracy model that decides alone, which the run folder then keeps.

    Args:
        options: of the search; its accelerator is decided.
        info: of the run: a resumed one continues on the same images, as it began.
        folder: of the run; None keeps nothing.
        watch: sees what is found.
        warm: what the run knows when it begins.

    Raises:
        InputError: the images or the model cannot be used, or the images are not those the run began with.
    """
    from nas.engine.judge import judge_of
    from nas.training.evaluate import CustomEvaluator, ProxyEvaluator

    if options.evaluate is not None:
        return Scoring(CustomEvaluator(options.evaluate), None)
    if options.estimates_only:
        if options.data is not None:
            watch.say("nothing is trained, so --data is not read; --accuracy auto or train would use it")
        judge = judge_of(info, folder)
        return Scoring(CustomEvaluator(_estimate(options, judge, folder)), judge)
    config = proxy_of(options, info.space, info.proxy)
    data, about = _images(options, info, config.resolution, watch)
    if info.proxy is None:
        config = in_rungs(within_budget(config, options, info.space, data, watch), options)
    evaluator = ProxyEvaluator(data, config, threads=None, accelerator=cast("Kind", options.accelerator))
    info = replace(info, data=about, proxy=config.to_dict())
    return Scoring(evaluator, judge_of(info, folder, warm), about, config.to_dict())


def _images(options: SearchOptions, info: RunInfo, side: int, watch: Watcher) -> tuple[ImageData, DataInfo]:
    from nas.data.dataset import class_counts
    from nas.data.load import load_data
    from nas.data.torchvision_sets import SETS

    where = options.data
    if info.data is not None and where is not None and where not in SETS and not Path(str(where)).exists():
        raise InputError(f"the images of this run are no longer at {where}; give their new folder with --data")
    data = load_data(where, side, watch.step)
    watch.say(f"images: {data}")
    watch.say(f"  {class_counts(data.classes, data.counts)}")
    for note in data.notes:
        watch.say(f"  {note}")
    if info.data is not None and info.data.key != data.key:
        raise InputError(
            f"the images have changed since this run began ({info.data.key} then, {data.key} now); "
            "give the folder of the old ones with --data, or start a new run"
        )
    about = DataInfo(
        name=data.name,
        key=data.key,
        classes=tuple(data.classes),
        train=len(data.train_labels),
        val=len(data.val_labels),
        generated=data.generated,
        notes=tuple(data.notes),
        counts=data.counts,
    )
    return data, about


def _estimate(options: SearchOptions, judge: Judge | None, folder: Path | None) -> Callable[[Arch], float]:
    """The accuracy of a network by the function or the model that decides alone."""
    from nas.engine.judge import MODEL

    if callable(options.accuracy):
        return options.accuracy
    model = None if judge is None else judge.model
    assert model is not None
    if folder is not None and options.accuracy.startswith(FILE) and isinstance(model, PriorModel):
        model.save(folder / MODEL)
    return lambda arch: model(arch).mean


def accelerator_of(options: SearchOptions, info: RunInfo, watch: Watcher) -> Kind:
    """Decide what ``auto`` is here. The run keeps it: proxy accuracies of two kinds of device are not mixed.

    Raises:
        InputError: the accelerator is not available.
    """
    from nas.engine.executors.ray import started_here
    from nas.training.accelerator import Accelerator, choose_for

    ray = options.ray
    elsewhere = ray is not None and not started_here(None if ray == "auto" else ray)
    try:
        kind = choose_for(options.accelerator, options.gpus_per_trial, ray=ray is not None, elsewhere=elsewhere)
    except InputError:
        if info.data is None:
            raise
        raise InputError(
            f"this run trains on the accelerator {options.accelerator}, which is not available here; "
            "resume it where it is, or start a new run"
        ) from None
    if kind != "cpu":
        watch.say(f"accelerator: {f'{kind} of the Ray cluster' if elsewhere else str(Accelerator.here(kind))}")
    return kind


def executor_of(evaluator: Evaluator, options: SearchOptions) -> Executor:
    """Where candidates are evaluated: this process, worker processes, or Ray."""
    from nas.engine.executors.base import ProcessExecutor, SerialExecutor

    if options.estimates_only:  # milliseconds each
        return SerialExecutor(evaluator)
    if options.ray is not None:
        from nas.engine.executors.ray import RayExecutor

        address = None if options.ray == "auto" else options.ray
        return RayExecutor(evaluator, address, options.cpus_per_trial, options.gpus_per_trial)
    if options.workers == 1:
        return SerialExecutor(evaluator)
    gpus: tuple[str, ...] = ()
    workers = options.workers
    if options.evaluate is None and options.accelerator == "cuda":
        from nas.training.accelerator import visible_gpus

        gpus = visible_gpus()
        if options.gpus_per_trial:
            workers = max(1, min(workers, int(len(gpus) / options.gpus_per_trial + 1e-9)))
    return ProcessExecutor(evaluator, workers, gpus=gpus)
