"""int8 after training: weights and activations in 8 bits, their ranges read off images, and what that costs.

Each runtime has its own form. ONNX Runtime runs a model with QuantizeLinear and DequantizeLinear around its operators
(QDQ), XNNPACK a program quantised before it is lowered. In both, weights have one scale per output channel, which the
depthwise kernels of mobile networks need, and activations one per tensor.
"""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nas.latency.record import Latency
from nas.system.errors import InputError, NasError
from nas.system.progress import Step

if TYPE_CHECKING:
    from onnx import ModelProto
    from torch import Tensor, nn
    from torch.export import ExportedProgram

BATCH = 16  # images at once, where a file takes several
GROUP = 4  # images whose extremes are averaged with those of other groups
LEAST_IMAGES = 8

Logits = Callable[[NDArray[np.float32]], NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class Images:
    """What a network is quantised with and judged on.

    Args:
        name: of the data, for people.
        classes: number of them; labels are below it.
        calibration: uint8 (N, S, S, 3), RGB: the ranges of activations are read off these.
        held_out: uint8 (M, S, S, 3); none of them is used for the ranges.
        labels: int64 (M,), of `held_out`.
        to_input: uint8 (B, S, S, 3) to float32 (B, 3, side, side) as the network expects them.
        normalisation: how `to_input` scales pixels, for people.
        note: what a reader of the accuracy must know; None if nothing.
    """

    name: str
    classes: int
    calibration: NDArray[np.uint8]
    held_out: NDArray[np.uint8]
    labels: NDArray[np.int64]
    to_input: Callable[[NDArray[np.uint8]], NDArray[np.float32]]
    normalisation: str
    note: str | None = None

    def __post_init__(self) -> None:
        for what, images in (("calibration", self.calibration), ("held-out", self.held_out)):
            if len(images) < LEAST_IMAGES:
                raise InputError(f"int8 needs at least {LEAST_IMAGES} {what} images, got {len(images)}; give more")
        if len(self.labels) != len(self.held_out):
            raise InputError(f"{len(self.held_out)} held-out images have {len(self.labels)} labels; give one for each")

    def __str__(self) -> str:
        """For people: which images, and how they were normalised."""
        return (
            f"{self.name}: {len(self.calibration)} images for the ranges, {len(self.labels)} others scored; "
            f"{self.normalisation}" + (f"; {self.note}" if self.note else "")
        )


@dataclass(frozen=True, slots=True)
class Quantised:
    """An int8 file beside the float file of the same runtime; the float file is what was before.

    Args:
        file: of the int8 network.
        runtime: that ran both.
        accuracy_before: share of held-out images classified rightly; None where the classes of the images are not
            those of the network.
        accuracy_after: likewise, in int8.
        agreement: share of held-out images that both files put into the same class.
        images: held-out images scored.
        int8_images: images that the ranges were read off.
        latency_before: of one image; None if it was not timed.
        latency_after: likewise, in int8.
        bytes_before: size of the file.
        bytes_after: likewise, in int8.
    """

    file: Path
    runtime: str
    accuracy_before: float | None
    accuracy_after: float | None
    agreement: float
    images: int
    int8_images: int
    latency_before: Latency | None
    latency_after: Latency | None
    bytes_before: int
    bytes_after: int


def int8_onnx(model: bytes, images: Images, progress: Step | None = None) -> bytes:
    """A model of `onnx_bytes` in int8, for ONNX Runtime; its input and output stay float32.

    Activations are unsigned, weights signed, which is what the integer kernels of x86 multiply. An activation's range
    is the mean of the extremes of each `GROUP` of images: in those of all images, a few outliers take most of the
    steps.

    Raises:
        NasError: ONNX Runtime cannot quantise it.
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    graph = onnx.load_model_from_string(model)
    _pool_by_name(graph)
    name = graph.graph.input[0].name
    batches = _batches(images, GROUP, "reading ranges for ONNX Runtime", progress)

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            batch = next(batches, None)
            return None if batch is None else {name: batch}

    with tempfile.TemporaryDirectory(prefix="nas-") as folder, _quiet():
        given, ready, done = (Path(folder, name) for name in ("given.onnx", "ready.onnx", "done.onnx"))
        given.write_bytes(graph.SerializeToString())
        try:
            quant_pre_process(given, ready, skip_symbolic_shape=True)
            quantize_static(
                ready,
                done,
                Reader(),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                extra_options={"CalibMovingAverage": True},
            )
            return done.read_bytes()
        except Exception as error:  # of protobuf, onnx and ONNX Runtime: kinds of their own
            raise NasError(f"ONNX Runtime could not quantise the network ({_one_line(error)})") from None


def _pool_by_name(model: ModelProto) -> None:
    """Turn the means over maps into global average pools, which ONNX Runtime has in int8: of means it makes float, in
    another order of memory (MobileNetV3-Large: 4.8 ms instead of 5.2)."""
    from onnx.helper import make_node

    nodes = []
    for node in model.graph.node:
        if node.op_type != "ReduceMean":
            nodes.append(node)
        elif any(attribute.name == "keepdims" and attribute.i == 0 for attribute in node.attribute):
            pooled = f"{node.output[0]}_pooled"
            nodes.append(make_node("GlobalAveragePool", node.input[:1], [pooled], name=pooled))
            nodes.append(make_node("Flatten", [pooled], node.output, name=node.name))
        else:
            nodes.append(make_node("GlobalAveragePool", node.input[:1], node.output, name=node.name))
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def int8_pte(network: nn.Module, images: Images, progress: Step | None = None) -> bytes:
    """A network in int8 as an ExecuTorch program for XNNPACK, for one image at a time.

    Ranges are those of `int8_onnx`: the quantiser's own choice, from a histogram of all values, keeps as few classes as
    the extremes of all images do.

    Raises:
        InputError: executorch is not installed.
        NasError: it cannot be quantised.
    """
    import torch

    from nas.network.serialize.executorch import exported, for_xnnpack, lowered, quiet

    batches = _batches(images, 1, "reading ranges for XNNPACK", progress)
    first = next(batches)
    with quiet(), torch.no_grad():
        try:
            program = for_xnnpack(exported(network, first.shape[-1]))
            return lowered(_quantised(program, torch.from_numpy(first), map(torch.from_numpy, batches)))
        except NasError:
            raise
        except Exception as error:  # of torch.export, torchao and executorch: kinds of their own
            raise NasError(f"XNNPACK could not quantise the network ({_one_line(error)})") from None


def _quantised(program: ExportedProgram, first: Tensor, others: Iterable[Tensor]) -> ExportedProgram:
    import torch
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    usual = get_symmetric_quantization_config(is_per_channel=True)
    activation = replace(usual.input_activation, observer_or_fake_quant_ctr=_group_extremes().with_args(eps=2**-12))
    config = replace(usual, input_activation=activation, output_activation=activation)
    observed = prepare_pt2e(program.module(), XNNPACKQuantizer().set_global(config))
    for image in chain((first,), others):
        observed(image)
    return torch.export.export(convert_pt2e(observed), (first,))


def _group_extremes() -> Any:
    """An observer of single images whose range is the mean of the extremes of each `GROUP` of them."""
    import torch
    from torchao.quantization.pt2e import MinMaxObserver

    class GroupExtremes(MinMaxObserver):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.groups: list[tuple[Tensor, Tensor]] = []
            self.seen = 0

        def forward(self, values: Tensor) -> Tensor:
            low, high = torch.aminmax(values.detach())
            if self.seen % GROUP:
                low, high = torch.minimum(low, self.groups[-1][0]), torch.maximum(high, self.groups.pop()[1])
            self.groups.append((low, high))
            self.seen += 1
            self.min_val, self.max_val = (torch.stack(ends).mean() for ends in zip(*self.groups, strict=True))
            return values

    return GroupExtremes


def compared(
    before: Logits, after: Logits, images: Images, num_classes: int, batch: int, progress: Step | None = None
) -> tuple[float | None, float | None, float]:
    """Accuracy on the held-out images before and after, None if the classes are others, and the share of images that
    both put into the same class."""
    chosen: list[list[NDArray[np.int64]]] = [[], []]
    for inputs in _inputs(images.held_out, images, batch, "comparing int8 with float", progress):
        for found, logits in zip(chosen, (before, after), strict=True):
            found.append(logits(inputs).argmax(1))
    one, other = (np.concatenate(found) for found in chosen)
    agreement = float((one == other).mean())
    if images.classes != num_classes:
        return None, None, agreement
    return float((one == images.labels).mean()), float((other == images.labels).mean()), agreement


def _batches(images: Images, batch: int, text: str, progress: Step | None) -> Iterator[NDArray[np.float32]]:
    return _inputs(images.calibration, images, batch, text, progress)


def _inputs(
    pixels: NDArray[np.uint8], images: Images, batch: int, text: str, progress: Step | None
) -> Iterator[NDArray[np.float32]]:
    for start in range(0, len(pixels), batch):
        yield images.to_input(pixels[start : start + batch])
        if progress:
            progress(min(start + batch, len(pixels)), len(pixels), text)


@contextmanager
def _quiet() -> Iterator[None]:
    """The libraries warn, on every run, of their own deprecations and of steps that were taken."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split()):.200}"
