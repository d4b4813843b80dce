"""Comparing samplers on replayed searches: tables, many seeds in parallel processes, and what is written."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import cloudpickle

from nas.api import bench_cache
from nas.arch.space import Space
from nas.arch.space_yaml import load_space
from nas.engine.options import Objective
from nas.engine.progress import Silent, Watcher
from nas.engine.replay import Replay, Sampler, noise_sd_of, replay
from nas.engine.samplers import SAMPLERS
from nas.engine.tables import MACS, Table, read_table
from nas.reports.samplers.csv_files import curves_csv, levels_csv
from nas.reports.samplers.data import LEVELS, Comparison, level_of
from nas.reports.samplers.plot import samplers_png
from nas.system.errors import InputError, NasError, known
from nas.system.files import write_atomic
from nas.system.units import amount, milliseconds
from nas.system.validate import whole_number

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

COMPARED = tuple(name for name in SAMPLERS if name != "gp")  # which needs minutes for one search
MAX_SEEDS, MAX_EVALUATIONS, MAX_WORKERS = 10_000, 10_000, 1024
CURVES, NEEDED, PLOT = "curves.csv", "levels.csv", "samplers.png"
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def bench_samplers(
    tables: Sequence[str | Path],
    *,
    samplers: Sequence[str] | Mapping[str, str | Callable[[int], BaseSampler]] = COMPARED,
    seeds: int = 50,
    evaluations: int = 100,
    cap: str | float | None = None,
    noise: float | None = None,
    objective: Objective = "pareto",
    levels: Sequence[str] = LEVELS,
    space: Space | str | Path | None = None,
    workers: int = 1,
    out: str | Path | None = None,
    fresh: Sequence[str] = (),
    watch: Watcher | None = None,
) -> list[Comparison]:
    """Compare samplers by searches that are replayed on tables of known accuracies.

    Args:
        tables: as `nas.engine.tables.read_table` takes them: the JSON of NAS-Bench-Macro, CSV files, run folders, or
            ``model:`` and a CSV.
        samplers: names, or by name a function from a seed to an Optuna sampler.
        seeds: searches of each sampler on each table.
        evaluations: networks that each search evaluates.
        cap: largest cost of a network, e.g. ``"60M"`` MACs; of a run with a latency table, e.g. ``"8ms"``.
        noise: equal-cost tau, between 0 and 1, of one observed score with the truth; None observes the truth.
        objective: what is searched for: ``pareto``, the front of accuracy and cost, or ``accuracy``, the best network
            alone.
        levels: accuracies to be reached: ``optimum``, a top share such as ``1%``, or a distance from the optimum.
        space: space of the networks of own CSV files.
        workers: number of processes that search side by side, each with one thread; 1 is this process. A script that
            asks for more needs ``if __name__ == "__main__":``.
        out: folder for the CSV files, the plot, and finished searches, which are not repeated, but for those of a
            caller's function, whose code may have changed; None writes nothing.
        fresh: names of samplers whose finished searches are repeated, because their code has changed.
        watch: sees progress; None is silent.

    Returns:
        list[Comparison]: one for each table.

    Raises:
        InputError: a table or another argument cannot be used.
        InfeasibleError: no network of a table is within the cap.
        NasError: a worker process died.

    >>> import nas, tempfile
    >>> parts = {"device": lambda arch: nas.count(arch).macs / 1e6, "evaluate": lambda arch: arch.resolution / 300}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     record = nas.search("shufflenet", trials=30, sampler="random", run=f"{folder}/run", **parts)
    ...     compared = nas.bench_samplers([f"{folder}/run"], samplers=["random", "tpe"], seeds=2, evaluations=10)[0]
    >>> compared.networks, compared.best["tpe"].shape
    (30, (2, 10))
    """
    chosen = _samplers(samplers)
    seeds = whole_number("seeds", seeds, 1, MAX_SEEDS)
    evaluations = whole_number("evaluations", evaluations, 1, MAX_EVALUATIONS)
    workers = whole_number("workers", workers, 1, MAX_WORKERS)
    if not tables or not levels or isinstance(tables, str):
        raise InputError(f"give a list of at least one table, and one level; got {tables!r:.60} and {levels!r:.60}")
    if unknown := [name for name in fresh if name not in chosen]:
        raise InputError(f"no sampler {unknown[0]!r:.60} is compared; {known(chosen)}")
    watcher = watch or Silent()
    searched = load_space(space) if isinstance(space, str | Path) else space
    if objective not in get_args(Objective):
        raise InputError(f"objective must be {' or '.join(get_args(Objective))}, got {objective!r:.40}")
    settings = [_setting(read_table(table, searched), cap, noise, evaluations, objective, levels) for table in tables]
    folder = None if out is None else Path(out).expanduser()
    jobs = [
        Job(at, name, seed, _file(folder, setting, spec, seed))
        for seed in range(seeds)
        for at, setting in enumerate(settings)
        for name, spec in chosen.items()
    ]
    found = _run(jobs, settings, chosen, workers, fresh, watcher)
    comparisons = []
    for at, one in enumerate(settings):
        replays = {name: [found[at, name, seed] for seed in range(seeds)] for name in chosen}
        comparisons.append(Comparison.of(one.table, replays, one.cap, noise, levels))
    if folder is not None:
        write_comparisons(comparisons, folder)
    return comparisons


def write_comparisons(comparisons: Sequence[Comparison], folder: Path) -> None:
    """Write the curves and levels as CSV, and the plot.

    Raises:
        InputError: the folder cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(folder / CURVES, curves_csv(comparisons))
        write_atomic(folder / NEEDED, levels_csv(comparisons))
        write_atomic(folder / PLOT, samplers_png(comparisons))
    except OSError as error:
        raise InputError(f"cannot write to {folder}: {error.strerror}; give another folder with --out") from None


@dataclass(frozen=True, eq=False)
class Setting:
    """How one table is searched."""

    table: Table
    evaluations: int
    cap: float | None
    noise_sd: float
    objective: Objective

    def __str__(self) -> str:
        """What the searches depend on, besides sampler and seed."""
        return f"{self.table.key} {self.evaluations} {self.cap} {self.noise_sd:.6g} {self.objective}"


@dataclass(frozen=True)
class Job:
    """One search: the number of its setting, its sampler and seed, and the file that keeps it."""

    setting: int
    sampler: str
    seed: int
    file: Path | None

    @property
    def key(self) -> tuple[int, str, int]:
        return self.setting, self.sampler, self.seed


def _samplers(samplers: Sequence[str] | Mapping[str, str | Callable[[int], BaseSampler]]) -> dict[str, Sampler]:
    named: dict[str, Sampler] = {}
    named.update(samplers if isinstance(samplers, Mapping) else {name: name for name in samplers})
    if not named or isinstance(samplers, str):
        raise InputError(f"samplers must be a list of names, got {samplers!r:.60}; {known(SAMPLERS)}")
    for spec in named.values():
        if isinstance(spec, str) and spec not in SAMPLERS:
            raise InputError(f"no sampler is called {spec!r:.60}; {known(SAMPLERS)}")
        if not isinstance(spec, str) and not callable(spec):
            what = type(spec).__name__
            raise InputError(f"a sampler must be a name, or a function from a seed to an Optuna sampler, got a {what}")
    return named


def _setting(
    table: Table,
    cap: str | float | None,
    noise: float | None,
    evaluations: int,
    objective: Objective,
    levels: Sequence[str],
) -> Setting:
    limit = None if cap is None else milliseconds(cap) if table.unit != MACS else amount(cap, "MACs") / 1e6
    table.under(limit)
    for level in levels:
        level_of(level, table.accuracies, table.percent)
    return Setting(table, evaluations, limit, 0.0 if noise is None else noise_sd_of(table, noise), objective)


def _file(folder: Path | None, setting: Setting, sampler: Sampler, seed: int) -> Path | None:
    """Of a search by a named sampler: what a caller's function does, no file name can tell."""
    if folder is None or not isinstance(sampler, str):
        return None
    return bench_cache.path_of(folder, setting.table.name, str(setting), sampler, seed)


def _run(
    jobs: Sequence[Job],
    settings: Sequence[Setting],
    samplers: Mapping[str, Sampler],
    workers: int,
    fresh: Sequence[str],
    watch: Watcher,
) -> dict[tuple[int, str, int], Replay]:
    found: dict[tuple[int, str, int], Replay] = {}
    for job in jobs:
        kept = bench_cache.read(job.file) if job.file is not None and job.sampler not in fresh else None
        if kept is not None:
            found[job.key] = kept
    open_ = [job for job in jobs if job.key not in found]
    if found:
        watch.say(f"{len(found):,} of {len(jobs):,} searches were finished before")
    for done, (job, replayed) in enumerate(_replays(open_, settings, samplers, workers), start=len(found) + 1):
        found[job.key] = replayed
        watch.step(done, len(jobs), f"replaying {len(jobs):,} searches")
    return found


def _replays(
    jobs: Sequence[Job], settings: Sequence[Setting], samplers: Mapping[str, Sampler], workers: int
) -> Iterator[tuple[Job, Replay]]:
    if workers == 1 or len(jobs) < 2:
        yield from ((job, _search(job, settings, samplers)) for job in jobs)
        return
    try:
        payload = cloudpickle.dumps((settings, samplers))
    except Exception as error:
        raise InputError(f"a sampler cannot be sent to another process: {error}; use workers=1") from None
    context = multiprocessing.get_context("spawn")
    with _one_thread(), ProcessPoolExecutor(min(workers, len(jobs)), context, _begin, (payload,)) as pool:
        try:
            for future in as_completed([pool.submit(_work, job) for job in jobs]):
                yield future.result()
        except BrokenProcessPool:
            raise NasError(
                "a worker process died, perhaps because memory ran out; --workers 1 shows other causes"
            ) from None
        except BaseException:
            pool.shutdown(cancel_futures=True)  # what runs is finished and kept
            raise


@contextmanager
def _one_thread() -> Iterator[None]:
    """Processes started meanwhile compute with one thread each."""
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


_given: tuple[Sequence[Setting], Mapping[str, Sampler]] = ((), {})  # of a worker process


def _begin(payload: bytes) -> None:
    """Prepare a worker process: it leaves Ctrl-C to its parent, and ends when that has died."""
    global _given
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    _given = cloudpickle.loads(payload)


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _work(job: Job) -> tuple[Job, Replay]:
    return job, _search(job, *_given)


def _search(job: Job, settings: Sequence[Setting], samplers: Mapping[str, Sampler]) -> Replay:
    setting = settings[job.setting]
    how = setting.evaluations, setting.cap, setting.noise_sd, setting.objective
    found = replay(setting.table, samplers[job.sampler], job.seed, *how)
    if job.file is not None:
        bench_cache.write(job.file, found)
    return found
