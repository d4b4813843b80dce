"""The commands of `nas bench`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from nas.cli.app import Json, app, show, table, watcher_for

if TYPE_CHECKING:
    from nas.engine.options import Objective
    from nas.reports.samplers.data import Comparison

bench = typer.Typer(
    help="""Compare parts of a search where the answer is known.

\b
Example:
  nas bench samplers nas-bench-macro_cifar10.json --cap 60M
""",
    rich_markup_mode=None,
    no_args_is_help=True,
)
app.add_typer(bench, name="bench")


@bench.callback()
def group() -> None:
    """Compare parts of a search where the answer is known."""


@bench.command()
def samplers(
    tables: Annotated[
        list[str],
        typer.Argument(
            metavar="TABLE...",
            help="Networks of known accuracy: the JSON of NAS-Bench-Macro, a CSV as nas accuracy calibrate reads it, a "
            "run folder, or model:CSV, which searches a model of one half and judges by one of the other.",
            show_default=False,
        ),
    ],
    names: Annotated[
        str | None,
        typer.Option("--samplers", help="Samplers, separated by commas.  [default: all but gp, which takes minutes]"),
    ] = None,
    seeds: Annotated[int, typer.Option(help="Number of searches of each sampler.")] = 50,
    evaluations: Annotated[int, typer.Option(help="Number of networks that a search evaluates.")] = 100,
    cap: Annotated[
        str | None, typer.Option(help="Largest cost: 60M MACs, or 8ms for a run that has a latency table.")
    ] = None,
    noise: Annotated[
        float | None,
        typer.Option(help="Observe noisy scores that rank networks of equal cost with this tau, e.g. 0.5."),
    ] = None,
    objective: Annotated[str, typer.Option(help="What is searched for: pareto or accuracy.")] = "pareto",
    levels: Annotated[
        str,
        typer.Option(
            help="Accuracies to reach, separated by commas: optimum, a top share, or a distance from the optimum."
        ),
    ] = "optimum,0.02,1%",
    space: Annotated[
        str | None, typer.Option(help="Space of the networks of your own CSV: a name or a YAML file.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Number of processes, each with one thread.  [default: all cores]")
    ] = None,
    out: Annotated[Path, typer.Option(help="Output folder. Searches that it holds already are not repeated.")] = Path(
        "results/bench-samplers"
    ),
    fresh: Annotated[
        str, typer.Option(help="Samplers whose finished searches are repeated, separated by commas.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Compare samplers by searches that are replayed on networks of known accuracy.

    Prints the best accuracy and the hypervolume of accuracy and cost after some evaluations, as a mean with the range
    of 90 % of the seeds, and the median number of evaluations that reach given accuracies. Writes curves.csv,
    levels.csv and samplers.png. If it is interrupted, the same command continues.

    \b
    Example:
      nas bench samplers nas-bench-macro_cifar10.json --cap 60M --samplers auto,random,tpe
      nas bench samplers imagenet_mbconv.csv --evaluations 200
      nas bench samplers trained.csv --space mbconv --noise 0.5
      nas bench samplers results/mbconv-20260131-101500
    """
    from nas.api.bench import COMPARED, CURVES, NEEDED, PLOT, bench_samplers
    from nas.system.machine import usable_cores

    with watcher_for(as_json) as watch:
        found = bench_samplers(
            tables,
            samplers=COMPARED if names is None else _listed(names),
            seeds=seeds,
            evaluations=evaluations,
            cap=cap,
            noise=noise,
            objective=cast("Objective", objective),
            levels=_listed(levels),
            space=space,
            workers=usable_cores() if workers is None else workers,
            out=out,
            fresh=_listed(fresh),
            watch=watch,
        )
    written = f"written: {out / CURVES}, {NEEDED}, {PLOT}"
    text = "\n\n".join([*map(comparison_text, found), written])
    show({"out": str(out), "tables": [one.to_dict() for one in found]}, text, as_json)


def _listed(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def comparison_text(found: Comparison) -> str:
    """A comparison for people."""
    from nas.reports.samplers.data import Band

    unit = "accuracy of the best, %" if found.percent else "score of the best"
    heads = [f"after {at}" for at in found.shown]
    best, volume = [], []
    for name in found.best:
        bests = [Band.of(found.best[name][:, at - 1]) for at in found.shown]
        best.append(
            (name, *(f"{found.accuracy(b.mean)} [{found.accuracy(b.low)}, {found.accuracy(b.high)}]" for b in bests))
        )
        volumes = [Band.of(found.hypervolume[name][:, at - 1]) for at in found.shown]
        volume.append((name, *(_band(f"{v.mean:.3f}", f"{v.low:.2f}", f"{v.high:.2f}") for v in volumes)))
    reached = [(name, *(_needed(found, name, level) for level in found.levels)) for name in found.best]
    levels = [f"{level} ({found.accuracy(accuracy)})" for level, accuracy in found.levels.items()]
    parts = [
        found.title,
        table((unit, *heads), best),
        table(("hypervolume, relative", *heads), volume),
        table(("median evaluations to", *levels), reached),
    ]
    if found.gains:
        gains = [
            (
                name,
                found.accuracy(gain.chosen),
                found.accuracy(gain.luckiest),
                _band(*(_signed(found, value) for value in (gain.mean, gain.low, gain.high))),
            )
            for name, gain in found.gains.items()
        ]
        parts.append(table(("true accuracy of the choice", "by the posterior", "best score", "gain"), gains))
    return "\n\n".join(parts)


def _band(mean: str, low: str, high: str) -> str:
    return f"{mean} ({low} to {high})"


def _signed(found: Comparison, value: float) -> str:
    return ("+" if value >= 0 else "") + found.accuracy(value).replace("-", "−")


def _needed(found: Comparison, sampler: str, level: str) -> str:
    needed = found.needed(sampler, level)
    median = f"> {found.evaluations}" if needed.median is None else f"{needed.median:g}"
    return median if needed.reached == 1 else f"{median} ({needed.reached:.0%} of seeds)"
