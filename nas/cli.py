"""The command line: strings in, api calls, exit codes out. Results go to stdout, all else to stderr."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from nas.errors import InputError, NasError, TargetMissedError

INTERRUPTED = 130

app = typer.Typer(
    name="nas",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="""Search for the most accurate network that meets a latency budget measured on your device.

\b
Examples, one for each verb:
  nas search --space mbconv --latency-target 66ms --data photos/
  nas resume results/mbconv-20260131-101500
  nas report results/mbconv-20260131-101500
  nas export results/mbconv-20260131-101500 --out shipped/
  nas measure mobilenet_v3_large efficientnet_b0@resolution=160
  nas profile --space mbconv --out table.json
  nas spaces mbconv
  nas references
""",
    epilog="Exit codes: 0 done, 1 failed, 2 bad input, 3 no network can meet the target, 130 interrupted (resumable).",
)

Space = Annotated[str, typer.Option("--space", help="A space by name (`nas spaces`) or a path to a .yaml file.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
Runtime = Annotated[str, typer.Option("--runtime", help="What runs the network: onnxruntime or torch.")]
Threads = Annotated[int, typer.Option("--threads", help="Threads of the timed network.")]
Run = Annotated[Path, typer.Argument(help="The folder of a run.", show_default=False)]


@app.command()
def search(
    space: Space = "mbconv",
    latency_target: Annotated[
        str | None, typer.Option(help="Budget of one inference: 66ms, 66, 0.066s, 66000us. None: the whole front.")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(help="Folder of images, one subfolder per class, or cifar10, ... None: a generated set."),
    ] = None,
    device: Annotated[str, typer.Option(help="Whose latency counts: host, or table:PATH.")] = "host",
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

    \b
    Example:
      nas search --space mbconv --latency-target 66ms --data photos/ --budget 30m
    """
    from nas import api
    from nas.machine import usable_cores

    folder = run or api.default_run(space)
    with _watcher(as_json) as watch:
        watch.resume_with = f"nas resume {folder}"
        record = api.search(
            space,
            latency_target=latency_target,
            device=device,
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
            references=None if references is None else _names(references),
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
    as_json: Json = False,
) -> None:
    """Go on with an interrupted search, or a longer one.

    \b
    Example:
      nas resume results/mbconv-20260131-101500 --budget 10m
    """
    from nas import api

    with _watcher(as_json) as watch:
        watch.resume_with = f"nas resume {run}"
        record = api.resume(run, budget=budget, trials=trials, ray=ray, watch=watch)
    _show_run(record, run, as_json)


@app.command()
def report(run: Run, as_json: Json = False) -> None:
    """Draw the report of a run again.

    \b
    Example:
      nas report results/mbconv-20260131-101500
    """
    from nas import api

    files = api.report(run)
    _print({name: str(path) for name, path in files.items()}, "\n".join(map(str, files.values())), as_json)


@app.command()
def export(
    run: Annotated[str, typer.Argument(help="Folder of a run, an arch.json, or the name of a reference.")],
    arch: Annotated[str | None, typer.Option(help="Key of a network of the run.  [default: its best]")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write to.  [default: RUN/export/KEY, or ./NAME]")] = None,
    formats: Annotated[str, typer.Option("--format", help="onnx, python or both, with a comma.")] = "onnx,python",
    classes: Annotated[
        int | None, typer.Option(help="Outputs of the classifier.  [default: classes of the run's images, else 1000]")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a network as ONNX and as one Python file.

    Checks the ONNX file against PyTorch and measures it; the Python file needs torch alone. Exit code 1 if the file
    misses the target of its run.

    \b
    Example:
      nas export results/mbconv-20260131-101500 --out shipped/
    """
    from nas import api

    done = api.export(run, out, tuple(filter(None, formats.split(","))), arch=arch, num_classes=classes)
    lines = [str(path) for path in done.files]
    if done.max_abs_diff is not None:
        lines.append(f"ONNX Runtime and PyTorch differ by at most {done.max_abs_diff:.2g}")
    if done.measured is not None:
        lines.append(f"the exported file takes {done.measured}")
    if done.target_ms is None:
        lines.append("no target of this machine to hold it to")
    lines.append(f"weights are initial ones for {done.num_classes} classes: train the network at full size before use")
    data = {
        "key": done.arch.key,
        "files": [str(path) for path in done.files],
        "max_abs_diff": done.max_abs_diff,
        "num_classes": done.num_classes,
        "latency": done.measured.to_dict() if done.measured else None,
        "target_ms": done.target_ms,
    }
    _print(data, "\n".join(lines), as_json)
    if done.target_ms is not None and done.measured is not None and done.measured.ms > done.target_ms:
        raise TargetMissedError(
            f"the exported network takes {done.measured.ms:.3g} ms, more than the target of {done.target_ms:g} ms; "
            f"choose a faster one from the run's pareto.csv with --arch KEY"
        )


@app.command()
def measure(
    networks: Annotated[list[str], typer.Argument(help="References, arch.json files or exported .onnx files.")],
    runtime: Runtime = "onnxruntime",
    threads: Threads = 1,
    batch: Annotated[int, typer.Option(help="Images per inference.")] = 1,
    as_json: Json = False,
) -> None:
    """Time networks on this host.

    \b
    Example:
      nas measure mobilenet_v3_large efficientnet_b0@resolution=160 shipped/model.onnx
    """
    from nas import api

    found = {}
    for name in networks:
        found[name] = api.measure_named(name, runtime, threads, batch)
        if not as_json:
            typer.echo(f"{name}: {found[name]}")
    if as_json:
        typer.echo(json.dumps({name: latency.to_dict() for name, latency in found.items()}))


@app.command()
def profile(
    space: Space = "mbconv",
    out: Annotated[Path | None, typer.Option(help="Also write the table here, for --device table:PATH.")] = None,
    runtime: Runtime = "onnxruntime",
    threads: Threads = 1,
    as_json: Json = False,
) -> None:
    """Fit the latency model of a space on this host.

    Prints its error on networks it has not seen.

    \b
    Example:
      nas profile --space mbconv --out table.json
    """
    from nas import api

    with _watcher(as_json) as watch:
        table = api.profile(space, runtime=runtime, threads=threads, out=out, watch=watch)
    _print({"device": table.device, "space": table.space_key, "error": table.error.to_dict()}, str(table), as_json)


@app.command()
def spaces(
    name: Annotated[str | None, typer.Argument(help="Show this space in full (name or path).")] = None,
    as_json: Json = False,
) -> None:
    """List the spaces, or the genes of one.

    \b
    Example:
      nas spaces mbconv
    """
    from nas.space_file import load_space, names

    if name is None:
        found = [load_space(one) for one in names()]
        facts = [{"name": s.name, "size": s.size, "genes": len(s.genes), "resolution": s.resolution} for s in found]
        rows = [f"{s.name:12} {_power(s.size):>10} networks, {len(s.genes)} genes" for s in found]
        _print(facts, "\n".join(rows), as_json)
        return
    space = load_space(name)
    genes = {gene.name: list(gene.options) for gene in space.genes}
    head = f"{space.name}: {_power(space.size)} networks ({space.size}), key {space.key}"
    rows = [f"  {gene:16} {' '.join(map(str, options))}" for gene, options in genes.items()]
    _print(
        {"name": space.name, "size": space.size, "key": space.key, "genes": genes}, "\n".join([head, *rows]), as_json
    )


@app.command()
def references(as_json: Json = False) -> None:
    """List the published networks that are built in.

    \b
    Example:
      nas references
    """
    from nas.cost import estimate
    from nas.references import reference, reference_names

    facts, rows = [], []
    for name in reference_names():
        arch = reference(name)
        cost, side = estimate(arch), arch.resolution
        facts.append({"name": name, "key": arch.key, "resolution": side, "params": cost.params, "macs": cost.macs})
        rows.append(f"{name:20} {side} px  {cost.params:>10,} parameters  {cost.macs / 1e6:7.1f} M MACs")
    _print(facts, "\n".join(rows), as_json)


def command_names() -> list[str]:
    """The verbs, as they are typed."""
    return [command.callback.__name__ for command in app.registered_commands if command.callback]


def _names(text: str) -> list[str]:
    """Names between commas; a comma followed by a multiplier belongs to its name (``a@width=0.5,resolution=160``)."""
    return [] if text == "none" else re.split(r",(?!\w+=)", text)


def _power(number: int) -> str:
    digits = str(number)
    return digits if number < 1_000_000 else f"{digits[0]}.{digits[1]}e{len(digits) - 1}"


def _print(data: Any, text: str, as_json: bool) -> None:
    typer.echo(json.dumps(data) if as_json else text)


def _watcher(as_json: bool) -> Any:
    from nas.progress import watcher

    return watcher(quiet=as_json)


def _show_run(record: Any, folder: Path, as_json: bool) -> None:
    from nas.report.summary import summary_facts, summary_text

    _print(summary_facts(record, folder), summary_text(record, folder), as_json)


def _with_ray_alone(arguments: list[str]) -> list[str]:
    """``--ray`` may stand alone: then it means ``--ray auto``."""
    expanded: list[str] = []
    for at, argument in enumerate(arguments):
        expanded.append(argument)
        following = arguments[at + 1] if at + 1 < len(arguments) else "-"
        if argument == "--ray" and following.startswith("-"):
            expanded.append("auto")
    return expanded


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and exit with the documented code."""
    try:
        given = sys.argv[1:] if arguments is None else arguments
        code = app(_with_ray_alone(given) or ["--help"], standalone_mode=False) or 0
    except NasError as error:
        code = error.exit_code
        typer.echo(f"nas: {error}", err=True)
    except typer.TyperException as error:
        code = InputError.exit_code
        typer.echo(f"nas: {error.format_message().rstrip('.')}; see nas --help", err=True)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except BrokenPipeError:  # the reader of our output has gone: nothing is left to tell it
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
        code = 1
    sys.exit(code)
