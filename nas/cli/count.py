"""The verb that counts: parameters, MACs, memory access, and where they go."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nas.cli.app import Json, app, show
from nas.system.errors import InputError

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
        typer.Argument(help="References, .yaml files of one, arch.json files, torchvision:NAME, timm:NAME."),
    ] = None,
    by: Annotated[str | None, typer.Option(help="Break the cost down: block or layer.")] = None,
    resolution: Annotated[int | None, typer.Option(help="Side of the input.  [default: the network's own]")] = None,
    classes: Annotated[int | None, typer.Option(help="Outputs of the classifier.  [default: 1000]")] = None,
    conv: Annotated[
        str | None, typer.Option(help="Take this convolution apart: HEIGHTxWIDTHxCHANNELS:KERNEL:OUTPUTS.")
    ] = None,
    padding: Annotated[int | None, typer.Option(help="Of --conv: zeros on each side.  [default: KERNEL // 2]")] = None,
    stride: Annotated[int | None, typer.Option(help="Of --conv.  [default: 1]")] = None,
    to_csv: Annotated[Path | None, typer.Option("--csv", help="Also write the table to this file.")] = None,
    as_json: Json = False,
) -> None:
    """Count parameters, MACs and memory access, in all or part by part.

    By block, flags rows against the four guidelines of ShuffleNetV2 and compares the ways to compute a convolution of
    the stem's shape.

    \b
    Example:
      nas count mobilenet_v2 --by block
      nas count mobilenet_v3_large@width=0.75 torchvision:vgg16 timm:legacy_xception
      nas count --conv 12x12x3:5:256 --padding 0
    """
    from nas.arch.analysis.conv_variants import Convolution

    if (conv is None) == (not networks):
        raise InputError("give networks, or --conv HEIGHTxWIDTHxCHANNELS:KERNEL:OUTPUTS: nas count mobilenet_v2")
    whole, alone = {"by": by, "resolution": resolution, "classes": classes}, {"padding": padding, "stride": stride}
    if given := [f"--{name}" for name, value in (alone if conv is None else whole).items() if value is not None]:
        one, other = ("--conv", "networks") if conv is None else ("networks", "--conv")
        raise InputError(f"{', '.join(given)} belong{'s' * (len(given) == 1)} to {one}, got {other}; leave out either")
    if conv is not None:
        shape = Convolution.parse(conv, 1 if stride is None else stride, padding)
        rows = _ways_rows(shape)
        _write_csv(to_csv, [row | {"steps": _steps_text(row["steps"])} for row in rows])
        show({"convolution": str(shape), "ways": rows}, _ways_text(shape), as_json)
        return
    _count(networks or [], by, resolution, 1000 if classes is None else classes, to_csv, as_json)


def _count(
    names: list[str], by: str | None, resolution: int | None, classes: int, to_csv: Path | None, as_json: bool
) -> None:
    from nas.arch.analysis.breakdown import figures, stem
    from nas.arch.arch import MAX_CLASSES, Arch
    from nas.references.external import parts, total

    if not 1 <= classes <= MAX_CLASSES:
        raise InputError(f"--classes must be from 1 to {MAX_CLASSES}, got {classes}")
    facts: dict[str, Any] = {}
    rows: list[dict[str, Any]] = []
    whole: list[tuple[str, ...]] = []
    texts: list[str] = []
    for name in names:
        network = _network(name, resolution, classes)
        cost, side = total(network, classes), network.resolution
        facts[name] = {"resolution": side} | figures(cost)
        whole.append((name, f"{side} px", *_cells(cost)))
        if by is None:
            rows.append({"network": name} | facts[name])
            continue
        found = parts(network, by, classes)
        facts[name]["by"] = [line.to_dict() for line in found]
        rows += [{"network": name} | _flat(line, by) for line in found]
        texts.append(_parts_text(name, side, found, cost, flagged=by == "block" and isinstance(network, Arch)))
        conv = stem(network) if isinstance(network, Arch) and by == "block" else None
        if conv is not None:
            texts.append(_ways_text(conv))
    _write_csv(to_csv, rows)
    text = "\n\n".join(texts) if by else _table(("network", "input", *_HEADS), whole)
    show(facts, text, as_json)


def _network(name: str, resolution: int | None, classes: int) -> Arch | LibraryNetwork:
    from nas.arch.arch import Arch
    from nas.references.external import is_library
    from nas.references.resolve import named

    if resolution is not None and is_library(name):
        name = f"{name.partition('@')[0]}@resolution={resolution}"
    network = named(name, classes)
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
    text = f"{name}, {side} px\n{_table(heads, rows, left=(1, 2, 8))}"
    return "\n".join([text, *_legend(parts)])


def _flags(line: Line) -> list[str]:
    """One for each guideline: the largest, where two layers of a row break the same."""
    worst = {}
    for found in sorted(line.findings, key=lambda found: found.excess):
        worst[found.guideline] = str(found)
    return [worst[guideline] for guideline in sorted(worst)]


def _legend(parts: list[Line]) -> list[str]:
    from nas.arch.analysis.guidelines import GUIDELINES

    broken = {found.guideline for line in parts for found in line.findings}
    return [f"{guideline}  {text}" for guideline, text in GUIDELINES.items() if guideline in broken]


def _flat(line: Line, by: str) -> dict[str, Any]:
    """One line of the CSV; layers bear no findings."""
    plain = line.to_dict()
    del plain["findings"]
    told = "; ".join(f"{found}: {found.text}" for found in line.findings)
    return plain | {"findings": told} if by == "block" else plain


def _steps_text(steps: list[dict[str, Any]]) -> str:
    """One cell of the CSV, e.g. ``5x5 on each of 3: 4800; 1x1, 3 to 256: 49152``."""
    return "; ".join(f"{step['convolution']}: {step['multiplications']}" for step in steps)


def _ways_rows(conv: Convolution) -> list[dict[str, Any]]:
    from nas.arch.analysis.breakdown import figures
    from nas.arch.analysis.conv_variants import ways

    return [
        {"way": way.name, "steps": [{"convolution": text, "multiplications": macs} for text, macs in way.steps]}
        | figures(way.cost)
        for way in ways(conv)
    ]


def _ways_text(conv: Convolution) -> str:
    from nas.arch.analysis.conv_variants import ways

    found = ways(conv)
    rows = []
    for way in found:
        sums = " + ".join(f"{macs:,}" for _, macs in way.steps)
        steps = "; ".join(text for text, _ in way.steps)
        share = f"{way.cost.macs / found[0].cost.macs:.3g}x"
        product = f"{sums} = {way.cost.macs:,}" if len(way.steps) > 1 else sums
        intensity = f"{way.cost.intensity:.2f}"
        memory = f"{way.cost.memory_bytes / 1e6:,.2f}"
        rows.append((way.name, product, share, f"{way.cost.params:,}", memory, intensity, steps))
    heads = ("one convolution", "multiplications", "", "weights", "MB moved", "MACs/B", "steps")
    return f"{conv}, stride {conv.stride}, padding {conv.padding}\n{_table(heads, rows, left=(0, 6))}"


def _table(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]], left: tuple[int, ...] = (0,)) -> str:
    widths = [max(len(row[at]) for row in [heads, *rows]) for at in range(len(heads))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if at in left else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in [heads, *rows]
    )


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
