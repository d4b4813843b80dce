"""The commands `nas search` and `nas resume`."""

from __future__ import annotations

import math
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nas.cli.app import Json, Run, Runtime, Space, Threads, Token, app, show, split_names, watcher_for
from nas.system.errors import TargetMissedError
from nas.system.units import MAX_GUARD

if TYPE_CHECKING:
    from nas.engine.run.record import Record


@app.command()
def search(
    space: Space = "mbconv",
    latency_target: Annotated[
        str | None,
        typer.Option(
            help="Latency budget of one inference: 66ms, 66, 0.066s or 66000us; with several devices "
            "pixel1=66ms,host=8ms.  [default: none]"
        ),
    ] = None,
    limit: Annotated[
        list[str] | None,
        typer.Option(
            help="Hard limit besides latency, for example params=4M; may be repeated. Quantities: params, macs, memory "
            "(peak of the feature maps), size (of the ONNX file), memory_int8 and size_int8, all for 1000 classes."
        ),
    ] = None,
    guard: Annotated[
        str | None,
        typer.Option(
            help="Safety margin that a prediction must leave: how much longer than predicted a network may take and "
            "still meet the target, for example 5%; 0 turns it off.  [default: from the latency model's error]"
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="Images: a folder with one subfolder per class, or a name such as cifar10.  [default: generated]"
        ),
    ] = None,
    accuracy: Annotated[
        str,
        typer.Option(
            help="Accuracy model: auto (with --data short trainings and the ImageNet model, else that model alone), "
            "imagenet (nothing is trained), train (trainings alone) or file:PATH."
        ),
    ] = "auto",
    device: Annotated[
        list[str],
        typer.Option(
            help="Target device: host, pixel1, table:PATH or http://HOST:PORT. May be repeated: the latency of the "
            "first is the objective, the targets of the others are hard limits."
        ),
    ] = ["host"],  # noqa: B006
    token: Token = None,
    budget: Annotated[
        str | None,
        typer.Option(
            help="Time limit for training candidates: 10m, 2h.  [default: 3m; 15m with --data; none with --trials, or "
            "where nothing is trained]"
        ),
    ] = None,
    trials: Annotated[
        int | None,
        typer.Option(help="Maximum number of candidates to train; the search stops at whichever limit comes first."),
    ] = None,
    sampler: Annotated[
        str,
        typer.Option(
            help="Sampler that proposes candidates: auto, random, tpe, nsga2, aging-evolution or gp "
            "(nas bench samplers compares them)."
        ),
    ] = "auto",
    objective: Annotated[
        str,
        typer.Option(
            help="What the sampler auto proposes for: pareto, the front (under a latency target most candidates are "
            "for its best network all the same), or accuracy, the best network alone."
        ),
    ] = "pareto",
    seed: Annotated[int, typer.Option(help="Random seed.")] = 0,
    steps: Annotated[
        int | None,
        typer.Option(help="Length of each candidate's training from scratch, in batches; no weights are shared."),
    ] = None,
    shared_steps: Annotated[
        int | None,
        typer.Option(
            help="Length of the training of weights that all candidates share, in batches; 0 trains each from scratch."
            "  [default: with --data, what nas accuracy check recommended, else 4000, fewer if they exceed 40 % of "
            "the budget; without --data, 0]"
        ),
    ] = None,
    rungs: Annotated[
        str,
        typer.Option(
            help="Lengths, in batches, at which trainings from scratch are compared and most are stopped, for example "
            "50,200; auto or off."
        ),
    ] = "auto",
    workers: Annotated[
        int | None, typer.Option(help="Number of training processes.  [default: one per core, at most 8]")
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(help="Ray cluster to train on: an ADDRESS joins one; --ray alone starts Ray on this machine."),
    ] = None,
    cpus_per_trial: Annotated[float, typer.Option(help="CPU cores per candidate; needs --ray.")] = 1,
    gpus_per_trial: Annotated[
        float, typer.Option(help="CUDA GPUs per candidate; 0.25 trains four candidates on one GPU at once.")
    ] = 0,
    accelerator: Annotated[
        str, typer.Option(help="Accelerator that trains candidates: auto, cpu, cuda or mps.")
    ] = "auto",
    runtime: Runtime = "onnxruntime",
    threads: Threads = 1,
    references: Annotated[
        str | None,
        typer.Option(help="Published networks to compare with, separated by commas, or none.  [default: four]"),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            help="Networks to evaluate first, separated by commas: references, arch.json files or run folders (their "
            "best networks)."
        ),
    ] = None,
    warm_start: Annotated[
        list[Path] | None,
        typer.Option(
            help="Folder of an earlier run whose trainings are evidence: as new ones on the same images with the same "
            "proxy, else for what they turn out to be worth. May be given several times."
        ),
    ] = None,
    run: Annotated[Path | None, typer.Option(help="Run folder.  [default: results/SPACE-TIME]")] = None,
    as_json: Json = False,
) -> None:
    """Find the most accurate networks within a latency target.

    Measures the device, checks that the target can be met, trains candidates briefly, measures the Pareto front and
    writes a report. Without a target, covers the whole front. The exit code is 1 if every network of the front misses
    the target when it is measured.

    \b
    Example:
      nas search --space mbconv --latency-target 66ms --data photos/ --budget 30m
    """
    from nas.api import search as api
    from nas.engine.limit_options import read_limits
    from nas.engine.options import SearchOptions
    from nas.system.machine import usable_cores

    folder = run or api.default_run(space)
    with watcher_for(as_json) as watch:
        watch.run = folder
        options = SearchOptions.parse(
            latency_target=latency_target,
            limits=read_limits(limit or ()),
            guard=guard,
            device=device,
            token=token,
            data=data,
            accuracy=accuracy,
            trials=trials,
            budget=budget,
            sampler=sampler,
            objective=objective,
            seed=seed,
            steps=steps,
            shared_steps=shared_steps,
            rungs=_rungs(rungs),
            workers=workers if workers is not None else min(usable_cores(), 8),
            ray=ray,
            cpus_per_trial=cpus_per_trial,
            gpus_per_trial=gpus_per_trial,
            accelerator=accelerator,
            runtime=runtime,
            threads=threads,
            references=None if references is None else split_names(references),
            start=() if start is None else split_names(start),
            warm_start=warm_start or (),
        )
        record = api.search_with(space, options, folder, watch)
    _show_run(record, folder, as_json)


def _rungs(text: str) -> str | list[int]:
    """Lengths in steps, or the word that was given."""
    parts = [part.strip() for part in text.split(",")]
    return [int(part) for part in parts] if all(part.isascii() and part.isdigit() for part in parts) else text


@app.command()
def resume(
    run: Run,
    budget: Annotated[
        str | None, typer.Option(help="Additional training time: 10m, 2h.  [default: what is left]")
    ] = None,
    trials: Annotated[int | None, typer.Option(help="New total number of candidates.")] = None,
    data: Annotated[
        str | None, typer.Option(help="Folder of the run's images, if they moved; their content must be the same.")
    ] = None,
    ray: Annotated[str | None, typer.Option(help="Address of the Ray cluster, if the run used one.")] = None,
    token: Annotated[str | None, typer.Option(help="Token of the agent, if the run measures on one.")] = None,
    as_json: Json = False,
) -> None:
    """Continue an interrupted search, or extend a finished one.

    \b
    Example:
      nas resume results/mbconv-20260131-101500 --budget 10m
    """
    from nas.api import search as api

    with watcher_for(as_json) as watch:
        watch.run = run
        record = api.resume(run, budget=budget, trials=trials, data=data, ray=ray, token=token, watch=watch)
    _show_run(record, run, as_json)


def _show_run(record: Record, folder: Path, as_json: bool) -> None:
    from nas.reports.run.summary import summary_facts, summary_text

    show(summary_facts(record, folder), summary_text(record, folder), as_json)
    if record.missed and not record.front:
        raise TargetMissedError(
            f"once measured, no Pareto network reliably meets {record.target_ms:g} ms; resume with "
            f"`nas resume {shlex.quote(str(folder))} --budget 10m`, or start over with {_remedy(record)}"
        )


def _remedy(record: Record) -> str:
    """A safety margin that keeps networks like those that missed from being trained. `--guard` also replaces the
    correction, so the margin is relative to the uncorrected prediction. Under it, networks come close to the target,
    where several measurements are made and their upper bound counts."""
    from nas.latency.close_calls import TIMES, holding

    factor = 1.0 if record.info.margin is None else record.info.margin.correction
    held = [(c, max(c.latency.at_most_ms, holding([c.latency] * TIMES).at_most_ms)) for c in record.missed]
    worst = max(ms / (c.predicted.ms / factor) for c, ms in held) - 1
    percents = max(0, math.ceil(100 * worst))  # not below zero, where the table overestimates
    if percents <= 100 * MAX_GUARD:
        return f"--guard {percents}%"
    return "a new latency table (`nas profile --refresh` for the same space and device)"
