"""ONNX Runtime on the CPU, the default, because it is what people deploy.

The squeeze of SE stays ``x.mean((2, 3))``. Written as a global average pool, it takes ONNX Runtime 1.31 as long
(MobileNetV3-Large 6.21 and 6.23 ms, EfficientNet-B0 12.0 and 11.8).
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nas.latency.record import FLOAT32
from nas.latency.runtimes.base import Load, Prepared, check_dtype, noise, part_names
from nas.latency.runtimes.profiles import PROFILE_WARM_UP, times_of_parts
from nas.network.serialize.onnx import INPUT, onnx_bytes
from nas.system.errors import InputError
from nas.system.text import one_line

if TYPE_CHECKING:
    from torch import nn

PROFILE_RUNS = 5


class OnnxRuntime:
    """ONNX Runtime's CPU provider with all graph optimisations, operators one after the other. On most processors it
    has no kernels for narrower floats, but would convert and compute in float32."""

    name = "onnxruntime"
    quick = True
    dtypes: tuple[str, ...] = (FLOAT32,)

    def version(self) -> str:
        return version("onnxruntime")

    def prepare(self, network: nn.Module, resolution: int, batch: int, threads: int, dtype: str = FLOAT32) -> Load:
        check_dtype(self.name, self.dtypes, dtype)
        model = onnx_bytes(network, resolution, None, traced=batch)  # open batch, as in exported files
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
    except Exception as error:  # onnxruntime's errors share no base
        raise InputError(f"ONNX Runtime cannot read this model: {one_line(error)}; export it again") from None
