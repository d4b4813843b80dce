"""A search in a process of its own, to be killed:
``python -m tests.engine.search_child FOLDER LOG TRIALS WORKERS SECONDS``.

Begins the run, or continues it. Prints one line per finished network.
"""

from __future__ import annotations

import signal
import sys
from dataclasses import replace
from pathlib import Path

from nas.engine.executors.base import ProcessExecutor, SerialExecutor
from nas.engine.loop import SearchProgress, run_search
from nas.engine.run.store import Store
from tests.engine.search_toys import SPACE, Model, Traced, info_of, target_of


def main(folder: Path, log: Path, trials: int, workers: int, seconds: float) -> None:
    def watch(progress: SearchProgress) -> None:
        if progress.latest:
            print(progress.latest.key, flush=True)

    begun = (folder / "run.json").exists()
    with Store.open(folder) if begun else Store.create(folder, info_of(target_of(0.5))) as store:
        evaluator = Traced(log, seconds)
        with ProcessExecutor(evaluator, workers) if workers > 1 else SerialExecutor(evaluator) as executor:
            references = {f"ref{seed}": SPACE.sample(1000 + seed) for seed in range(2)}
            run_search(
                SPACE,
                Model(),
                replace(store.info.options, trials=trials, seed=3),
                executor,
                "auto",
                references=references,
                store=store,
                watch=watch,
            )
        store.finish(stopped_because="trials")


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have left it ignored
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5]))
