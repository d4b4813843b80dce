"""An agent in a separate process, and models to send to it."""

from __future__ import annotations

import http.client
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
import psutil
from onnx import TensorProto, helper, numpy_helper

from nas.latency.remote.agent_file import agent_source

TOKEN = "a token that nobody guesses".replace(" ", "-")
LIMIT_S = 3
BLOCKER = """
import sys

class _Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("nas", "torch", "ray", "onnx", "psutil", "optuna"):
            raise ImportError("not on this device: " + name)

sys.meta_path.insert(0, _Blocked())
"""


class RunningAgent:
    """The written file under a Python that finds numpy and onnxruntime alone, with short limits for quick tests.

    Args:
        folder: where its file, its log and its temporary files are.
        changes: texts of the file to replace, by the texts to replace them with.
    """

    def __init__(self, folder: Path, changes: Mapping[str, str] = MappingProxyType({})) -> None:
        source = agent_source()
        for old, new in (
            ("from __future__ import annotations\n", f"from __future__ import annotations\n{BLOCKER}"),
            ("HEAD_S, HEAD_BYTES = 8.0,", "HEAD_S, HEAD_BYTES = 1.0,"),
            ("IDLE_S, BODY_S = 10.0, 180.0", "IDLE_S, BODY_S = 1.5, 4.0"),
            ("MAX_SECONDS = 4.0", "MAX_SECONDS = 0.5"),
            ("MIN_SECONDS = 0.3", "MIN_SECONDS = 0.1"),
            ("\nGOAL = 0.01", "\nGOAL = 0.05"),
            ("WARM_UP_SECONDS = 0.75", "WARM_UP_SECONDS = 0.2"),
            ("POLL_S = 0.25", "POLL_S = 0.05"),
            ("DRAIN_S, DRAIN_BYTES = 2.0,", "DRAIN_S, DRAIN_BYTES = 0.3,"),
            *changes.items(),
        ):
            assert source.count(old) == 1, old
            source = source.replace(old, new)
        self.path, self.log = folder / "agent.py", folder / "log"
        self.path.write_text(source)
        options = ["--port", "0", "--limit", str(LIMIT_S), "--max-mb", "32", "--name", "test bench"]
        self.process = subprocess.Popen(
            [sys.executable, "-I", str(self.path), *options],
            stdout=subprocess.PIPE,
            stderr=self.log.open("w"),
            env=os.environ | {"NAS_AGENT_TOKEN": TOKEN, "TMPDIR": str(folder), "OMP_NUM_THREADS": "1"},
            text=True,
        )
        assert self.process.stdout is not None
        self.greeting = self.process.stdout.readline()
        self.port = int(re.findall(r":(\d+)$", self.greeting.strip())[0])
        self.url = f"http://127.0.0.1:{self.port}"

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(10)

    def request(
        self, method: str, path: str, body: bytes | None = None, token: str | None = TOKEN, **headers: str
    ) -> tuple[int, dict[str, Any], dict[str, str]]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        sent = {"Authorization": f"Bearer {token}"} if token is not None else {}
        try:
            connection.request(method, path, body, sent | headers)
            response = connection.getresponse()
            return response.status, json.loads(response.read()), dict(response.getheaders())
        finally:
            connection.close()

    def answers(self) -> bool:
        return self.request("GET", "/v1/device")[0] == 200

    def measures(self) -> bool:
        return self.request("POST", "/v1/measure", small_model())[0] == 200

    def workers(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def rss(self) -> int:
        return int(psutil.Process(self.process.pid).memory_info().rss)

    def spooled(self) -> list[Path]:
        """The bodies it keeps as files, without the anchor."""
        files = self.path.parent.glob("nas-agent-*/*")
        return [file for file in files if not re.fullmatch("[0-9a-f]{64}", file.name)]


def eventually(condition: Callable[[], object], patience_s: float = 20) -> bool:
    """Whether a condition becomes true; it is checked again and again."""
    deadline = time.monotonic() + patience_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def model_of(
    nodes: list[onnx.NodeProto],
    weights: dict[str, np.ndarray],
    shape: tuple[str | int, ...] = ("N", 3, 32, 32),
    kind: int = TensorProto.FLOAT,
    more_inputs: int = 0,
) -> onnx.ModelProto:
    """A model of `nodes` from ``x`` to ``y``."""
    inputs = [helper.make_tensor_value_info(name, kind, shape) for name in ("x", "x2")[: 1 + more_inputs]]
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "g", inputs, [output], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def small_model(channels: int = 8) -> bytes:
    weights = {"w": np.ones((channels, 3, 3, 3), np.float32)}
    return bytes(model_of([helper.make_node("Conv", ["x", "w"], ["y"])], weights).SerializeToString())


def endless_model() -> bytes:
    """A loop that runs for years."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["going"], ["go"]),
            helper.make_node("Sin", ["before"], ["after"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("at", TensorProto.INT64, []),
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            helper.make_tensor_value_info("before", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("after", TensorProto.FLOAT, None),
        ],
    )
    loop = helper.make_node("Loop", ["count", "true", "x"], ["y"], body=body)
    weights = {"count": np.array(2**60, np.int64), "true": np.array(True)}
    return bytes(model_of([loop], weights).SerializeToString())


def hungry_model() -> bytes:
    """A few bytes that require a terabyte of memory."""
    nodes = [
        helper.make_node("ConstantOfShape", ["shape"], ["large"]),
        helper.make_node("Add", ["large", "large"], ["doubled"]),
        helper.make_node("ReduceSum", ["doubled"], ["sum"], keepdims=0),
        helper.make_node("Add", ["x", "sum"], ["y"]),
    ]
    return bytes(model_of(nodes, {"shape": np.array([2**38], np.int64)}).SerializeToString())


def external_model(folder: Path) -> bytes:
    """A model with weights in another file, which exists."""
    (folder / "weights.bin").write_bytes(np.ones(216, np.float32).tobytes())
    model = onnx.load_from_string(small_model())
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", str(folder / "weights.bin")), ("length", "864")):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    return bytes(model.SerializeToString())


def external_in_a_branch(folder: Path) -> bytes:
    """The same tensor as a constant within a branch within a branch."""
    tensor = onnx.load_from_string(external_model(folder)).graph.initializer[0]
    inner = helper.make_graph(
        [helper.make_node("Constant", [], ["c"], value=tensor)],
        "inner",
        [],
        [helper.make_tensor_value_info("c", TensorProto.FLOAT, None)],
    )
    for depth in range(2):
        choice = helper.make_node("If", ["true"], [f"c{depth}"], then_branch=inner, else_branch=inner)
        inner = helper.make_graph(
            [choice], f"g{depth}", [], [helper.make_tensor_value_info(f"c{depth}", TensorProto.FLOAT, None)]
        )
    choice = helper.make_node("If", ["true"], ["z"], then_branch=inner, else_branch=inner)
    nodes = [choice, helper.make_node("Identity", ["x"], ["y"])]
    return bytes(model_of(nodes, {"true": np.array(True)}).SerializeToString())
