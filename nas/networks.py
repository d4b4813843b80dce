"""What `import nas` offers for one network or one space: export, measure by name, profile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from nas.arch import Arch
from nas.errors import InputError
from nas.latency.devices import is_agent
from nas.named import named, named_arch
from nas.options import Options, Silent, Watcher
from nas.space import Space
from nas.space_file import load_space

if TYPE_CHECKING:
    from torch import Tensor

    from nas.export import Exported
    from nas.latency.measure import Latency
    from nas.latency.table import LatencyTable
    from nas.search.record import Record


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
        if token is not None and is_agent(options.device):
            from nas.latency.remote import Agent

            agent, target_ms = Agent(options.device, token=token, threads=options.threads), record.target_ms
        images = record.options.get("data")
        if num_classes is None and isinstance(images, dict) and images.get("generated") is False:
            num_classes = len(images.get("classes", ())) or None
    else:
        network = named_arch(str(arch_or_run))
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


def _of_run(record: Record, key: str | None) -> Arch:
    if key is None:
        if record.best is None:
            raise InputError("the run has no network within its target yet; `nas resume` it, or name one with its key")
        return record.best
    found = {c.key: c.arch for c in [*record.candidates, *record.references]}
    if key not in found:
        raise InputError(f"the run has no network {key!r}; on its front: {', '.join(c.key for c in record.front)}")
    return found[key]


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
    if device != "host" and not is_agent(device):
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
