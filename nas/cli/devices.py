"""The verbs about devices: what there is, how far to trust it, and a model of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from nas.cli.app import Json, app, show

devices = typer.Typer(
    help="""Devices that latency can be asked of: this host, bundled models, models of your own.

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
    """Devices that latency can be asked of: this host, bundled models, models of your own."""
    if context.invoked_subcommand is not None:
        return
    from nas.latency.models import bundled
    from nas.latency.table.table import LatencyTable
    from nas.system.machine import host

    models = {name: LatencyTable.load(path) for name, path in bundled().items()}
    facts: list[dict[str, Any]] = [{"name": "host", "device": host(), "runtime": None, "error": None}]
    rows = [f"host        {host()}: measured here, and predicted by a table of the space"]
    for name, table in models.items():
        facts.append(
            {"name": name, "device": table.device, "runtime": table.runtime, "error": _figures(table.error.to_dict())}
        )
        rows.append(f"{name:11} {table.device}, {table.runtime}: modelled, {table.error}")
    rows.append("table:PATH  what nas profile --out or nas devices calibrate wrote, of any device")
    rows.append("http://HOST:PORT  a device that runs an agent (nas agent), which measures there")
    show(facts, "\n".join(rows), as_json)


@devices.command("show")
def show_device(
    name: Annotated[str, typer.Argument(help="A bundled model, or table:PATH.", show_default=False)],
    as_json: Json = False,
) -> None:
    """What a device model was fitted on, and how far to trust it.

    \b
    Example:
      nas devices show pixel1
    """
    from nas.latency.devices import device
    from nas.latency.models import bundled
    from nas.system.errors import InputError, known

    table = device(name).table if name != "host" else None
    if table is None:
        raise InputError(f"{name} is no model; {known([*bundled(), 'table:PATH'])}; nas measure times networks here")
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
        f"operators met: {', '.join(table.groups)}",
        *([f"source: {table.source}"] if table.source else []),
        *([f"licence: {table.licence}"] if table.licence else []),
        f"coefficients, ms a unit ({len(terms)} of {len(table.coefficients)} are not zero):",
        *(f"  {term:40} {value:.4g}" for term, value in terms.items()),
    ]
    show(facts, "\n".join(rows), as_json)


@devices.command()
def calibrate(
    measurements: Annotated[Path, typer.Argument(help="CSV with the columns network and ms.", show_default=False)],
    name: Annotated[str, typer.Option(help="Of the device.")] = "my device",
    runtime: Annotated[str, typer.Option(help="What ran the networks, for people.")] = "unknown runtime",
    threads: Annotated[int, typer.Option(help="Threads it used.")] = 1,
    source: Annotated[str, typer.Option(help="Where the measurements come from; kept in the file.")] = "",
    prior: Annotated[
        str, typer.Option(help="Device model to start from, scaled: a bundled one, table:PATH, or none.")
    ] = "pixel1",
    out: Annotated[Path, typer.Option(help="File to write.")] = Path("device.json"),
    as_json: Json = False,
) -> None:
    """Fit a model of a device to measurements of whole networks on it.

    A network is a reference (mobilenet_v2@width=0.5,resolution=160), a path to a .yaml or arch.json, or JSON itself.
    Says how far the model is off on networks it has not seen, and how many more are worth measuring.

    \b
    Example:
      nas devices calibrate phone.csv --name "My phone" --out phone.json
    """
    from nas.latency.devices import device
    from nas.latency.models import bundled
    from nas.latency.table.calibrate import calibrate as fit
    from nas.latency.table.measurements import read_measurements
    from nas.system.errors import InputError, known

    if not 1 <= threads <= 1024:
        raise InputError(f"threads must be a whole number from 1 to 1024, got {threads}")
    start = None if prior == "none" else device(prior).table
    if start is None and prior != "none":
        raise InputError(f"{prior} is no model to start from; {known([*bundled(), 'table:PATH', 'none'])}")
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
    """Without the pairs, of which there may be thousands."""
    return {name: value for name, value in error.items() if name != "predicted_and_measured_ms"}
