"""The process of an agent that runs models: one at a time, in a memory of its own, to be ended at any moment.

It reads tasks from its standard input and writes answers to its standard output, one JSON object a line. A model that
crashes ONNX Runtime, never ends, or takes all memory takes this process with it and nothing else.
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
from nas.latency.remote.check import Refused, check_model
from nas.latency.sampling import sample
from nas.system.measuring_lock import measuring_lock
from nas.system.text import one_line

SIDES = (8, 2048)
MEMORY_SHARE = 0.75  # of the machine's


def work() -> None:
    """Answer tasks until the input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints must not be taken for an answer

    def tell(answer: dict[str, Any]) -> None:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    try:
        import onnxruntime
    except Exception as error:
        tell({"failed": f"onnxruntime does not load ({one_line(error)}); install it: pip install onnxruntime"})
        return
    _bound_memory()
    versions = {"onnxruntime": onnxruntime.__version__, "numpy": np.__version__, "python": platform.python_version()}
    tell({"versions": versions})
    kept: dict[tuple[str, int], Callable[[], object]] = {}
    for line in sys.stdin:
        tell(_answer(json.loads(line), kept, lambda text: tell({"note": text})))


def _answer(
    task: dict[str, Any], kept: dict[tuple[str, int], Callable[[], object]], say: Callable[[str], None]
) -> dict[str, Any]:
    """Measure the model of a task beside its anchor, which stays ready for the next."""
    try:
        anchor = None
        if task["anchor"]:
            place = (task["anchor"], task["threads"])
            if place not in kept:
                kept.clear()
                kept[place] = prepared(_content(task["anchor"]), task["threads"], 1)
            anchor = kept[place]
        run = prepared(_content(task["model"]), task["threads"], task["batch"])
        with measuring_lock(task["patience_s"], say):
            begun = time.perf_counter()
            found = sample([run], anchor)
            spent_s = time.perf_counter() - begun
    except Refused as error:
        return {"refused": one_line(error, MAX_ERROR)}
    except MemoryError:
        return {"refused": "the model takes more memory than this device has"}
    except Exception as error:  # whatever ONNX Runtime raises while a model runs; its kinds share no base
        return {"refused": one_line(f"ONNX Runtime cannot run this model: {error}", MAX_ERROR)}
    return {"runs": found.runs, "rounds": found.rounds, "anchors": found.anchors, "sampling_s": spent_s}


def _content(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def prepared(model: bytes, threads: int, batch: int) -> Callable[[], object]:
    """`model` ready to run on `batch` images of noise.

    Raises:
        Refused: not a model of one float image input (N, 3, side, side), or one that is not run here.
    """
    import onnxruntime

    check_model(model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 4
    options.add_session_config_entry("session.load_model_format", "ONNX")  # else the model's own bytes decide
    try:
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises its own kinds, which share no base
        raise Refused(f"ONNX Runtime cannot read this model: {error}") from None
    inputs = session.get_inputs()
    shape = list(inputs[0].shape) if len(inputs) == 1 else []
    side = shape[-1] if len(shape) == 4 else None
    if not isinstance(side, int) or shape[1:] != [3, side, side] or not SIDES[0] <= side <= SIDES[1]:
        shapes = ", ".join(f"{one.name} {one.shape}" for one in inputs)
        raise Refused(
            f"the model must have one input (N, 3, side, side), side from {SIDES[0]} to {SIDES[1]}; got {shapes}"
        )
    if inputs[0].type != "tensor(float)":
        raise Refused(f"the model's input must be float32, got {inputs[0].type}")
    if isinstance(shape[0], int) and shape[0] != batch:
        raise Refused(f"the model was exported for batch {shape[0]}, got batch {batch}; export it with an open batch")
    feed = {inputs[0].name: np.random.default_rng(0).standard_normal((batch, 3, side, side), dtype=np.float32)}
    return lambda: session.run(None, feed)


def _bound_memory() -> None:
    """A model that asks for more than the machine has is told so, before the system has to end some process."""
    try:
        import resource

        most = int(MEMORY_SHARE * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")  # if one must go, then this one
    except (ImportError, ValueError, OSError):
        pass  # not Linux: the system's own bounds hold
