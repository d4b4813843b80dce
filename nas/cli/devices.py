"""The commands `nas devices`, `nas devices show` and `nas devices calibrate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from nas.cli.app import Json, app, show

devices = typer.Typer(
    help="""List target devices; show or fit a latency model.

\b
Example:
  nas devices
  nas devices show pixel1
  nas devices calibrate phone.csv --name "My phone" --out phone.json
  nas search --device table:phone.json --latency-target 40ms
""",
    rich_markup_mode=None,
)
app.add_typer(devices, name="devices")


@devices.callback(invoke_without_command=True)
def listing(context: typer.Context, as_json: Json = False) -> None:
    """List target devices: this machine, bundled models, models of your own."""
    if context.invoked_subcommand is not None:
        return
    from nas.latency.models import bundled
    from nas.latency.table.table import LatencyTable
    from nas.system.machine import host

    models = {name: LatencyTable.load(path) for name, path in bundled().items()}
    facts: list[dict[str, Any]] = [{"name": "host", "device": host(), "runtime": None, "error": None}]
    rows = [f"host        {host()}: measured here, and predicted by a latency table of the space"]
    for name, table in models.items():
        facts.append(
            {"name": name, "device": table.device, "runtime": table.runtime, "error": _figures(table.error.to_dict())}
        )
        rows.append(f"{name:11} {table.device}, {table.runtime}: modelled, {table.error}")
    rows.append("table:PATH  any device: a file written by nas profile --out or nas devices calibrate")
    rows.append("http://HOST:PORT  a device that runs an agent (nas agent): measured there")
    show(facts, "\n".join(rows), as_json)


@devices.command("show")
def show_device(
    name: Annotated[str, typer.Argument(help="Latency model: a bundled one, or table:PATH.", show_default=False)],
    as_json: Json = False,
) -> None:
    """Show how a latency model was fitted, and its error.

    \b
    Example:
      nas devices show pixel1
    """
    from nas.latency.devices import device
    from nas.latency.models import bundled
    from nas.system.errors import InputError, known

    table = device(name).table if name != "host" else None
    if table is None:
        raise InputError(f"only latency models can be shown, got {name}; {known([*bundled(), 'table:PATH'])}")
    terms = {name: value for name, value in table.terms().items() if value}
    facts = {
        "device": table.device,
        "runtime": table.runtime,
        "threads": table.threads,
        "fitted_to_networks": table.fitted,
        "error": _figures(table.error.to_dict()),
        "operators": list(table.groups),
        "source": table.source or None,
        "licence": table.licence or None,
        "notes": list(table.notes),
        "coefficients": terms,
    }
    rows = [
        f"{table.device}, {table.runtime}, {table.threads} thread{'s' if table.threads > 1 else ''}",
        f"fitted to {table.fitted} networks; {table.error}",
        *table.notes,
        f"operators covered: {', '.join(table.groups)}",
        *([f"source: {table.source}"] if table.source else []),
        *([f"licence: {table.licence}"] if table.licence else []),
        f"coefficients, ms per unit ({len(terms)} of {len(table.coefficients)} are not zero):",
        *(f"  {term:40} {value:.4g}" for term, value in terms.items()),
    ]
    show(facts, "\n".join(rows), as_json)


@devices.command()
def calibrate(
    measurements: Annotated[Path, typer.Argument(help="CSV with the columns network and ms.", show_default=False)],
    name: Annotated[str, typer.Option(help="Name of the device.")] = "my device",
    runtime: Annotated[str, typer.Option(help="Runtime the networks ran under.")] = "unknown runtime",
    threads: Annotated[int, typer.Option(help="Number of threads it used.")] = 1,
    source: Annotated[str, typer.Option(help="Source of the measurements; kept in the file.")] = "",
    prior: Annotated[
        str, typer.Option(help="Latency model to start from: a bundled one, table:PATH, or none.")
    ] = "pixel1",
    out: Annotated[Path, typer.Option(help="Output file.")] = Path("device.json"),
    as_json: Json = False,
) -> None:
    """Fit a latency model to measurements of whole networks.

    A network is a published one (mobilenet_v2@width=0.5,resolution=160), a YAML or arch.json file, or JSON. Prints the
    error of the model on networks that were left out of the fit, and how many more are worth measuring.

    \b
    Example:
      nas devices calibrate phone.csv --name "My phone" --out phone.json
    """
    from nas.latency.devices import device
    from nas.latency.models import bundled
    from nas.latency.table.calibrate import calibrate as fit
    from nas.latency.table.measurements import read_measurements
    from nas.system.errors import InputError, known
    from nas.system.validate import whole_number

    whole_number("--threads", threads, high=1024)
    start = None if prior == "none" else device(prior).table
    if start is None and prior != "none":
        raise InputError(f"--prior must be a latency model, got {prior}; {known([*bundled(), 'table:PATH', 'none'])}")
    done = fit(read_measurements(measurements), name, runtime=runtime, threads=threads, source=source, prior=start)
    try:
        done.table.save(out)
    except OSError as error:
        raise InputError(f"cannot write {out}: {error.strerror}; give another file with --out") from None
    facts = {
        "out": str(out),
        "fitted_to_networks": done.table.fitted,
        "error": _figures(done.table.error.to_dict()),
        "curve": [{"networks": nets, "mape": error} for nets, error in done.curve],
        "wanted": done.wanted,
    }
    show(facts, f"{done}\nwritten: {out}; use it with --device table:{out}", as_json)


def _figures(error: dict[str, Any]) -> dict[str, Any]:
    """The error without its list of pairs, which can have thousands of entries."""
    return {name: value for name, value in error.items() if name != "predicted_and_measured_ms"}
