"""The commands of `nas bench`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from nas.cli.app import Json, app, show, watcher_for

if TYPE_CHECKING:
    from nas.engine.options import Objective

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
    from nas.reports.samplers.text import comparison_text
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
