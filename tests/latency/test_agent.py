import ast
import inspect
import ipaddress
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from nas.arch.arch import MAX_RESOLUTION
from nas.cli.agent import agent as agent_command
from nas.latency.remote import main as agent_main
from nas.latency.remote.agent_file import agent_source
from nas.latency.remote.bounds import LIMIT_S as USUAL_LIMIT_S
from nas.latency.remote.bounds import MAX_BODY, PORT
from nas.latency.remote.check import MESSAGES, Refused, check_model
from nas.latency.remote.server import CONNECTIONS, PLACES
from nas.latency.remote.worker import SIDES
from tests.latency.agents import (
    LIMIT_S,
    TOKEN,
    RunningAgent,
    endless_model,
    external_in_a_branch,
    external_model,
    hungry_model,
    model_of,
    small_model,
)

MB = 1 << 20


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningAgent]:
    running = RunningAgent(tmp_path_factory.mktemp("agent"))
    yield running
    running.stop()
    assert not list(running.path.parent.glob("nas-agent-*"))  # an ended agent leaves nothing behind


@pytest.fixture(autouse=True)
def still_alive(agent: RunningAgent) -> Iterator[None]:
    """Whatever a test does to the agent, it answers afterwards, keeps no model, and its memory stays within bounds."""
    yield
    assert agent.answers()
    assert agent.process.poll() is None
    assert not agent.spooled()
    assert agent.rss() < 120 * MB


def upload(agent: RunningAgent, sent: bytes, claimed: int) -> socket.socket:
    """A connection that has claimed to send a model of so many bytes and sent some."""
    connection = socket.create_connection(("127.0.0.1", agent.port), timeout=10)
    head = f"POST /v1/measure HTTP/1.1\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: {claimed}\r\n\r\n"
    connection.sendall(head.encode() + sent)
    return connection


def test_the_written_file_is_of_python_3_9_and_needs_two_libraries() -> None:
    """It parses by the old grammar, imports the standard library, numpy and onnxruntime, and defines no name twice."""
    tree = ast.parse(agent_source(), feature_version=(3, 9))
    modules = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            modules.add(str(node.module).split(".")[0])
    assert modules - set(sys.stdlib_module_names) == {"numpy", "onnxruntime"}
    defined = [node.name for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))]
    for node in tree.body:
        for target in getattr(node, "targets", []):
            defined += [name.id for name in ast.walk(target) if isinstance(name, ast.Name)]
    assert len(defined) == len(set(defined))


def test_what_the_agent_copies_agrees_with_the_rest() -> None:
    """The largest image is that of an `Arch`; the walk follows ONNX's own schema."""
    assert SIDES[1] == MAX_RESOLUTION
    kinds = {
        "model": onnx.ModelProto,
        "graph": onnx.GraphProto,
        "node": onnx.NodeProto,
        "attribute": onnx.AttributeProto,
        "tensor": onnx.TensorProto,
        "sparse": onnx.SparseTensorProto,
    }
    names = {kind.DESCRIPTOR.name: short for short, kind in kinds.items()}
    found = {
        (short, field.number): names[field.message_type.name]
        for short, kind in kinds.items()
        for field in kind.DESCRIPTOR.fields
        if field.message_type is not None and field.message_type.name in names
    }
    assert found == MESSAGES


def test_it_tells_of_its_device_and_measures(agent: RunningAgent) -> None:
    """With torch, ray and nas out of reach; the answer is durations in seconds, and a slower model takes longer."""
    status, facts, _ = agent.request("GET", "/v1/device")
    assert status == 200
    assert (facts["name"], facts["runtime"], facts["places"]) == ("test bench", "onnxruntime", PLACES)
    medians = []
    for channels in (2, 256):
        status, found, _ = agent.request("POST", "/v1/measure?threads=1&batch=2", small_model(channels))
        assert status == 200, found
        assert len(found["rounds"]) == len(found["anchors"])
        assert 0 < min(found["runs"]) <= max(found["runs"]) < 10
        medians.append(np.median(found["runs"]))
    assert medians[0] < medians[1]


@pytest.mark.parametrize("token", [None, "", "wrong", TOKEN[:-1], TOKEN + "x", "t\xf6ken", TOKEN.upper()])
def test_a_wrong_token_gets_nothing(agent: RunningAgent, token: str | None) -> None:
    """Neither facts nor a measurement, whatever else is right; a body is not waited for."""
    for method, path in (("GET", "/v1/device"), ("POST", "/v1/measure"), ("PUT", "/v1/anchor"), ("GET", "/x")):
        status, told, _ = agent.request(method, path, b"x" * 100 if method != "GET" else None, token)
        assert (status, list(told)) == (401, ["error"])
    begun = time.monotonic()
    with socket.create_connection(("127.0.0.1", agent.port), timeout=5) as connection:
        connection.sendall(b"POST /v1/measure HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n")
        assert b" 401 " in connection.recv(100)
    assert time.monotonic() - begun < 2


def test_a_wrong_token_cannot_make_it_read_on(agent: RunningAgent) -> None:
    """Of a body of 60 MB it takes one, and what the system had taken in advance."""
    head = f"PUT /v1/anchor HTTP/1.1\r\nAuthorization: Bearer wrong\r\nContent-Length: {60 * MB}\r\n\r\n"
    sent = 0
    with socket.create_connection(("127.0.0.1", agent.port), timeout=5) as connection, suppress(OSError):
        connection.sendall(head.encode())
        while sent < 60 * MB:
            sent += connection.send(bytes(MB))
    assert sent < 25 * MB


@pytest.mark.parametrize("written", [True, False])
def test_an_address_that_cannot_be_had_is_told(agent: RunningAgent, written: bool) -> None:
    """A busy port, a foreign address: one line and 1, from the file and from `nas agent`; nothing is left behind."""
    command = [str(agent.path)] if written else ["-m", "nas", "agent"]
    for options in (["--port", str(agent.port)], ["--host", "203.0.113.7"]):
        done = subprocess.run(
            [sys.executable, *command, *options],
            capture_output=True,
            text=True,
            timeout=30,
            env=os.environ | {"TMPDIR": str(agent.path.parent)},
        )
        assert (done.returncode, done.stdout) == (1, "")
        assert re.search(r"^\w+: cannot listen at [\d.:]+: .*; give another --host or --port\n$", done.stderr)
        assert len(list(agent.path.parent.glob("nas-agent-*"))) == 1


@pytest.mark.parametrize("host", ["0.0.0.0", "::", ""])
def test_the_address_printed_can_be_typed_elsewhere(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All addresses are none: one of the network is told, or the machine's name where there is no network."""
    with suppress(ValueError):  # a name
        assert not ipaddress.ip_address(agent_main.reachable(host)).is_unspecified
    assert [agent_main.reachable(own) for own in ("::1", "10.0.0.9", "pi.local")] == ["::1", "10.0.0.9", "pi.local"]

    def unreachable(*arguments: object) -> None:
        raise OSError

    monkeypatch.setattr(socket, "socket", unreachable)
    assert agent_main.reachable(host) == socket.gethostname()


def test_the_command_and_the_file_have_the_same_defaults() -> None:
    """Port, limit and size of `nas agent` are those of the agent."""
    given = inspect.signature(agent_command).parameters
    own = inspect.signature(agent_main.serve).parameters
    assert [given[name].default for name in ("port", "limit", "max_mb")] == [PORT, USUAL_LIMIT_S, MAX_BODY >> 20]
    assert [own[name].default for name in ("port", "limit_s", "max_mb")] == [PORT, USUAL_LIMIT_S, MAX_BODY >> 20]


def test_without_file_locks_it_measures_at_once(tmp_path: Path) -> None:
    """On a file system that refuses locks, no time is lost, and the log says that measurements are not serialised."""
    refuse = 'raise OSError(37, "No locks available")'
    running = RunningAgent(tmp_path, {"fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)": refuse})
    try:
        assert running.measures()
        assert running.measures()
        assert running.log.read_text().count("not serialised") == 1
    finally:
        running.stop()


def test_neither_the_log_nor_the_greeting_has_the_token(agent: RunningAgent) -> None:
    agent.request("GET", f"/v1/device?token={TOKEN}", token=TOKEN)
    log = agent.log.read_text()
    assert "GET /v1/device 200" in log
    assert TOKEN not in log + agent.greeting


@pytest.mark.parametrize(
    ("path", "length", "status"),
    [
        ("/v1/measure", str(33 * MB), 413),
        ("/v1/measure", "9" * 30, 411),
        ("/v1/measure", "-5", 411),
        ("/v1/measure", "0x10", 411),
        ("/v1/measure", None, 411),
        ("/v1/measure?threads=0", "5", 400),
        ("/v1/measure?threads=100000", "5", 400),
        ("/v1/measure?batch=1e9", "5", 400),
        ("/v1/measure?batch=%00", "5", 400),
        ("/v1/measure?anchor=../../etc/passwd", "5", 409),
        ("/v1/anchors", "5", 404),
        ("/" + "&=" * 300, "5", 404),
    ],
)
def test_requests_out_of_bounds_are_told(agent: RunningAgent, path: str, length: str | None, status: int) -> None:
    """Each with its status and one line of JSON, before any of the body is read."""
    head = f"POST {path} HTTP/1.1\r\nAuthorization: Bearer {TOKEN}\r\n"
    head += (
        f"Content-Length: {length}\r\n\r\n" if length is not None else "Transfer-Encoding: chunked\r\n\r\n5\r\nabcde"
    )
    with socket.create_connection(("127.0.0.1", agent.port), timeout=5) as connection:
        connection.sendall(head.encode())
        answer = b"".join(iter(lambda: connection.recv(4096), b""))
    assert re.match(rb"HTTP/1.0 %d " % status, answer), answer
    assert len(answer.partition(b"\r\n\r\n")[2].splitlines()) == 1


def test_hundreds_of_malformed_requests(agent: RunningAgent) -> None:
    """Random bytes, broken heads and truncated or mangled requests with the right token."""
    rng = np.random.default_rng(0)
    right = f"POST /v1/measure HTTP/1.1\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 500\r\n\r\n".encode()
    before = agent.rss()
    for at in range(300):
        junk = rng.bytes(int(rng.integers(1, 2000)))
        mangled = bytearray(right + junk)
        for place in rng.integers(0, len(right), 3):
            mangled[place] = rng.integers(256)
        sent = [junk, right + junk[:400], bytes(mangled), right[: at % len(right)], b"\r\n" + junk, junk + b"\r\n" * 3]
        with socket.create_connection(("127.0.0.1", agent.port), timeout=5) as connection:
            connection.sendall(sent[at % len(sent)])
            if at % 2:
                connection.shutdown(socket.SHUT_WR)
                with suppress(ConnectionResetError):
                    connection.recv(1000)
    assert agent.answers()
    assert agent.rss() < before + 20 * MB
    assert agent.measures()


def test_a_head_without_end_is_cut(agent: RunningAgent) -> None:
    """Megabytes of headers are not read."""
    sent = 0
    with socket.create_connection(("127.0.0.1", agent.port), timeout=5) as connection:
        try:
            connection.sendall(b"GET /v1/device HTTP/1.1\r\n")
            while sent < 50 * MB:
                sent += connection.send(b"X: " + b"y" * 60000 + b"\r\n")
        except (BrokenPipeError, ConnectionResetError, TimeoutError):
            pass
    assert sent < 50 * MB


def test_slow_clients_are_hung_up_on(agent: RunningAgent) -> None:
    """As many as there are connections send a byte now and then: others are let in after the seconds of a head."""
    slow = [socket.create_connection(("127.0.0.1", agent.port)) for _ in range(CONNECTIONS + 4)]
    begun = time.monotonic()
    answered = None
    while answered is None and time.monotonic() - begun < 8:
        for connection in slow:
            with suppress(OSError):
                connection.send(b"G")
        try:
            status, _, headers = agent.request("GET", "/v1/device")
            answered = time.monotonic() - begun if status == 200 else None
            assert status == 200 or headers["Retry-After"]
        except (OSError, ValueError):
            pass  # turned away without ado
        time.sleep(0.2)
    for connection in slow:
        connection.close()
    assert answered is not None
    assert answered < 4


def test_slow_bodies_end(agent: RunningAgent) -> None:
    """A client with the right token that stops amid its model is hung up on, and its place is free."""
    slow = [upload(agent, b"x", 1000) for _ in range(PLACES)]
    time.sleep(0.2)
    assert agent.request("POST", "/v1/measure", small_model())[0] == 503
    for connection in slow:
        assert connection.recv(1000) == b""
        connection.close()
    assert agent.measures()


def test_clients_killed_amid_an_upload(agent: RunningAgent) -> None:
    """Real processes, killed: their files and places are given back."""
    code = (
        "import socket, sys, time\n"
        f"c = socket.create_connection(('127.0.0.1', {agent.port}))\n"
        f"c.sendall(b'POST /v1/measure HTTP/1.1\\r\\nAuthorization: Bearer {TOKEN}\\r\\n'\n"
        "          b'Content-Length: 9000000\\r\\n\\r\\n' + bytes(3000000))\n"
        "print('sent', flush=True); time.sleep(60)"
    )
    clients = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) for _ in range(PLACES)]
    try:
        for client in clients:
            assert client.stdout is not None
            assert client.stdout.readline() == b"sent\n"
        patience = time.monotonic() + 1.5  # a busy machine may not have begun to keep what was sent
        while not agent.spooled() and time.monotonic() < patience:
            time.sleep(0.02)
        assert agent.spooled()
    finally:
        for client in clients:
            client.kill()
            client.wait()
    time.sleep(0.3)
    assert not agent.spooled()
    assert agent.measures()


def test_no_two_measurements_at_once(agent: RunningAgent) -> None:
    """Clients at the same time are all answered, one after the other, by one process."""
    workers, statuses, spans = set(), [], []

    def measure() -> None:
        begun = time.monotonic()
        statuses.append(agent.request("POST", "/v1/measure", small_model(64))[0])
        spans.append(time.monotonic() - begun)

    clients = [threading.Thread(target=measure) for _ in range(3)]
    for client in clients:
        client.start()
    while any(client.is_alive() for client in clients):
        workers.add(len(agent.workers()))
        time.sleep(0.02)
    assert statuses == [200] * 3
    assert workers == {1}
    assert max(spans) > 2 * min(spans)  # the last waited for the first two


def test_a_full_queue_says_when_to_come_again(agent: RunningAgent) -> None:
    """503 with Retry-After while others hold all places; afterwards there is room."""
    held = [upload(agent, b"x", 1000) for _ in range(PLACES)]
    time.sleep(0.2)
    status, told, headers = agent.request("POST", "/v1/measure", small_model())
    assert status == 503
    assert int(headers["Retry-After"]) >= 1
    assert "waiting" in told["error"]
    assert agent.answers()
    for connection in held:
        connection.close()
    time.sleep(0.3)
    assert agent.measures()


def test_nothing_but_image_models_whole_in_themselves_is_run(agent: RunningAgent, tmp_path: Path) -> None:
    """Files outside, foreign operators, other inputs, other formats and things that are no model: 422 and why."""
    conv = [helper.make_node("Conv", ["x", "w"], ["y"])]
    same = [helper.make_node("Identity", ["x"], ["y"])]
    cast = [helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT)]
    foreign = [helper.make_node("Gelu", ["x"], ["y"], domain="com.microsoft")]
    function = onnx.load_from_string(small_model())
    function.functions.add().name = "mine"
    weights = {"w": np.ones((8, 3, 3, 3), np.float32)}
    bad = {
        "external data": external_model(tmp_path),
        r"external data\)": external_in_a_branch(tmp_path),
        "com.microsoft": model_of(foreign, {}).SerializeToString(),
        "functions": function.SerializeToString(),
        "one input": model_of(conv, weights, more_inputs=1).SerializeToString(),
        "side from": model_of(same, {}, ("N", 3, 32, 48)).SerializeToString(),
        "3, side": model_of(same, {}, ("N", 1, 32, 32)).SerializeToString(),
        "float32": model_of(cast, {}, kind=TensorProto.INT64).SerializeToString(),
        "exported for batch 3": model_of(conv, weights, (3, 3, 32, 32)).SerializeToString(),
        "no ONNX": b"import os; os.system('true')",
        "only a part": small_model()[:-40],
        "no ONNX model": b"",
        "cannot read": b"\x08\x08\x3a\x02\x0a\x00",
        "ONNX": b"\x1c\x00\x00\x00ORTM" + bytes(200),
    }
    for reason, model in bad.items():
        status, told, _ = agent.request("POST", "/v1/measure", model)
        assert status == 422, (reason, told)
        assert re.search(reason, told["error"]), (reason, told)
        assert "\n" not in told["error"]
        assert len(told["error"]) <= 300


def test_a_model_that_never_ends_is_ended(agent: RunningAgent) -> None:
    """After the limit with 504; the next measurement goes well."""
    begun = time.monotonic()
    status, told, _ = agent.request("POST", "/v1/measure", endless_model())
    assert status == 504, told
    assert LIMIT_S - 1 < time.monotonic() - begun < LIMIT_S + 3
    assert agent.measures()


def test_a_client_that_vanishes_ends_its_measurement(agent: RunningAgent) -> None:
    """Nobody waits for an endless model any more: the next is not kept waiting for its limit."""
    upload(agent, endless_model(), len(endless_model())).close()
    begun = time.monotonic()
    assert agent.measures()
    assert time.monotonic() - begun < LIMIT_S - 0.5


def test_a_model_that_takes_all_memory_or_crashes_is_told(agent: RunningAgent) -> None:
    """A terabyte is refused; a crash of the measuring process is 500, and the next measurement goes well."""
    status, told, _ = agent.request("POST", "/v1/measure", hungry_model())
    assert status in (422, 500), told
    statuses = []
    client = threading.Thread(target=lambda: statuses.append(agent.request("POST", "/v1/measure", endless_model())[0]))
    client.start()
    time.sleep(0.7)
    for worker in agent.workers():
        worker.kill()
    client.join()
    assert statuses == [500]
    assert agent.measures()


@pytest.mark.parametrize("field", [20, 25])
def test_fields_beyond_32_bits_are_refused(field: int) -> None:
    """Parsers cut the number of a field to 32 bits: what looks unknown here would be functions of its own there."""

    def key(number: int) -> bytes:
        left, sent = number << 3 | 2 | 1 << 32, b""
        while left > 127:
            left, sent = left >> 7, sent + bytes([left & 127 | 128])
        return sent + bytes([left])

    check_model(small_model())
    with pytest.raises(Refused):
        check_model(small_model() + key(field) + b"\0")


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300), st.integers(0, 150), st.booleans())
def test_the_check_of_models_ends_in_a_verdict(junk: bytes, at: int, mixed: bool) -> None:
    """Any bytes, also in the midst of a model: accepted or `Refused`, nothing else."""
    whole = small_model()
    with suppress(Refused):
        check_model(whole[:at] + junk + whole[at:] if mixed else junk)
