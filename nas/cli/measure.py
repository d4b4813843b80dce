"""The command `nas measure`."""

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
        typer.Argument(
            help="Networks: names, YAML, arch.json, .onnx or .pte files, run folders, torchvision:NAME, timm:NAME.",
        ),
    ],
    runtime: Runtime = "onnxruntime",
    threads: Threads = 1,
    batch: Annotated[int, typer.Option(help="Batch size.")] = 1,
    resolution: Annotated[
        int | None, typer.Option(help="Input resolution in pixels.  [default: the network's own]")
    ] = None,
    dtype: Annotated[
        str, typer.Option(help="Data type: float32; torch, torch-compile and openvino also take bfloat16 and float16.")
    ] = "float32",
    device: Annotated[str, typer.Option(help="Device to measure: host, or http://HOST:PORT of an agent.")] = "host",
    token: Token = None,
    samples: Annotated[
        Path | None,
        typer.Option(help="CSV file for every single run, with the columns network, run, ms.", show_default=False),
    ] = None,
    as_json: Json = False,
) -> None:
    """Time networks on this machine or on an agent's device.

    \b
    Example:
      nas measure mobilenet_v3_large efficientnet_b0@resolution=160 shipped/model.onnx torchvision:resnet50
      nas measure mobilenet_v2 --runtime executorch --resolution 192 --samples runs.csv
    """
    from nas.api.networks import measure_named, write_samples

    measured = {}
    for name in networks:
        measured[name] = measure_named(
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
            write_samples(measured, samples)  # after each network: the next one may fail
        if not as_json:
            typer.echo(f"{name}: {measured[name]}")
    if as_json:
        typer.echo(json.dumps({name: latency.to_dict() for name, latency in measured.items()}))
