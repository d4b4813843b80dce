"""What runs a network on this host: ONNX Runtime or eager PyTorch, behind one small protocol.

The squeeze of SE stays ``x.mean((2, 3))``: written as a global average pool, ONNX Runtime 1.31 takes as long
(MobileNetV3-Large 6.21 and 6.23 ms, EfficientNet-B0 12.0 and 11.8).
"""

from __future__ import annotations

import io
import json
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from nas.errors import InputError, known
from nas.latency.profiles import BRANCHES, PROFILE_WARM_UP, owner, times_of_parts

if TYPE_CHECKING:
    from torch import nn

OPSET = 17
INPUT, OUTPUT = "image", "logits"
MAX_BATCH = 1024
PROFILE_RUNS = 16


class Prepared(Protocol):
    """A network ready to run."""

    def __call__(self) -> None:
        """Run once, and return when it is done."""
        ...

    def profile(self) -> list[tuple[float, int]]:
        """Time in ms and number of kernels of each of the `part_names`, in order, as they take inside the network.
        At most once."""
        ...


class Runtime(Protocol):
    """A way to run a network. One thread of Python uses it at a time; nothing else should load the machine."""

    name: str

    def version(self) -> str:
        """Of the library; part of every key under which timings are kept."""
        ...

    def prepare(
        self, network: nn.Module, resolution: int, batch: int, threads: int
    ) -> AbstractContextManager[Prepared]:
        """Within the context, `network` can be run on `batch` square images of noise."""
        ...


def part_names(network: nn.Module) -> list[str]:
    """The parts of a built network that are timed on their own, in order of execution: the layers of each block, branch
    by branch (what joins them, such as the addition of a shortcut, belongs to the last), any other row as a whole, and
    the classifier. A network that was not built here has none."""
    from nas.ops import Network

    if not isinstance(network, Network):
        return []
    names: list[str] = []
    for at, row in enumerate(network.get_submodule("features").children()):
        name = f"features.{at}"
        layers = [f"{name}.{inner}.{i}" for inner in BRANCHES for i, _ in enumerate(getattr(row, inner, ()))]
        names += layers or [name]
    return [*names, "classifier"]


def onnx_bytes(network: nn.Module, resolution: int, batch: int | None = 1) -> bytes:
    """`network` as an ONNX model: input ``image`` (N, 3, H, W), output ``logits`` (N, classes), both float32.

    The TorchScript-based exporter takes 0.2 s a network, the one based on ``torch.export`` 3 to 5 s; ONNX Runtime runs
    what they write in the same time, within 1 %.

    Args:
        network: is exported in evaluation mode, and left in the mode it was in.
        resolution: side of the images, fixed in the model.
        batch: number of images; None leaves it open.
    """
    import torch

    axes = {INPUT: {0: "batch"}, OUTPUT: {0: "batch"}} if batch is None else None
    images = torch.zeros(1 if batch is None else batch, 3, resolution, resolution)
    file = io.BytesIO()
    training, threads = network.training, torch.get_num_threads()
    network.eval()
    torch.set_num_threads(1)  # the trace is one image; threads that wait for a busy core made it five times slower
    try:
        with warnings.catch_warnings():
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


def _images(batch: int, resolution: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((batch, 3, resolution, resolution), dtype=np.float32)


class OnnxRuntime:
    """ONNX Runtime's CPU provider, all graph optimisations, operators one after the other."""

    name = "onnxruntime"

    def version(self) -> str:
        import onnxruntime

        return str(onnxruntime.__version__)

    @contextmanager
    def prepare(self, network: nn.Module, resolution: int, batch: int, threads: int) -> Iterator[Prepared]:
        yield _Session(onnx_bytes(network, resolution, batch), part_names(network), _images(batch, resolution), threads)


class _Session:
    def __init__(self, model: bytes, names: list[str], images: np.ndarray, threads: int) -> None:
        self._session = onnx_session(model, threads)
        self._feed = {INPUT: images}
        self._model = model
        self._names, self._threads = names, threads

    def __call__(self) -> None:
        self._session.run(None, self._feed)

    def profile(self) -> list[tuple[float, int]]:
        model, self._model = self._model, b""  # tens of MB that nobody needs any more
        with tempfile.TemporaryDirectory(prefix="nas-profile-") as folder:
            session = onnx_session(model, self._threads, profile_to=Path(folder) / "onnxruntime")
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


class EagerTorch:
    """PyTorch without a compiler, in inference mode."""

    name = "torch"

    def version(self) -> str:
        import torch

        return str(torch.__version__)

    @contextmanager
    def prepare(self, network: nn.Module, resolution: int, batch: int, threads: int) -> Iterator[Prepared]:
        import torch

        before, training = torch.get_num_threads(), network.training
        network.eval()
        torch.set_num_threads(threads)
        try:
            yield _Eager(network, _images(batch, resolution))
        finally:
            torch.set_num_threads(before)
            network.train(training)


class _Eager:
    def __init__(self, network: nn.Module, images: np.ndarray) -> None:
        import torch

        self._network, self._images = network, torch.from_numpy(images)

    def __call__(self) -> None:
        import torch

        with torch.inference_mode():
            self._network(self._images)

    def profile(self) -> list[tuple[float, int]]:
        names = part_names(self._network)
        stamps: list[float] = []

        def note(*_: object) -> None:
            stamps.append(perf_counter())

        modules = [self._network.get_submodule(name) for name in names]
        hooks = [module.register_forward_pre_hook(note) for module in modules]
        hooks += [module.register_forward_hook(note) for module in modules]
        taken: list[np.ndarray] = []
        try:
            for _ in range(PROFILE_WARM_UP + PROFILE_RUNS):
                stamps.clear()
                self()
                taken.append(np.diff([*stamps, perf_counter()]) * 1e3)
        finally:
            for hook in hooks:
                hook.remove()
        inside, after = np.median(taken[PROFILE_WARM_UP:], axis=0).reshape(-1, 2).T
        spent = dict(zip(names, inside.tolist(), strict=True))
        for name, ms in zip(names, after.tolist(), strict=True):  # between parts a row joins its branches
            row = ".".join(name.split(".")[:2]) if name.startswith("features.") else name
            spent[name if name == row else owner(row, names)] += ms
        return [(ms, 1) for ms in spent.values()]


RUNTIMES: dict[str, Runtime] = {runtime.name: runtime for runtime in (OnnxRuntime(), EagerTorch())}


def runtime_of(name: str) -> Runtime:
    """The runtime of that name.

    Raises:
        InputError: it is unknown; the text lists the known ones.
    """
    if name not in RUNTIMES:
        raise InputError(f"no runtime is called {name!r}; {known(RUNTIMES)}")
    return RUNTIMES[name]
