"""Fit the bundled model of a Pixel 1, print its error, and with ``--write`` put it into the package.

Truth, all of a single large core under TensorFlow Lite in float:

- Random networks of the two spaces of TuNAS, by its two Pixel 1 latency models (Apache-2.0), which add up a coefficient
  for each choice. All have 224 px.
- The nine networks of the MobileNetV3 paper's table 3 (early versions, of the same years as TuNAS).
- The published sizes of MobileNetV2 (slim, 22) and MnasNet-A1 (25), from 96 to 224 px. Networks of one resolution
  cannot tell a constant from work: without these sizes, the smallest networks came out 48 to 61 % too slow.
  Sources differ by 5 to 10 % on the same network, so each grid is scaled to the early figure of its full-size network.

    python benchmarks/pixel1.py ../shared/data/pixel1 [--write]

The folder has TuNAS' coefficients as CSV. tests/data/tables/pixel1 has only a part of them and gives another fit.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from nas.arch.arch import Arch
from nas.arch.block import Block
from nas.latency.models import FOLDER
from nas.latency.table.calibrate import calibrate
from nas.latency.table.measurements import Measured
from nas.latency.table.table import LatencyTable
from nas.references.published import published
from nas.references.table import reference

FITTED, TESTED = 1000, 3000
FULL = 224  # px
SMALL_MS = 10
Draw = Callable[[np.random.Generator], Measured]

# Pixel 1, ms: arXiv 1905.02244, table 3, early versions and final version.
V3_TABLE = {
    "mobilenet_v3_large": (66, 51),
    "mobilenet_v3_large@width=0.75": (50, 39),
    "mnasnet_a1": (84, 71),
    "proxylessnas_mobile": (88, 72),
    "mobilenet_v2": (78, 64),
    "mobilenet_v3_small": (21.3, 15.8),
    "mobilenet_v3_small@width=0.75": (18, 12.8),
    "mnasnet_small": (24.9, 20.3),
    "mobilenet_v2@width=0.35": (19, 16.6),
}
# Published by width and resolution: reference, and what its source is called in search_spaces/reference.
GRIDS = {"mobilenet_v2": "slim", "mnasnet_a1": "tensorflow/tpu"}
# slots of the V3-like space: blocks, the end marker of the stage, stride, activation
STAGES = (
    (range(4, 8), 8, 2, "relu"),
    (range(9, 13), 13, 2, "relu"),
    (range(14, 18), None, 2, "h_swish"),
    (range(18, 22), 22, 1, "h_swish"),
    (range(23, 27), 27, 2, "h_swish"),
)


def v3_like(folder: Path) -> Draw:
    """Random networks of TuNAS' MobileNetV3-like space."""
    by_input = defaultdict(list)
    with (folder / "mobilenet_v3_like_pixel1_ms.csv").open() as file:
        for row in csv.DictReader(file):
            by_input[int(row["slot"]), row["in_width"]].append(row)
    bias = json.loads((folder / "mobilenet_v3_like_meta.json").read_text())["bias_ms"]

    def draw(rng: np.random.Generator) -> Measured:
        ms, rows = bias, []

        def pick(slot: int, into: str, out: str | None = None) -> dict[str, str]:
            nonlocal ms
            options = [row for row in by_input[slot, into] if out in (None, row["out_width"])]
            row = options[rng.integers(len(options))]
            ms += float(row["ms"])
            return row

        stem = pick(0, "3")
        width = stem["out_width"]
        rows.append(Block("conv", int(width), int(stem["kernel"]), 2, act="h_swish"))
        pick(1, width)
        first = pick(2, width, width)
        if first["op"] == "sepconv":
            rows.append(Block("mbconv", int(width), int(first["kernel"]), act="relu"))
        pick(3, width)
        for slots, end, stride, act in STAGES:
            for at, slot in enumerate(slots):
                row = pick(slot, width, None if at == 0 else width)
                width = row["out_width"]
                if row["op"] == "bneck":
                    shape = int(width), int(row["kernel"]), stride if at == 0 else 1, int(row["expand"])
                    rows.append(Block("mbconv", *shape, 0.25 * int(row["se"]), act))
            if end:
                pick(end, width)
        head = pick(28, width)["out_width"]
        pick(29, head)
        pick(30, head)
        final = pick(31, head)["out_width"]
        pick(32, final)
        rows += [Block("conv", int(head), act="h_swish"), Block("pool"), Block("linear", int(final), act="h_swish")]
        return Measured(Arch(tuple(rows), 224), ms)

    return draw


def proxyless(folder: Path) -> Draw:
    """Random networks of TuNAS' ProxylessNAS space."""
    layers = defaultdict(list)
    with (folder / "proxylessnas_pixel1_ms.csv").open() as file:
        for row in csv.DictReader(file):
            layers[int(row["layer"])].append(row)
    meta = json.loads((folder / "proxylessnas_meta.json").read_text())

    def draw(rng: np.random.Generator) -> Measured:
        ms, rows, layer = meta["bias_ms"], [Block("conv", 32, 3, 2, act="relu6")], 0
        stages = zip(meta["widths"][1:-1], meta["blocks_per_stage"], meta["strides"], strict=True)
        for width, blocks, stride in stages:
            for at in range(blocks):
                row = layers[layer][rng.integers(len(layers[layer]))]
                layer, ms = layer + 1, ms + float(row["ms"])
                if row["kernel"] != "zero":
                    shape = width, int(row["kernel"]), stride if at == 0 else 1, int(row["expand"])
                    rows.append(Block("mbconv", *shape, act="relu6"))
        rows += [Block("conv", 1280, act="relu6"), Block("pool")]
        return Measured(Arch(tuple(rows), 224), ms)

    return draw


def drawn(draw: Draw, count: int, seed: int) -> list[Measured]:
    rng = np.random.default_rng(seed)
    return [draw(rng) for _ in range(count)]


def grid(name: str) -> list[Measured]:
    """The published sizes of a reference on the Pixel 1, scaled to the early figure of its full-size network."""
    ms = {
        (entry.width or 1.0, entry.resolution): latency.ms
        for entry in published(name)
        for latency in entry.latency
        if latency.device == "Pixel 1" and GRIDS[name] in latency.source
    }
    scale = V3_TABLE[name][0] / ms[1.0, FULL]
    return [Measured(reference(name, width, side), scale * one) for (width, side), one in ms.items()]


def fitted(measured: list[Measured], notes: tuple[str, ...] = ()) -> LatencyTable:
    return calibrate(
        measured,
        "Pixel 1",
        runtime="TensorFlow Lite float, one large core",
        source="TuNAS (arXiv 2008.06120), google-research/tunas/cost_model_data.py; MobileNetV3 (arXiv 1905.02244), "
        "table 3, early versions; sizes of MobileNetV2 (tensorflow/models, slim) and MnasNet-A1 (tensorflow/tpu)",
        licence="Apache-2.0 (TuNAS)",
        notes=notes,
    ).table


def figures(table: LatencyTable, measured: list[Measured]) -> str:
    predicted = table.many([one.arch for one in measured])
    off = np.abs(predicted / np.array([one.ms for one in measured]) - 1)
    rank = spearmanr(predicted, [one.ms for one in measured])[0]
    return f"Spearman {rank:.4f}, mean error {off.mean():.2%}, worst {off.max():.1%} on {len(measured)} networks"


def line(table: LatencyTable, sizes: list[Measured]) -> str:
    """The line from published to predicted ms, and the errors, also among the small networks."""
    ms = np.array([one.ms for one in sizes])
    predicted = table.many([one.arch for one in sizes])
    slope, constant = np.polyfit(ms, predicted, 1)
    off = np.abs(predicted / ms - 1)
    return (
        f"slope {slope:.3f}, constant {constant:+.2f} ms, mean error {off.mean():.1%}, worst {off.max():.1%}, "
        f"{off[ms < SMALL_MS].max():.1%} below {SMALL_MS} ms"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder with TuNAS' coefficients as CSV")
    parser.add_argument("--write", action="store_true", help="put the model into the package")
    options = parser.parse_args()
    spaces = {"MobileNetV3-like": v3_like(options.folder), "ProxylessNAS": proxyless(options.folder)}
    train = {name: drawn(draw, FITTED, seed) for seed, (name, draw) in enumerate(spaces.items())}
    test = {name: drawn(draw, TESTED, 10 + seed) for seed, (name, draw) in enumerate(spaces.items())}
    early = [Measured(reference(name), ms) for name, (ms, _) in V3_TABLE.items()]
    full_size = [*train["MobileNetV3-like"], *train["ProxylessNAS"], *early]
    grids = {name: grid(name) for name in GRIDS}
    everything = [*full_size, *(one for sizes in grids.values() for one in sizes)]
    table = fitted(everything)
    notes = [f"{name} space of TuNAS, networks not fitted to: {figures(table, nets)}" for name, nets in test.items()]
    alone = fitted(train["MobileNetV3-like"])
    notes.append(
        f"fitted to the MobileNetV3-like space alone, on the ProxylessNAS space: {figures(alone, test['ProxylessNAS'])}"
    )
    for name, sizes in grids.items():
        others = [one for other in GRIDS if other != name for one in grids[other]]
        notes.append(
            f"{len(sizes)} published sizes of {name}: {line(table, sizes)}; by a fit without them: "
            f"{line(fitted([*full_size, *others]), sizes)}"
        )
    notes.append("figures of two laboratories for this phone differ by 5 +- 5 %: expect no better of the model")
    print(*notes, sep="\n")
    for name, sizes in grids.items():
        print(f"without any sizes, {name}: {line(fitted(full_size), sizes)}")
    print(f"\n{sum(c > 0 for c in table.coefficients)} of {len(table.coefficients)} coefficients are not zero\n")
    print(f"{'network':32} {'model':>6} {'early':>6} {'final':>6}   ms on Pixel 1")
    for name, (early, final) in V3_TABLE.items():
        print(f"{name:32} {table(reference(name)).ms:6.1f} {early:6.1f} {final:6.1f}")
    if options.write:
        path = FOLDER / "pixel1.json"
        fitted(everything, tuple(notes)).save(path)
        print(f"\nwritten: {path.name}, {path.stat().st_size >> 10} KB")


if __name__ == "__main__":
    main()
