"""The network to export: one by itself, or one of a run, with the run's target, device and images."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.arch.arch import Arch
from nas.engine.run.info import DeviceInfo, RunInfo
from nas.engine.run.resolve import is_run, network_of
from nas.engine.run.store import Store
from nas.latency.devices import is_agent
from nas.references.resolve import resolve_arch
from nas.system.machine import difference, here

if TYPE_CHECKING:
    from nas.latency.record import Latency
    from nas.latency.remote.agent import Agent

FILE_RUNTIMES = {".onnx": "onnxruntime", ".pte": "executorch"}


@dataclass(frozen=True)
class ExportSource:
    """A network to export, and what its run says of it.

    Args:
        network: network to export.
        folder: default folder of the export.
        classes: names of the classes of the run's own images; empty without images.
        target_ms: latency target of the run, on this host or on `agent`; None without one, or if it is another
            device's.
        runtime: runtime the target was measured with; a file is compared with the target if it is in `FILE_RUNTIMES`.
        threads: number of threads the target was measured with.
        agent: agent to measure on; None is this host.
        has_images: whether the run has images; for generated ones `images` is None.
        images: folder or name of the run's own images.
        without: why there are no images, for people.
        modelled: latency by the model of the run's device, if that is not at hand.
        elsewhere: name of the agent's device that the target belongs to, if the agent is not used.
    """

    network: Arch
    folder: Path
    classes: tuple[str, ...] = ()
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
    """The network that a caller names, and what its run knows of it.

    Args:
        arch_or_run: an `Arch`, the folder of a run, an ``arch.json``, or the name of a reference.
        key: key of a network of the run; None is its best.
        token: token of the agent that the run measured on; None does not measure there.

    Raises:
        InputError: no such network, a run that is broken, or an agent on another device than the run's.
    """
    if isinstance(arch_or_run, Arch):
        return ExportSource(arch_or_run, Path(arch_or_run.key))
    run = Path(arch_or_run).expanduser()
    if not is_run(run):
        return ExportSource(resolve_arch(str(arch_or_run)), Path(run.stem.replace("@", "-")))
    with Store.open(run, read_only=True) as store:
        record = store.record()
    network = network_of(record, key)
    info = record.info
    found = ExportSource(network, run / "export" / network.key, **_images_of(info))
    if info.modelled:
        known = {c.key: c.predicted for c in [*record.candidates, *record.references]}
        found = replace(found, modelled=known[network.key])
    agent = isinstance(info.options.device, str) and is_agent(info.options.device)
    if agent and record.target_ms is not None and info.device is not None:
        found = replace(found, elsewhere=info.device.name)
    if info.device is not None and _is_this_host(info.device):
        runtime, threads = info.device.runtime or info.options.runtime, info.device.threads or info.options.threads
        found = replace(found, target_ms=record.target_ms, threads=threads, runtime=runtime)
    if token is not None and agent and info.device is not None:
        from nas.latency.remote.agent import Agent

        measuring = Agent(str(info.options.device), token=token, threads=info.options.threads)
        measuring.check_is(info.device.facts(), "export without --token")
        target_ms, threads = record.target_ms, info.options.threads
        found = replace(found, target_ms=target_ms, threads=threads, agent=measuring, elsewhere=None)
    return found


def _images_of(info: RunInfo) -> dict[str, Any]:
    """The fields of `ExportSource` about a run's images."""
    if info.data is None:
        return {"without": "the run trained on none"}
    if info.data.generated:
        return {"has_images": True}
    classes = info.data.classes
    if info.options.data is None:
        return {"classes": classes, "without": "the run does not say where its own are"}
    return {"classes": classes, "has_images": True, "images": info.options.data}


def _is_this_host(device: DeviceInfo) -> bool:
    """Whether the run timed this machine: only then can a file be compared with its target here."""
    measured_here = not device.modelled and device.runtime is not None and device.agent is None
    return measured_here and difference(device.identity, here(), device.name) is None
