"""Attack an agent with malformed requests, then measure through it: requests answered, memory, overhead, ratio to here.

It starts the agent's single file in a separate process on loopback; the file imports only numpy and onnxruntime.

    python benchmarks/agent.py --requests 1000 --networks 6
"""

from __future__ import annotations

import argparse
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import psutil

import nas
from nas.latency.remote.agent import Agent
from nas.latency.remote.agent_file import agent_source
from nas.latency.remote.client import Link
from nas.network.serialize.onnx import onnx_bytes

TOKEN = "benchmark-of-the-agent"
NETWORKS = ("mobilenet_v3_small", "mobilenet_v3_large", "mobilenet_v2", "efficientnet_b0", "mnasnet_a1", "mobilenet_v1")


@contextmanager
def running() -> Iterator[tuple[psutil.Process, int]]:
    """The process and port of an agent."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "agent.py"
        path.write_text(agent_source())
        environment = os.environ | {"NAS_AGENT_TOKEN": TOKEN}
        process = subprocess.Popen(
            [sys.executable, "-I", str(path), "--port", "0"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            text=True,
        )
        try:
            assert process.stdout is not None
            port = int(re.findall(r":(\d+)$", process.stdout.readline().strip())[0])
            yield psutil.Process(process.pid), port
        finally:
            process.terminate()
            process.wait(10)


def attack(port: int, requests: int, link: Link) -> tuple[int, float]:
    """Send malformed requests, and an honest one for the device after every tenth. How many of those were answered, and
    seconds."""
    rng = np.random.default_rng(0)
    head = f"POST /v1/measure HTTP/1.1\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 500\r\n\r\n".encode()
    good, begun = 0, time.monotonic()
    for at in range(requests):
        junk = rng.bytes(int(rng.integers(1, 4000)))
        mangled = bytearray(head + junk)
        for place in rng.integers(0, len(head), 3):
            mangled[place] = rng.integers(256)
        kinds = [junk, head + junk[:400], bytes(mangled), head[: at % len(head)], head + rng.bytes(500), b"\r\n" * at]
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(kinds[at % len(kinds)])
            connection.shutdown(socket.SHUT_WR)
            connection.recv(4096)
        if at % 10 == 9:
            link.request("GET", "/v1/device")
            good += 1
    return good, time.monotonic() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--networks", type=int, default=len(NETWORKS))
    given = parser.parse_args()
    with running() as (process, port):
        url = f"http://127.0.0.1:{port}"
        agent, link = Agent(url, token=TOKEN), Link(url, TOKEN)
        agent.measure(nas.reference("mobilenet_v3_small"))
        before = process.memory_info().rss
        good, seconds = attack(port, given.requests, link)
        after = process.memory_info().rss
        honest = given.requests // 10
        print(f"{given.requests} malformed requests in {seconds:.1f} s; {good} of {honest} honest ones answered")
        print(f"memory of the agent {before / 1e6:.1f} MB before, {after / 1e6:.1f} MB after")
        print(f"{'network':22}{'MB':>6}{'here ms':>10}{'agent ms':>10}{'ratio':>8}{'overhead s':>12}")
        ratios, overheads = [], []
        for name in NETWORKS[: given.networks]:
            arch = nas.reference(name)
            model = onnx_bytes(nas.build(arch), arch.resolution)
            here, far, over = [], [], []
            for _ in range(3):  # in turn, because the machine is shared
                here.append(nas.measure(arch).ms)
                far.append(agent.measure_onnx(model).ms)
                begun = time.monotonic()
                answer = link.request("POST", "/v1/measure", model, timeout_s=300)
                over.append(time.monotonic() - begun - answer["sampling_s"])
            ratios.append(float(np.median(far) / np.median(here)))
            overheads.append(float(np.median(over)))
            figures = f"{np.median(here):10.2f}{np.median(far):10.2f}{ratios[-1]:8.3f}{overheads[-1]:12.2f}"
            print(f"{name:22}{len(model) / 1e6:6.1f}{figures}", flush=True)
        print(f"ratio {min(ratios):.3f} to {max(ratios):.3f}, median {np.median(ratios):.3f}; ", end="")
        print(f"apart from timing, a measurement through the agent takes {np.median(overheads):.2f} s")


if __name__ == "__main__":
    main()
