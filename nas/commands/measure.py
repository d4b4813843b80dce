"""The verb that times networks."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from nas.commands.app import Json, Runtime, Threads, Token, app


@app.command()
def measure(
    networks: Annotated[
        list[str], typer.Argument(help="References, arch.json or exported .onnx files, torchvision:NAME, timm:NAME.")
    ],
    runtime: Runtime = "onnxruntime",
    threads: Threads = 1,
    batch: Annotated[int, typer.Option(help="Images per inference.")] = 1,
    device: Annotated[str, typer.Option(help="host, or http://HOST:PORT of an agent.")] = "host",
    token: Token = None,
    as_json: Json = False,
) -> None:
    """Time networks on this host, or on the device of an agent.

    \b
    Example:
      nas measure mobilenet_v3_large efficientnet_b0@resolution=160 shipped/model.onnx torchvision:resnet50
    """
    from nas.networks import measure_named

    found = {}
    for name in networks:
        found[name] = measure_named(name, runtime, threads, batch, device, token)
        if not as_json:
            typer.echo(f"{name}: {found[name]}")
    if as_json:
        typer.echo(json.dumps({name: latency.to_dict() for name, latency in found.items()}))
