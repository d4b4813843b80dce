"""The command `nas profile`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nas.cli.app import Json, Runtime, Space, Threads, Token, app, show, watcher_for


@app.command()
def profile(
    space: Space = "mbconv",
    out: Annotated[Path | None, typer.Option(help="File to write the table to, for --device table:PATH.")] = None,
    runtime: Runtime = "onnxruntime",
    threads: Threads = 1,
    device: Annotated[str, typer.Option(help="Device to measure: host, or http://HOST:PORT of an agent.")] = "host",
    token: Token = None,
    refresh: Annotated[bool, typer.Option("--refresh", help="Measure again, even if a table is cached.")] = False,
    as_json: Json = False,
) -> None:
    """Measure a device and fit a latency model of a space to it.

    Prints the error of the model on networks that were left out of the fit.

    \b
    Example:
      nas profile --space mbconv --out table.json
    """
    from nas.api import networks

    with watcher_for(as_json) as watch:
        table = networks.profile(
            space,
            runtime=runtime,
            threads=threads,
            out=out,
            watch=watch,
            device=device,
            token=token,
            refresh=refresh,
        )
    show({"device": table.device, "space": table.space_key, "error": table.error.to_dict()}, str(table), as_json)
