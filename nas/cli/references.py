"""The command `nas references`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nas.cli.app import Json, Runtime, Threads, Token, app, show, watcher_for

Select = Annotated[
    str | None,
    typer.Option(help="Networks, separated by commas: 'mobilenet*', torchvision:vgg16, own.yaml.  [default: all]"),
]
Device = Annotated[
    str, typer.Option(help="Device to time them on: host, pixel1, table:PATH, http://HOST:PORT, or none.")
]


@app.command()
def references(
    select: Select = None,
    all_sizes: Annotated[bool, typer.Option("--all", help="Include every published width and resolution.")] = False,
    device: Device = "host",
    runtime: Runtime = "onnxruntime",
    threads: Threads = 1,
    token: Token = None,
    csv: Annotated[Path | None, typer.Option(help="CSV file to write the table to.")] = None,
    html: Annotated[Path | None, typer.Option(help="HTML file to write the table, a plot and notes to.")] = None,
    png: Annotated[Path | None, typer.Option(help="PNG file to write the plot of top-1 against latency to.")] = None,
    as_json: Json = False,
) -> None:
    """Count and time published networks, beside their published figures.

    Explains where the figures differ, if the cause is known.

    \b
    Example:
      nas references --select 'mobilenet*' --html mobilenets.html
      nas references --device none --all --csv references.csv
    """
    from nas.api.reference_table import compare_references
    from nas.reports.references.write import check_places, write_table
    from nas.system.errors import InputError

    wanted = {"csv": csv, "html": html, "png": png}
    files = {kind: path for kind, path in wanted.items() if path is not None}
    check_places(files)
    if png is not None and device == "none":
        raise InputError("the plot of --png needs latencies, got --device none; choose another device")
    with watcher_for(as_json) as watch:
        table = compare_references(
            select, device, all_sizes=all_sizes, runtime=runtime, threads=threads, token=token, progress=watch.step
        )
        write_table(table, files)
        for path in files.values():
            watch.say(f"written: {path}")
    show(table.to_dict(), str(table), as_json)
