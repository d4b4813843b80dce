"""The command `nas export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nas.cli.app import Json, app, show, split_names, watcher_for
from nas.system.errors import TargetMissedError
from nas.system.units import above


@app.command()
def export(
    run: Annotated[str, typer.Argument(help="Run folder, arch.json file, or name of a published network.")],
    arch: Annotated[str | None, typer.Option(help="Key of a network of the run.  [default: the best]")] = None,
    out: Annotated[Path | None, typer.Option(help="Output folder.  [default: RUN/export/KEY, or ./NAME]")] = None,
    formats: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="Formats, separated by commas: onnx, python, executorch.  [default: onnx,python, and executorch for a "
            "run measured under it]",
        ),
    ] = None,
    classes: Annotated[
        int | None,
        typer.Option(help="Number of classes.  [default: as in the weights or the images, else 1000]"),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(help="Weights: torchvision or timm, which are downloaded, or a file.  [default: untrained]"),
    ] = None,
    int8: Annotated[
        bool,
        typer.Option("--int8", help="Also write int8 versions of the onnx and executorch files."),
    ] = False,
    data: Annotated[
        str | None,
        typer.Option(help="Images for --int8: a folder, or a name such as cifar10.  [default: those of the run]"),
    ] = None,
    normalise: Annotated[
        str | None,
        typer.Option(help="Pixel scaling for --int8: imagenet, half, nas or none.  [default: what the weights expect]"),
    ] = None,
    token: Annotated[str | None, typer.Option(help="Token of the run's agent, to measure the file there.")] = None,
    as_json: Json = False,
) -> None:
    """Export a network as ONNX, PyTorch code or ExecuTorch.

    Compares the ONNX and ExecuTorch files with PyTorch and measures them. The Python file needs only torch. The exit
    code is 1 if the exported network misses the target of its run.

    \b
    Example:
      nas export results/mbconv-20260131-101500 --out shipped/
      nas export mobilenet_v3_large --weights torchvision --format onnx,executorch
      nas export results/mbconv-20260131-101500 --weights trained.pt --int8 --data photos/
    """
    from nas.api import networks
    from nas.cli.exported import export_facts, export_text

    names = None if formats is None else tuple(name.lower() for name in split_names(formats))
    with watcher_for(as_json) as watch:
        done = networks.export(
            run,
            out,
            names,
            arch=arch,
            num_classes=classes,
            weights=weights,
            token=token,
            int8=int8,
            data=data,
            normalise=normalise,
            watch=watch,
        )
    show(export_facts(done), export_text(done), as_json)
    if done.target_ms is not None and done.checked is not None and not done.checked.meets(done.target_ms):
        noisy = f" ({done.checked.warning})" if done.checked.warning else ""
        raise TargetMissedError(
            f"the exported network takes {above(done.checked.ms, done.target_ms)} ms, more than the target of "
            f"{done.target_ms:g} ms{noisy}; "
            f"choose a faster one from the run's pareto.csv with --arch KEY"
        )
