"""The verb about the published networks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nas.cli.app import Json, Runtime, Threads, Token, app, show, watcher_for

Select = Annotated[
    str | None,
    typer.Option(help="Names and patterns, with commas: 'mobilenet*', torchvision:vgg16, own.yaml. [default: all]"),
]
Device = Annotated[str, typer.Option(help="Where latency holds: host (measured now), none, table:PATH and others.")]


@app.command()
def references(
    select: Select = None,
    all_sizes: Annotated[bool, typer.Option("--all", help="Also every width and resolution published.")] = False,
    device: Device = "host",
    runtime: Runtime = "onnxruntime",
    threads: Threads = 1,
    token: Token = None,
    csv: Annotated[Path | None, typer.Option(help="Also write the table here.")] = None,
    html: Annotated[Path | None, typer.Option(help="Also write a page with table, plot and notes here.")] = None,
    png: Annotated[Path | None, typer.Option(help="Also write the plot of top-1 against latency here.")] = None,
    as_json: Json = False,
) -> None:
    """The published networks: counted and timed here beside what is published, with what differs and why.

    \b
    Example:
      nas references --select 'mobilenet*' --html mobilenets.html
      nas references --device none --all --csv references.csv
    """
    from nas.api.reference_table import compare_references
    from nas.reports.reference_write import check_places, write_table
    from nas.system.errors import InputError

    wanted = {"csv": csv, "html": html, "png": png}
    files = {kind: path for kind, path in wanted.items() if path is not None}
    check_places(files)
    if png is not None and device == "none":
        raise InputError("a plot needs latency; choose a --device other than none")
    with watcher_for(as_json) as watch:
        table = compare_references(
            select, device, all_sizes=all_sizes, runtime=runtime, threads=threads, token=token, progress=watch.step
        )
        write_table(table, files)
        for path in files.values():
            watch.say(f"written: {path}")
    show(table.to_dict(), str(table), as_json)
