"""Which network is exported: one by itself, or one of a run, with the run's target, device and images."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.arch.arch import Arch
from nas.engine.options import Options
from nas.latency.devices import is_agent
from nas.references.resolve import resolve_arch
from nas.system.errors import InputError

if TYPE_CHECKING:
    from nas.engine.run.record import Record
    from nas.latency.record import Latency
    from nas.latency.remote.agent import Agent

FILE_RUNTIMES = {".onnx": "onnxruntime", ".pte": "executorch"}


@dataclass(frozen=True)
class ExportSource:
    """A network to export, and what its run says of it.

    Args:
        network: itself.
        folder: where its export goes unless told otherwise.
        classes: of the run's own images; None without.
        target_ms: of the run, on this host or on `agent`; None if there is nothing, or it is another device's.
        runtime: that the target was measured with; an exported file is held to it if it is one of `FILE_RUNTIMES`.
        threads: likewise.
        agent: to measure on; None is this host.
        has_images: whether the run has images; generated ones are None in `images`.
        images: folder or name of the run's own images.
        without: why there are no images, for people.
        modelled: its latency by the model of the run's device, if that is not at hand.
        elsewhere: device of an agent that the run's target is of, if it is not asked.
    """

    network: Arch
    folder: Path
    classes: int | None = None
    target_ms: float | None = None
    runtime: str = "onnxruntime"
    threads: int = 1
    agent: Agent | None = None
    has_images: bool = False
    images: str | Path | None = None
    without: str = "a network alone has none"
    modelled: Latency | None = None
    elsewhere: str | None = None


def export_source(arch_or_run: Arch | str | Path, key: str | None, token: str | None) -> ExportSource:
    """The network that a caller names, and what its run knows.

    Args:
        arch_or_run: an `Arch`, the folder of a run, an ``arch.json``, or the name of a reference.
        key: of a network of the run; None is its best.
        token: of the agent that the run measured on; None does not ask it.

    Raises:
        InputError: no such network, a run that is broken, or an agent on another device than the run's.
    """
    if isinstance(arch_or_run, Arch):
        return ExportSource(arch_or_run, Path(arch_or_run.key))
    run = Path(arch_or_run)
    if not (run / "run.json").is_file():
        return ExportSource(resolve_arch(str(arch_or_run)), Path(run.stem.replace("@", "-")))
    from nas.engine.run.store import Store

    with Store.open(run, read_only=True) as store:
        record = store.record()
    network = _of_run(record, key)
    options = Options.from_dict(record.options)
    found = ExportSource(network, run / "export" / network.key, **_images_of(record, options, run))
    if record.modelled:
        known = {c.key: c.predicted for c in [*record.candidates, *record.references]}
        found = replace(found, modelled=known[network.key])
    if is_agent(options.device) and record.target_ms is not None:
        found = replace(found, elsewhere=str(record.options.get("device_name", options.device)))
    if _is_this_host(record, options):
        runtime, threads = _timed_with(record, options)
        found = replace(found, target_ms=record.target_ms, threads=threads, runtime=runtime)
    if token is not None and is_agent(options.device):
        from nas.latency.remote.agent import Agent

        agent = Agent(options.device, token=token, threads=options.threads)
        agent.check_is(record.options, "export without --token")
        found = replace(found, target_ms=record.target_ms, threads=options.threads, agent=agent, elsewhere=None)
    return found


def _images_of(record: Record, options: Options, run: Path) -> dict[str, Any]:
    """What `ExportSource` holds of a run's images; their path is kept relative to the run."""
    facts = record.options.get("data")
    if not isinstance(facts, dict):
        return {"without": "the run trained on none"}
    if facts.get("generated") is not False:
        return {"has_images": True}
    classes = len(facts.get("classes", ())) or None
    if options.images is None:
        return {"classes": classes, "without": "the run does not say where its own are"}
    here = run / options.images
    return {"classes": classes, "has_images": True, "images": here if here.exists() else options.images}


def _is_this_host(record: Record, options: Options) -> bool:
    """Whether the run timed this machine: only then can a file be held to its target here."""
    from nas.system.machine import host

    return "device" not in options.custom and record.options.get("device_name") == host()


def _timed_with(record: Record, options: Options) -> tuple[str, int]:
    """Runtime and threads that the run's networks were timed with: those of its table, if it had one. A table that was
    given as a file brings its own."""
    facts = record.options.get("timed_with")
    if facts is None:
        return options.runtime, options.threads
    runtime, threads = (facts.get("runtime"), facts.get("threads")) if isinstance(facts, dict) else (None, None)
    if not isinstance(runtime, str) or isinstance(threads, bool) or not isinstance(threads, int):
        raise InputError(f"timed_with of the run cannot be {facts!r:.80}; restore run.json from a copy")
    return runtime, threads


def _of_run(record: Record, key: str | None) -> Arch:
    if key is None:
        if record.best is None:
            raise InputError("the run has no network within its target yet; `nas resume` it, or name one with its key")
        return record.best
    found = {c.key: c.arch for c in [*record.candidates, *record.references]}
    if key not in found:
        raise InputError(f"the run has no network {key!r}; on its front: {', '.join(c.key for c in record.front)}")
    return found[key]
