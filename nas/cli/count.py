"""The command `nas count`: parameters, MACs and memory access, and where they go."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nas.cli.app import Json, app, show
from nas.system.errors import InputError
from nas.system.text import table

if TYPE_CHECKING:
    from nas.arch.analysis.breakdown import Line
    from nas.arch.analysis.conv_variants import Convolution
    from nas.arch.arch import Arch
    from nas.arch.cost import Cost
    from nas.references.external import LibraryNetwork

_HEADS = ("params", "M MACs", "MB moved", "MACs/B")


@app.command()
def count(
    networks: Annotated[
        list[str] | None,
        typer.Argument(
            help="Networks: names, YAML or arch.json files, run folders (the best), torchvision:NAME, timm:NAME."
        ),
    ] = None,
    by: Annotated[str | None, typer.Option(help="Breakdown of the cost: block or layer.")] = None,
    resolution: Annotated[
        int | None, typer.Option(help="Input resolution in pixels.  [default: the network's own]")
    ] = None,
    classes: Annotated[int | None, typer.Option(help="Number of classes.  [default: 1000]")] = None,
    conv: Annotated[
        str | None,
        typer.Option(help="Single convolution to count in place of networks: HEIGHTxWIDTHxCHANNELS:KERNEL:OUTPUTS."),
    ] = None,
    padding: Annotated[
        int | None, typer.Option(help="Padding of --conv on each side, in pixels.  [default: KERNEL // 2]")
    ] = None,
    stride: Annotated[int | None, typer.Option(help="Stride of --conv.  [default: 1]")] = None,
    to_csv: Annotated[Path | None, typer.Option("--csv", help="CSV file to write the table to.")] = None,
    as_json: Json = False,
) -> None:
    """Count parameters, MACs and memory access.

    By block, it also flags rows that break a guideline of ShuffleNetV2, and compares standard and separable variants of
    the stem's convolution.

    \b
    Example:
      nas count mobilenet_v2 --by block
      nas count mobilenet_v3_large@width=0.75 torchvision:vgg16 timm:legacy_xception
      nas count --conv 12x12x3:5:256 --padding 0
    """
    from nas.arch.analysis.conv_variants import Convolution

    if (conv is None) == (not networks):
        raise InputError(
            "give either networks, as in nas count mobilenet_v2, or --conv HEIGHTxWIDTHxCHANNELS:KERNEL:OUTPUTS"
        )
    of_networks = {"by": by, "resolution": resolution, "classes": classes}
    of_conv = {"padding": padding, "stride": stride}
    misplaced = of_conv if conv is None else of_networks
    if given := [f"--{name}" for name, value in misplaced.items() if value is not None]:
        needed, got = ("--conv", "networks") if conv is None else ("networks", "--conv")
        raise InputError(f"{', '.join(given)} can only be used with {needed}, got {got}; leave out one of the two")
    if conv is not None:
        shape = Convolution.parse(conv, 1 if stride is None else stride, padding)
        rows = _variant_rows(shape)
        _write_csv(to_csv, [row | {"steps": _steps_text(row["steps"])} for row in rows])
        show({"convolution": str(shape), "ways": rows}, _variants_text(shape), as_json)
        return
    _count(networks or [], by, resolution, 1000 if classes is None else classes, to_csv, as_json)


def _count(
    names: list[str], by: str | None, resolution: int | None, classes: int, to_csv: Path | None, as_json: bool
) -> None:
    from nas.arch.analysis.breakdown import figures, stem
    from nas.arch.arch import MAX_CLASSES, Arch
    from nas.references.external import parts, total
    from nas.system.validate import whole_number

    whole_number("--classes", classes, high=MAX_CLASSES)
    facts: dict[str, Any] = {}
    rows: list[dict[str, Any]] = []
    totals: list[tuple[str, ...]] = []
    texts: list[str] = []
    for name in names:
        network = _network(name, resolution, classes)
        cost, side = total(network, classes), network.resolution
        facts[name] = {"resolution": side} | figures(cost)
        totals.append((name, f"{side} px", *_cells(cost)))
        if by is None:
            rows.append({"network": name} | facts[name])
            continue
        lines = parts(network, by, classes)
        facts[name]["by"] = [line.to_dict() for line in lines]
        rows += [{"network": name} | _flat(line, by) for line in lines]
        texts.append(_parts_text(name, side, lines, cost, flagged=by == "block" and isinstance(network, Arch)))
        conv = stem(network) if isinstance(network, Arch) and by == "block" else None
        if conv is not None:
            texts.append(_variants_text(conv))
    _write_csv(to_csv, rows)
    text = "\n\n".join(texts) if by else table(("network", "input", *_HEADS), totals)
    show(facts, text, as_json)


def _network(name: str, resolution: int | None, classes: int) -> Arch | LibraryNetwork:
    from nas.arch.arch import Arch
    from nas.engine.run.resolve import resolve
    from nas.references.external import is_library

    if resolution is not None and is_library(name):
        name = f"{name.partition('@')[0]}@resolution={resolution}"
    network = resolve(name, classes)
    return replace(network, resolution=resolution) if resolution is not None and isinstance(network, Arch) else network


def _cells(cost: Cost) -> tuple[str, ...]:
    intensity = "" if cost.intensity is None else f"{cost.intensity:.2f}"
    return f"{cost.params:,}", f"{cost.macs / 1e6:,.2f}", f"{cost.memory_bytes / 1e6:,.2f}", intensity


def _parts_text(name: str, side: int, parts: list[Line], cost: Cost, flagged: bool) -> str:
    rows = []
    for line in parts:
        share = f"{line.cost.macs / cost.macs:.1%}" if cost.macs else ""
        at = "" if line.at is None else str(line.at)
        flags = (", ".join(_flags(line)),) if flagged else ()
        rows.append((at, line.name, line.shape, *_cells(line.cost), share, *flags))
    rows.append(("", "total", "", *_cells(cost), "", *([""] * flagged)))
    shape = "channels, size" if any(line.at is not None for line in parts) else "kind"
    heads = ("", "part", shape, *_HEADS, "share", *(["flags"] * flagged))
    text = f"{name}, {side} px\n{table(heads, rows, left=(1, 2, 8))}"
    return "\n".join([text, *_legend(parts)])


def _flags(line: Line) -> list[str]:
    """One flag per guideline: the worst, where several layers of a row break the same one."""
    worst = {}
    for finding in sorted(line.findings, key=lambda finding: finding.excess):
        worst[finding.guideline] = str(finding)
    return [worst[guideline] for guideline in sorted(worst)]


def _legend(parts: list[Line]) -> list[str]:
    from nas.arch.analysis.guidelines import GUIDELINES

    broken = {finding.guideline for line in parts for finding in line.findings}
    return [f"{guideline}  {text}" for guideline, text in GUIDELINES.items() if guideline in broken]


def _flat(line: Line, by: str) -> dict[str, Any]:
    """One line of the CSV; only blocks have findings."""
    plain = line.to_dict()
    del plain["findings"]
    findings = "; ".join(f"{finding}: {finding.text}" for finding in line.findings)
    return plain | {"findings": findings} if by == "block" else plain


def _steps_text(steps: list[dict[str, Any]]) -> str:
    """One cell of the CSV, e.g. ``5x5 on each of 3: 4800; 1x1, 3 to 256: 49152``."""
    return "; ".join(f"{step['convolution']}: {step['multiplications']}" for step in steps)


def _variant_rows(conv: Convolution) -> list[dict[str, Any]]:
    from nas.arch.analysis.breakdown import figures
    from nas.arch.analysis.conv_variants import variants

    return [
        {"way": variant.name, "steps": [{"convolution": text, "multiplications": macs} for text, macs in variant.steps]}
        | figures(variant.cost)
        for variant in variants(conv)
    ]


def _variants_text(conv: Convolution) -> str:
    from nas.arch.analysis.conv_variants import variants

    listed = variants(conv)
    rows = []
    for variant in listed:
        sums = " + ".join(f"{macs:,}" for _, macs in variant.steps)
        steps = "; ".join(text for text, _ in variant.steps)
        share = f"{variant.cost.macs / listed[0].cost.macs:.3g}x"
        product = f"{sums} = {variant.cost.macs:,}" if len(variant.steps) > 1 else sums
        intensity = f"{variant.cost.intensity:.2f}"
        memory = f"{variant.cost.memory_bytes / 1e6:,.2f}"
        rows.append((variant.name, product, share, f"{variant.cost.params:,}", memory, intensity, steps))
    heads = ("one convolution", "multiplications", "", "weights", "MB moved", "MACs/B", "steps")
    return f"{conv}, stride {conv.stride}, padding {conv.padding}\n{table(heads, rows, left=(0, 6))}"


def _write_csv(path: Path | None, rows: list[dict[str, Any]]) -> None:
    if path is None:
        return
    try:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}; give another file") from None
