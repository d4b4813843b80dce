"""int8 after training: weights and activations in 8 bits, with ranges set from images, and the accuracy this costs.

Each runtime has its own form: ONNX Runtime takes a model with QuantizeLinear and DequantizeLinear around its operators
(QDQ), XNNPACK a program that was quantised before it was lowered. In both, weights have one scale per output channel,
which the depthwise kernels of mobile networks need, and activations one per tensor.
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
from nas.system.progress import Step, no_step
from nas.system.text import one_line

if TYPE_CHECKING:
    from onnx import ModelProto
    from torch import Tensor, nn
    from torch.export import ExportedProgram

BATCH = 16  # images at once, if a file takes several
GROUP = 4  # images in a group; a range is the mean of the extremes of the groups
LEAST_IMAGES = 8

Logits = Callable[[NDArray[np.float32]], NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class Int8Images:
    """The images that a network is quantised with and evaluated on.

    Args:
        name: name of the data, to show.
        classes: number of classes; labels are below it.
        range_images: uint8 (N, S, S, 3), RGB; they set the ranges of activations.
        held_out: uint8 (M, S, S, 3), RGB; none of them sets a range.
        labels: int64 (M,), labels of `held_out`.
        to_input: turns uint8 (B, S, S, 3) into the network's input, float32 (B, 3, side, side).
        normalisation: how `to_input` scales pixels, to show.
        note: what a reader of the accuracy must know; None if nothing.
        class_names: names of the classes, in the order of the labels; empty if unknown.

    Raises:
        InputError: fewer than 8 images of either kind, or labels that do not match the images.
    """

    name: str
    classes: int
    range_images: NDArray[np.uint8]
    held_out: NDArray[np.uint8]
    labels: NDArray[np.int64]
    to_input: Callable[[NDArray[np.uint8]], NDArray[np.float32]]
    normalisation: str
    note: str | None = None
    class_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for what, images in (("training", self.range_images), ("held-out", self.held_out)):
            if len(images) < LEAST_IMAGES:
                raise InputError(f"int8 needs at least {LEAST_IMAGES} {what} images, got {len(images)}; give more")
        if len(self.labels) != len(self.held_out):
            count, labels = len(self.held_out), len(self.labels)
            raise InputError(f"{count} held-out images have {labels} labels; give one label per image")

    def __str__(self) -> str:
        counts = f"ranges from {len(self.range_images)} training images, accuracy on {len(self.labels)} held-out images"
        return f"{self.name}: {counts}; {self.normalisation}" + (f"; {self.note}" if self.note else "")


@dataclass(frozen=True, slots=True)
class Quantised:
    """An int8 file compared with the float file of the same runtime ("before").

    Args:
        file: path of the int8 file.
        runtime: runtime of both files.
        accuracy_before: share of held-out images that the float file classifies correctly; None if the images have
            another number of classes than the network.
        accuracy_after: the same for the int8 file.
        agreement: share of held-out images for which both files predict the same class.
        images: number of held-out images.
        int8_images: number of images that set the ranges.
        latency_before: latency of the float file for one image; None if it was not timed.
        latency_after: the same for the int8 file.
        bytes_before: size of the float file.
        bytes_after: size of the int8 file.
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


def int8_onnx(model: bytes, images: Int8Images, progress: Step = no_step) -> bytes:
    """Quantise a model of `onnx_bytes` for ONNX Runtime; its input and output stay float32.

    Activations are unsigned and weights signed: the integer kernels of x86 multiply these. The range of an activation
    is the mean of the extremes of groups of `GROUP` images: in the extremes of all images, a few outliers would take
    most of the 256 steps.

    Raises:
        NasError: ONNX Runtime cannot quantise the model.
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    graph = onnx.load_model_from_string(model)
    _pool_by_name(graph)
    name = graph.graph.input[0].name
    batches = _inputs(images.range_images, images, GROUP, "setting ranges for ONNX Runtime", progress)

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            batch = next(batches, None)
            return None if batch is None else {name: batch}

    with tempfile.TemporaryDirectory(prefix="nas-") as folder, _quiet():
        original, ready, done = (Path(folder, name) for name in ("original.onnx", "ready.onnx", "done.onnx"))
        original.write_bytes(graph.SerializeToString())
        try:
            quant_pre_process(original, ready, skip_symbolic_shape=True)
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
        except Exception as error:  # protobuf, onnx and ONNX Runtime have their own types
            raise NasError(f"ONNX Runtime cannot quantise the network ({_kind_and_text(error)})") from None


def _pool_by_name(model: ModelProto) -> None:
    """Replace means over feature maps by global average pools, which ONNX Runtime computes in int8. It computes means
    in float and in another memory layout (MobileNetV3-Large: 5.2 ms instead of 4.8)."""
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


def int8_pte(network: nn.Module, images: Int8Images, progress: Step = no_step) -> bytes:
    """Quantise a network and write it as an ExecuTorch program for XNNPACK, for one image at a time.

    Ranges are set as in `int8_onnx`. The quantiser's default, a histogram of all values, keeps the class of as few
    images as the extremes of all images do (docs/export.md).

    Raises:
        InputError: ExecuTorch is not installed.
        NasError: the network cannot be quantised.
    """
    import torch

    from nas.network.serialize.executorch import exported, for_xnnpack, lowered, quiet

    batches = _inputs(images.range_images, images, 1, "setting ranges for XNNPACK", progress)
    first = next(batches)
    with quiet(), torch.no_grad():
        try:
            program = for_xnnpack(exported(network, first.shape[-1]))
            return lowered(_quantised(program, torch.from_numpy(first), map(torch.from_numpy, batches)))
        except NasError:
            raise
        except Exception as error:  # torch.export, torchao and executorch have their own types
            raise NasError(f"XNNPACK cannot quantise the network ({_kind_and_text(error)})") from None


def _quantised(program: ExportedProgram, first: Tensor, others: Iterable[Tensor]) -> ExportedProgram:
    import torch
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    default = get_symmetric_quantization_config(is_per_channel=True)
    observer = _group_extremes().with_args(eps=2**-12)
    activation = replace(default.input_activation, observer_or_fake_quant_ctr=observer)
    config = replace(default, input_activation=activation, output_activation=activation)
    observed = prepare_pt2e(program.module(), XNNPACKQuantizer().set_global(config))
    for image in chain((first,), others):
        observed(image)
    return torch.export.export(convert_pt2e(observed), (first,))


def _group_extremes() -> Any:
    """An observer of single images; its range is the mean of the extremes of groups of `GROUP` images."""
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
    before: Logits, after: Logits, images: Int8Images, num_classes: int, batch: int, progress: Step = no_step
) -> tuple[float | None, float | None, float]:
    """Compare two networks on the held-out images.

    Returns:
        Accuracy of `before` and of `after`, both None if the images do not have `num_classes` classes, and the share of
        images for which both predict the same class.
    """
    predicted: tuple[list[NDArray[np.int64]], list[NDArray[np.int64]]] = ([], [])
    for inputs in _inputs(images.held_out, images, batch, "comparing int8 with float", progress):
        for classes, logits in zip(predicted, (before, after), strict=True):
            classes.append(logits(inputs).argmax(1))
    first, second = (np.concatenate(classes) for classes in predicted)
    agreement = float((first == second).mean())
    if images.classes != num_classes:
        return None, None, agreement
    return float((first == images.labels).mean()), float((second == images.labels).mean()), agreement


def _inputs(
    pixels: NDArray[np.uint8], images: Int8Images, batch: int, text: str, progress: Step
) -> Iterator[NDArray[np.float32]]:
    for start in range(0, len(pixels), batch):
        yield images.to_input(pixels[start : start + batch])
        progress(min(start + batch, len(pixels)), len(pixels), text)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the libraries, which on every run warn about their own deprecations and report every step."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _kind_and_text(error: Exception) -> str:
    return one_line(f"{type(error).__name__}: {error}")
