"""The verb that times networks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from nas.cli.app import Json, Runtime, Threads, Token, app


@app.command()
def measure(
    networks: Annotated[
        list[str],
        typer.Argument(help="References, arch.json, exported .onnx or .pte files, torchvision:NAME, timm:NAME."),
    ],
    runtime: Runtime = "onnxruntime",
    threads: Threads = 1,
    batch: Annotated[int, typer.Option(help="Images per inference.")] = 1,
    resolution: Annotated[
        int | None, typer.Option(help="Side of the images in pixels.  [default: the network's own]")
    ] = None,
    dtype: Annotated[
        str, typer.Option(help="float32; bfloat16, float16 under torch, torch-compile, openvino.")
    ] = "float32",
    device: Annotated[str, typer.Option(help="host, or http://HOST:PORT of an agent.")] = "host",
    token: Token = None,
    samples: Annotated[
        Path | None, typer.Option(help="CSV file to write every timed run to: network, run, ms.", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Time networks on this host, or on the device of an agent.

    \b
    Example:
      nas measure mobilenet_v3_large efficientnet_b0@resolution=160 shipped/model.onnx torchvision:resnet50
      nas measure mobilenet_v2 --runtime executorch --resolution 192 --samples runs.csv
    """
    from nas.api.networks import measure_named, write_samples

    found = {}
    for name in networks:
        found[name] = measure_named(
            name,
            runtime,
            threads,
            batch,
            device,
            token,
            resolution=resolution,
            dtype=dtype,
            keep_samples=samples is not None,
        )
        if samples is not None:
            write_samples(found, samples)  # after each: the next may fail
        if not as_json:
            typer.echo(f"{name}: {found[name]}")
    if as_json:
        typer.echo(json.dumps({name: latency.to_dict() for name, latency in found.items()}))
