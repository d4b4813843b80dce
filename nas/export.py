"""From found to shipped: ONNX, weights, and one Python file that needs torch alone; checked, and measured again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from nas.arch import Arch
from nas.build import build
from nas.errors import InputError, NasError, known
from nas.files import write_atomic
from nas.latency.measure import Latency, measure_onnx
from nas.latency.runtimes import INPUT, onnx_bytes, onnx_session
from nas.standalone import model_source
from nas.weights import load_weights

FORMATS = ("onnx", "python")
TOLERANCE = 1e-4  # relative to the largest output
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
        target_ms: what `measured` is to be held to; None if there is nothing, or it is another device's.
        weights: where the weights in the files are from; None if they are initial ones.
    """

    arch: Arch
    num_classes: int
    files: tuple[Path, ...]
    max_abs_diff: float | None
    measured: Latency | None
    target_ms: float | None = None
    weights: str | None = None


def export(
    arch: Arch,
    out: str | Path,
    formats: Sequence[str] = FORMATS,
    *,
    num_classes: int = 1000,
    seed: int = 0,
    threads: int | None = 1,
    weights: Mapping[str, Tensor] | None = None,
) -> Exported:
    """Write a network as files of its own. Unless they are given, the weights are fresh: nothing here has trained it at
    full size.

    Args:
        arch: the network.
        out: folder, made if absent; files of the same names are replaced.
        formats: ``onnx`` (model.onnx, batch left open, compared with PyTorch) and ``python`` (model.py, which needs
            torch alone, and weights.safetensors). ``arch.json`` is always written.
        num_classes: outputs of the classifier.
        seed: of fresh weights.
        threads: with which model.onnx is timed; None does not time it.
        weights: tensors by name, as `nas.load_weights` takes them; None are fresh ones.

    Raises:
        InputError: an unknown format, weights that do not fit, or a folder that cannot be written.
        NasError: the ONNX file computes something else than PyTorch.
    """
    for name in formats:
        if name not in FORMATS:
            raise InputError(f"no export format is called {name!r}; {known(FORMATS)}")
    folder = Path(out)
    network = build(arch, num_classes, seed).eval()
    if weights is None:
        _settle(network, arch.resolution, seed)
    else:
        load_weights(network, weights)
    contents: dict[str, str | bytes] = {"arch.json": arch.to_json()}
    difference = measured = None
    if "onnx" in formats:
        model = onnx_bytes(network, arch.resolution, batch=None)
        difference = _difference(network, model, arch.resolution)
        contents["model.onnx"] = model
        measured = measure_onnx(model, threads) if threads else None
    if "python" in formats:
        contents["model.py"] = model_source(arch, num_classes)
        contents["weights.safetensors"] = _safetensors(network)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            write_atomic(folder / name, content)
    except OSError as error:
        raise InputError(f"cannot write to {folder}: {error.strerror}; give a folder that can be written") from None
    files = tuple(folder / name for name in contents)
    return Exported(arch, num_classes, files, difference, measured, weights=None if weights is None else "given")


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


def _difference(network: nn.Module, model: bytes, resolution: int) -> float:
    session = onnx_session(model, threads=1)
    rng = np.random.default_rng(0)
    worst = 0.0
    for batch in CHECK_BATCHES:
        images = rng.standard_normal((batch, 3, resolution, resolution), dtype=np.float32)
        with torch.inference_mode():
            expected = network(torch.from_numpy(images)).numpy()
        difference = float(np.abs(session.run(None, {INPUT: images})[0] - expected).max())
        if not difference <= TOLERANCE * float(np.abs(expected).max()):
            raise NasError(
                f"the ONNX file is off by {difference:.2g} from PyTorch at batch {batch}; nothing was written"
            )
        worst = max(worst, difference)
    return worst


def _safetensors(network: nn.Module) -> bytes:
    from safetensors.torch import save

    return save({name: tensor.contiguous() for name, tensor in network.state_dict().items()})
