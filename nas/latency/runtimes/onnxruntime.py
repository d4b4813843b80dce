"""ONNX Runtime on the CPU, the default: what people deploy.

The squeeze of SE stays ``x.mean((2, 3))``: written as a global average pool, ONNX Runtime 1.31 takes as long
(MobileNetV3-Large 6.21 and 6.23 ms, EfficientNet-B0 12.0 and 11.8).
"""

from __future__ import annotations

import io
import json
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nas.system.errors import InputError
from nas.latency.table.profiles import PROFILE_WARM_UP, times_of_parts
from nas.latency.runtimes.base import FLOAT32, Load, Prepared, check_dtype, noise, part_names

if TYPE_CHECKING:
    from torch import nn

OPSET = 17
INPUT, OUTPUT = "image", "logits"
PROFILE_RUNS = 5


def onnx_bytes(network: nn.Module, resolution: int, batch: int | None = 1, traced: int = 1) -> bytes:
    """`network` as an ONNX model: input ``image`` (N, 3, H, W), output ``logits`` (N, classes), both float32.

    The TorchScript-based exporter takes 0.2 s a network, the one based on ``torch.export`` 3 to 5 s; ONNX Runtime runs
    what they write in the same time, within 1 %.

    Args:
        network: is exported in evaluation mode, and left in the mode it was in.
        resolution: side of the images, fixed in the model.
        batch: number of images; None leaves it open.
        traced: number of images to follow where it is open; a network may take that number for granted.
    """
    import torch

    axes = {INPUT: {0: "batch"}, OUTPUT: {0: "batch"}} if batch is None else None
    images = torch.zeros(traced if batch is None else batch, 3, resolution, resolution)
    file = io.BytesIO()
    training, threads = network.training, torch.get_num_threads()
    network.eval()
    torch.set_num_threads(1)  # the trace is one image; threads that wait for a busy core made it five times slower
    try:
        with _folded(network), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exporter announces that it is the old one
            torch.onnx.export(
                network,
                (images,),
                file,  # type: ignore[arg-type]  # the stub knows only names; the exporter takes any file
                dynamo=False,
                opset_version=OPSET,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_axes=axes,
            )
    finally:
        torch.set_num_threads(threads)
        network.train(training)
    return file.getvalue()


@contextmanager
def _folded(network: nn.Module) -> Iterator[None]:
    """Within the context, batch normalisations are part of the convolutions before them. The exporter would fold them
    itself, at a quarter more time."""
    from torch import nn
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    with ExitStack() as stack:
        for row in [part for part in network.modules() if type(part).forward is nn.Sequential.forward]:
            for (at, conv), (after, norm) in pairwise(list(row.named_children())):
                if type(conv) is nn.Conv2d and type(norm) is nn.BatchNorm2d and norm.running_var is not None:
                    for name, one, other in ((at, conv, fuse_conv_bn_eval(conv, norm)), (after, norm, nn.Identity())):
                        stack.callback(setattr, row, name, one)
                        setattr(row, name, other)
        yield


class OnnxRuntime:
    """ONNX Runtime's CPU provider, all graph optimisations, operators one after the other. On most processors it has
    no kernels for narrower floats: it would convert, and compute in float32."""

    name = "onnxruntime"
    quick = True
    dtypes: tuple[str, ...] = (FLOAT32,)

    def version(self) -> str:
        return version("onnxruntime")

    def prepare(self, network: nn.Module, resolution: int, batch: int, threads: int, dtype: str = FLOAT32) -> Load:
        check_dtype(self.name, self.dtypes, dtype)
        model = onnx_bytes(network, resolution, None, traced=batch)  # open, as in files that are exported
        return Load(partial(self._session, model, part_names(network), noise(batch, resolution), threads))

    @contextmanager
    def _session(self, model: bytes, names: list[str], images: np.ndarray, threads: int) -> Iterator[Prepared]:
        yield _Session(model, names, images, threads)


class _Session:
    def __init__(self, model: bytes, names: list[str], images: np.ndarray, threads: int) -> None:
        self._session = onnx_session(model, threads)
        self._feed = {INPUT: images}
        self._model = model
        self._names, self._threads = names, threads

    def __call__(self) -> None:
        self._session.run(None, self._feed)

    def logits(self) -> np.ndarray:
        return np.asarray(self._session.run(None, self._feed)[0])

    def profile(self) -> list[tuple[float, int]]:
        with tempfile.TemporaryDirectory(prefix="nas-profile-") as folder:
            session = onnx_session(self._model, self._threads, profile_to=Path(folder) / "onnxruntime")
            for _ in range(PROFILE_WARM_UP + PROFILE_RUNS):
                session.run(None, self._feed)
            events = json.loads(Path(session.end_profiling()).read_bytes())
        return times_of_parts(events, self._names)


def onnx_session(model: bytes | Path, threads: int, profile_to: Path | None = None) -> Any:
    """An ONNX Runtime session on the CPU.

    Raises:
        InputError: ONNX Runtime cannot read the model.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    if profile_to is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile_to)
    source = model if isinstance(model, bytes) else str(model)
    try:
        return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises its own kinds, which share no base
        text = " ".join(str(error).split())
        raise InputError(f"ONNX Runtime cannot read this model: {text:.200}") from None
