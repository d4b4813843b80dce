import itertools
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

import nas
from nas.api.networks import measure_named
from nas.arch.arch import Arch
from nas.arch.space_yaml import parse_space
from nas.cli.main import main
from nas.latency.devices import LatencyModel, device
from nas.latency.remote import client as agent_client
from nas.latency.remote.agent import Agent
from nas.latency.remote.client import TRIES, Link, check_address
from nas.network.serialize.onnx import onnx_bytes
from nas.system.errors import InputError, NasError
from tests.latency.agents import LIMIT_S, TOKEN, RunningAgent, endless_model, small_model

pytestmark = [pytest.mark.timing, pytest.mark.processes]

TINY = parse_space(
    """
name: tiny
resolution: [32, 48]
stem: {op: conv, kernel: 3, channels: 16, stride: 2, act: [relu, h_swish]}
stages:
  - {op: mbconv, repeat: [1, 2], channels: [16, 24], stride: 2, kernel: [3, 5], expand: [1, 4], se: [0, 0.25]}
""",
    "tiny",
)


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningAgent]:
    running = RunningAgent(tmp_path_factory.mktemp("agent"))
    yield running
    running.stop()


@pytest.fixture(autouse=True)
def few_networks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Tables of a dozen networks, in a cache of each test."""
    monkeypatch.setenv("NAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("nas.latency.table.sample_networks.FITTED", (8, 8))
    monkeypatch.setattr("nas.latency.table.sample_networks.HELD_OUT", 3)
    monkeypatch.setattr("nas.latency.table.sample_networks.LARGE_NETS", 1)
    monkeypatch.setattr("nas.latency.remote.agent.FITTED", 8)
    monkeypatch.delenv("NAS_AGENT_TOKEN", raising=False)


def answering(*answers: bytes) -> Iterator[str]:
    """The address of a server that answers any requests with these bytes, one after the other."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            for answer in answers:
                try:
                    connection, _ = server.accept()
                except OSError:  # the test is over
                    return
                with connection, suppress(OSError):  # the client may have hung up
                    connection.recv(65536)
                    connection.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def http(status: int, body: bytes, head: str = "") -> bytes:
    return f"HTTP/1.0 {status} X\r\nContent-Length: {len(body)}\r\n{head}\r\n".encode() + body


def test_an_agent_is_a_device(agent: RunningAgent) -> None:
    """Without a space it measures; a larger network takes longer; the latencies say where they come from."""
    model = device(agent.url, token=TOKEN)
    assert isinstance(model, LatencyModel)
    assert (model.device, model.table) == ("test bench", None)
    small, large = TINY.sample(0), nas.reference("mobilenet_v3_small", resolution=96)
    latency = model.measure(small)
    assert latency is not None
    about = (latency.device, latency.source, latency.runtime, latency.threads)
    assert about == ("test bench", "measured", "onnxruntime", 1)
    assert latency.runs is not None
    assert latency.iqr_ms is not None
    assert latency.drift is not None
    assert model.many([large])[0] > latency.ms


def test_the_exported_file_is_measured_there(agent: RunningAgent, tmp_path: Path) -> None:
    """An ONNX file, at another batch; errors give the reason for which the agent refuses a model."""
    path = tmp_path / "m.onnx"
    path.write_bytes(onnx_bytes(nas.build(TINY.sample(0)), 32, None))
    remote = Agent(agent.url, token=TOKEN)
    assert remote.measure_onnx(path, batch=4).batch == 4
    with pytest.raises(NasError, match="not an ONNX model"):
        remote.measure_onnx(b"nothing")
    with pytest.raises(NasError, match=rf"{LIMIT_S:g} s.*--limit"):
        remote.measure_onnx(endless_model())
    with pytest.raises(InputError, match=r"none\.onnx"):
        remote.measure_onnx(tmp_path / "none.onnx")


def test_resolution_and_samples_are_options_and_other_types_are_refused(agent: RunningAgent, tmp_path: Path) -> None:
    """An agent measures at another resolution and returns every run on request, with ONNX Runtime in float32 only."""
    larger = measure_named("mobilenet_v3_small", device=agent.url, token=TOKEN, resolution=96, keep_samples=True)
    assert (larger.resolution, larger.dtype, larger.device) == (96, "float32", "test bench")
    assert larger.samples_ms is not None
    assert len(larger.samples_ms) == larger.runs
    for name, options, value in (
        ("mobilenet_v2", {"dtype": "float16"}, "float16"),
        (str(tmp_path / "net.pte"), {}, r"\.pte"),
        ("mobilenet_v2", {"runtime": "executorch"}, "executorch"),
        ("mobilenet_v2", {"resolution": 4}, "resolution.* 4"),
    ):
        with pytest.raises(InputError, match=value):
            measure_named(name, device=agent.url, token=TOKEN, **options)  # type: ignore[arg-type]


def test_another_clients_anchor_does_not_matter(agent: RunningAgent) -> None:
    """The agent keeps one anchor; a client that finds another one there sends its own again."""
    model = onnx_bytes(nas.build(TINY.sample(0)), 32, None)
    remote = Agent(agent.url, token=TOKEN)
    remote.measure_onnx(model)
    own = anchor_at(agent)
    assert agent.request("PUT", "/v1/anchor", small_model())[0] == 200
    assert anchor_at(agent) != own
    assert remote.measure_onnx(model).drift is not None
    assert anchor_at(agent) == own


def anchor_at(agent: RunningAgent) -> str:
    return str(agent.request("GET", "/v1/device")[1]["anchor"])


def test_the_table_of_references_is_measured_there(agent: RunningAgent, capsys: pytest.CaptureFixture[str]) -> None:
    """References and networks of libraries; the command has --token."""
    table = nas.compare_references("mobilenet_v3_small@resolution=96,torchvision:squeezenet1_1", agent.url, token=TOKEN)
    for row in table.rows:
        assert row.latency is not None
        assert (row.latency.source, row.latency.device) == ("measured", "test bench")
    assert "test bench" in str(table.device)
    command = ["references", "--select", "torchvision:squeezenet1_1", "--device", agent.url, "--token", TOKEN, "--json"]
    with pytest.raises(SystemExit) as stop:
        main(command)
    assert stop.value.code == 0
    shown = json.loads(capsys.readouterr().out)
    assert "test bench" in shown["device"]
    assert shown["networks"][0]["latency_ms"] > 0


def test_a_wrong_token_is_an_error_at_once(agent: RunningAgent, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is one try, and none without a token. An explicit token takes precedence over that of the environment."""
    waits: list[float] = []
    monkeypatch.setattr(agent_client.time, "sleep", waits.append)
    with pytest.raises(InputError, match="--token"):
        device(agent.url, token="wrong")
    with pytest.raises(InputError, match="NAS_AGENT_TOKEN"):
        device(agent.url)
    monkeypatch.setenv("NAS_AGENT_TOKEN", TOKEN)
    assert device(agent.url).device == "test bench"
    with pytest.raises(InputError, match="--token"):
        device(agent.url, token="wrong")
    assert not waits


@pytest.mark.parametrize(
    "url",
    [
        "http://",
        "http://a b:80",
        "http://h:99999",
        "http://h:0",
        "http://h:8421/x",
        "http://h?token=hidden",
        "http://[::",
    ],
)
def test_addresses_are_checked(url: str) -> None:
    with pytest.raises(InputError, match="http://HOST:PORT") as raised:
        check_address(url)
    assert "hidden" not in str(raised.value)


def test_a_password_in_the_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(InputError, match="--token") as raised:
        nas.search(TINY, device="http://me:secret@host:1", evaluate=lambda arch: 0.0, trials=1)
    assert "secret" not in str(raised.value)
    assert check_address("http://pi.local")[1] == 8421
    assert check_address("http://[::1]:9")[1] == 9


def test_an_unreachable_agent_is_retried_in_growing_intervals() -> None:
    """A bounded number of times; then one line names the network and what to do."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    waits: list[float] = []
    link = Link(f"http://127.0.0.1:{port}", TOKEN, waits.append)
    with pytest.raises(NasError, match=rf"network abc.* {TRIES} tries.*python agent\.py"):
        link.request("GET", "/v1/device", about="network abc")
    assert len(waits) == TRIES - 1
    assert all(later > 1.1 * earlier for earlier, later in itertools.pairwise(waits[:4]))
    assert max(waits) <= 25


def test_a_busy_or_resetting_agent_is_waited_for() -> None:
    """503, a connection cut during the answer, and an empty answer are retried; Retry-After is respected."""
    waits: list[float] = []
    answers = (http(503, b'{"error": "busy"}', "Retry-After: 7\r\n"), b"HTTP/1.0 200 OK\r\nContent-Length: 50\r\n\r\n{")
    for url in answering(*answers, b"", http(200, b'{"fine": 1}')):
        assert Link(url, TOKEN, waits.append).request("GET", "/") == {"fine": 1}
    assert len(waits) == 3
    assert waits[0] > 5


@pytest.mark.parametrize("answer", [http(200, b"[" * 100_000), http(200, b"[]"), http(302, b"{}", "Location: /x\r\n")])
def test_a_server_that_is_not_an_agent_is_an_error(answer: bytes) -> None:
    """Deeply nested JSON, other JSON, a redirection: one line, without a second try."""
    for url in answering(answer):
        with pytest.raises(NasError, match=url):
            Link(url, TOKEN, pytest.fail).request("GET", "/v1/device")


def changed(facts: dict[str, object], **changes: object) -> bytes:
    return http(200, json.dumps(facts | changes).encode())


def test_facts_and_durations_are_checked(agent: RunningAgent) -> None:
    """An agent of another version, impossible facts, and invalid durations: one line."""
    facts = agent.request("GET", "/v1/device")[1]
    for change in (
        {"protocol": 2},
        {"threads": -1},
        {"limit_s": "x"},
        {"name": 5},
        {"cores": 0},
        {"node": None},
        {"versions": []},
        {"max_bytes": 1e99},
    ):
        for url in answering(changed(facts, **change)):
            with pytest.raises(NasError, match=rf"{url}.*(start it|nas agent --write)"):
                device(url, token=TOKEN)
    with pytest.raises(InputError, match=r"threads.*10000"):
        device(agent.url, token=TOKEN, threads=10_000)
    with pytest.raises(InputError, match="torch"):
        device(agent.url, token=TOKEN, runtime="torch")
    good = {"runs": [0.1], "rounds": [0.1], "anchors": [0.1]}
    for bad in (
        {"runs": []},
        {"rounds": [0.1, 0.2]},
        {"anchors": [0]},
        {"runs": ["1"]},
        {"rounds": [1e9]},
        {"runs": None},
    ):
        for url in answering(changed(facts), http(200, b"{}"), changed(good, **bad)):
            with pytest.raises(NasError, match="the model"):
                Agent(url, token=TOKEN).measure_onnx(b"model")


def test_a_run_is_bound_to_its_device(agent: RunningAgent) -> None:
    """By name, and by identity among devices of one name; the error names what differs and what else can be done."""
    here = Agent(agent.url, token=TOKEN)
    run = {"device_name": here.device, "agent_identity": here.identity, "machine": here.machine.to_dict()}
    here.check_is(run, "--other")
    here.check_is({}, "--other")
    twin = run | {"agent_identity": "0" * 16, "machine": run["machine"] | {"node": "the twin's"}}
    for other, named in (
        (run | {"device_name": "another bench"}, "another bench"),
        (twin, "the twin's"),
        (run | {"agent_identity": "0" * 16, "machine": None}, "another machine"),
    ):
        with pytest.raises(InputError, match=rf"{named}.*--other"):
            here.check_is(other, "--other")


def test_a_table_is_measured_once_and_continues_after_an_interruption(agent: RunningAgent, tmp_path: Path) -> None:
    """What was measured before Ctrl-C is not measured again; the next process finds the table in the cache."""
    seen: list[tuple[int, int]] = []

    def interrupt(done: int, total: int, text: str) -> None:
        seen.append((done, total))
        if done == 5 and len(seen) in (1, 6):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _ = Agent(agent.url, TINY, TOKEN, progress=interrupt).table
    resumed = Agent(agent.url, TINY, TOKEN, progress=interrupt)
    measured = count_of(agent)
    table = resumed.table
    assert table is not None
    assert count_of(agent) - measured == seen[-1][1] - 5
    assert (table.device, table.space_key, table.error.nets) == ("test bench", TINY.key, 3)
    assert not list((tmp_path / "cache").glob("**/*.part.json"))
    assert Agent(agent.url, TINY, TOKEN, progress=lambda *_: pytest.fail("measured again")).table == table
    archs = [TINY.sample(seed) for seed in range(4)]
    assert (resumed.many(archs) > 0).all()
    seen.clear()
    with pytest.raises(KeyboardInterrupt):
        _ = Agent(agent.url, TINY, TOKEN, progress=lambda *_: interrupt(5, 5, "at once"), refresh=True).table


def count_of(agent: RunningAgent) -> int:
    return agent.log.read_text().count("POST /v1/measure 200")


def test_a_search_through_an_agent(agent: RunningAgent, tmp_path: Path) -> None:
    """From the table to the measured front; no file of the run holds the token, and resuming requires it again."""
    run = tmp_path / "run"
    score: Callable[[Arch], float] = lambda arch: float(sum(row.channels for row in arch.rows))  # noqa: E731
    record = nas.search(TINY, device=agent.url, token=TOKEN, evaluate=score, trials=6, run=run, sampler="random")
    assert record.front
    assert all(c.measured is not None and c.measured.device == "test bench" for c in record.front)
    assert all(c.predicted.source == "predicted" for c in record.candidates)
    for file in run.rglob("*"):
        assert not file.is_file() or TOKEN.encode() not in file.read_bytes(), file
    with pytest.raises(InputError, match="--token"):
        nas.resume(run, evaluate=score, trials=8)
    facts = json.loads((run / "run.json").read_text())
    moved = json.dumps(facts).replace("test bench", "another bench")
    (run / "run.json").write_text(moved)
    for verb in (lambda: nas.resume(run, evaluate=score, trials=8, token=TOKEN), lambda: nas.export(run, token=TOKEN)):
        with pytest.raises(InputError, match=r"another bench.*test bench"):
            verb()
    twin = json.dumps(facts).replace(facts["device"]["agent"], "0" * 16)
    (run / "run.json").write_text(twin)
    with pytest.raises(InputError, match=r"test bench.*another machine"):
        nas.resume(run, evaluate=score, trials=8, token=TOKEN)
    (run / "run.json").write_text(json.dumps(facts))
    again = nas.resume(run, evaluate=score, trials=8, token=TOKEN)
    assert len([c for c in again.candidates if c.proxy_accuracy is not None]) == 8
    assert all(c.measured is not None for c in again.front)
