"""`nas agent`: measure networks on this machine, or on another device, for a search that runs elsewhere."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from nas.cli.app import app
from nas.latency.remote.bounds import LIMIT_S, MAX_BODY, PORT, TOKEN_VARIABLE


@app.command()
def agent(
    write: Annotated[
        Path | None, typer.Option(help="File to write the agent to, for copying to a device; nothing is started.")
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 listens on all addresses of this machine.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.")] = PORT,
    token: Annotated[
        str | None,
        typer.Option(help="Token that clients must send.  [default: $NAS_AGENT_TOKEN, else a random one]"),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of this device.  [default: its CPU]")] = None,
    threads: Annotated[
        int | None, typer.Option(help="Largest number of threads of a measurement.  [default: all cores]")
    ] = None,
    limit: Annotated[float, typer.Option(help="Longest duration of a measurement, in seconds.")] = LIMIT_S,
    max_mb: Annotated[int, typer.Option(help="Largest size of a model, in MB.")] = MAX_BODY >> 20,
) -> None:
    """Measure networks on this device for a search that runs on another machine.

    The file of --write needs only Python, numpy and onnxruntime. The search uses the agent with --device
    http://HOST:PORT --token TOKEN.

    \b
    Example:
      nas agent --write agent.py
      nas agent --host 0.0.0.0 --port 8421
    """
    from nas.latency.remote.agent_file import agent_source
    from nas.latency.remote.main import serve
    from nas.latency.remote.process import AgentError
    from nas.system.errors import InputError, NasError
    from nas.system.files import write_atomic

    if write is not None:
        try:
            write_atomic(write, agent_source())
        except OSError as error:
            raise InputError(f"cannot write {write}: {error.strerror}; give another file") from None
        typer.echo(f"wrote {write}; run on the device: pip install numpy onnxruntime && python {write.name}")
        return
    try:
        serve(host, port, token or os.environ.get(TOKEN_VARIABLE), name, threads, limit, max_mb)
    except ValueError as error:
        raise InputError(str(error)) from None
    except OSError as error:
        raise NasError(f"the agent cannot start: {error}; free some disk space on this device") from None
    except AgentError as error:
        raise NasError(str(error)) from None
