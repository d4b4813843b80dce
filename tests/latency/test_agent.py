import ast
import inspect
import ipaddress
import os
import re
import socket
import subprocess
import sys
import threading
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
from nas.latency.remote.bounds import LIMIT_S as DEFAULT_LIMIT_S
from nas.latency.remote.bounds import MAX_BODY, PORT
from nas.latency.remote.check import MESSAGES, ModelRefused, check_model
from nas.latency.remote.server import CONNECTIONS, SLOTS
from nas.latency.remote.worker import SIDES
from tests.latency.agents import (
    LIMIT_S,
    TOKEN,
    RunningAgent,
    endless_model,
    eventually,
    external_in_a_branch,
    external_model,
    hungry_model,
    model_of,
    small_model,
)

pytestmark = [pytest.mark.timing, pytest.mark.processes]

MB = 1 << 20


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningAgent]:
    running = RunningAgent(tmp_path_factory.mktemp("agent"))
    yield running
    running.stop()
    assert not list(running.path.parent.glob("nas-agent-*"))  # an ended agent leaves nothing behind


@pytest.fixture(autouse=True)
def still_alive(agent: RunningAgent) -> Iterator[None]:
    """Whatever a test does to the agent, it answers afterwards, keeps no model, and its memory stays in bounds."""
    yield
    assert agent.answers()
    assert agent.process.poll() is None
    assert not agent.spooled()
    assert agent.rss() < 120 * MB


def upload(agent: RunningAgent, sent: bytes, claimed: int) -> socket.socket:
    """A connection that announced a model of `claimed` bytes and sent `sent`."""
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
    fields = {
        (short, field.number): names[field.message_type.name]
        for short, kind in kinds.items()
        for field in kind.DESCRIPTOR.fields
        if field.message_type is not None and field.message_type.name in names
    }
    assert fields == MESSAGES


def test_it_reports_its_device_and_measures(agent: RunningAgent) -> None:
    """Without torch, ray and nas; the answer holds durations in seconds, and a larger model takes longer."""
    status, facts, _ = agent.request("GET", "/v1/device")
    assert status == 200
    assert (facts["name"], facts["runtime"], facts["places"]) == ("test bench", "onnxruntime", SLOTS)
    medians = []
    for channels in (2, 256):
        status, answer, _ = agent.request("POST", "/v1/measure?threads=1&batch=2", small_model(channels))
        assert status == 200, answer
        assert len(answer["rounds"]) == len(answer["anchors"])
        assert 0 < min(answer["runs"]) <= max(answer["runs"]) < 10
        medians.append(np.median(answer["runs"]))
    assert medians[0] < medians[1]


@pytest.mark.parametrize("token", [None, "", "wrong", TOKEN[:-1], TOKEN + "x", "t\xf6ken", TOKEN.upper()])
def test_a_wrong_token_gets_nothing(agent: RunningAgent, token: str | None) -> None:
    """Neither facts nor a measurement; a body is not waited for."""
    for method, path in (("GET", "/v1/device"), ("POST", "/v1/measure"), ("PUT", "/v1/anchor"), ("GET", "/x")):
        status, answer, _ = agent.request(method, path, b"x" * 100 if method != "GET" else None, token)
        assert (status, list(answer)) == (401, ["error"])
    with socket.create_connection(("127.0.0.1", agent.port), timeout=5) as connection:
        connection.sendall(b"POST /v1/measure HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n")
        assert b" 401 " in connection.recv(100)


def test_a_wrong_token_cannot_make_it_read_on(agent: RunningAgent) -> None:
    """Of a body of 60 MB it reads one, besides what the system has buffered."""
    head = f"PUT /v1/anchor HTTP/1.1\r\nAuthorization: Bearer wrong\r\nContent-Length: {60 * MB}\r\n\r\n"
    sent = 0
    with socket.create_connection(("127.0.0.1", agent.port), timeout=5) as connection, suppress(OSError):
        connection.sendall(head.encode())
        while sent < 60 * MB:
            sent += connection.send(bytes(MB))
    assert sent < 25 * MB


@pytest.mark.parametrize("written", [True, False])
def test_an_unavailable_address_is_an_error(agent: RunningAgent, written: bool) -> None:
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
        assert options[1] in done.stderr
        assert re.fullmatch(r".*--host or --port\n", done.stderr)
        assert len(list(agent.path.parent.glob("nas-agent-*"))) == 1


@pytest.mark.parametrize("host", ["0.0.0.0", "::", ""])
def test_the_address_printed_can_be_typed_elsewhere(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """For "all addresses" one of the network is printed, or the machine's name where there is no network."""
    with suppress(ValueError):  # a name
        assert not ipaddress.ip_address(agent_main.reachable(host)).is_unspecified
    assert [agent_main.reachable(own) for own in ("::1", "10.0.0.9", "pi.local")] == ["::1", "10.0.0.9", "pi.local"]

    def unreachable(*arguments: object) -> None:
        raise OSError

    monkeypatch.setattr(socket, "socket", unreachable)
    assert agent_main.reachable(host) == socket.gethostname()


def test_the_command_and_the_file_have_the_same_defaults() -> None:
    """Port, limit and size of `nas agent` and of the agent."""
    given = inspect.signature(agent_command).parameters
    own = inspect.signature(agent_main.serve).parameters
    assert [given[name].default for name in ("port", "limit", "max_mb")] == [PORT, DEFAULT_LIMIT_S, MAX_BODY >> 20]
    assert [own[name].default for name in ("port", "limit_s", "max_mb")] == [PORT, DEFAULT_LIMIT_S, MAX_BODY >> 20]


def test_without_file_locks_it_measures(tmp_path: Path) -> None:
    """On a file system that refuses locks it measures, and the log says once that measurements are not serialised."""
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
def test_requests_out_of_bounds_are_refused(agent: RunningAgent, path: str, length: str | None, status: int) -> None:
    """Each with its status and one line of JSON, before the body is read."""
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
    """Random bytes, broken heads, and truncated or mangled requests with the right token."""
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
    """Clients that take all connections and send a byte now and then do not keep others out for long."""
    slow = [socket.create_connection(("127.0.0.1", agent.port)) for _ in range(CONNECTIONS + 4)]

    def is_let_in() -> bool:
        for connection in slow:
            with suppress(OSError):
                connection.send(b"G")
        with suppress(OSError, ValueError):  # turned away without an answer
            status, _, headers = agent.request("GET", "/v1/device")
            assert status == 200 or headers["Retry-After"]
            return status == 200
        return False

    assert eventually(is_let_in)
    for connection in slow:
        connection.close()


def test_slow_bodies_end(agent: RunningAgent) -> None:
    """A client with the right token that stops in the middle of its model is hung up on, and its slot is free."""
    slow = [upload(agent, b"x", 1000) for _ in range(SLOTS)]
    assert eventually(lambda: len(agent.spooled()) == SLOTS)
    assert agent.request("POST", "/v1/measure", small_model())[0] == 503
    for connection in slow:
        assert connection.recv(1000) == b""
        connection.close()
    assert eventually(agent.measures)


def test_clients_killed_during_an_upload(agent: RunningAgent) -> None:
    """Real processes, killed: their files are deleted and their slots are free."""
    code = (
        "import socket, sys, time\n"
        f"c = socket.create_connection(('127.0.0.1', {agent.port}))\n"
        f"c.sendall(b'POST /v1/measure HTTP/1.1\\r\\nAuthorization: Bearer {TOKEN}\\r\\n'\n"
        "          b'Content-Length: 9000000\\r\\n\\r\\n' + bytes(3000000))\n"
        "print('sent', flush=True); time.sleep(60)"
    )
    clients = [subprocess.Popen([sys.executable, "-S", "-c", code], stdout=subprocess.PIPE) for _ in range(SLOTS)]
    try:
        for client in clients:
            assert client.stdout is not None
            assert client.stdout.readline() == b"sent\n"
        assert eventually(agent.spooled)
    finally:
        for client in clients:
            client.kill()
            client.wait()
    assert eventually(lambda: not agent.spooled())
    assert eventually(agent.measures)


def test_no_two_measurements_at_once(agent: RunningAgent) -> None:
    """Clients at the same time all get an answer, from one process."""
    workers, statuses = set(), []
    clients = [
        threading.Thread(target=lambda: statuses.append(agent.request("POST", "/v1/measure", small_model(64))[0]))
        for _ in range(3)
    ]
    for client in clients:
        client.start()
    assert eventually(lambda: workers.add(len(agent.workers())) or not any(client.is_alive() for client in clients))
    assert statuses == [200] * 3
    assert max(workers) == 1


def test_a_full_queue_says_when_to_come_again(agent: RunningAgent) -> None:
    """503 with Retry-After while others use all slots; afterwards there is room."""
    uploads = [upload(agent, b"x", 1000) for _ in range(SLOTS)]
    assert eventually(lambda: len(agent.spooled()) == SLOTS)
    status, answer, headers = agent.request("POST", "/v1/measure", small_model())
    assert (status, list(answer)) == (503, ["error"])
    assert int(headers["Retry-After"]) >= 1
    assert agent.answers()
    for connection in uploads:
        connection.close()
    assert eventually(agent.measures)


def test_only_self_contained_image_models_are_run(agent: RunningAgent, tmp_path: Path) -> None:
    """Other files, foreign operators, other inputs, other formats, and data that is not a model: 422 and the reason."""
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
        "x2": model_of(conv, weights, more_inputs=1).SerializeToString(),
        "48": model_of(same, {}, ("N", 3, 32, 48)).SerializeToString(),
        r"1, 32, 32": model_of(same, {}, ("N", 1, 32, 32)).SerializeToString(),
        "float32": model_of(cast, {}, kind=TensorProto.INT64).SerializeToString(),
        "batch 3": model_of(conv, weights, (3, 3, 32, 32)).SerializeToString(),
        "not an ONNX model": b"import os; os.system('true')",
        "not a complete": small_model()[:-40],
        "ONNX model": b"",
        "ONNX Runtime": b"\x08\x08\x3a\x02\x0a\x00",
        "ONNX": b"\x1c\x00\x00\x00ORTM" + bytes(200),
    }
    for reason, model in bad.items():
        status, answer, _ = agent.request("POST", "/v1/measure", model)
        assert status == 422, (reason, answer)
        assert re.search(reason, answer["error"]), (reason, answer)
        assert "\n" not in answer["error"]
        assert len(answer["error"]) <= 300


def send_endless(agent: RunningAgent, answers: list[tuple[int, str]]) -> threading.Thread:
    """Send a model that never ends and return once it runs; its answer is appended to `answers`."""
    assert agent.measures()  # by a process that has started
    used = {worker.pid: worker.cpu_times().user for worker in agent.workers()}

    def send() -> None:
        status, answer, _ = agent.request("POST", "/v1/measure", endless_model())
        answers.append((status, str(answer.get("error"))))

    client = threading.Thread(target=send)
    client.start()
    assert eventually(lambda: any(w.cpu_times().user > used.get(w.pid, 0.0) + 0.2 for w in agent.workers()))
    return client


def test_a_model_that_never_ends_is_ended(agent: RunningAgent) -> None:
    """504 with the limit and how to change it; a measurement that waited for it comes after it and goes well."""
    answers: list[tuple[int, str]] = []
    client = send_endless(agent, answers)
    assert agent.measures()
    (answer,) = answers
    assert answer[0] == 504
    assert re.search(rf"{LIMIT_S:g} s.*--limit", answer[1])
    client.join()


def test_a_client_that_disconnects_ends_its_measurement(agent: RunningAgent) -> None:
    """The next measurement does not wait for the limit of an endless model whose client is gone."""
    before = len(agent.log.read_text())
    upload(agent, endless_model(), len(endless_model())).close()
    assert agent.measures()
    log = agent.log.read_text()[before:]
    assert "ClientDisconnected" in log
    assert " 504 " not in log


def test_a_model_that_takes_all_memory_or_crashes_is_an_error(agent: RunningAgent) -> None:
    """A terabyte is refused; a crash of the measuring process is 500, and the next measurement goes well."""
    status, answer, _ = agent.request("POST", "/v1/measure", hungry_model())
    assert status in (422, 500), answer
    answers: list[tuple[int, str]] = []
    client = send_endless(agent, answers)
    for worker in agent.workers():
        worker.kill()
    client.join()
    assert [status for status, _ in answers] == [500]
    assert agent.measures()


@pytest.mark.parametrize("field", [20, 25])
def test_fields_beyond_32_bits_are_refused(field: int) -> None:
    """Parsers cut field numbers to 32 bits: what looks unknown here would define functions there."""

    def key(number: int) -> bytes:
        left, sent = number << 3 | 2 | 1 << 32, b""
        while left > 127:
            left, sent = left >> 7, sent + bytes([left & 127 | 128])
        return sent + bytes([left])

    check_model(small_model())
    with pytest.raises(ModelRefused):
        check_model(small_model() + key(field) + b"\0")


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300), st.integers(0, 150), st.booleans())
def test_the_check_of_models_ends_in_a_verdict(junk: bytes, at: int, mixed: bool) -> None:
    """Any bytes, also inside a model, are accepted or raise `ModelRefused`, nothing else."""
    whole = small_model()
    with suppress(ModelRefused):
        check_model(whole[:at] + junk + whole[at:] if mixed else junk)
