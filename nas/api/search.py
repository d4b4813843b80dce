"""What `import nas` offers for runs: search, resume, report."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from nas.api.session import Session
from nas.arch.arch import Arch
from nas.arch.space import Space
from nas.arch.space_yaml import load_space
from nas.engine.options import REFERENCES, Custom, Options
from nas.engine.progress import Silent, Watcher
from nas.latency.devices import is_agent
from nas.references.table import reference
from nas.system.errors import InputError, NasError
from nas.system.units import guard_share, milliseconds, seconds

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

    from nas.engine.run.record import Record
    from nas.engine.run.store import Store

BUDGET = "4m"
_VERSIONS = ("torch", "optuna", "onnxruntime", "ray", "numpy", "pandas")


def search(
    space: Space | str | Path,
    *,
    latency_target: str | float | None = None,
    guard: str | float | None = None,
    device: str | Callable[[Arch], float] = "host",
    token: str | None = None,
    evaluate: Callable[[Arch], float] | None = None,
    data: str | Path | None = None,
    trials: int | None = None,
    budget: str | float | None = None,
    sampler: str | BaseSampler = "auto",
    seed: int = 0,
    steps: int | None = None,
    workers: int = 1,
    ray: str | None = None,
    cpus_per_trial: float = 1,
    gpus_per_trial: float = 0,
    runtime: str = "onnxruntime",
    threads: int = 1,
    references: Sequence[str] | None = None,
    run: str | Path | None = None,
    watch: Watcher | None = None,
) -> Record:
    """Search a space for the front of accuracy and latency, under a latency target.

    Args:
        space: a `Space`, a name, or a path to a space file.
        latency_target: ms, or text with a unit; networks predicted above it, less the guard, are told to the sampler
            and never trained. The front is measured at the end, and what is above the target then is not feasible.
        guard: how far below the target a network must be predicted to be trained, e.g. ``"5%"`` or 0.05; 0 is none.
            None: learned from the error of the device's latency model, and where the device can be measured from
            networks measured around the target before the first training.
        device: whose latency counts, as `nas.device` takes it, or a callable that returns ms (or another cost to cap).
        token: of a device that is an agent; None is that of ``NAS_AGENT_TOKEN``. It is never written down.
        evaluate: scores an `Arch`, higher is better; None trains the proxy on `data`.
        data: folder of images, or the name of a data set; None is the generated set.
        trials: candidates to evaluate; too slow ones do not count.
        budget: time for evaluating, e.g. ``"10m"``; what ends first ends the search. Neither given: 4 minutes.
        sampler: ``auto``, ``tpe``, ``nsga2``, ``random``, or an Optuna sampler.
        seed: of sampling, weights and batches.
        steps: length of the short training, in batches; None is as long as keeps any network of mbconv under 10 s on
            two cores, at which order is rough.
        workers: processes that evaluate side by side; 1 is this process with all cores.
        ray: ``"auto"`` starts Ray here, an address joins a cluster; None is without Ray.
        cpus_per_trial: with Ray, cores of one candidate.
        gpus_per_trial: with Ray, GPUs of one candidate.
        runtime: what the host's latency is measured with.
        threads: of the timed network.
        references: names of fixed networks to score beside; None: the four usual ones, or none with `evaluate`.
        run: folder for everything, resumable; None keeps the run in memory.
        watch: sees progress; None is silent.

    Returns:
        Record: ``.trials``, ``.pareto`` (pandas), ``.best`` (`Arch` or None), ``.front``, ``.references``.

    Raises:
        InputError: something given cannot be used.
        InfeasibleError: no network of the space can meet the target.
        KeyboardInterrupt: was interrupted; with `run`, `resume` goes on.
    """
    searched = space if isinstance(space, Space) else load_space(space)
    named = references if references is not None else () if evaluate is not None else REFERENCES
    custom = Custom(
        evaluate=evaluate,
        device=device if callable(device) else None,
        sampler=sampler if not isinstance(sampler, str) else None,
        token=token,
    )
    options = Options(
        target_ms=None if latency_target is None else milliseconds(latency_target),
        guard=None if guard is None else guard_share(guard),
        device="custom" if callable(device) else _portable_device(device, run),
        runtime=runtime,
        threads=threads,
        images=_portable(data, run),
        trials=_count("trials", trials) if trials is not None else None,
        budget_s=seconds(budget) if budget is not None else None if trials is not None else seconds(BUDGET),
        sampler=sampler if isinstance(sampler, str) else type(sampler).__name__,
        seed=_count("seed", seed, least=0),
        steps=None if steps is None else _count("steps", steps),
        workers=_count("workers", workers),
        ray=ray,
        cpus_per_trial=cpus_per_trial,
        gpus_per_trial=gpus_per_trial,
        references=tuple(named),
        custom=custom.names(),
    )
    if is_agent(options.device):
        from nas.latency.remote.client import check_address

        check_address(options.device)  # before anything is written that should not hold a password
    for name in options.references:
        reference(name)  # an unknown one is told before anything is measured
    facts = asdict(options) | {"name": Path(run).name if run else searched.name, "versions": _versions()}
    watcher = watch or Silent()
    if run is None:
        return Session(searched, options, custom, None, watcher, facts).run()
    from nas.engine.run.store import Store

    with Store.create(Path(run), facts, searched) as store:
        try:
            return _run(store, options, custom, watcher)
        except NasError:
            if not any(store.load()):  # a mistype leaves nothing behind that the corrected command would stumble over
                store.discard()
            raise


def _run(store: Store, options: Options, custom: Custom, watch: Watcher) -> Record:
    from nas.reports.run.write import write_report

    watch.say(f"run folder: {store.folder}")
    record = Session(store.space, options, custom, store, watch, dict(store.options)).run()
    write_report(record, store.folder)
    return record


def resume(
    run: str | Path,
    *,
    budget: str | float | None = None,
    trials: int | None = None,
    evaluate: Callable[[Arch], float] | None = None,
    device: Callable[[Arch], float] | None = None,
    sampler: BaseSampler | None = None,
    ray: str | None = None,
    token: str | None = None,
    watch: Watcher | None = None,
) -> Record:
    """Go on with a run, from its folder alone: nothing finished is lost or evaluated twice.

    Args:
        run: folder of the run.
        budget: evaluate for this much longer.
        trials: new total number of candidates. Neither given: what was left of the run's own limits.
        evaluate: again, if the run was begun with one: a folder cannot hold a Python function.
        device: likewise.
        sampler: likewise.
        ray: address of the Ray cluster, again, if the run joined one: no folder makes this process join a cluster.
        token: of the run's agent, again, if it has one: no folder makes this process tell it.
        watch: sees progress; None is silent.

    Raises:
        InputError: not a run folder, broken, or begun with Python objects that are not given again.
        RunBusyError: another process works on this run.
    """
    from nas.engine.run.store import Store

    with Store.open(Path(run)) as store:
        options = Options.from_dict(store.options)
        custom = Custom(evaluate, device, sampler, token)
        if missing := [name for name in options.custom if name not in custom.names()]:
            again = f"nas.resume(run, {missing[0]}=...)"
            raise InputError(f"this run was begun with its own {missing[0]}; give it again: {again}")
        if ray is None and options.ray not in (None, "auto"):
            raise InputError(f"this run trained on the Ray cluster at {options.ray}; join it again with --ray ADDRESS")
        if token is None and is_agent(options.device):
            raise InputError(f"this run measures on the agent at {options.device:.200}; if you trust it, give --token")
        options = replace(options, ray=ray or options.ray)
        if trials is not None or budget is not None:  # each lifts the other's old limit
            more_s = None if budget is None else store.spent_s + seconds(budget)
            total = None if trials is None else _count("trials", trials)
            options = replace(options, trials=total, budget_s=more_s)
        return _run(store, options, custom, watch or Silent())


def report(run: str | Path) -> dict[str, Path]:
    """Draw a run's report from its folder, finished or not; returns the files by name.

    Raises:
        InputError: not a run folder, or broken.
    """
    from nas.engine.run.store import Store
    from nas.reports.run.write import write_report

    folder = Path(run)
    with Store.open(folder, read_only=True) as store:
        return write_report(store.record(), folder)


def default_run(space: str) -> Path:
    """``results/SPACE-DATE-TIME``."""
    return Path("results") / f"{Path(space).stem}-{datetime.now():%Y%m%d-%H%M%S}"


def _portable(path: str | Path | None, run: str | Path | None) -> str | None:
    """A relative path that exists, as seen from the run folder, so that the run can be resumed from anywhere."""
    if path is None or run is None or Path(path).is_absolute() or not Path(path).exists():
        return None if path is None else str(path)
    return os.path.relpath(path, run)


def _portable_device(device: str, run: str | Path | None) -> str:
    kind, colon, path = device.partition(":")
    return f"table:{_portable(path, run)}" if kind == "table" and colon else device


def _count(name: str, value: int, least: int = 1) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(f"{name} must be a whole number from {least}, got {value!r}")
    return value


def _versions() -> dict[str, str]:
    found = {name: metadata.version(name) for name in _VERSIONS}
    return found | {"nas": metadata.version("nas"), "python": platform.python_version()}
