"""OpenVINO on the CPU, from ONNX."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

from nas.latency.record import FLOAT32
from nas.latency.runtimes.base import Load, Prepared, check_dtype, noise
from nas.network.serialize.onnx import onnx_bytes
from nas.system.errors import InputError
from nas.system.text import one_line

if TYPE_CHECKING:
    from torch import nn

HINTS = {FLOAT32: "f32", "bfloat16": "bf16", "float16": "f16"}


class OpenVino:
    """OpenVINO's CPU plugin, tuned for the latency of one request. It computes in narrower floats only if the processor
    does; otherwise the plugin would silently use another type."""

    name = "openvino"
    quick = True
    dtypes: tuple[str, ...] = tuple(HINTS)

    def version(self) -> str:
        return version("openvino")

    def prepare(self, network: nn.Module, resolution: int, batch: int, threads: int, dtype: str = FLOAT32) -> Load:
        check_dtype(self.name, self.dtypes, dtype)
        model = onnx_bytes(network, resolution, batch)
        return Load(partial(self._ready, model, noise(batch, resolution), threads, dtype))

    @contextmanager
    def _ready(self, model: bytes, images: np.ndarray, threads: int, dtype: str) -> Iterator[Prepared]:
        yield _Request(openvino_request(model, threads, dtype), images)


def openvino_request(model: bytes, threads: int, dtype: str = FLOAT32) -> Any:
    """An OpenVINO inference request for an ONNX model.

    Raises:
        InputError: OpenVINO cannot read the model, or does not compute in `dtype` on this processor.
    """
    import openvino

    options = {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": "1",
        "INFERENCE_NUM_THREADS": str(threads),
        "INFERENCE_PRECISION_HINT": HINTS[dtype],
        "ENABLE_CPU_PINNING": False,  # the measurement has chosen the cores
    }
    try:
        core = openvino.Core()
        compiled = core.compile_model(core.read_model(model), "CPU", options)
    except RuntimeError as error:
        raise InputError(f"OpenVINO cannot read this model: {one_line(error)}; export it again") from None
    computed = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    if computed != HINTS[dtype]:
        raise InputError(
            f"OpenVINO does not compute in {dtype} on this processor, but would use {computed}; use float32"
        )
    return compiled.create_infer_request()


class _Request:
    def __init__(self, request: Any, images: np.ndarray) -> None:
        self._request, self._feed = request, {0: images}

    def __call__(self) -> None:
        self._request.infer(self._feed, share_inputs=True)

    def logits(self) -> np.ndarray:
        self()
        return np.array(self._request.get_output_tensor(0).data, dtype=np.float32)

    def profile(self) -> list[tuple[float, int]]:
        return []
