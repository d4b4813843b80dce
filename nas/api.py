"""What `import nas` offers beyond the rooms: search, resume, report, export, profile."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from nas.arch import Arch
from nas.errors import InputError, NasError
from nas.options import REFERENCES, Custom, Options, Silent, Watcher
from nas.references import reference
from nas.session import Session
from nas.space import Space
from nas.space_file import load_space
from nas.units import milliseconds, seconds

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler
    from torch import Tensor

    from nas.export import Exported
    from nas.latency.measure import Latency
    from nas.latency.table import LatencyTable
    from nas.libraries import LibraryNetwork
    from nas.search.record import Record
    from nas.search.store import Store

BUDGET = "4m"
_VERSIONS = ("torch", "optuna", "onnxruntime", "ray", "numpy", "pandas")


def search(
    space: Space | str | Path,
    *,
    latency_target: str | float | None = None,
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
        latency_target: ms, or text with a unit; networks above it are told to the sampler and never trained.
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
    if _is_agent(options.device):
        from nas.latency.agent_client import check_address

        check_address(options.device)  # before anything is written that should not hold a password
    for name in options.references:
        reference(name)  # an unknown one is told before anything is measured
    facts = asdict(options) | {"name": Path(run).name if run else searched.name, "versions": _versions()}
    watcher = watch or Silent()
    if run is None:
        return Session(searched, options, custom, None, watcher, facts).run()
    from nas.search.store import Store

    with Store.create(Path(run), facts, searched) as store:
        try:
            return _run(store, options, custom, watcher)
        except NasError:
            if not any(store.load()):  # a mistype leaves nothing behind that the corrected command would stumble over
                store.discard()
            raise


def _run(store: Store, options: Options, custom: Custom, watch: Watcher) -> Record:
    from nas.report.write import write_report

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
    from nas.search.store import Store

    with Store.open(Path(run)) as store:
        options = Options.from_dict(store.options)
        custom = Custom(evaluate, device, sampler, token)
        if missing := [name for name in options.custom if name not in custom.names()]:
            again = f"nas.resume(run, {missing[0]}=...)"
            raise InputError(f"this run was begun with its own {missing[0]}; give it again: {again}")
        if ray is None and options.ray not in (None, "auto"):
            raise InputError(f"this run trained on the Ray cluster at {options.ray}; join it again with --ray ADDRESS")
        if token is None and _is_agent(options.device):
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
    from nas.report.write import write_report
    from nas.search.store import Store

    folder = Path(run)
    with Store.open(folder, read_only=True) as store:
        return write_report(store.record(), folder)


def export(
    arch_or_run: Arch | str | Path,
    out: str | Path | None = None,
    formats: Sequence[str] = ("onnx", "python"),
    *,
    arch: str | None = None,
    num_classes: int | None = None,
    weights: str | Path | Mapping[str, Tensor] | None = None,
    token: str | None = None,
) -> Exported:
    """Write a network as files of its own: checked against PyTorch, and measured again.

    Args:
        arch_or_run: an `Arch`, the folder of a run, an ``arch.json``, or the name of a reference.
        out: folder; None is ``RUN/export/KEY``, or a folder named like the network.
        formats: ``onnx``, ``python`` or both.
        arch: key of a network of the run; None is its best.
        num_classes: outputs of the classifier; None is the classes of the run's own images, else 1000.
        weights: ``torchvision`` or ``timm``, which are downloaded once and change the epsilon and activation of the
            exported network where theirs differ; a file, as `nas.pretrained.read_state` takes it; or tensors by name.
            None are initial ones.
        token: of the agent that the run measured on: the ONNX file is held to its target there. None does not ask it.

    Raises:
        InputError: no such network or format, weights that do not fit, or the folder cannot be written.
        NasError: the ONNX file computes something else than PyTorch, or the weights could not be downloaded.
    """
    from nas.export import export as write
    from nas.pretrained import find_weights

    target_ms, threads, agent = None, 1, None
    if isinstance(arch_or_run, Arch):
        network, folder = arch_or_run, Path(arch_or_run.key)
    elif (Path(arch_or_run) / "run.json").is_file():
        from nas.search.store import Store

        with Store.open(Path(arch_or_run), read_only=True) as store:
            record = store.record()
        network = _of_run(record, arch)
        folder = Path(arch_or_run) / "export" / network.key
        options = Options.from_dict(record.options)
        if _is_this_host(record, options):
            target_ms, threads = record.target_ms, options.threads
        if token is not None and _is_agent(options.device):
            from nas.latency.remote import Agent

            agent, target_ms = Agent(options.device, token=token, threads=options.threads), record.target_ms
        images = record.options.get("data")
        if num_classes is None and isinstance(images, dict) and images.get("generated") is False:
            num_classes = len(images.get("classes", ())) or None
    else:
        network = _named(str(arch_or_run))
        folder = Path(Path(str(arch_or_run)).stem.replace("@", "-"))
    state, source = (weights, "given") if isinstance(weights, Mapping) else (None, None)
    if weights is not None and not isinstance(weights, Mapping):
        found = find_weights(network, weights)
        network, state, source = found.arch, found.state_dict, found.source
    classes = 1000 if num_classes is None else num_classes
    timed_here = None if agent else threads
    done = write(network, out or folder, formats, num_classes=classes, threads=timed_here, weights=state)
    if agent and "onnx" in formats:
        done = replace(done, measured=agent.measure_onnx(Path(out or folder) / "model.onnx"))
    return replace(done, target_ms=target_ms, weights=source)


def _is_this_host(record: Record, options: Options) -> bool:
    """Whether the run timed this machine under ONNX Runtime: only then can an exported file be held to its target."""
    from nas.machine import host

    return (
        options.runtime == "onnxruntime"
        and "device" not in options.custom
        and record.options.get("device_name") == host()
    )


def _is_agent(device: str) -> bool:
    from nas.latency.devices import is_agent

    return is_agent(device)


def _of_run(record: Record, key: str | None) -> Arch:
    if key is None:
        if record.best is None:
            raise InputError("the run has no network within its target yet; `nas resume` it, or name one with its key")
        return record.best
    found = {c.key: c.arch for c in [*record.candidates, *record.references]}
    if key not in found:
        raise InputError(f"the run has no network {key!r}; on its front: {', '.join(c.key for c in record.front)}")
    return found[key]


def named(name: str, num_classes: int = 1000) -> Arch | LibraryNetwork:
    """A network by what people type: a reference's name or ``.yaml`` file, an ``arch.json``, a library's network.

    Args:
        name: e.g. ``mobilenet_v2@width=0.5``, ``my_net.yaml``, ``results/RUN/arch/KEY.json``, ``torchvision:vgg16``.
        num_classes: outputs of the classifier of a library's network; an `Arch` takes them when it is built.

    Raises:
        InputError: no such network, or it cannot be read.
    """
    from nas.libraries import is_library, library_network

    return library_network(name, num_classes) if is_library(name) else _named(name)


def _named(name: str) -> Arch:
    """A reference by name or ``.yaml`` file, or an ``arch.json``; a library's network has no rows to be one."""
    from nas.libraries import is_library

    if is_library(name):
        raise InputError(f"{name} has no rows of ours: libraries' networks are counted and measured, not exported")
    path = Path(name)
    if path.suffix == ".json":
        try:
            return Arch.from_json(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"cannot read {path}: {getattr(error, 'strerror', None) or 'not UTF-8 text'}") from None
    if path.suffix == ".onnx":
        raise InputError(f"{path} is an exported file; give its reference or arch.json (nas measure times .onnx files)")
    if (path / "run.json").is_file():
        raise InputError(f"{path} is the folder of a run; name one of its networks, {path / 'arch' / 'KEY.json'}")
    return reference(name)


def measure_named(
    name: str,
    runtime: str = "onnxruntime",
    threads: int = 1,
    batch: int = 1,
    device: str = "host",
    token: str | None = None,
) -> Latency:
    """Time a network by name, as `named` takes it, or an exported ``.onnx`` file.

    Args:
        name: of the network.
        runtime: of the host; an agent has ONNX Runtime.
        threads: of the network.
        batch: images per pass.
        device: ``host``, or the address of an agent.
        token: of the agent.

    Raises:
        InputError: no such network, options out of bounds, or a device that cannot be asked.
        NasError: an agent cannot be reached.
    """
    from nas.latency.devices import device as find_device
    from nas.latency.measure import measure, measure_onnx

    if device != "host":
        from nas.latency.remote import Agent

        asked = find_device(device, runtime=runtime, threads=threads, token=token)
        if not isinstance(asked, Agent):
            raise InputError(f"networks are timed on this host or by an agent (http://HOST:PORT), got {device!r:.80}")
        onnx = Path(name).suffix == ".onnx"
        return asked.measure_onnx(Path(name), batch) if onnx else asked.measure(named(name), batch)
    if Path(name).suffix == ".onnx":
        if runtime != "onnxruntime":
            raise InputError(f"an .onnx file runs under onnxruntime, got runtime {runtime!r}")
        return measure_onnx(Path(name), threads, batch)
    return measure(named(name), runtime, threads, batch)


def profile(
    space: str | Path | Space,
    *,
    runtime: str = "onnxruntime",
    threads: int = 1,
    out: str | Path | None = None,
    watch: Watcher | None = None,
    device: str = "host",
    token: str | None = None,
) -> LatencyTable:
    """The latency model of a space on a device: from the cache, or measured now; also written to `out` if given.

    Args:
        space: a `Space`, a name, or a path to a space file.
        runtime: of the host; an agent has ONNX Runtime.
        threads: of the timed networks.
        out: file.
        watch: sees progress; None is silent.
        device: ``host``, or the address of an agent.
        token: of the agent; None is that of ``NAS_AGENT_TOKEN``.

    Raises:
        InputError: no such space, runtime or device, or `out` cannot be written.
        NasError: an agent cannot be reached.
    """
    from nas.latency.devices import device as find_device

    searched = space if isinstance(space, Space) else load_space(space)
    if device != "host" and not _is_agent(device):
        raise InputError(f"tables are measured on this host or by an agent (http://HOST:PORT), got {device!r:.80}")
    step = (watch or Silent()).step
    table = find_device(device, searched, runtime=runtime, threads=threads, progress=step, token=token).table
    assert table is not None  # both have one with a space
    if out is not None:
        try:
            table.save(Path(out))
        except OSError as error:
            raise InputError(f"cannot write {out}: {error.strerror}; give another file") from None
    return table


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
