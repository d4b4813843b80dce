"""The verb that lets this machine, or another one, be measured across the wire."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from nas.cli.app import app
from nas.latency.remote.bounds import LIMIT_S, MAX_BODY, PORT


@app.command()
def agent(
    write: Annotated[
        Path | None, typer.Option(help="Write the agent as one file, to copy to a device, and do nothing else.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen at; 0.0.0.0 is all of this machine's.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen at; 0 takes a free one.")] = PORT,
    token: Annotated[
        str | None, typer.Option(help="That clients must bring.  [default: $NAS_AGENT_TOKEN, else a random one]")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Of this device, for people.  [default: its CPU]")] = None,
    threads: Annotated[int | None, typer.Option(help="A measurement may use at most.  [default: all cores]")] = None,
    limit: Annotated[float, typer.Option(help="Seconds a measurement may take.")] = LIMIT_S,
    max_mb: Annotated[int, typer.Option(help="Largest model.")] = MAX_BODY >> 20,
) -> None:
    """Measure networks on this device for a search that runs elsewhere.

    The file of --write needs Python, numpy and onnxruntime alone. At home: --device http://HOST:PORT --token TOKEN.

    \b
    Example:
      nas agent --write agent.py
      nas agent --host 0.0.0.0 --port 8421
    """
    from nas.latency.remote.agent_file import agent_source
    from nas.latency.remote.main import TOKEN_VARIABLE, serve
    from nas.latency.remote.process import Broken
    from nas.system.errors import InputError, NasError
    from nas.system.files import write_atomic

    if write is not None:
        try:
            write_atomic(write, agent_source())
        except OSError as error:
            raise InputError(f"cannot write {write}: {error.strerror}; give another file") from None
        typer.echo(f"written: {write}; on the device: pip install numpy onnxruntime && python {write.name}")
        return
    try:
        serve(host, port, token or os.environ.get(TOKEN_VARIABLE), name, threads, limit, max_mb)
    except ValueError as error:
        raise InputError(str(error)) from None
    except OSError as error:
        raise NasError(f"the agent cannot start: {error}; make room on this device") from None
    except Broken as error:
        raise NasError(str(error)) from None
