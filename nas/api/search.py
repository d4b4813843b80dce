"""What `import nas` offers for runs: search, resume, report."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.api.session import Session
from nas.api.warm import read_warm_start
from nas.arch.arch import Arch
from nas.arch.space import Space
from nas.arch.space_yaml import load_space
from nas.engine.options import Objective, SearchOptions
from nas.engine.progress import Silent, Watcher
from nas.engine.run.info import RunInfo
from nas.engine.run.store import Store
from nas.latency.devices import is_agent
from nas.system.errors import InputError, NasError
from nas.system.units import seconds

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

    from nas.engine.run.record import Record

_VERSIONS = ("torch", "optuna", "onnxruntime", "ray", "numpy", "pandas")


def search(
    space: Space | str | Path,
    *,
    latency_target: str | float | Mapping[str, str | float] | None = None,
    limits: Mapping[str, str | float] | None = None,
    guard: str | float | None = None,
    device: str | Callable[[Arch], float] | Sequence[str] = "host",
    token: str | None = None,
    evaluate: Callable[[Arch], float] | None = None,
    accuracy: str | Callable[[Arch], float] = "auto",
    data: str | Path | None = None,
    trials: int | None = None,
    budget: str | float | None = None,
    sampler: str | BaseSampler = "auto",
    objective: Objective = "pareto",
    seed: int = 0,
    steps: int | None = None,
    shared_steps: int | None = None,
    rungs: str | Sequence[int] = "auto",
    workers: int = 1,
    ray: str | None = None,
    cpus_per_trial: float = 1,
    gpus_per_trial: float = 0,
    accelerator: str = "auto",
    runtime: str = "onnxruntime",
    threads: int = 1,
    references: Sequence[str] | None = None,
    start: Sequence[str | Path | Arch] = (),
    warm_start: Sequence[str | Path] = (),
    run: str | Path | None = None,
    watch: Watcher | None = None,
) -> Record:
    """Search a space for the front of accuracy and latency, under a latency target.

    Args:
        space: a `Space`, a name, or a path to a space file.
        latency_target: milliseconds, or text with a unit. A candidate is trained only if its predicted latency clears
            the target by a safety margin; at the end the front is measured, and what misses the target then is left
            out. With several devices a mapping, or text such as ``"pixel1=66ms,host=8ms"``.
        limits: further bounds, as hard as the target, e.g. ``{"params": 4e6, "memory": "8MB"}``: ``params``, ``macs``,
            ``memory`` (peak of the feature maps alive at once, for one image) and ``size`` (of the exported ONNX file),
            the latter two in float32, or in int8 as ``memory_int8`` and ``size_int8``. All are for 1000 classes.
        guard: the safety margin as a share of the predicted latency, e.g. ``"5%"`` or 0.05; 0 is none. None: learned
            from the error of the device's latency model and, where the device can be measured, from networks measured
            around the target before the first training.
        device: target device, as `nas.device` takes it, or a function from `Arch` to milliseconds (or another cost to
            cap). How often a function is asked before the first evaluation is bounded: for about a minute. Of several
            names, the first one's latency is the objective; the targets of the others are hard limits on predictions.
        token: token of a device that is an agent; None is ``NAS_AGENT_TOKEN``. It is never written down.
        evaluate: function from `Arch` to a score, higher is better; None trains the proxy on `data`.
        accuracy: what decides how accurate a network is taken to be. ``auto``: with `data`, short trainings and the
            bundled ImageNet model, which counts for what the trainings show it to be worth; without, that model alone.
            ``train``: short trainings alone. ``imagenet``, ``file:PATH`` (made by ``nas accuracy calibrate``) or a
            function of an `Arch`: that alone, and nothing is trained.
        data: folder of images, or name of a data set; None is the generated set.
        trials: number of candidates to evaluate; those that are too slow do not count.
        budget: time for evaluating, e.g. ``"10m"``. The search stops at whichever limit comes first; without either it
            takes 3 minutes, 15 with `data`, or 300 candidates where nothing is trained.
        sampler: ``auto``, ``random``, ``tpe``, ``nsga2``, ``aging-evolution``, ``gp``, or an Optuna sampler.
        objective: what ``auto`` proposes for. ``pareto``: the front; under a latency target most candidates are for its
            best network all the same. ``accuracy``: the best network alone.
        seed: random seed of sampling, weights and batches.
        steps: length of each candidate's training from scratch in batches; given, no weights are shared. None is 140.
        shared_steps: length in batches of the training of the weights that all candidates share, before the search; 0
            trains each candidate from scratch. None: 0 without `data`, else what `nas.check_accuracy` recommended for
            these images, else 4000; fewer where that takes more than 40 % of the budget.
        rungs: lengths in batches at which trainings from scratch are compared; most are stopped at the first, and go
            into the estimates with what they scored there. ``"auto"``: `nas.engine.fidelity.default_rungs` where the
            trainings count; ``"off"`` trains all to the end.
        workers: number of processes that evaluate side by side; 1 is this process with all cores.
        ray: ``"auto"`` starts Ray here, an address joins a cluster; None is without Ray.
        cpus_per_trial: cores of one candidate, with Ray.
        gpus_per_trial: CUDA GPUs of one candidate, e.g. 0.25. Ray reserves them; without Ray, fewer `workers` are
            started if they would exceed the GPUs that are visible.
        accelerator: device that trains candidates: ``cpu``, ``cuda``, ``mps``, or ``auto``, the best that is available.
            With Ray, CUDA also needs `gpus_per_trial`. An own `evaluate` chooses for itself.
        runtime: runtime that the host's latency is measured with.
        threads: number of threads of the timed network.
        references: names of fixed networks to compare with; None: the default four, or none with `evaluate`.
        start: networks to evaluate first: names of references, ``arch.json`` files, run folders (their best), or `Arch`
            objects. Those of the space are candidates if they clear the limits; others are evaluated as references are.
        warm_start: folders of earlier runs, whose trainings are evidence: the same as new ones if they are on the same
            images with the same proxy; else for what the new trainings show them to be worth. With an own `evaluate`,
            scores of runs that had one, too, are taken to be of the same function.
        run: folder for everything, resumable; None keeps the run in memory.
        watch: sees progress; None is silent.

    Returns:
        Record: ``.trials``, ``.pareto`` (pandas), ``.best`` (`Arch` or None), ``.front``, ``.references``.

    Raises:
        InputError: an argument cannot be used.
        InfeasibleError: no network of the space can meet the target.
        KeyboardInterrupt: the search was interrupted; with `run`, `resume` continues it.

    >>> import nas
    >>> found = nas.search(
    ...     "mbconv",
    ...     latency_target=300,  # of the cost that `device` returns: here millions of multiply-accumulates
    ...     device=lambda arch: nas.count(arch).macs / 1e6,
    ...     evaluate=lambda arch: sum(row.se > 0 for row in arch.rows) / len(arch.rows),
    ...     trials=5,
    ... )
    >>> bool((found.pareto["latency_ms"] <= 300).all()), len(found.trials) >= 5
    (True, True)
    """
    options = SearchOptions.parse(
        latency_target=latency_target,
        limits=limits or {},
        guard=guard,
        budget=budget,
        device=device,
        token=token,
        evaluate=evaluate,
        accuracy=accuracy,
        data=data,
        trials=trials,
        sampler=sampler,
        objective=objective,
        seed=seed,
        steps=steps,
        shared_steps=shared_steps,
        rungs=rungs,
        workers=workers,
        ray=ray,
        cpus_per_trial=cpus_per_trial,
        gpus_per_trial=gpus_per_trial,
        accelerator=accelerator,
        runtime=runtime,
        threads=threads,
        references=references,
        start=start,
        warm_start=warm_start,
    )
    return search_with(space, options, run, watch)


def search_with(
    space: Space | str | Path, options: SearchOptions, run: str | Path | None = None, watch: Watcher | None = None
) -> Record:
    """`search` with its options in one object."""
    searched = space if isinstance(space, Space) else load_space(space)
    if agents := _agents(options):
        from nas.latency.remote.client import check_address

        for agent in agents:
            check_address(agent)  # before anything is written that must not hold a password
    watcher, warm = watch or Silent(), read_warm_start(options)
    folder = None if run is None else Path(run).expanduser()
    name = searched.name if folder is None else folder.name
    info = RunInfo(options, searched, name, custom=options.custom, versions=_versions())
    if folder is None:
        return Session(options, info, None, watcher, warm).run()
    with Store.create(folder, info) as store:
        try:
            store.write_warm_start(warm)
            return _run(store, options, watcher)
        except BaseException as error:
            interrupted = isinstance(error, KeyboardInterrupt) and store.shared_path.exists()
            if (
                not store.scored and not interrupted
            ):  # nothing stays behind that the corrected command would stumble over
                with suppress(OSError):
                    store.discard()
            raise


def _run(store: Store, options: SearchOptions, watch: Watcher, info: RunInfo | None = None) -> Record:
    from nas.reports.run.write import write_report

    watch.say(f"run folder: {store.folder}")
    record = Session(options, info or store.info, store, watch).run()
    try:
        write_report(record, store.folder)
    except OSError as error:
        raise NasError(f"cannot write the report to {store.folder}: {error.strerror}") from None
    return record


def resume(
    run: str | Path,
    *,
    budget: str | float | None = None,
    trials: int | None = None,
    data: str | Path | None = None,
    evaluate: Callable[[Arch], float] | None = None,
    accuracy: Callable[[Arch], float] | None = None,
    device: Callable[[Arch], float] | None = None,
    sampler: BaseSampler | None = None,
    ray: str | None = None,
    token: str | None = None,
    watch: Watcher | None = None,
) -> Record:
    """Continue a run from its folder alone: nothing finished is lost or evaluated twice.

    Args:
        run: folder of the run.
        budget: evaluate for this much longer.
        trials: new total number of candidates. With neither limit: what was left of the run's own.
        data: where the images of the run are now, if they moved; their content must be the same.
        evaluate: the function again, if the run began with one: a folder cannot hold a Python function.
        accuracy: likewise.
        device: likewise.
        sampler: likewise.
        ray: address of the Ray cluster again, if the run joined one: no folder makes this process join a cluster.
        token: token of the run's agent again, if it has one: no folder makes this process send it anywhere.
        watch: sees progress; None is silent.

    Raises:
        InputError: not a run folder, broken, or begun with Python objects that are not given again.
        RunBusyError: another process works on this run.

    >>> import nas, tempfile
    >>> parts = {"device": lambda arch: nas.count(arch).macs / 1e6, "evaluate": lambda arch: len(arch.rows)}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     first = nas.search("shufflenet", trials=3, run=f"{folder}/run", **parts)
    ...     longer = nas.resume(f"{folder}/run", trials=5, **parts)
    >>> list(longer.trials["key"][:3]) == list(first.trials["key"]), len(longer.trials)
    (True, 5)
    """
    with Store.open(Path(run).expanduser()) as store:
        options = _options_again(store.info, evaluate, accuracy, device, sampler, ray, token)
        if data is not None:
            options = replace(options, data=data)
        if trials is not None or budget is not None:  # each lifts the other's old limit
            more_s = None if budget is None else store.spent_s + seconds(budget)
            options = replace(options, trials=trials, budget_s=more_s)
        watcher = watch or Silent()
        now, was = _versions(), store.info.versions
        changed = {name: version for name, version in now.items() if was.get(name, version) != version}
        for name, version in changed.items():
            watcher.say(
                f"this run began with {name} {was[name]} and continues with {version}: "
                "latencies and scores of the two may differ"
            )
        return _run(store, options, watcher, replace(store.info, resumed_with=changed))


def _options_again(
    info: RunInfo,
    evaluate: Callable[[Arch], float] | None,
    accuracy: Callable[[Arch], float] | None,
    device: Callable[[Arch], float] | None,
    sampler: BaseSampler | None,
    ray: str | None,
    token: str | None,
) -> SearchOptions:
    given: Mapping[str, Any] = {"evaluate": evaluate, "accuracy": accuracy, "device": device, "sampler": sampler}
    objects = {name: value for name, value in given.items() if value is not None}
    if missing := [name for name in info.custom if name not in objects]:
        again = f"nas.resume(run, {missing[0]}=...)"
        raise InputError(f"this run began with its own {missing[0]}; give it again: {again}")
    options = info.options
    if ray is None and options.ray not in (None, "auto"):
        raise InputError(f"this run trained on the Ray cluster at {options.ray}; join it again with --ray ADDRESS")
    if token is None and (agents := _agents(options)):
        raise InputError(f"this run measures on the agent at {agents[0]:.200}; if you trust it, give --token")
    return replace(options, **objects, ray=ray or options.ray, token=token)


def _agents(options: SearchOptions) -> list[str]:
    return [name for name in (options.device, *options.further) if isinstance(name, str) and is_agent(name)]


def report(run: str | Path) -> dict[str, Path]:
    """Draw a run's report from its folder, finished or not; returns the files by name.

    Raises:
        InputError: not a run folder, or broken.
    """
    from nas.reports.run.write import write_report

    folder = Path(run).expanduser()
    with Store.open(folder, read_only=True) as store:
        return write_report(store.record(), folder)


def default_run(space: str) -> Path:
    """``results/SPACE-DATE-TIME``."""
    return Path("results") / f"{Path(space).stem}-{datetime.now():%Y%m%d-%H%M%S}"


def _versions() -> dict[str, str]:
    found = {name: metadata.version(name) for name in _VERSIONS}
    return found | {"nas": _own_version(), "python": platform.python_version()}


def _own_version() -> str:
    import nas

    return nas.__version__
