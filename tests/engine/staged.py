"""A training in rungs that takes no time: larger networks start slower. As a program, a search with it, to be killed:
``python -m tests.engine.staged FOLDER LOG TRIALS WORKERS SECONDS``.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass, replace
from math import log10
from pathlib import Path

import numpy as np

from nas.arch.arch import Arch
from nas.arch.cost import cost_of
from nas.engine.executors.base import Executor, ProcessExecutor, SerialExecutor
from nas.engine.fidelity import Halving
from nas.engine.judge import Judge
from nas.engine.loop import Outcome, SearchProgress, run_search
from nas.engine.options import SearchOptions
from nas.engine.run.info import RunInfo
from nas.engine.run.store import Store
from nas.training.checkpoint import Checkpoint, path_of, read_checkpoint, write_checkpoint
from nas.training.evaluate import Evaluation
from tests.engine.search_toys import SPACE, Model, evaluation, info_of

LENGTHS = (10, 40, 160)
REFERENCES = {f"ref{seed}": SPACE.sample(1000 + seed) for seed in range(2)}


def accuracy(arch: Arch, stop: int) -> float:
    """Rises with the size in the end, and falls with it in the beginning."""
    size = log10(cost_of(arch).macs) - 5
    return 0.5 + 0.2 * size - 4 * size / stop


@dataclass(frozen=True)
class Staged:
    """Appends ``key stop`` to `log` for each rung that it trains, and keeps checkpoints in `folder`."""

    log: Path
    folder: Path | None = None
    seconds: float = 0.0

    def __call__(self, arch: Arch, seed: int, stop: int | None = None) -> Evaluation:
        assert stop is not None
        kept = None if self.folder is None else read_checkpoint(path_of(self.folder, arch), arch, {"seed": seed}, 3)
        if kept is None or stop not in kept.scores:
            descriptor = os.open(self.log, os.O_APPEND | os.O_CREAT | os.O_WRONLY)
            os.write(descriptor, f"{arch.key} {stop}\n".encode())
            os.close(descriptor)
            time.sleep(self.seconds)  # the work
        score = accuracy(arch, stop)
        if self.folder is not None and stop < LENGTHS[-1] and (kept is None or stop not in kept.scores):
            found = {"accuracy": score, "loss": 1 - score, "seconds": 0.1, "train_loss": None}
            vectors = dict.fromkeys(("value", "mean", "square"), np.zeros(3, np.float32))
            scores = {**(kept.scores if kept else {}), stop: found}
            write_checkpoint(path_of(self.folder, arch), Checkpoint(arch, stop, scores, vectors), {"seed": seed})
        return replace(evaluation(arch, seed), proxy_accuracy=score, proxy_loss=1 - score)


def info(trials: int) -> RunInfo:
    """Of a run whose trainings count."""
    options = SearchOptions(references=(), trials=trials, seed=3, accuracy="train", shared_steps=0)
    return replace(info_of(), options=options, custom=())


def search(
    executor: Executor,
    trials: int,
    store: Store | None = None,
    watch: object = None,
    folder: Path | None = None,
    seed: int = 3,
) -> Outcome:
    """A search in rungs."""
    judge = Judge(SPACE, None, trained=True)
    return run_search(
        SPACE,
        Model(),
        replace(info(trials).options, seed=seed),
        executor,
        "random",
        references=REFERENCES,
        judge=judge,
        halving=Halving(LENGTHS, judge, folder),
        store=store,
        watch=watch,  # type: ignore[arg-type]
    )


def rungs_in(log: Path) -> list[tuple[str, int]]:
    """Networks and lengths in the order in which they were trained."""
    lines = log.read_text().splitlines() if log.exists() else []
    return [(key, int(stop)) for key, stop in map(str.split, lines)]


def main(folder: Path, log: Path, trials: int, workers: int, seconds: float) -> None:
    def watch(progress: SearchProgress) -> None:
        if progress.latest:
            print(progress.latest.key, flush=True)

    begun = (folder / "run.json").exists()
    with Store.open(folder) if begun else Store.create(folder, info(trials)) as store:
        store.checkpoints_path.mkdir(exist_ok=True)
        evaluator = Staged(log, store.checkpoints_path, seconds)
        with ProcessExecutor(evaluator, workers) if workers > 1 else SerialExecutor(evaluator) as executor:
            search(executor, trials, store, watch, store.checkpoints_path)
        store.finish(stopped_because="trials")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5]))
