"""Whether the latency that a search states holds: ten searches with binding targets on this host, each exported and
measured again.

A candidate's score grows with its multiply-accumulates (and a little noise): it stands in for an accuracy that grows
with capacity, as that of a full training does, so that every search presses against its target. Nothing is trained;
what is timed is timed for real. Beside each, in the same run, the same search by prediction alone: no guard, nothing
measured before or after.

    python benchmarks/promise.py [--only 0 1 2] [--log promise.jsonl]

The searches are numbered 0 to 9. With a log, those in it are told again, so that they can be run a few at a time.
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
from nas.arch import Arch
from nas.cost import estimate
from nas.latency.devices import LatencyModel
from nas.latency.measure import Latency, measure_onnx
from nas.machine import host

TARGETS = [
    *(("mbconv", share) for share in (0.1, 0.25, 0.4, 0.55, 0.7, 0.8)),
    *(("shufflenet", share) for share in (0.2, 0.6)),
    *(("mobilenet_v4", share) for share in (0.3, 0.7)),
]
TRIALS, SAMPLES = 200, 2000
NOISE = 0.02  # of the score, standard deviation; a factor of e in capacity is 1


def capacity(arch: Arch) -> float:
    """What a score grows with."""
    cost = estimate(arch)
    seed = int.from_bytes(hashlib.blake2b(arch.key.encode(), digest_size=8).digest())
    return math.log(cost.macs) + NOISE * float(np.random.default_rng(seed).standard_normal())


class Score:
    """Capacity, but the same for all below `floor`: the end of the front near the target is what is judged here, and
    measuring the rest of it would take most of the time."""

    def __init__(self, floor: float) -> None:
        self.floor = floor

    def __call__(self, arch: Arch) -> float:
        return max(self.floor, capacity(arch))


class Unchecked:
    """A device whose networks are predicted and never measured."""

    def __init__(self, model: LatencyModel) -> None:
        self._model, self.device, self.table = model, model.device, model.table

    def __call__(self, arch: Arch) -> Latency:
        return self._model(arch)

    def many(self, archs: Sequence[Arch]) -> np.ndarray:
        return self._model.many(archs)

    def measure(self, arch: Arch) -> None:
        return None


def kept(number: int, folder: Path) -> dict[str, Any]:
    """One search, its export, and its rival."""
    name, share = TARGETS[number]
    space = nas.load_space(name)
    model = nas.device("host", space=space)
    sampled = [space.sample(seed) for seed in range(SAMPLES)]
    sampled_ms = model.many(sampled)
    target_ms = round(float(np.quantile(sampled_ms, share)), 2)
    below = [capacity(arch) for arch, ms in zip(sampled, sampled_ms, strict=True) if 0.8 < ms / target_ms < 0.9]
    score = Score(float(np.median(below)))
    common: dict[str, Any] = {"latency_target": target_ms, "evaluate": score, "trials": TRIALS, "seed": number}
    found: dict[str, Any] = {"number": number, "space": name, "share": share, "target_ms": target_ms}
    record = nas.search(space, run=folder / str(number), **common)
    admission = record.options["admission"]
    found |= {
        "guard": admission["guard"],
        "correction": admission["correction"],
        "admitted_ms": record.options["admitted_ms"],
    }
    found |= {"missed": len(record.missed), "measured": record.measured, "pairs_ms": admission["pairs_ms"]}
    best = record.front[-1]
    assert best.measured is not None
    exported = nas.export(folder / str(number))
    assert exported.measured is not None
    file = next(path for path in exported.files if path.name == "model.onnx")
    found |= {"predicted_ms": best.predicted.ms, "measured_ms": best.measured.ms}
    found |= {"exported_ms": exported.measured.ms, "again_ms": measure_onnx(file).ms}
    corrected_ms = admission["correction"] * sampled_ms
    found["usable_ms"] = float(corrected_ms[corrected_ms <= target_ms].max())
    common["device"] = Unchecked(model)
    rival = nas.search(space, guard=0, **common).front[-1]
    return found | {"rival_predicted_ms": rival.predicted.ms, "rival_ms": nas.measure(rival.arch).ms}


def told(found: dict[str, Any]) -> str:
    target_ms = found["target_ms"]
    worst = max(found[name] for name in ("measured_ms", "exported_ms", "again_ms"))
    verdict = "met" if worst <= target_ms else "MISSED"
    used, could = found["exported_ms"] / target_ms, found["usable_ms"] / target_ms
    return (
        f"{found['space']:13} {target_ms:6.2f} {found['guard']:6.1%} {found['correction']:6.3f} "
        f"{found['admitted_ms']:8.2f} {found['missed']:3} of {found['measured']:<3} {found['predicted_ms']:7.3f} "
        f"{found['measured_ms']:8.3f} {found['exported_ms']:8.3f} {found['again_ms']:7.3f} {used:6.1%} {could:6.1%} "
        f"{verdict:6} | {found['rival_predicted_ms']:7.3f} {found['rival_ms']:8.3f} "
        f"{'met' if found['rival_ms'] <= target_ms else 'missed'}"
    )


def summary(everything: list[dict[str, Any]]) -> str:
    met = [max(one["measured_ms"], one["exported_ms"], one["again_ms"]) <= one["target_ms"] for one in everything]
    used = [one["exported_ms"] / one["usable_ms"] for one in everything]
    rivals = [one["rival_ms"] > one["target_ms"] for one in everything]
    missed, measured = (sum(one[name] for one in everything) for name in ("missed", "measured"))
    return (
        f"{sum(met)} of {len(met)} exported bests met the target; they use {min(used):.1%} to {max(used):.1%} "
        f"(median {np.median(used):.1%}) of what the space could have used; {missed} of {measured} measured front "
        f"networks missed and were replaced; by prediction alone {sum(rivals)} of {len(rivals)} bests miss"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", type=int, nargs="*", default=list(range(len(TARGETS))), help="numbers of searches")
    parser.add_argument("--log", type=Path, help="file that results are added to, and told from")
    given = parser.parse_args()
    earlier = given.log.read_text().splitlines() if given.log and given.log.exists() else []
    everything = {one["number"]: one for one in map(json.loads, earlier)}
    print(f"{host()}; {TRIALS} candidates a search; ms")
    print(
        "space         target  guard factor admitted   missed   predicted measured exported   again   used  could "
        "verdict| rival: predicted, measured"
    )
    for number in given.only:
        with tempfile.TemporaryDirectory() as folder:
            everything[number] = kept(number, Path(folder))
        if given.log:
            with given.log.open("a") as log:
                log.write(json.dumps(everything[number]) + "\n")
        print(told(everything[number]), flush=True)
    for number, one in sorted(everything.items()):
        if number not in given.only:
            print(told(one))
    print(summary(list(everything.values())))


if __name__ == "__main__":
    main()
