"""The process of an agent that runs models, one at a time. It can be ended at any moment.

It reads tasks from its standard input and writes messages to its standard output, one JSON object a line. A model that
crashes ONNX Runtime, never ends, or takes all memory harms only this process.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from nas.latency.remote.bounds import MAX_ERROR
from nas.latency.remote.check import ModelRefused, check_model
from nas.latency.sampling import sample
from nas.system.measuring_lock import measuring_lock
from nas.system.text import one_line

SIDES = (8, 2048)
MEMORY_SHARE = 0.75  # of the machine's memory
LoadedAnchors = dict[tuple[str, int], Callable[[], object]]  # by file and number of threads


def work() -> None:
    """Answer tasks until the input ends."""
    output = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints must not be mistaken for a message

    def send(message: dict[str, Any]) -> None:
        output.write(json.dumps(message) + "\n")
        output.flush()

    try:
        import onnxruntime
    except Exception as error:
        send({"failed": f"onnxruntime does not load ({one_line(error)}); install it: pip install onnxruntime"})
        return
    _bound_memory()
    versions = {"onnxruntime": onnxruntime.__version__, "numpy": np.__version__, "python": platform.python_version()}
    send({"versions": versions})
    anchors: LoadedAnchors = {}
    for line in sys.stdin:
        send(_answer(json.loads(line), anchors, lambda text: send({"note": text})))


def _answer(task: dict[str, Any], anchors: LoadedAnchors, say: Callable[[str], None]) -> dict[str, Any]:
    """Measure the model of a task in turn with its anchor, which stays loaded for the next task."""
    try:
        anchor = None
        if task["anchor"]:
            key = (task["anchor"], task["threads"])
            if key not in anchors:
                anchors.clear()
                anchors[key] = load_model(_content(task["anchor"]), task["threads"], 1)
            anchor = anchors[key]
        run = load_model(_content(task["model"]), task["threads"], task["batch"])
        with measuring_lock(task["patience_s"], say):
            start = time.perf_counter()
            samples = sample([run], anchor)
            spent_s = time.perf_counter() - start
    except ModelRefused as error:
        return {"refused": one_line(error, MAX_ERROR)}
    except MemoryError:
        return {"refused": "the model needs more memory than this device has; send a smaller one"}
    except Exception as error:  # ONNX Runtime's exceptions share no base class
        return {"refused": one_line(f"ONNX Runtime cannot run this model: {error}", MAX_ERROR)}
    return {"runs": samples.runs, "rounds": samples.rounds, "anchors": samples.anchors, "sampling_s": spent_s}


def _content(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def load_model(model: bytes, threads: int, batch: int) -> Callable[[], object]:
    """A function that runs `model` on `batch` images of noise.

    Raises:
        ModelRefused: the model does not have one float input (N, 3, side, side), or must not be run.
    """
    import onnxruntime

    check_model(model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 4
    options.add_session_config_entry("session.load_model_format", "ONNX")  # otherwise the bytes of the model decide
    try:
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions share no base class
        raise ModelRefused(f"ONNX Runtime cannot read this model: {error}") from None
    inputs = session.get_inputs()
    shape = list(inputs[0].shape) if len(inputs) == 1 else []
    side = shape[-1] if len(shape) == 4 else None
    if not isinstance(side, int) or shape[1:] != [3, side, side] or not SIDES[0] <= side <= SIDES[1]:
        shapes = ", ".join(f"{value.name} {value.shape}" for value in inputs)
        raise ModelRefused(
            f"the model must have one input (N, 3, side, side), side from {SIDES[0]} to {SIDES[1]}; got {shapes}"
        )
    if inputs[0].type != "tensor(float)":
        raise ModelRefused(f"the model's input must be float32, got {inputs[0].type}")
    if isinstance(shape[0], int) and shape[0] != batch:
        raise ModelRefused(f"the model is fixed to batch {shape[0]}, got batch {batch}; export it with an open batch")
    feed = {inputs[0].name: np.random.default_rng(0).standard_normal((batch, 3, side, side), dtype=np.float32)}
    return lambda: session.run(None, feed)


def _bound_memory() -> None:
    """Make a model that needs too much memory fail here, before the system has to end some process."""
    try:
        import resource

        limit = int(MEMORY_SHARE * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")  # if the system ends a process, then this one
    except (ImportError, ValueError, OSError):
        pass  # not Linux: only the bounds of the system apply
