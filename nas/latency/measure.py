"""Measures how long a network takes on this host: the median of many runs, with its spread and circumstances."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from nas.arch.arch import MAX_RESOLUTION, Arch
from nas.latency.anchor import AnchorRuns, Anchors, baseline_ms, baseline_state, known_baseline_state
from nas.latency.isolation import isolated
from nas.latency.record import FLOAT32, Latency
from nas.latency.runtimes.base import MAX_BATCH, check_dtype, runtime_of
from nas.latency.runtimes.onnxruntime import onnx_session
from nas.latency.sampling import GOAL, Run, Samples, sample
from nas.references.external import LibraryNetwork, at_resolution, takes_its_images
from nas.system.errors import InputError, NasError
from nas.system.machine import host, usable_cores
from nas.system.text import one_line
from nas.system.validate import whole_number

LOADS = 3  # of one network, each into its own memory
LOADED_BYTES = 128 << 20  # weights of all loads together
DISTURBED = 0.08  # drift beyond which the correction leaves a few percent of doubt


def measure(
    arch: Arch | LibraryNetwork,
    runtime: str = "onnxruntime",
    threads: int = 1,
    batch: int = 1,
    *,
    num_classes: int = 1000,
    keep_samples: bool = False,
    resolution: int | None = None,
    dtype: str = FLOAT32,
) -> Latency:
    """Build a network with random weights, run it on this host and time it.

    A mobile network takes two to five seconds; a slow one takes about ten runs. ``torch-compile`` and ``executorch``
    take 10 to 60 s more to compile the network and the anchor. No other measurement runs on the machine meanwhile.
    `Latency.ms` is corrected for background load; `Latency.drift` reports the correction.

    Args:
        arch: network to time. A library's network (`nas.references.external.library_network`) is built already and
            keeps its own number of classes.
        runtime: ``onnxruntime``, ``torch`` (eager), ``torch-compile``, ``executorch`` (XNNPACK) or ``openvino``.
        threads: number of threads inside an operator; at most the cores this process may use.
        batch: images per pass.
        num_classes: number of outputs of the classifier.
        keep_samples: whether the result holds the time of every run.
        resolution: side of the images in pixels; None is the network's own.
        dtype: type of weights and arithmetic: ``float32``, or another one that the runtime computes in. The anchors
            stay in float32.

    Raises:
        InputError: the runtime is unknown, not installed, or does not compute in `dtype`; a number is out of bounds;
            or a library's network does not take images of this size.

    >>> import nas
    >>> latency = nas.measure(nas.reference("mobilenet_v3_small", width=0.5, resolution=96))
    >>> latency.source, latency.runtime, latency.threads, latency.ms > 0
    ('measured', 'onnxruntime', 1, True)
    """
    from nas.network.build import build

    runner = runtime_of(runtime)
    check_load(threads, batch)
    check_dtype(runtime, runner.dtypes, dtype)
    sized = at_resolution(arch, resolution)
    network = sized.network if isinstance(sized, LibraryNetwork) else build(sized, num_classes)
    with takes_its_images(sized) if isinstance(sized, LibraryNetwork) else nullcontext():
        load, anchored = runner.prepare(network, sized.resolution, batch, threads, dtype), Anchors(runner, threads)
        times = _loads(sum(tensor.numel() * tensor.element_size() for tensor in network.parameters()))
        with isolated(threads), anchored as anchors, ExitStack() as stack:
            runs = [stack.enter_context(load) for _ in range(times)]
            latency = timed(runs, anchors, runtime, threads, batch, keep_samples)
    other = sized.resolution if sized.resolution != arch.resolution else None
    return replace(latency, dtype=dtype, resolution=other)


def measure_onnx(model: bytes | Path, threads: int = 1, batch: int = 1, *, keep_samples: bool = False) -> Latency:
    """Time an ONNX model with ONNX Runtime.

    It must have one float32 image input of shape (N, 3, side, side), where N may be open. Inside it may be int8.

    Raises:
        InputError: ONNX Runtime cannot read the model, its input is of another kind, or a number is out of bounds.
    """
    check_load(threads, batch)
    if isinstance(model, Path) and not model.is_file():
        raise InputError(f"no such file: {model}; give an exported .onnx file")
    with isolated(threads):  # before the session, whose threads inherit the cores
        return _measured_onnx(model, threads, batch, keep_samples)


def _measured_onnx(model: bytes | Path, threads: int, batch: int, keep_samples: bool) -> Latency:
    inputs = onnx_session(model, threads).get_inputs()
    shape = list(inputs[0].shape) if len(inputs) == 1 else []
    side = shape[-1] if len(shape) == 4 else None
    if not isinstance(side, int) or shape[1:] != [3, side, side] or not 8 <= side <= MAX_RESOLUTION:
        shapes = ", ".join(f"{each.name} {each.shape}" for each in inputs)
        raise InputError(
            f"the model must have one input (N, 3, side, side), side from 8 to {MAX_RESOLUTION}, got {shapes:.200}"
        )
    if inputs[0].type != "tensor(float)":
        raise InputError(f"the model's input must be float32, got {inputs[0].type}; export it with float32 images")
    if isinstance(shape[0], int) and shape[0] != batch:
        raise InputError(
            f"the model was exported for batch {shape[0]}, got batch {batch}; export it with an open batch"
        )
    images = np.random.default_rng(0).standard_normal((batch, 3, side, side), dtype=np.float32)
    feed = {inputs[0].name: images}
    runtime = runtime_of("onnxruntime")
    size = len(model) if isinstance(model, bytes) else model.stat().st_size
    # The anchors are loaded first, as in `measure`: loaded after the network, they made it 1 % slower.
    with Anchors(runtime, threads) as anchors:
        runs = [partial(onnx_session(model, threads).run, None, feed) for _ in range(_loads(size))]
        try:
            return timed(runs, anchors, runtime.name, threads, batch, keep_samples)
        except NasError:
            raise
        except Exception as error:  # onnxruntime's errors share no base
            raise InputError(f"ONNX Runtime cannot run this model: {one_line(error)}; export it again") from None


def measure_pte(model: bytes | Path, threads: int = 1, *, keep_samples: bool = False) -> Latency:
    """Time a ``.pte`` program with ExecuTorch.

    It must have one float32 image input of shape (N, 3, side, side), where N is the file's own. Inside it may be int8.
    The program runs once in a separate process first, because a damaged file may end the process that runs it.

    Raises:
        InputError: ExecuTorch is not installed or cannot run the program, its input is of another kind, or `threads`
            is out of bounds.
    """
    runtime = runtime_of("executorch")
    check_load(threads, 1)
    from nas.latency.runtimes.executorch import Program, program_bytes, program_images
    from nas.latency.runtimes.pte_check import checked_shape

    content = program_bytes(model)
    shape = checked_shape(content)
    if len(shape) != 4 or shape[1] != 3 or shape[2] != shape[3] or not 8 <= shape[3] <= MAX_RESOLUTION:
        raise InputError(
            f"the program must have one input (N, 3, side, side), side from 8 to {MAX_RESOLUTION}, got {shape}"
        )
    check_load(threads, shape[0])
    images, anchored = program_images(shape[0], shape[3]), Anchors(runtime, threads)
    with isolated(threads), anchored as anchors:
        programs = [Program(content, threads, here=True) for _ in range(_loads(len(content)))]
        runs = [partial(program, images) for program in programs]
        return timed(runs, anchors, runtime.name, threads, shape[0], keep_samples)


def _loads(size: int) -> int:
    """How often to load a network of `size` bytes.

    Where it lies in memory matters: six loads of MobileNetV3-Large, run in turn for minutes, took 6.27 to 6.40 ms, each
    its own time. The median over several loads estimates the time of the next one.
    """
    return max(1, min(LOADS, LOADED_BYTES // max(size, 1)))


def check_load(threads: int, batch: int) -> None:
    """Raises `InputError` unless both are whole numbers within bounds."""
    whole_number("threads", threads, high=usable_cores())
    whole_number("batch", batch, high=MAX_BATCH)


def timed(
    runs: Sequence[Run], anchors: AnchorRuns, runtime: str, threads: int, batch: int, keep_samples: bool = False
) -> Latency:
    """The latency of a network, loaded once or several times and run in turn with the anchors."""
    here = (host(), runtime, runtime_of(runtime).version(), threads)
    known_state = known_baseline_state(*here) if anchors.far else None
    samples = sample(runs, anchors.near, far=anchors.far, baseline_state=known_state)
    ms = baseline_ms(samples.anchor_ms, *here)
    state = baseline_state(samples.state, *here) if anchors.far else 1.0
    about = {"device": host(), "runtime": runtime, "threads": threads, "batch": batch}
    return latency_from_samples(samples, ms, state, **about, keep_samples=keep_samples)  # type: ignore[arg-type]


def latency_from_samples(
    samples: Samples,
    baseline_ms: float,
    baseline_state: float = 1.0,
    *,
    device: str,
    runtime: str,
    threads: int,
    batch: int,
    keep_samples: bool = False,
) -> Latency:
    """The median of the quotients of network and anchor, times the anchor's baseline, in the baseline state."""
    rounds_ms = samples.at_baseline(baseline_ms, baseline_state)
    quartiles = np.quantile(rounds_ms, [0.25, 0.75])
    ms = float(np.median(rounds_ms))
    drift = float(np.median(samples.rounds)) * 1e3 / ms - 1
    half_width = samples.half_width(baseline_state)
    return Latency(
        ms=ms,
        iqr_ms=float(quartiles[1] - quartiles[0]),
        runs=len(samples.runs),
        device=device,
        runtime=runtime,
        threads=threads,
        batch=batch,
        source="measured",
        warning=_warning(half_width, drift),
        drift=drift,
        samples_ms=tuple(1e3 * seconds for seconds in samples.runs) if keep_samples else None,
        half_width=half_width,
    )


def _warning(half_width: float, drift: float) -> str | None:
    if half_width > GOAL:
        return f"noisy machine: the median is known to ±{half_width:.1%} only, not ±{GOAL:.0%}"
    if drift > DISTURBED:
        return (
            f"noisy machine: everything took {drift:.0%} longer than the baseline; the latency is corrected, but not "
            "exactly"
        )
    if drift < -DISTURBED:
        return (
            f"noisy machine: everything took {-drift:.0%} less than the baseline of the last week; the latency is that "
            "of the slower hours"
        )
    return None
