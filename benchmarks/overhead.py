"""What a search costs besides the evaluations: driver time of each candidate, resuming, the report.

    python benchmarks/overhead.py [--counts 100 1000 5000] [--auto 100 300 1000]

The evaluation is a function that returns at once, the device a bundled table, the journal on disk. Driver time is the
wall-clock time of a search, less the time before its first candidate, over the number of candidates; with ``auto`` the
time of one proposal is given apart, for studies that already hold so many trials.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import optuna

import nas
from nas.arch.arch import Arch
from nas.engine.auto import AutoSampler
from nas.engine.progress import Silent
from nas.engine.run.journal import DIRECTIONS
from nas.engine.run.store import Store
from nas.engine.run.trials import frozen
from nas.latency.devices import device
from nas.latency.limits import Limits
from nas.system.machine import here

TARGET_MS = 66.0
PROPOSALS = 8


def score(arch: Arch) -> float:
    """A score that takes no time."""
    return sum((row.kernel == 5) + (row.se > 0) for row in arch.rows) / (2 * len(arch.rows))


class Clock(Silent):
    """Notes when candidates finish."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def search(self, progress: object) -> None:
        """One step of the search."""
        self.times.append(time.perf_counter())


def searched(space: nas.Space, count: int, folder: Path) -> float:
    """Seconds a candidate of a search with `count` of them."""
    clock = Clock()
    nas.search(
        space,
        latency_target=TARGET_MS,
        device="pixel1",
        evaluate=score,
        trials=count,
        sampler="random",
        run=folder,
        watch=clock,
    )
    return (clock.times[-1] - clock.times[0]) / count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=int, nargs="+", default=[100, 1000, 5000], help="candidates with random")
    parser.add_argument(
        "--auto", type=int, nargs="+", default=[100, 300, 1000], help="trials before a proposal of auto"
    )
    options = parser.parse_args()
    print(f"{here()}\n")
    space = nas.load_space("mbconv")
    with tempfile.TemporaryDirectory() as top:
        for count in options.counts:
            folder = Path(top) / str(count)
            seconds = searched(space, count, folder)
            begun = time.perf_counter()
            with Store.open(folder) as store:
                store.record()
            opened = time.perf_counter() - begun
            begun = time.perf_counter()
            nas.resume(folder, trials=count + 1, evaluate=score)
            resumed = time.perf_counter() - begun
            begun = time.perf_counter()
            files = nas.report(folder)
            drawn = time.perf_counter() - begun
            size = max(path.stat().st_size for path in files.values() if path.suffix == ".html") / 1e6
            print(
                f"random, {count:,} candidates: {1000 * seconds:.1f} ms of driver time each; read in {opened:.1f} s, "
                f"resumed for one more and reported in {resumed:.1f} s; report alone {drawn:.1f} s, {size:.1f} MB"
            )
    limits = Limits(device("pixel1"), TARGET_MS)
    for objective in ("accuracy", "pareto"):
        for count in options.auto:
            print(
                f"auto, {objective}, {count:,} trials: {proposal_s(space, limits, count, objective):.2f} s a proposal"
            )


def proposal_s(space: nas.Space, limits: Limits, count: int, objective: str) -> float:
    """Median seconds of a proposal in a study of so many random trials, after the first, which learns from them all."""
    sampler = AutoSampler(space, limits, 0, objective=objective)  # type: ignore[arg-type]
    study = optuna.create_study(directions=list(DIRECTIONS), sampler=sampler)
    found = nas.search(space, evaluate=score, device=limits.model, trials=count, sampler="random", references=[])  # type: ignore[arg-type]
    study.add_trials([frozen(one, space, 0.0) for one in found.candidates])
    times = []
    for _ in range(PROPOSALS):
        begun = time.perf_counter()
        trial = study.ask()
        arch = space.realise(lambda gene: trial.suggest_categorical(gene.name, gene.options))  # type: ignore[arg-type, return-value] # noqa: B023
        times.append(time.perf_counter() - begun)
        study.tell(trial, [score(arch), limits.model(arch).ms])
    return float(np.median(times[1:]))


if __name__ == "__main__":
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    main()
