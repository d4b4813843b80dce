"""A network as an ONNX model."""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING

from nas.network.eval_mode import eval_on_one_thread

if TYPE_CHECKING:
    from torch import nn

OPSET = 17
INPUT, OUTPUT = "image", "logits"


def onnx_bytes(network: nn.Module, resolution: int, batch: int | None = 1, traced: int = 1) -> bytes:
    """`network` as an ONNX model: input ``image`` (N, 3, H, W), output ``logits`` (N, classes), both float32.

    The TorchScript-based exporter takes 0.2 s per network, the one based on ``torch.export`` 3 to 5 s. Both models take
    ONNX Runtime the same time, within 1 %.

    Args:
        network: network to export, in evaluation mode; its own mode is restored afterwards.
        resolution: side of the images in pixels, fixed in the model.
        batch: number of images, fixed in the model; None for any number.
        traced: number of images in the trace if `batch` is None. Some networks are exported for this number only.
    """
    import torch

    axes = {INPUT: {0: "batch"}, OUTPUT: {0: "batch"}} if batch is None else None
    images = torch.zeros(traced if batch is None else batch, 3, resolution, resolution)
    file = io.BytesIO()
    with eval_on_one_thread(network), _folded(network), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns that it is the old one
        torch.onnx.export(
            network,
            (images,),
            file,  # type: ignore[arg-type]  # the stub allows only names; the exporter takes any file
            dynamo=False,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_axes=axes,
        )
    return file.getvalue()


def with_labels(model: bytes, labels: Sequence[str]) -> bytes:
    """The model with the names of its outputs in its metadata: ``classes``, a JSON list."""
    import onnx

    graph = onnx.load_model_from_string(model)
    kept = {entry.key: entry.value for entry in graph.metadata_props}
    onnx.helper.set_model_props(graph, kept | {"classes": json.dumps(list(labels))})
    done: bytes = graph.SerializeToString()
    return done


@contextmanager
def _folded(network: nn.Module) -> Iterator[None]:
    """Fold batch norms into the convolutions before them for the duration of the context. The exporter would fold them,
    too, but takes a quarter longer."""
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
