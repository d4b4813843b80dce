"""From found to shipped: ONNX, ExecuTorch, int8 of both, weights, and one Python file that needs torch alone; checked,
and measured again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from nas.arch.arch import Arch
from nas.artifacts.quantize import BATCH, Images, Logits, Quantised, compared, int8_onnx, int8_pte
from nas.latency.measure import measure_onnx, measure_pte
from nas.latency.record import Latency
from nas.latency.runtimes.base import runtime_of
from nas.latency.runtimes.executorch import pte_run
from nas.latency.runtimes.onnxruntime import onnx_session
from nas.network.build import build
from nas.network.serialize.executorch import pte_bytes
from nas.network.serialize.onnx import INPUT, onnx_bytes
from nas.network.standalone import model_source
from nas.network.weights import load_weights
from nas.system.errors import InputError, NasError, known
from nas.system.files import write_atomic
from nas.system.progress import Step

FORMATS: Mapping[str, tuple[str, ...]] = {  # and their files
    "onnx": ("model.onnx", "model.int8.onnx"),
    "python": ("model.py", "weights.safetensors"),
    "executorch": ("model.pte", "model.int8.pte"),
}
USUAL = ("onnx", "python")
TOLERANCE = {"onnxruntime": 1e-4, "executorch": 1e-3}  # relative to the largest output
CHECK_BATCHES = (1, 3)
SETTLE_SIDE = 128  # pixels at most: enough for the statistics of noise, and a 22nd of the work at B7's own 600


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export wrote and how it was checked.

    Args:
        arch: the network.
        num_classes: outputs of its classifier.
        files: everything written.
        max_abs_diff: largest difference between ONNX Runtime and PyTorch over random images; None without ONNX.
        measured: latency of the exported ONNX file; None without ONNX, or if it was not asked for.
        target_ms: of the run, on this device under `target_runtime`; None if there is nothing, or it is another
            device's.
        weights: where the weights in the files are from; None if they are initial ones.
        pte_max_abs_diff: largest difference between ExecuTorch and PyTorch; None without ``executorch``.
        pte_measured: latency of model.pte under XNNPACK; None without it, or if it was not asked for.
        target_runtime: that `target_ms` was measured under.
        int8: the int8 files beside the float ones, one for each runtime; empty if they were not asked for.
        data: which images int8 was fitted to and judged on, and how they were normalised; None without int8.
        modelled: latency by the model of a device that is not at hand, which the run's target is of; None else.
        elsewhere: device of an agent that the run's target is of and that was not asked; None else.
    """

    arch: Arch
    num_classes: int
    files: tuple[Path, ...]
    max_abs_diff: float | None
    measured: Latency | None
    target_ms: float | None = None
    weights: str | None = None
    pte_max_abs_diff: float | None = None
    pte_measured: Latency | None = None
    target_runtime: str = "onnxruntime"
    int8: tuple[Quantised, ...] = ()
    data: str | None = None
    modelled: Latency | None = None
    elsewhere: str | None = None

    @property
    def held(self) -> Latency | None:
        """What is held to `target_ms`: the latency of the file that the target's runtime runs; None without one."""
        return {"onnxruntime": self.measured, "executorch": self.pte_measured}.get(self.target_runtime)


def export(
    arch: Arch,
    out: str | Path,
    formats: Sequence[str] = USUAL,
    *,
    num_classes: int = 1000,
    seed: int = 0,
    threads: int | None = 1,
    weights: Mapping[str, Tensor] | None = None,
    images: Images | None = None,
    progress: Step | None = None,
) -> Exported:
    """Write a network as files of its own. Unless they are given, the weights are fresh: nothing here has trained it at
    full size.

    Args:
        arch: the network.
        out: folder, made if absent; files of the same names are replaced, and int8 files removed whose float file is
            replaced without int8.
        formats: ``onnx`` (model.onnx, batch left open), ``executorch`` (model.pte, one image at a time, for XNNPACK),
            both compared with PyTorch, and ``python`` (model.py, which needs torch alone, and weights.safetensors).
            ``arch.json`` is always written.
        num_classes: outputs of the classifier.
        seed: of fresh weights.
        threads: with which model.onnx and model.pte are timed; None does not time them.
        weights: tensors by name, as `nas.load_weights` takes them; None are fresh ones.
        images: also write model.int8.onnx and model.int8.pte, of those formats asked for: int8 fitted to these images
            and compared on them. None writes none.
        progress: told (done, total, text) while int8 is made and judged.

    Raises:
        InputError: as `check_formats`, weights that do not fit, or a folder that cannot be written or that holds
            other formats of another network.
        NasError: a file computes something else than PyTorch, or int8 could not be made.
    """
    check_formats(formats, int8=images is not None)
    folder = Path(out)
    _check_folder(folder, arch, formats)
    network = build(arch, num_classes, seed).eval()
    if weights is None:
        _settle(network, arch.resolution, seed)
    else:
        load_weights(network, weights)
    contents: dict[str, str | bytes] = {"arch.json": arch.to_json()}
    made: dict[str, _Runnable] = {}
    quantised: list[Quantised] = []
    for format_, file in (("onnx", _onnx), ("executorch", _pte)):
        if format_ not in formats:
            continue
        one = made[format_] = file(network, arch.resolution, threads)
        contents[one.name] = one.model
        if images is not None:
            model, facts = one.in_int8(network, images, num_classes, threads, folder, progress)
            contents[facts.file.name] = model
            quantised.append(facts)
    if "python" in formats:
        contents["model.py"] = model_source(arch, num_classes)
        contents["weights.safetensors"] = _safetensors(network)
    _write(folder, contents, {one.int8_name for one in made.values()} - contents.keys())
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
    )


def _check_folder(folder: Path, arch: Arch, formats: Sequence[str]) -> None:
    """``arch.json`` says what all files beside it are of."""
    try:
        other = (folder / "arch.json").read_text(encoding="utf-8", errors="replace") != arch.to_json()
    except OSError:
        return
    names = [name for kind in FORMATS if kind not in formats for name in FORMATS[kind]]
    if other and (there := [name for name in names if (folder / name).exists()]):
        raise InputError(
            f"{folder} holds {there[0]} of another network, which would stay beside the new arch.json; give another "
            "folder, or export that format, too"
        )


def _write(folder: Path, contents: Mapping[str, str | bytes], stale: Iterable[str]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in stale:  # of an earlier export: int8 of another float file than the one that comes
            (folder / name).unlink(missing_ok=True)
        for name, content in contents.items():
            write_atomic(folder / name, content)
    except OSError as error:
        raise InputError(f"cannot write to {folder}: {error.strerror}; give a folder that can be written") from None


def check_formats(formats: Sequence[str], *, int8: bool) -> None:
    """What can be known to be wrong before weights are downloaded and images read.

    Raises:
        InputError: an unknown format, executorch that is not installed, or int8 of formats that do not have it.
    """
    for name in formats:
        if name not in FORMATS:
            raise InputError(f"no export format is called {name!r:.80}; {known(FORMATS)}")
    if int8 and not {"onnx", "executorch"} & set(formats):
        raise InputError(f"int8 files are of onnx or executorch; add one of these formats, got {','.join(formats)!r}")
    if "executorch" in formats:
        runtime_of("executorch")  # which says so if it is not installed


def _settle(network: nn.Module, resolution: int, seed: int) -> None:
    """Set batch norm's running statistics from noise: with those of a fresh network (mean 0, variance 1) the signal
    dies out within a few rows, and comparing its outputs would prove nothing.

    The images differ in contrast. Where all are alike, deep features hardly vary and batch norm magnifies what is left,
    in the end rounding: EfficientNet-B7 at 64 pixels was then 10 % off from itself in float64, and is now 3e-6."""
    side = min(resolution, SETTLE_SIDE)
    contrast = torch.linspace(0.25, 2, 8).reshape(8, 1, 1, 1)
    images = contrast * torch.randn(8, 3, side, side, generator=torch.Generator().manual_seed(seed))
    norms = [module for module in network.modules() if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d))]
    momentum = [norm.momentum for norm in norms]
    for norm in norms:  # these alone are in training mode: dropout and stochastic depth draw at random
        norm.train().momentum = 1.0
    with torch.no_grad():
        network(images)
    for norm, before in zip(norms, momentum, strict=True):
        norm.eval().momentum = before


@dataclass(frozen=True)
class _Runnable:
    """A float file as one runtime runs it, checked and timed."""

    runtime: str
    name: str
    model: bytes
    difference: float
    latency: Latency | None
    batch: int = field(default=1)  # it takes at once

    @property
    def int8_name(self) -> str:
        return self.name.replace("model.", "model.int8.")

    def in_int8(
        self,
        network: nn.Module,
        images: Images,
        num_classes: int,
        threads: int | None,
        folder: Path,
        progress: Step | None,
    ) -> tuple[bytes, Quantised]:
        """The same in int8, and how it compares."""
        onnx = self.runtime == "onnxruntime"
        model = int8_onnx(self.model, images, progress) if onnx else int8_pte(network, images, progress)
        runs = [_onnx_run(one) if onnx else pte_run(one) for one in (self.model, model)]
        before, after, agreement = compared(runs[0], runs[1], images, num_classes, self.batch, progress)
        timed = measure_onnx if onnx else measure_pte
        facts = Quantised(
            file=folder / self.int8_name,
            runtime=self.runtime,
            accuracy_before=before,
            accuracy_after=after,
            agreement=agreement,
            images=len(images.labels),
            int8_images=len(images.calibration),
            latency_before=self.latency,
            latency_after=timed(model, threads) if threads else None,
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
                f"the {kind} file is off by {difference:.2g} from PyTorch at batch {batch}; nothing was written"
            )
        worst = max(worst, difference)
    return worst


def _safetensors(network: nn.Module) -> bytes:
    from safetensors.torch import save

    return save({name: tensor.contiguous() for name, tensor in network.state_dict().items()})
