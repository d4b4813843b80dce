"""What a search knows when it begins: networks given by name, and trainings of earlier runs, read and checked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from nas.arch.arch import Arch
from nas.engine.judge import trains_count
from nas.engine.options import SearchOptions
from nas.engine.run.resolve import is_run, resolve
from nas.engine.run.store import Store
from nas.engine.warm_start import MAX_TRAININGS, EarlierRun, WarmStart, is_custom, trainings_of
from nas.system.errors import InputError

if TYPE_CHECKING:
    from nas.engine.progress import Watcher
    from nas.engine.run.info import RunInfo


def read_warm_start(options: SearchOptions) -> WarmStart:
    """What the options `start` and `warm_start` name.

    Raises:
        InputError: a network or a run cannot be read, a run has no trainings, or trainings do not count in this search.
    """
    networks: dict[str, Arch] = {}
    for given in options.start:
        name = given.key if isinstance(given, Arch) else str(given)
        arch = given if isinstance(given, Arch) else _network(name)
        if arch not in networks.values():
            networks[name] = arch
    runs = tuple(_earlier_run(Path(path).expanduser()) for path in options.warm_start)
    if runs and options.evaluate is None and not trains_count(options):
        raise InputError(
            "--warm-start has no effect, since trainings do not count in this search; give --data or --accuracy train"
        )
    if (count := sum(len(run.trainings) for run in runs)) > MAX_TRAININGS:
        raise InputError(f"a warm start takes at most {MAX_TRAININGS:,} trainings, got {count:,}; give fewer runs")
    return WarmStart(networks, runs)


def _network(name: str) -> Arch:
    try:
        found = resolve(name)
    except InputError as error:
        raise InputError(f"--start {name:.200}: {error}") from None
    if not isinstance(found, Arch):
        raise InputError(
            f"--start {name:.200}: a library's network cannot be trained here; give a reference or arch.json"
        )
    return found


def _earlier_run(folder: Path) -> EarlierRun:
    if not is_run(folder):
        raise InputError(f"--warm-start {folder}: not a run folder, it has no run.json")
    with Store.open(folder, read_only=True) as store:
        info, (candidates, references) = store.info, store.load()
    if not info.trains:
        raise InputError(f"--warm-start {folder}: an accuracy model decided in that run, so it has no trainings")
    trainings = tuple(one for candidate in [*candidates, *references] for one in trainings_of(candidate))
    if not trainings:
        raise InputError(f"--warm-start {folder}: that run has no trainings; resume it first, or give another")
    data = None if info.data is None else info.data.key
    return EarlierRun(folder.resolve().name, trainings, is_custom(info), data, info.proxy)


def announce(warm: WarmStart, info: RunInfo, watch: Watcher) -> None:
    """Say what each earlier run counts for."""
    for run in warm.runs:
        same = run.same_task(info)
        outside = sum(one.arch not in info.space for one in run.trainings) if same else 0
        how = "of the same task" if same else "of another task, which count for what they turn out to be worth"
        beyond = f"; {outside} of them are of networks outside the space" if outside else ""
        watch.say(f"warm start: {len(run.trainings)} trainings of {run.name}, {how}{beyond}")
