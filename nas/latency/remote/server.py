"""The agent itself: an HTTP server that times ONNX models for whoever knows its token, one at a time.

Nothing it receives is trusted. Until the token has been checked, it reads at most `HEAD_BYTES`, for at most `HEAD_S`.
Connections, waiting measurements, and the size and duration of bodies are bounded. Bodies go to files, not to memory.
Models run in a separate process (`nas.latency.remote.worker`), which is ended when it takes too long, or when its
client hangs up.
"""

from __future__ import annotations

import hmac
import json
import os
import re
import shutil
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from socketserver import TCPServer, ThreadingMixIn
from typing import Any

from nas.latency.remote.bounds import LIMIT_S, MAX_BODY
from nas.latency.remote.http import Endpoint, Request, RequestError, log, remove
from nas.latency.remote.process import POLL_S, AgentError, ClientDisconnected, TaskTimeout, Worker
from nas.system.machine import here, host
from nas.system.text import one_line

PROTOCOL = 1
SLOTS = 4  # measurements at a time: one runs, the others upload or wait
CONNECTIONS = 24
MAX_ANCHOR = 16 << 20
MAX_BATCH = 1024
RETRY_AFTER_S = 2


class AgentServer(ThreadingMixIn, TCPServer):
    """The HTTP server, with the state that all connections share.

    Args:
        address: host and port to listen on.
        token: token that every request must carry.
        name: name of the device for people; None takes that of its CPU.
        threads: largest number of threads of a measurement; None allows all cores.
        limit_s: longest duration of one measurement, in seconds.
        max_body: largest size of a model, in bytes.

    Raises:
        AgentError: the address is not available, or ONNX Runtime does not load.
    """

    daemon_threads = True
    allow_reuse_address = os.name == "posix"
    request_queue_size = 32

    def __init__(
        self,
        address: tuple[str, int],
        token: str,
        name: str | None = None,
        threads: int | None = None,
        limit_s: float = LIMIT_S,
        max_body: int = MAX_BODY,
    ) -> None:
        self.token, self.limit_s, self.max_body = token.encode(), limit_s, max_body
        self.threads = min(threads or here().cores, here().cores)
        self.name = name or f"{host()} (agent)"
        self.connections = threading.BoundedSemaphore(CONNECTIONS)
        self.slots = threading.BoundedSemaphore(SLOTS)
        self.turn = threading.Lock()
        self.anchor: str | None = None
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        try:
            super().__init__(address, Handler)
        except (OSError, UnicodeError) as error:
            why = getattr(error, "strerror", None) or "no such address"
            text = f"cannot listen on {address[0]}:{address[1]}: {why}; give another --host or --port"
            raise AgentError(one_line(text)) from None
        self.folder = Path(tempfile.mkdtemp(prefix="nas-agent-"))
        try:
            self.worker = Worker(self.folder, lambda text: log("-", text))
        except BaseException:
            self.server_close()
            raise

    def server_close(self) -> None:
        super().server_close()
        if hasattr(self, "worker"):
            self.worker.stop()
        if hasattr(self, "folder"):  # not if the address was not available
            shutil.rmtree(self.folder, ignore_errors=True)

    def facts(self) -> dict[str, Any]:
        """What ``GET /v1/device`` answers."""
        return {
            "protocol": PROTOCOL,
            "name": self.name,
            "identity": here().identity(self.name),
            **here().to_dict(),
            "threads": self.threads,
            "runtime": "onnxruntime",
            "versions": self.worker.versions,
            "anchor": self.anchor,
            "max_bytes": self.max_body,
            "limit_s": self.limit_s,
            "places": SLOTS,
        }

    def process_request(self, request: Any, client_address: Any) -> None:
        if self.connections.acquire(blocking=False):
            try:
                super().process_request(request, client_address)
            except BaseException:  # no thread can be started
                self.connections.release()
                raise
            return
        body = json.dumps({"error": "too many connections; try again"}).encode()
        head = f"HTTP/1.0 503 Busy\r\nRetry-After: {RETRY_AFTER_S}\r\nContent-Length: {len(body)}\r\n\r\n"
        try:
            request.settimeout(0)
            request.sendall(head.encode() + body)
        except OSError:
            pass
        self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.connections.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        log(client_address[0], one_line(f"connection ended: {sys.exc_info()[1]!r}"))


class Handler(Request):
    """The requests an agent answers."""

    server: AgentServer

    def endpoints(self) -> dict[tuple[str, str], Endpoint]:
        return {
            ("GET", "/v1/device"): lambda query: self.server.facts(),
            ("PUT", "/v1/anchor"): self._take_anchor,
            ("POST", "/v1/measure"): self._measure,
        }

    def authorise(self) -> None:
        scheme, _, given = self.headers.get("Authorization", "").partition(" ")
        correct = hmac.compare_digest(given.strip().encode("utf-8", "replace"), self.server.token)
        if scheme.lower() != "bearer" or not correct:
            raise RequestError(
                401, "wrong token; use the one the agent printed when it started", WWW_Authenticate="Bearer"
            )

    def _take_anchor(self, query: dict[str, str]) -> dict[str, Any]:
        length = self.body_length(MAX_ANCHOR)
        with self._slot():
            path, digest = self.receive_body(length, self.server.folder)
            try:
                with self._turn():
                    os.replace(path, self.server.folder / digest)
                    old, self.server.anchor = self.server.anchor, digest
                    if old not in (None, digest):
                        remove(self.server.folder / str(old))
            finally:
                remove(path)
        return {"anchor": digest}

    def _measure(self, query: dict[str, str]) -> dict[str, Any]:
        threads = self._whole_number(query, "threads", self.server.threads)
        batch = self._whole_number(query, "batch", MAX_BATCH)
        anchor = query.get("anchor")
        self._check_anchor(anchor)
        length = self.body_length(self.server.max_body)
        with self._slot():
            path, _ = self.receive_body(length, self.server.folder)
            try:
                with self._turn():
                    self._check_anchor(anchor)
                    samples = self._run(
                        {
                            "model": str(path),
                            "anchor": str(self.server.folder / anchor) if anchor else None,
                            "threads": threads,
                            "batch": batch,
                            "patience_s": self.server.limit_s / 3,  # for other measurements on this machine to end
                        }
                    )
            finally:
                remove(path)
        return {**samples, "threads": threads, "batch": batch}

    def _run(self, task: dict[str, Any]) -> dict[str, Any]:
        try:
            answer = self.server.worker.run(task, self.server.limit_s, self.is_disconnected)
        except TaskTimeout:
            text = f"the measurement took longer than {self.server.limit_s:g} s; start the agent with a longer --limit"
            raise RequestError(504, text) from None
        except AgentError as error:
            raise RequestError(500, str(error)) from None
        if "refused" in answer:
            raise RequestError(422, answer["refused"])
        return answer

    def _check_anchor(self, anchor: str | None) -> None:
        if anchor is not None and anchor != self.server.anchor:
            raise RequestError(409, "the agent does not have this anchor; send it with PUT /v1/anchor")

    @contextmanager
    def _slot(self) -> Iterator[None]:
        """Take one of the slots for measurements, or refuse the request."""
        if not self.server.slots.acquire(blocking=False):
            raise RequestError(503, "other measurements are waiting; try again later", Retry_After=str(RETRY_AFTER_S))
        try:
            yield
        finally:
            self.server.slots.release()

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Wait for the other measurements to end, unless the client hangs up."""
        while not self.server.turn.acquire(timeout=POLL_S):
            if self.is_disconnected():
                raise ClientDisconnected("the client hung up")
        try:
            yield
        finally:
            self.server.turn.release()

    def _whole_number(self, query: dict[str, str], name: str, high: int) -> int:
        text = query.get(name, "1")
        if not re.fullmatch(r"[0-9]{1,6}", text) or not 1 <= int(text) <= high:
            raise RequestError(400, f"{name} must be a whole number from 1 to {high}, got {text:.20}")
        return int(text)
