"""What `import nas` offers for one network or one space: export, profile, and measuring by name."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from nas.arch.arch import Arch
from nas.arch.space import Space
from nas.arch.space_yaml import load_space
from nas.artifacts.check_against_target import check_against_target
from nas.artifacts.source import FILE_RUNTIMES, export_source
from nas.engine.progress import Silent, Watcher
from nas.engine.run.resolve import resolve
from nas.latency.devices import is_agent
from nas.system.errors import InputError
from nas.system.files import write_atomic

if TYPE_CHECKING:
    from torch import Tensor

    from nas.artifacts.export import Exported
    from nas.latency.record import Latency
    from nas.latency.remote.agent import Agent
    from nas.latency.table.table import LatencyTable


def export(
    arch_or_run: Arch | str | Path,
    out: str | Path | None = None,
    formats: Sequence[str] | None = None,
    *,
    arch: str | None = None,
    num_classes: int | None = None,
    weights: str | Path | Mapping[str, Tensor] | None = None,
    token: str | None = None,
    int8: bool = False,
    data: str | Path | None = None,
    normalise: str | None = None,
    watch: Watcher | None = None,
) -> Exported:
    """Write a network as stand-alone files, compare them with PyTorch, and measure them.

    Args:
        arch_or_run: an `Arch`, the folder of a run, an ``arch.json``, or the name of a reference.
        out: output folder; None is ``RUN/export/KEY``, or a folder named like the network.
        formats: any of ``onnx``, ``python`` and ``executorch``. None is the first two, and ``executorch`` for a run
            that was measured under it on this machine.
        arch: key of a network of the run; None is its best.
        num_classes: outputs of the classifier; None is that of the weights, else the classes of `data` or of the run's
            own images, else 1000.
        weights: ``torchvision`` or ``timm``, which are downloaded once and change the epsilon and activation of the
            exported network where theirs differ; a file, as `nas.references.pretrained.read_state` takes it; or
            tensors by name. None are initial, untrained weights.
        token: token of the agent that the run measured on, to compare the ONNX file with the target there; None does
            not measure there.
        int8: also write ``onnx`` and ``executorch`` in int8, and compare them with float.
        data: images for int8, as `nas.search` takes them; None are those of the run.
        normalise: pixel scaling for int8: ``imagenet``, ``half``, ``nas`` or ``none``. None is what a library's weights
            expect, else ``imagenet``; for initial weights ``nas``.
        watch: sees the progress of int8; None is silent.

    Raises:
        InputError: no such network or format, weights that do not fit, int8 without images, or the folder cannot be
            written.
        NasError: a file computes something else than PyTorch, or the weights could not be downloaded.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     done = export("mobilenet_v3_small@width=0.35,resolution=64", folder, formats=["python"], num_classes=10)
    ...     sorted(path.name for path in Path(folder).iterdir())
    ['arch.json', 'model.py', 'weights.safetensors']
    """
    from nas.artifacts.export import check_formats
    from nas.artifacts.export import export as write
    from nas.artifacts.int8_images import int8_images, no_images
    from nas.data.pixels import normalisation
    from nas.references.pretrained import find_weights

    chosen = export_source(arch_or_run, arch, token)
    if formats is None:
        formats = ("onnx", "python", *(("executorch",) if chosen.runtime == "executorch" else ()))
    check_formats(formats, int8=int8)
    if not int8 and (data is not None or normalise is not None):
        raise InputError("data and normalise are for int8; give --int8 with them, or leave them out")
    if int8 and data is None and not chosen.has_images:
        raise no_images(chosen.without)
    if normalise is not None:
        normalisation(normalise)  # which says so if it is unknown
    network, state, source, digest, scaled = chosen.network, None, None, None, "imagenet"
    if isinstance(weights, Mapping):
        state, source = weights, "given"
    elif weights is not None:
        found = find_weights(network, weights)
        network, state, source, scaled = found.arch, found.state_dict, found.source, found.normalisation
        digest = found.sha256
    else:
        scaled = "nas"
    images, step = None, (watch or Silent()).step
    if int8:
        images = int8_images(chosen.images if data is None else data, network.resolution, normalise or scaled, step)
    if num_classes is None:
        of_images = len(chosen.classes) if images is None or data is None else images.classes
        num_classes = _classes(network, state) or of_images or 1000
    folder = Path(out or chosen.folder).expanduser()
    done = write(
        network,
        folder,
        formats,
        num_classes=num_classes,
        classes=chosen.classes if len(chosen.classes) == num_classes or images is None else images.class_names,
        threads=None if chosen.agent else chosen.threads,
        weights=state,
        images=images,
        progress=step,
    )
    if chosen.agent and "onnx" in formats:
        done = _measured_there(done, chosen.agent, folder)
    return check_against_target(replace(done, weights=source, weights_sha256=digest), chosen, folder)


def _classes(network: Arch, state: Mapping[str, Tensor] | None) -> int | None:
    """Classes of the weights; None without weights, or if they are another network's: loading them says so."""
    from nas.network.build import build
    from nas.network.weights import classes_of

    return None if state is None else classes_of(build(network, 1), state)


def _measured_there(done: Exported, agent: Agent, folder: Path) -> Exported:
    """The ONNX files timed on an agent."""
    measured = agent.measure_onnx(folder / "model.onnx")
    int8 = tuple(
        replace(one, latency_before=measured, latency_after=agent.measure_onnx(one.file))
        if one.runtime == "onnxruntime"
        else one
        for one in done.int8
    )
    return replace(done, measured=measured, int8=int8)


def measure_named(
    name: str,
    runtime: str = "onnxruntime",
    threads: int = 1,
    batch: int = 1,
    device: str = "host",
    token: str | None = None,
    *,
    resolution: int | None = None,
    dtype: str = "float32",
    keep_samples: bool = False,
) -> Latency:
    """Time a network by name, as `nas.engine.run.resolve.resolve` takes it, or an exported ``.onnx`` or ``.pte`` file.

    Args:
        name: of the network.
        runtime: of the host; an agent has ONNX Runtime. A file has its own: a ``.pte`` file runs under ``executorch``.
        threads: of the network.
        batch: images per pass.
        device: ``host``, or the address of an agent.
        token: of the agent.
        resolution: side of the images; None is the network's own, as always with a file.
        dtype: of weights and arithmetic, on the host; a file's own is taken.
        keep_samples: whether the result holds every run.

    Raises:
        InputError: no such network, options out of bounds, or a device that cannot measure.
        NasError: an agent cannot be reached.
    """
    from nas.latency.devices import device as find_device
    from nas.latency.measure import measure, measure_onnx, measure_pte

    name = os.path.expanduser(name)
    kind = Path(name).suffix if Path(name).suffix in FILE_RUNTIMES else None
    if kind and resolution is not None:
        raise InputError(f"{kind} files have their own size of images, got resolution {resolution}; leave it out")
    if kind and dtype != "float32":
        raise InputError(f"{kind} files compute in their own types, got dtype {dtype!r:.40}; leave it out")
    if device != "host":
        from nas.latency.remote.agent import Agent

        agent = find_device(device, runtime=runtime, threads=threads, token=token)
        if not isinstance(agent, Agent):
            raise InputError(f"networks are timed on this host or by an agent (http://HOST:PORT), got {device!r:.80}")
        if dtype != "float32" or kind == ".pte":
            what = "a .pte file" if kind else f"dtype {dtype!r:.40}"
            raise InputError(f"an agent runs ONNX in float32, or a quantised .onnx file as it is; got {what}")
        if kind:
            return agent.measure_onnx(Path(name), batch, keep_samples=keep_samples)
        return agent.measure(resolve(name), batch, keep_samples=keep_samples, resolution=resolution)
    if kind is None:
        return measure(
            resolve(name), runtime, threads, batch, keep_samples=keep_samples, resolution=resolution, dtype=dtype
        )
    if runtime not in ("onnxruntime", FILE_RUNTIMES[kind]):
        raise InputError(f"{kind} files run under {FILE_RUNTIMES[kind]}, got runtime {runtime!r:.80}")
    if kind == ".onnx":
        return measure_onnx(Path(name), threads, batch, keep_samples=keep_samples)
    if batch != 1:
        raise InputError(f"a .pte file has its own batch, got batch {batch}; export it for another")
    return measure_pte(Path(name), threads, keep_samples=keep_samples)


def write_samples(found: Mapping[str, Latency], path: Path) -> None:
    """Every run that was kept, as CSV: network, run (from 1, in order of time), ms.

    Raises:
        InputError: the file cannot be written.
    """
    rows = io.StringIO()
    writer = csv.writer(rows, lineterminator="\n")
    writer.writerow(("network", "run", "ms"))
    for name, latency in found.items():
        writer.writerows((name, at, repr(ms)) for at, ms in enumerate(latency.samples_ms or (), 1))
    try:
        write_atomic(path, rows.getvalue())
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}; give another file") from None


def profile(
    space: str | Path | Space,
    *,
    runtime: str = "onnxruntime",
    threads: int = 1,
    out: str | Path | None = None,
    watch: Watcher | None = None,
    device: str = "host",
    token: str | None = None,
    refresh: bool = False,
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
        refresh: measure the table again even if it is cached.

    Raises:
        InputError: no such space, runtime or device, or `out` cannot be written.
        NasError: an agent cannot be reached.
    """
    from nas.latency.devices import device as find_device

    searched = space if isinstance(space, Space) else load_space(space)
    if device != "host" and not is_agent(device):
        raise InputError(f"tables are measured on this host or by an agent (http://HOST:PORT), got {device!r:.80}")
    step = (watch or Silent()).step
    table = find_device(
        device, searched, runtime=runtime, threads=threads, progress=step, token=token, refresh=refresh
    ).table
    assert table is not None  # both have one with a space
    if out is not None:
        try:
            table.save(Path(out).expanduser())
        except OSError as error:
            raise InputError(f"cannot write {out}: {error.strerror}; give another file") from None
    return table
