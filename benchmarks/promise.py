"""Check that the latencies a search reports hold: ten searches with binding targets, exported and measured again.

A candidate's score grows with its multiply-accumulates, plus a little noise. It stands in for an accuracy that grows
with capacity, as after a full training, so every search presses against its target. Nothing is trained, but all timings
are real. In the same run each search is repeated by prediction alone: without a safety margin or any measurement.

    python benchmarks/promise.py [--only 0 1 2] [--log promise.jsonl]

The searches have numbers 0 to 9. With a log you can run a few at a time: the searches in the log are printed again. A
search in which every network misses recommends none; nothing is exported, and the verdict is NONE.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import nas
from nas.arch.arch import Arch
from nas.arch.cost import cost_of
from nas.engine.run.record import Record
from nas.latency.devices import LatencyModel
from nas.latency.held_out import GUARDED, NEAR
from nas.latency.margin import SafetyMargin
from nas.latency.measure import Latency, measure_onnx
from nas.system.machine import host

TARGETS = [
    *(("mbconv", share) for share in (0.1, 0.25, 0.4, 0.55, 0.7, 0.8)),
    *(("shufflenet", share) for share in (0.2, 0.6)),
    *(("mobilenet_v4", share) for share in (0.3, 0.7)),
]
TRIALS, SAMPLES = 200, 2000
FLAT = 0.8  # share of the target up to which all scores are about the same
NOISE = 0.02  # standard deviation of the score; a factor of e in capacity is 1


def capacity(arch: Arch) -> float:
    """The logarithm of the multiply-accumulates, with a little noise."""
    cost = cost_of(arch)
    seed = int.from_bytes(hashlib.blake2b(arch.key.encode(), digest_size=8).digest())
    return math.log(cost.macs) + NOISE * float(np.random.default_rng(seed).standard_normal())


class Score:
    """Capacity, but at least `floor`: only the end of the front near the target matters here, and measuring the rest
    would take most of the time."""

    def __init__(self, floor: float) -> None:
        self.floor = floor

    def __call__(self, arch: Arch) -> float:
        return max(self.floor, capacity(arch))


class Unchecked:
    """A device that only predicts."""

    def __init__(self, model: LatencyModel) -> None:
        self._model, self.device, self.table = model, model.device, model.table

    def __call__(self, arch: Arch) -> Latency:
        return self._model(arch)

    def many(self, archs: Sequence[Arch]) -> np.ndarray:
        return self._model.many(archs)

    def measure(self, arch: Arch) -> None:
        return None


def searched(number: int, folder: Path) -> dict[str, Any]:
    """The figures of one search, its export, and the same search by prediction alone."""
    name, share = TARGETS[number]
    space = nas.load_space(name)
    model = nas.device("host", space=space)
    sampled = [space.sample(seed) for seed in range(SAMPLES)]
    sampled_ms = model.many(sampled)
    target_ms = round(float(np.quantile(sampled_ms, share)), 2)
    below = [capacity(arch) for arch, ms in zip(sampled, sampled_ms, strict=True) if abs(ms / target_ms - FLAT) < 0.03]
    score = Score(float(np.median(below)))
    common: dict[str, Any] = {"latency_target": target_ms, "evaluate": score, "trials": TRIALS, "seed": number}
    found: dict[str, Any] = {"number": number, "space": name, "share": share, "target_ms": target_ms}
    record = nas.search(space, run=folder / str(number), **common)
    admission = (record.info.margin or SafetyMargin()).to_dict()
    found |= {
        "guard": admission["guard"],
        "correction": admission["correction"],
        "admitted_ms": record.info.admitted_ms,
    }
    found |= {"missed": len(record.missed), "measured": record.measured, "pairs_ms": admission["pairs_ms"]}
    found |= shipped(record, folder / str(number))
    corrected_ms = admission["correction"] * sampled_ms
    if len(usable_ms := corrected_ms[corrected_ms <= target_ms]):
        found["usable_ms"] = float(usable_ms.max())
    common["device"] = Unchecked(model)
    if rivals := nas.search(space, guard=0, **common).front:
        rival = rivals[-1]
        found |= {"rival_predicted_ms": rival.predicted.ms, "rival_ms": nas.measure(rival.arch).ms}
    return found


def shipped(record: Record, run: Path) -> dict[str, Any]:
    """The best network of a run, its export, and another measurement; empty if every network missed."""
    if not record.front:
        return {}
    best = record.front[-1]
    assert best.measured is not None
    exported = nas.export(run)
    assert exported.measured is not None
    file = next(path for path in exported.files if path.name == "model.onnx")
    found = {"predicted_ms": best.predicted.ms, "measured_ms": best.measured.ms}
    again = measure_onnx(file)
    took_ms = max(one.ms * (1 + (one.drift or 0.0)) for one in (exported.measured, again))
    return found | {"exported_ms": exported.measured.ms, "again_ms": again.ms, "took_ms": took_ms}


def verdict(found: dict[str, Any], names: Sequence[str]) -> str:
    """Whether the slowest of these measurements is within the target."""
    if names[0] not in found:
        return "NONE"
    return "met" if max(found[name] for name in names) <= found["target_ms"] else "MISSED"


OURS, RIVAL = ("measured_ms", "exported_ms", "again_ms"), ("rival_ms",)
TOOK = ("took_ms",)  # the slower of the last two, without the correction for drift


def row(found: dict[str, Any]) -> str:
    def shown(name: str, width: int) -> str:
        return f"{found[name]:{width}.3f}" if name in found else f"{'-':>{width}}"

    def share(name: str) -> str:
        return f"{found[name] / found['target_ms']:6.1%}" if name in found else f"{'-':>6}"

    return (
        f"{found['space']:13} {found['target_ms']:6.2f} {found['guard']:6.1%} {found['correction']:6.3f} "
        f"{found['admitted_ms']:8.2f} {found['missed']:3} of {found['measured']:<3} {shown('predicted_ms', 7)} "
        f"{shown('measured_ms', 8)} {shown('exported_ms', 8)} {shown('again_ms', 7)} "
        f"{share('exported_ms')} {share('usable_ms')} {verdict(found, OURS):6} | "
        f"{shown('rival_predicted_ms', 7)} {shown('rival_ms', 8)} {verdict(found, RIVAL)}"
    )


def beyond_guard(everything: Sequence[dict[str, Any]]) -> tuple[int, int]:
    """How many networks measured near the targets of *other* searches of a space took longer than this search's margin
    leaves them, so that they would miss a target that just admits them; and out of how many.

    As when a margin is learned, networks count that are predicted within a factor of `NEAR` of the target.
    """
    over = [
        measured > predicted * one["correction"] * (1 + one["guard"])
        for one in everything
        for other in everything
        if other["number"] != one["number"] and other["space"] == one["space"]
        for predicted, measured in other["pairs_ms"]
        if one["target_ms"] / NEAR <= predicted <= one["target_ms"] * NEAR
    ]
    return sum(over), len(over)


def summary(everything: Sequence[dict[str, Any]]) -> str:
    ours, rivals = ([verdict(one, names) for one in everything] for names in (OURS, RIVAL))
    took = [verdict(one, TOOK) for one in everything]
    text = f"{ours.count('met')} of {len(ours) - ours.count('NONE')} exported bests met the target"
    if used := [
        one["exported_ms"] / one["usable_ms"] for one in everything if {"exported_ms", "usable_ms"} <= set(one)
    ]:
        text += (
            f"; they use {min(used):.1%} to {max(used):.1%} (median {np.median(used):.1%}) of what the space could "
            "have used"
        )
    return (
        f"{text}; in {ours.count('NONE')} of {len(ours)} searches every network missed it; by "
        f"prediction alone {rivals.count('MISSED')} of {len(rivals) - rivals.count('NONE')} bests miss\n"
        f"without the correction for drift, {took.count('met')} of {len(took) - took.count('NONE')} met it\n"
        f"beyond the margin, which allows {1 - GUARDED:.0%}: {_share(*front_missed(everything))} front networks "
        f"exceeded the target; {_share(*beyond_guard(everything))} networks measured near the targets of other "
        "searches of the space took longer than the margin leaves them"
    )


def front_missed(everything: Sequence[dict[str, Any]]) -> tuple[int, int]:
    """How many of the measured front networks exceeded their target, and out of how many."""
    return sum(one["missed"] for one in everything), sum(one["measured"] for one in everything)


def _share(some: int, of: int) -> str:
    return f"{some} of {of}" + (f" ({some / of:.1%})" if of else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=" ".join(__doc__.partition("\n\n")[0].split()))
    parser.add_argument("--only", type=int, nargs="*", default=list(range(len(TARGETS))), help="numbers of searches")
    parser.add_argument("--log", type=Path, help="file that results are appended to and read from")
    given = parser.parse_args()
    earlier = given.log.read_text().splitlines() if given.log and given.log.exists() else []
    everything = {one["number"]: one for one in map(json.loads, earlier)}
    print(f"{host()}; {TRIALS} candidates a search; ms")
    print(
        "space         target margin factor admitted   missed   predicted measured exported   again   used  could "
        "verdict| rival: predicted, measured"
    )
    for number in given.only:
        with tempfile.TemporaryDirectory() as folder:
            everything[number] = searched(number, Path(folder))
        if given.log:
            with given.log.open("a") as log:
                log.write(json.dumps(everything[number]) + "\n")
        print(row(everything[number]), flush=True)
    for number, one in sorted(everything.items()):
        if number not in given.only:
            print(row(one))
    print(summary(list(everything.values())))


if __name__ == "__main__":
    main()
