"""From found to shipped: ONNX, weights, and one Python file that needs torch alone; checked, and measured again."""

from __future__ import annotations

import inspect
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from nas import ops
from nas.arch import Arch
from nas.build import build, recipe
from nas.cost import estimate
from nas.errors import InputError, NasError, known
from nas.files import write_atomic
from nas.latency.measure import Latency, measure_onnx
from nas.latency.runtimes import INPUT, onnx_bytes, onnx_session

FORMATS = ("onnx", "python")
TOLERANCE = 1e-4  # relative to the largest output
CHECK_BATCHES = (1, 3)

_OPS = ("activation", "ConvNormAct", "SqueezeExcite", "MBConv", "GlobalPool", "LinearAct", "Network")


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
    """

    arch: Arch
    num_classes: int
    files: tuple[Path, ...]
    max_abs_diff: float | None
    measured: Latency | None
    target_ms: float | None = None


def export(
    arch: Arch,
    out: str | Path,
    formats: Sequence[str] = FORMATS,
    *,
    num_classes: int = 1000,
    seed: int = 0,
    threads: int | None = 1,
) -> Exported:
    """Write a network as files of its own. The weights are fresh: nothing here has trained it at full size.

    Args:
        arch: the network.
        out: folder, made if absent; files of the same names are replaced.
        formats: ``onnx`` (model.onnx, batch left open, compared with PyTorch) and ``python`` (model.py, which needs
            torch alone, and weights.safetensors). ``arch.json`` is always written.
        num_classes: outputs of the classifier.
        seed: of the weights.
        threads: with which model.onnx is timed; None does not time it.

    Raises:
        InputError: an unknown format, or a folder that cannot be written.
        NasError: the ONNX file computes something else than PyTorch.
    """
    for name in formats:
        if name not in FORMATS:
            raise InputError(f"no export format is called {name!r}; {known(FORMATS)}")
    folder = Path(out)
    network = build(arch, num_classes, seed)
    _settle(network, arch.resolution, seed)
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
    return Exported(arch, num_classes, tuple(folder / name for name in contents), difference, measured)


def _settle(network: nn.Module, resolution: int, seed: int) -> None:
    """Set batch norm's running statistics from noise: with those of a fresh network (mean 0, variance 1) the signal
    dies out within a few rows, and comparing its outputs would prove nothing."""
    images = torch.randn(8, 3, resolution, resolution, generator=torch.Generator().manual_seed(seed))
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    momentum = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        network.train()(images)
    for norm, before in zip(norms, momentum, strict=True):
        norm.momentum = before
    network.eval()


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


def model_source(arch: Arch, num_classes: int) -> str:
    """The network as readable Python that imports torch and nothing else: the modules it uses, then its rows."""
    cost, side = estimate(arch, num_classes), arch.resolution
    calls = [_call(*recipe(placed)) for placed in arch.places()]
    width = list(arch.places())[-1].out_channels
    used = [name for name in _OPS if name in ("activation", "Network") or any(f"{name}(" in call for call in calls)]
    if "MBConv" in used:
        used = [name for name in _OPS if name in used or name in ("ConvNormAct", "SqueezeExcite")]
    sources = "\n\n".join(inspect.getsource(getattr(ops, name)) for name in used)
    rows = "\n".join(f"        {call}," for call in calls)
    return f'''"""Network {arch.key}, written by nas. Needs torch alone.

{cost.params:,} parameters, {cost.macs / 1e6:.1f} million multiply-accumulates, input {side} x {side} pixels.

    from model import build, load_weights
    network = load_weights(build(), "weights.safetensors").eval()
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor, nn

RESOLUTION = {arch.resolution}
NUM_CLASSES = {num_classes}


{sources}

def build(num_classes: int = NUM_CLASSES) -> Network:
    """The network, one row a line, with PyTorch's initial weights."""
    rows: list[nn.Module] = [
{rows}
    ]
    batch_norm = {{"bn_eps": {arch.bn_eps}, "bn_momentum": {arch.bn_momentum}}}
    return Network(rows, width={width}, num_classes=num_classes, dropout={arch.dropout}, **batch_norm)


{inspect.getsource(load_weights)}

if __name__ == "__main__":
    network = build().eval()
    weights = Path(__file__).with_name("weights.safetensors")
    if weights.exists():
        load_weights(network, weights)
    with torch.inference_mode():
        logits = network(torch.zeros(1, 3, RESOLUTION, RESOLUTION))
    print(f"{{sum(p.numel() for p in network.parameters()):,}} parameters, logits of shape {{tuple(logits.shape)}}")
'''


def _call(kind: type[nn.Module], arguments: dict[str, Any]) -> str:
    """The constructor call as a person would write it: channels by position, defaults left out."""
    defaults = {name: parameter.default for name, parameter in inspect.signature(kind).parameters.items()}
    words = []
    for name, value in arguments.items():
        text = json.dumps(value) if isinstance(value, str) else repr(value)
        if name in ("in_channels", "out_channels"):
            words.append(text)
        elif value != defaults[name]:
            words.append(f"{name}={text}")
    return f"{kind.__name__}({', '.join(words)})"


# Written into model.py as it stands here: the safetensors format is a length, a JSON header and raw little-endian data.
def load_weights(network: nn.Module, path: str | Path) -> nn.Module:
    """Read a safetensors file into `network`; every tensor must be there and fit."""
    data = Path(path).read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    header.pop("__metadata__", None)
    kinds = {"F32": torch.float32, "I64": torch.int64}
    state = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        raw = bytearray(data[start + begin : start + end])
        state[name] = torch.frombuffer(raw, dtype=kinds[entry["dtype"]]).reshape(entry["shape"])
    network.load_state_dict(state)
    return network
