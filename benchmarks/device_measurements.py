"""Error of a device model on unseen networks, by the number of networks measured.

Truth: networks of the FBNet space, measured end to end on six machines and a phone (HELP, MIT licence). The same run
also fits a ridge on the one-hot choices of each layer, which knows nothing of widths and sizes.

    python benchmarks/device_measurements.py ../shared/data/device-latency
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np

from nas.arch.arch import Arch
from nas.arch.block import Block
from nas.latency.devices import device
from nas.latency.table.calibrate import calibrate
from nas.latency.table.measurements import Measured

# Devices on which whole networks were measured; others in this data are sums of a table.
DEVICES = ("1080ti_1", "1080ti_64", "titanx_1", "titan_rtx_1", "silver_4114", "gold_6240", "pixel2")
COUNTS = (8, 12, 20, 40, 80, 160, 320)
TESTED, DRAWS = 500, 3
WIDTHS = (16, *[24] * 4, *[32] * 4, *[64] * 4, *[112] * 4, *[184] * 4, 352)
STRIDES = (1, 2, 1, 1, 1, 2, 1, 1, 1, 2, 1, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1)
CHOICES = ("skip", "k3_e1", "k3_e1_g2", "k3_e3", "k3_e6", "k5_e1", "k5_e1_g2", "k5_e3", "k5_e6")


def network(choices: list[str]) -> Arch:
    """A network of the FBNet space. Grouped 1x1 convolutions (``_g2``) cannot be described here and are left out."""
    rows, width = [Block("conv", 16, 3, 2, act="relu")], 16
    for choice, wide, stride in zip(choices, WIDTHS, STRIDES, strict=True):
        if choice != "skip":
            kernel, expand = int(choice[1]), int(choice[4])
            rows.append(Block("mbconv", wide, kernel, stride, expand, act="relu", keep_expand=True))
        elif stride == 2 or width != wide:
            rows.append(Block("conv", wide, 1, stride, act="relu"))
        width = wide
    return Arch((*rows, Block("conv", 1504, act="relu"), Block("pool")), 224)


def ridge(seen: np.ndarray, ms: np.ndarray, unseen: np.ndarray) -> np.ndarray:
    """Predicted ms of `unseen` networks by a ridge on one-hot choices."""
    mean = seen.mean(axis=0)
    centred = seen - mean
    weights = np.linalg.solve(centred.T @ centred + np.eye(centred.shape[1]), centred.T @ (ms - ms.mean()))
    return np.asarray((unseen - mean) @ weights + ms.mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="with fbnet_dev.csv")
    with (parser.parse_args().folder / "fbnet_dev.csv").open() as file:
        lines = list(csv.DictReader(file))
    order = np.random.default_rng(0).permutation(len(lines))[: TESTED + 1000]
    choices = [[lines[at][f"l{layer}"] for layer in range(22)] for at in order]
    archs = [network(one) for one in choices]
    one_hot = np.array([[cell == choice for cell in one for choice in CHOICES] for one in choices], dtype=float)
    prior = device("pixel1").table
    print("mean absolute error on 500 unseen networks, mean of 3 draws: ours (one-hot ridge)")
    print(f"{'device':12}" + "".join(f"{count:>16}" for count in COUNTS))
    for name in DEVICES:
        ms = np.array([float(lines[at][name]) for at in order])
        cells = []
        for count in COUNTS:
            ours, theirs = [], []
            for draw in range(DRAWS):
                seen = TESTED + np.random.default_rng(draw).permutation(1000)[:count]
                table = calibrate([Measured(archs[at], ms[at]) for at in seen], name, prior=prior).table
                truth = ms[:TESTED]
                ours.append(np.abs(table.many(archs[:TESTED]) / truth - 1).mean())
                theirs.append(np.abs(ridge(one_hot[seen], ms[seen], one_hot[:TESTED]) / truth - 1).mean())
            cells.append(f"{np.mean(ours):.1%} ({np.mean(theirs):.1%})")
        print(f"{name:12}" + "".join(f"{cell:>16}" for cell in cells), flush=True)


if __name__ == "__main__":
    main()
