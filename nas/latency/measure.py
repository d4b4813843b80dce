"""How long a network takes on this host: a distribution, of which median, spread and circumstances are told."""

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

LOADS = 3  # of one network, into memory of its own each time
LOADED_BYTES = 128 << 20  # of weights in all of them
DISTURBED = 0.08  # drift beyond which taking it out leaves more than a few percent of doubt


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
    """Build `arch`, run it on this host and time it: two to five seconds for a mobile network, and about ten runs of a
    slow one. ``torch-compile`` and ``executorch`` take 10 to 60 s more to compile the network and the anchor.

    Nothing else is measured on the machine meanwhile, the thread is kept on the calmest cores, and anchor networks are
    run in turn (`nas.latency.sampling`): `Latency.ms` is what the network takes while the anchors take their usual
    time.

    Args:
        arch: what to time; weights are random, which does not matter for dense arithmetic. A library's network is built
            already (`nas.references.external.library_network`), with its own number of classes.
        runtime: ``onnxruntime``, ``torch`` (eager), ``torch-compile``, ``executorch`` (XNNPACK), ``openvino``.
        threads: inside an operator; at most the cores this process may use.
        batch: images per pass.
        num_classes: outputs of the classifier.
        keep_samples: whether the result holds every run.
        resolution: side of the images in pixels; None is the network's own.
        dtype: of weights and arithmetic: ``float32``, or what else the runtime really computes in. The anchor stays in
            float32.

    Raises:
        InputError: unknown runtime, one that is not installed or does not compute in `dtype`, a number out of bounds,
            or a library's network that does not take images of this size.
    """
    from nas.network.build import build

    runner = runtime_of(runtime)
    check_load(threads, batch)
    check_dtype(runtime, runner.dtypes, dtype)
    sized = at_resolution(arch, resolution)
    network = sized.network if isinstance(sized, LibraryNetwork) else build(sized, num_classes)
    with takes_its_images(sized) if isinstance(sized, LibraryNetwork) else nullcontext():
        load, anchored = runner.prepare(network, sized.resolution, batch, threads, dtype), Anchors(runner, threads)
        times = _loads(sum(one.numel() * one.element_size() for one in network.parameters()))
        with isolated(threads), anchored as held, ExitStack() as stack:
            runs = [stack.enter_context(load) for _ in range(times)]
            found = timed(runs, held, runtime, threads, batch, keep_samples)
    other = sized.resolution if sized.resolution != arch.resolution else None
    return replace(found, dtype=dtype, resolution=other)


def measure_onnx(model: bytes | Path, threads: int = 1, batch: int = 1, *, keep_samples: bool = False) -> Latency:
    """Time an ONNX model of one image input (N, 3, side, side), float32, with ONNX Runtime; N may be open, and what is
    inside may be int8.

    Raises:
        InputError: not a model ONNX Runtime reads, another kind of input, or a number out of bounds.
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
        shapes = ", ".join(f"{one.name} {one.shape}" for one in inputs)
        raise InputError(
            f"the model must have one input (N, 3, side, side), side from 8 to {MAX_RESOLUTION}; got {shapes:.200}"
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
    with Anchors(runtime, threads) as held:  # loaded first, as in `measure`: after the network, it came out 1 % slower
        runs = [partial(onnx_session(model, threads).run, None, feed) for _ in range(_loads(size))]
        try:
            return timed(runs, held, runtime.name, threads, batch, keep_samples)
        except NasError:
            raise
        except Exception as error:  # of onnxruntime: kinds of its own, which share no base
            text = " ".join(str(error).split())
            raise InputError(f"ONNX Runtime cannot run this model: {text:.200}") from None


def measure_pte(model: bytes | Path, threads: int = 1, *, keep_samples: bool = False) -> Latency:
    """Time a ``.pte`` program of one float32 image input (N, 3, side, side) with ExecuTorch; N is the file's own, and
    what is inside may be int8. It is run once in a process of its own first, which a damaged file may end.

    Raises:
        InputError: ExecuTorch is not installed, not a program it runs, another kind of input, or `threads` out of
            bounds.
    """
    runtime = runtime_of("executorch")
    check_load(threads, 1)
    from nas.latency.runtimes.executorch import Program, program_bytes, program_images
    from nas.latency.runtimes.pte_check import checked_shape

    content = program_bytes(model)
    shape = checked_shape(content)
    if len(shape) != 4 or shape[1] != 3 or shape[2] != shape[3] or not 8 <= shape[3] <= MAX_RESOLUTION:
        raise InputError(
            f"the program must have one input (N, 3, side, side), side from 8 to {MAX_RESOLUTION}; got {shape}"
        )
    check_load(threads, shape[0])
    images, anchored = program_images(shape[0], shape[3]), Anchors(runtime, threads)
    with isolated(threads), anchored as held:
        programs = [Program(content, threads, here=True) for _ in range(_loads(len(content)))]
        runs = [partial(program, images) for program in programs]
        return timed(runs, held, runtime.name, threads, shape[0], keep_samples)


def _loads(size: int) -> int:
    """How often a network of so many bytes is loaded to be measured: six loads of MobileNetV3-Large, run in turn for
    minutes, took 6.27 to 6.40 ms, each its own time. The median over several is what to expect of one."""
    return max(1, min(LOADS, LOADED_BYTES // max(size, 1)))


def check_load(threads: int, batch: int) -> None:
    """Raises `InputError` unless both are whole numbers within bounds."""
    for name, value, high in (("threads", threads, usable_cores()), ("batch", batch, MAX_BATCH)):
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= high:
            raise InputError(f"{name} must be a whole number from 1 to {high}, got {value!r}")


def timed(
    runs: Sequence[Run], held: AnchorRuns, runtime: str, threads: int, batch: int, keep_samples: bool = False
) -> Latency:
    """The latency of a network loaded once or several times, timed in turn with the anchors."""
    here = (host(), runtime, runtime_of(runtime).version(), threads)
    found = sample(runs, held.near, far=held.far, baseline_state=known_baseline_state(*here) if held.far else None)
    usual = baseline_ms(found.anchor_ms, *here)
    state = baseline_state(found.state, *here) if held.far else 1.0
    about = {"device": host(), "runtime": runtime, "threads": threads, "batch": batch}
    return latency_from_samples(found, usual, state, **about, keep_samples=keep_samples)  # type: ignore[arg-type]


def latency_from_samples(
    found: Samples,
    baseline_ms: float,
    baseline_state: float = 1.0,
    *,
    device: str,
    runtime: str,
    threads: int,
    batch: int,
    keep_samples: bool = False,
) -> Latency:
    """What samples say: the median of the quotients, times what the anchor usually takes, in the usual state."""
    rounds_ms = found.at_baseline(baseline_ms, baseline_state)
    quartiles = np.quantile(rounds_ms, [0.25, 0.75])
    ms = float(np.median(rounds_ms))
    drift = float(np.median(found.rounds)) * 1e3 / ms - 1
    half_width = found.half_width(baseline_state)
    return Latency(
        ms=ms,
        iqr_ms=float(quartiles[1] - quartiles[0]),
        runs=len(found.runs),
        device=device,
        runtime=runtime,
        threads=threads,
        batch=batch,
        source="measured",
        warning=_warning(half_width, drift),
        drift=drift,
        samples_ms=tuple(1e3 * seconds for seconds in found.runs) if keep_samples else None,
        half_width=half_width,
    )


def _warning(half_width: float, drift: float) -> str | None:
    if half_width > GOAL:
        return f"noisy machine: the median is known to ±{half_width:.1%} only, not ±{GOAL:.0%}"
    if drift > DISTURBED:
        return f"noisy machine: everything took {drift:.0%} longer than usual; that is taken out, but not exactly"
    if drift < -DISTURBED:
        return (
            f"noisy machine: everything took {-drift:.0%} less than what measurements of the last week call usual; the "
            "figure is that of those slower hours"
        )
    return None
