"""The verbs of a search: search, resume, report, export."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nas.cli.app import Json, Run, Runtime, Space, Threads, Token, app, show, split_names, watcher_for
from nas.system.errors import TargetMissedError
from nas.system.units import MAX_GUARD, above

if TYPE_CHECKING:
    from nas.engine.run.record import Record


@app.command()
def search(
    space: Space = "mbconv",
    latency_target: Annotated[
        str | None,
        typer.Option(help="Budget of one inference: 66ms, 66, 0.066s, 66000us. Without: the whole front."),
    ] = None,
    guard: Annotated[
        str | None,
        typer.Option(
            help="How far below the target a network must be predicted to be trained: 5%, 0.  [default: learned from "
            "the latency model's error]"
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(help="Folder of images, one subfolder per class, or cifar10, ... Without: a generated set."),
    ] = None,
    device: Annotated[
        str, typer.Option(help="Whose latency counts: host, pixel1, table:PATH or http://HOST:PORT.")
    ] = "host",
    token: Token = None,
    budget: Annotated[str | None, typer.Option(help="Time for training candidates: 10m, 2h.  [default: 4m]")] = None,
    trials: Annotated[int | None, typer.Option(help="Number of candidates to train; what ends first ends it.")] = None,
    sampler: Annotated[str, typer.Option(help="auto (tpe), tpe, nsga2 or random.")] = "auto",
    seed: Annotated[int, typer.Option(help="Of sampling, weights and batches.")] = 0,
    steps: Annotated[
        int | None, typer.Option(help="Batches of the short training of a candidate.  [default: 140]")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes that train side by side.  [default: one per core, at most 8]")
    ] = None,
    ray: Annotated[
        str | None, typer.Option(help="Train on Ray: alone it starts Ray here, with an ADDRESS it joins a cluster.")
    ] = None,
    cpus_per_trial: Annotated[float, typer.Option(help="With --ray: cores of one candidate.")] = 1,
    gpus_per_trial: Annotated[float, typer.Option(help="With --ray: GPUs of one candidate; may be a fraction.")] = 0,
    runtime: Runtime = "onnxruntime",
    threads: Threads = 1,
    references: Annotated[
        str | None, typer.Option(help="Fixed networks to score beside, with commas; none for none.  [default: four]")
    ] = None,
    run: Annotated[Path | None, typer.Option(help="Folder of the run.  [default: results/SPACE-TIME]")] = None,
    as_json: Json = False,
) -> None:
    """Search a space under a latency target.

    Measures this device, checks that the target can be met, trains candidates shortly, measures the front, reports.
    Exit code 1 if all that was found is over the target when it is measured.

    \b
    Example:
      nas search --space mbconv --latency-target 66ms --data photos/ --budget 30m
    """
    from nas.api import search as api
    from nas.system.machine import usable_cores

    folder = run or api.default_run(space)
    with watcher_for(as_json) as watch:
        watch.resume_with = f"nas resume {folder}"
        record = api.search(
            space,
            latency_target=latency_target,
            guard=guard,
            device=device,
            token=token,
            data=data,
            trials=trials,
            budget=budget,
            sampler=sampler,
            seed=seed,
            steps=steps,
            workers=workers if workers is not None else min(usable_cores(), 8),
            ray=ray,
            cpus_per_trial=cpus_per_trial,
            gpus_per_trial=gpus_per_trial,
            runtime=runtime,
            threads=threads,
            references=None if references is None else split_names(references),
            run=folder,
            watch=watch,
        )
    _show_run(record, folder, as_json)


@app.command()
def resume(
    run: Run,
    budget: Annotated[str | None, typer.Option(help="Train for this much longer.  [default: what is left]")] = None,
    trials: Annotated[int | None, typer.Option(help="New total number of candidates.")] = None,
    ray: Annotated[str | None, typer.Option(help="Address of the Ray cluster, if the run joined one.")] = None,
    token: Annotated[str | None, typer.Option(help="Of the run's agent, if it measures on one.")] = None,
    as_json: Json = False,
) -> None:
    """Go on with an interrupted search, or a longer one.

    \b
    Example:
      nas resume results/mbconv-20260131-101500 --budget 10m
    """
    from nas.api import search as api

    with watcher_for(as_json) as watch:
        watch.resume_with = f"nas resume {run}"
        record = api.resume(run, budget=budget, trials=trials, ray=ray, token=token, watch=watch)
    _show_run(record, run, as_json)


@app.command()
def report(run: Run, as_json: Json = False) -> None:
    """Draw the report of a run again.

    \b
    Example:
      nas report results/mbconv-20260131-101500
    """
    from nas.api import search as api

    files = api.report(run)
    show({name: str(path) for name, path in files.items()}, "\n".join(map(str, files.values())), as_json)


@app.command()
def export(
    run: Annotated[str, typer.Argument(help="Folder of a run, an arch.json, or the name of a reference.")],
    arch: Annotated[str | None, typer.Option(help="Key of a network of the run.  [default: its best]")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write to.  [default: RUN/export/KEY, or ./NAME]")] = None,
    formats: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="onnx, python, executorch, with commas.  [default: onnx,python, and executorch for a run measured "
            "under it]",
        ),
    ] = None,
    classes: Annotated[
        int | None,
        typer.Option(help="Outputs of the classifier.  [default: those of the weights, or of the images, else 1000]"),
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="torchvision, timm (both downloaded), or a file.  [default: initial weights]")
    ] = None,
    int8: Annotated[
        bool, typer.Option("--int8", help="Also write the onnx and executorch files in int8, compared with float.")
    ] = False,
    data: Annotated[
        str | None, typer.Option(help="With --int8: folder of images, or cifar10, ...  [default: those of the run]")
    ] = None,
    normalise: Annotated[
        str | None,
        typer.Option(help="With --int8: pixels as the weights want them: imagenet, half, nas, none.  [default: known]"),
    ] = None,
    token: Annotated[str | None, typer.Option(help="Of the run's agent: measure the file there.")] = None,
    as_json: Json = False,
) -> None:
    """Write a network as ONNX, as one Python file, and for ExecuTorch.

    Checks the ONNX and ExecuTorch files against PyTorch and measures them; the Python file needs torch alone. Exit code
    1 if the file misses the target of its run.

    \b
    Example:
      nas export results/mbconv-20260131-101500 --out shipped/
      nas export mobilenet_v3_large --weights torchvision --format onnx,executorch
      nas export results/mbconv-20260131-101500 --weights trained.pt --int8 --data photos/
    """
    from nas.api import networks
    from nas.cli.exported import export_facts, export_text

    names = None if formats is None else tuple(filter(None, formats.split(",")))
    with watcher_for(as_json) as watch:
        done = networks.export(
            run,
            out,
            names,
            arch=arch,
            num_classes=classes,
            weights=weights,
            token=token,
            int8=int8,
            data=data,
            normalise=normalise,
            watch=watch,
        )
    show(export_facts(done), export_text(done), as_json)
    if done.target_ms is not None and done.held is not None and done.held.ms > done.target_ms:
        noisy = f" ({done.held.warning})" if done.held.warning else ""
        raise TargetMissedError(
            f"the exported network takes {above(done.held.ms, done.target_ms)} ms, more than the target of "
            f"{done.target_ms:g} ms{noisy}; "
            f"choose a faster one from the run's pareto.csv with --arch KEY"
        )


def _show_run(record: Record, folder: Path, as_json: bool) -> None:
    from nas.reports.summary import summary_facts, summary_text

    show(summary_facts(record, folder), summary_text(record, folder), as_json)
    if record.missed and not record.front:
        raise TargetMissedError(
            f"no network of the front meets the target of {record.target_ms:g} ms for sure now that they are measured; "
            f"search on with `nas resume {folder} --budget 10m`, or anew with {_wider(record)}"
        )


def _wider(record: Record) -> str:
    """A guard that would have kept all misses of a run out. One that is given takes the place of the correction, too,
    so it is held against what the latency model itself says."""
    factor = record.options.get("admission", {}).get("correction", 1.0)
    worst = max(c.at_most_ms / (c.predicted.ms / factor) for c in record.missed) - 1
    percents = max(0, math.ceil(100 * worst))  # a table that says too much keeps them out by itself
    if percents <= 100 * MAX_GUARD:
        return f"--guard {percents}%"
    return "a latency table made anew (`nas profile --refresh`, of the same space and device)"
