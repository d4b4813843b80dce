"""Writes a network as ONNX and ExecuTorch (also in int8) and as one Python file with its weights; compares the files
with PyTorch, and measures them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from nas.arch.arch import Arch
from nas.artifacts.quantize import BATCH, Int8Images, Logits, Quantised, compared, int8_onnx, int8_pte
from nas.latency.measure import measure_onnx, measure_pte
from nas.latency.record import Latency
from nas.latency.runtimes.base import runtime_of
from nas.latency.runtimes.executorch import pte_run
from nas.latency.runtimes.onnxruntime import onnx_session
from nas.network.build import build
from nas.network.serialize.executorch import pte_bytes
from nas.network.serialize.onnx import INPUT, onnx_bytes, with_labels
from nas.network.standalone import model_source
from nas.network.weights import load_weights
from nas.system.errors import InputError, NasError, known
from nas.system.files import write_atomic
from nas.system.progress import Step, no_step

FORMATS: Mapping[str, tuple[str, ...]] = {  # and the files each may write
    "onnx": ("model.onnx", "model.int8.onnx"),
    "python": ("model.py", "weights.safetensors"),
    "executorch": ("model.pte", "model.int8.pte"),
}
DEFAULT_FORMATS = ("onnx", "python")
TOLERANCE = {"onnxruntime": 1e-4, "executorch": 1e-3}  # largest difference from PyTorch, relative to the largest output
CHECK_BATCHES = (1, 3)
NOISE_SIDE = 128  # pixels at most: enough for the statistics of noise, and a 22nd of the work at B7's own 600


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export wrote, and how it compares with PyTorch and with the target.

    Args:
        arch: exported network.
        num_classes: outputs of its classifier.
        files: paths of all files written.
        max_abs_diff: largest difference between ONNX Runtime and PyTorch on random images; None without ONNX.
        measured: latency of the ONNX file; None without ONNX, or if files are not timed.
        target_ms: latency target of the run, for this device under `target_runtime`; None if there is no target, or
            if it is for another device.
        weights: origin of the weights; None if they are untrained.
        weights_sha256: SHA-256 of the file of the weights; None without a file.
        pte_max_abs_diff: largest difference between ExecuTorch and PyTorch; None without ExecuTorch.
        pte_measured: latency of model.pte under XNNPACK; None without ExecuTorch, or if files are not timed.
        target_runtime: runtime that `target_ms` was measured under.
        int8: int8 files, one for each runtime; empty without int8.
        data: images that int8 was fitted to and evaluated on, and their normalisation; None without int8.
        modelled: latency by the model of the device that the run's target is for, if that device is not at hand; None
            otherwise.
        elsewhere: device of the agent that the run's target is for, if no token to reach it was given; None otherwise.
        classes: names of the classes, in the order of the outputs; empty if unknown.

    >>> import tempfile, nas
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     done = export(nas.reference("mobilenet_v3_small", resolution=32), folder, ("python",), num_classes=10)
    >>> [path.name for path in done.files], done.weights
    (['arch.json', 'model.py', 'weights.safetensors'], None)
    """

    arch: Arch
    num_classes: int
    files: tuple[Path, ...]
    max_abs_diff: float | None
    measured: Latency | None
    target_ms: float | None = None
    weights: str | None = None
    weights_sha256: str | None = None
    pte_max_abs_diff: float | None = None
    pte_measured: Latency | None = None
    target_runtime: str = "onnxruntime"
    int8: tuple[Quantised, ...] = ()
    data: str | None = None
    modelled: Latency | None = None
    elsewhere: str | None = None
    classes: tuple[str, ...] = ()

    @property
    def checked(self) -> Latency | None:
        """Latency that is compared with `target_ms`: that of the file for the target's runtime; None without one."""
        return {"onnxruntime": self.measured, "executorch": self.pte_measured}.get(self.target_runtime)


def export(
    arch: Arch,
    out: str | Path,
    formats: Sequence[str] = DEFAULT_FORMATS,
    *,
    num_classes: int = 1000,
    classes: Sequence[str] = (),
    seed: int = 0,
    threads: int | None = 1,
    weights: Mapping[str, Tensor] | None = None,
    images: Int8Images | None = None,
    progress: Step = no_step,
) -> Exported:
    """Write a network as files. Without `weights` the files hold untrained ones.

    Args:
        arch: network to export.
        out: folder, created if absent. Files of the same names are replaced; an int8 file is removed if its float file
            is replaced without int8.
        formats: ``onnx`` (model.onnx, for any batch size), ``executorch`` (model.pte, one image at a time, for
            XNNPACK) and ``python`` (model.py, which needs only torch, and weights.safetensors). The first two are
            compared with PyTorch. ``arch.json`` is always written.
        num_classes: outputs of the classifier.
        classes: names of the classes, in the order of the outputs. They are written to ``classes.txt``, to model.py and
            to the metadata of ONNX files, unless there are more or fewer of them than outputs.
        seed: random seed of untrained weights.
        threads: threads to time model.onnx and model.pte with; None does not time them.
        weights: tensors by name, as `nas.load_weights` takes them; None for untrained weights.
        images: images to fit int8 to and to evaluate it on; writes model.int8.onnx and model.int8.pte beside the float
            files. None writes no int8 files.
        progress: called as (done, total, text) while int8 files are made and evaluated.

    Raises:
        InputError: as `check_formats`; the weights do not fit; the folder cannot be written, or holds files of another
            network that would remain.
        NasError: a file and PyTorch disagree, or the network cannot be quantised.
    """
    check_formats(formats, int8=images is not None)
    labels = tuple(classes) if len(classes) == num_classes else ()
    folder = Path(out)
    _check_folder(folder, arch, formats)
    network = build(arch, num_classes, seed).eval()
    if weights is None:
        _set_norm_statistics(network, arch.resolution, seed)
    else:
        load_weights(network, weights)
    contents: dict[str, str | bytes] = {"arch.json": arch.to_json()}
    made: dict[str, _Runnable] = {}
    quantised: list[Quantised] = []
    for format_, make in (("onnx", _onnx), ("executorch", _pte)):
        if format_ not in formats:
            continue
        file = made[format_] = make(network, arch.resolution, threads)
        contents[file.name] = _labelled(file.name, file.model, labels)
        if images is not None:
            model, facts = file.in_int8(network, images, num_classes, threads, folder, progress)
            contents[facts.file.name] = _labelled(facts.file.name, model, labels)
            quantised.append(facts)
    if "python" in formats:
        contents["model.py"] = model_source(arch, num_classes, labels)
        contents["weights.safetensors"] = _safetensors(network)
    if labels:
        contents["classes.txt"] = "".join(f"{_line(label)}\n" for label in labels)
    _write(folder, contents, {"classes.txt", *(file.int8_name for file in made.values())} - contents.keys())
    onnx, pte = made.get("onnx"), made.get("executorch")
    return Exported(
        arch,
        num_classes,
        files=tuple(folder / name for name in contents),
        max_abs_diff=onnx.difference if onnx else None,
        measured=onnx.latency if onnx else None,
        weights=None if weights is None else "given",
        pte_max_abs_diff=pte.difference if pte else None,
        pte_measured=pte.latency if pte else None,
        int8=tuple(quantised),
        data=None if images is None else str(images),
        classes=labels,
    )


def _labelled(name: str, model: bytes, labels: Sequence[str]) -> bytes:
    return with_labels(model, labels) if labels and name.endswith(".onnx") else model


def _line(label: str) -> str:
    """A class name on one line; bytes that are not UTF-8 become escapes."""
    return label.encode("utf-8", "backslashreplace").decode().replace("\r", "\\r").replace("\n", "\\n")


def _check_folder(folder: Path, arch: Arch, formats: Sequence[str]) -> None:
    """All files in a folder must belong to the network in its ``arch.json``."""
    described = folder / "arch.json"
    if not described.is_file():  # absent, or what cannot be read, such as a FIFO
        return
    try:
        other = described.read_text(encoding="utf-8", errors="replace") != arch.to_json()
    except OSError:
        return
    names = [name for kind in FORMATS if kind not in formats for name in FORMATS[kind]]
    if other and (stale := [name for name in names if (folder / name).exists()]):
        raise InputError(
            f"{folder} holds {stale[0]} of another network, which would no longer match arch.json; give another folder "
            "with --out, or add that format with --format"
        )


def _write(folder: Path, contents: Mapping[str, str | bytes], stale: Iterable[str]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in stale:  # int8 files of an earlier export do not belong to the new float file
            (folder / name).unlink(missing_ok=True)
        for name, content in contents.items():
            write_atomic(folder / name, content)
    except OSError as error:
        raise InputError(f"cannot write to {folder}: {error.strerror}; give another folder with --out") from None


def check_formats(formats: Sequence[str], *, int8: bool) -> None:
    """Check the formats before weights are downloaded and images are read.

    Raises:
        InputError: an unknown format; ExecuTorch is not installed; int8 for formats that do not support it.

    >>> check_formats(("python",), int8=True)
    Traceback (most recent call last):
    nas.system.errors.InputError: int8 needs the format onnx or executorch, got 'python'; add one of them with --format
    """
    for name in formats:
        if name not in FORMATS:
            raise InputError(f"no export format is called {name!r:.80}; {known(FORMATS)}")
    if int8 and not {"onnx", "executorch"} & set(formats):
        got = ",".join(formats)
        raise InputError(f"int8 needs the format onnx or executorch, got {got!r}; add one of them with --format")
    if "executorch" in formats:
        runtime_of("executorch")  # raises if it is not installed


def _set_norm_statistics(network: nn.Module, resolution: int, seed: int) -> None:
    """Set the running statistics of batch norm from noise. With the initial ones (mean 0, variance 1) the signal dies
    out within a few rows, and a comparison of outputs would prove nothing.

    The images differ in contrast. If they did not, deep features would hardly vary, and batch norm would amplify what
    is left, in the end rounding errors: EfficientNet-B7 at 64 pixels then differed by 10 % from itself in float64; with
    contrast it differs by 3e-6.
    """
    side = min(resolution, NOISE_SIDE)
    contrast = torch.linspace(0.25, 2, 8).reshape(8, 1, 1, 1)
    images = contrast * torch.randn(8, 3, side, side, generator=torch.Generator().manual_seed(seed))
    norms = [module for module in network.modules() if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d))]
    momentum = [norm.momentum for norm in norms]
    for norm in norms:  # only these are in training mode: dropout and stochastic depth would draw at random
        norm.train().momentum = 1.0
    with torch.no_grad():
        network(images)
    for norm, before in zip(norms, momentum, strict=True):
        norm.eval().momentum = before


@dataclass(frozen=True)
class _Runnable:
    """A float file of one runtime, compared with PyTorch and timed."""

    runtime: str
    name: str
    model: bytes
    difference: float
    latency: Latency | None
    batch: int = 1  # images it takes at once

    @property
    def int8_name(self) -> str:
        return self.name.replace("model.", "model.int8.")

    def in_int8(
        self,
        network: nn.Module,
        images: Int8Images,
        num_classes: int,
        threads: int | None,
        folder: Path,
        progress: Step,
    ) -> tuple[bytes, Quantised]:
        """The int8 version, and how it compares with the float one."""
        onnx = self.runtime == "onnxruntime"
        model = int8_onnx(self.model, images, progress) if onnx else int8_pte(network, images, progress)
        run, measure = (_onnx_run, measure_onnx) if onnx else (pte_run, measure_pte)
        before, after, agreement = compared(run(self.model), run(model), images, num_classes, self.batch, progress)
        facts = Quantised(
            file=folder / self.int8_name,
            runtime=self.runtime,
            accuracy_before=before,
            accuracy_after=after,
            agreement=agreement,
            images=len(images.labels),
            int8_images=len(images.range_images),
            latency_before=self.latency,
            latency_after=measure(model, threads) if threads else None,
            bytes_before=len(self.model),
            bytes_after=len(model),
        )
        return model, facts


def _onnx(network: nn.Module, resolution: int, threads: int | None) -> _Runnable:
    model = onnx_bytes(network, resolution, batch=None)
    difference = _difference(network, _onnx_run(model), resolution, "onnxruntime", CHECK_BATCHES)
    latency = measure_onnx(model, threads) if threads else None
    return _Runnable("onnxruntime", "model.onnx", model, difference, latency, BATCH)


def _pte(network: nn.Module, resolution: int, threads: int | None) -> _Runnable:
    model = pte_bytes(network, resolution)
    difference = _difference(network, pte_run(model), resolution, "executorch", (1,) * len(CHECK_BATCHES))
    return _Runnable("executorch", "model.pte", model, difference, measure_pte(model, threads) if threads else None)


def _onnx_run(model: bytes) -> Logits:
    session = onnx_session(model, threads=1)
    return lambda images: session.run(None, {INPUT: images})[0]


def _difference(network: nn.Module, run: Logits, resolution: int, runtime: str, batches: Sequence[int]) -> float:
    rng = np.random.default_rng(0)
    worst = 0.0
    for batch in batches:
        images = rng.standard_normal((batch, 3, resolution, resolution), dtype=np.float32)
        with torch.inference_mode():
            expected = network(torch.from_numpy(images)).numpy()
        difference = float(np.abs(run(images) - expected).max())
        if not difference <= TOLERANCE[runtime] * float(np.abs(expected).max()):
            kind = "ONNX" if runtime == "onnxruntime" else "ExecuTorch"
            raise NasError(
                f"the {kind} file differs from PyTorch by {difference:.2g} at batch {batch}; nothing was written"
            )
        worst = max(worst, difference)
    return worst


def _safetensors(network: nn.Module) -> bytes:
    from safetensors.torch import save

    return save({name: tensor.contiguous() for name, tensor in network.state_dict().items()})
