"""The agent itself: an HTTP server that times ONNX models for whoever knows its token, one at a time.

Nothing it is sent is trusted. Before the token is known to be right, at most `HEAD_BYTES` are read, for at most
`HEAD_S`; connections, waiting measurements, bodies and their duration are bounded; bodies go to files, not to memory;
models run in a process of their own (`nas.latency.remote.worker`) that is ended when it takes too long, or when nobody
waits for its answer any more.
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
from nas.latency.remote.http import Fault, Request, Verb, log, remove
from nas.latency.remote.process import Broken, Gone, TooLong, Worker
from nas.system.machine import here, host
from nas.system.text import one_line

PROTOCOL = 1
PLACES = 4  # measurements under way: one runs, others upload or wait
CONNECTIONS = 24
MAX_ANCHOR = 16 << 20
MAX_BATCH = 1024
RETRY_AFTER_S = 2
CANCEL_S = 0.25  # how often the one who waits is looked at


class AgentServer(ThreadingMixIn, TCPServer):
    """Holds what the connections share.

    Args:
        address: host and port.
        token: that every request must bring.
        name: of the device, for people; None is its CPU.
        threads: that a measurement may use at most; None is all cores.
        limit_s: for one measurement.
        max_body: bytes of a model.

    Raises:
        Broken: the address cannot be listened at, or ONNX Runtime does not load.
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
        self.places = threading.BoundedSemaphore(PLACES)
        self.turn = threading.Lock()
        self.anchor: str | None = None
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        try:
            super().__init__(address, Handler)
        except (OSError, UnicodeError) as error:
            why = getattr(error, "strerror", None) or "no such address"
            text = f"cannot listen at {address[0]}:{address[1]}: {why}; give another --host or --port"
            raise Broken(one_line(text)) from None
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
        if hasattr(self, "folder"):  # not where the address could not be listened at
            shutil.rmtree(self.folder, ignore_errors=True)

    def facts(self) -> dict[str, Any]:
        """What ``GET /v1/device`` tells."""
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
            "places": PLACES,
        }

    def process_request(self, request: Any, client_address: Any) -> None:
        if self.connections.acquire(blocking=False):
            try:
                super().process_request(request, client_address)
            except BaseException:  # no thread to be had
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
    """What an agent answers."""

    server: AgentServer

    def verbs(self) -> dict[tuple[str, str], Verb]:
        return {
            ("GET", "/v1/device"): lambda query: self.server.facts(),
            ("PUT", "/v1/anchor"): self._take_anchor,
            ("POST", "/v1/measure"): self._measure,
        }

    def check(self) -> None:
        scheme, _, given = self.headers.get("Authorization", "").partition(" ")
        right = hmac.compare_digest(given.strip().encode("utf-8", "replace"), self.server.token)
        if scheme.lower() != "bearer" or not right:
            raise Fault(401, "wrong token; it was printed when the agent started", WWW_Authenticate="Bearer")

    def _take_anchor(self, query: dict[str, str]) -> dict[str, Any]:
        length = self.length(MAX_ANCHOR)
        with self._place():
            path, digest = self.received(length, self.server.folder)
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
        threads = self._whole(query, "threads", self.server.threads)
        batch = self._whole(query, "batch", MAX_BATCH)
        anchor = query.get("anchor")
        self._check_anchor(anchor)
        length = self.length(self.server.max_body)
        with self._place():
            path, _ = self.received(length, self.server.folder)
            try:
                with self._turn():
                    self._check_anchor(anchor)
                    held = str(self.server.folder / anchor) if anchor else None
                    task = {"model": str(path), "anchor": held, "threads": threads, "batch": batch}
                    found = self._timed(task | {"patience_s": self.server.limit_s / 3})
            finally:
                remove(path)
        return {**found, "threads": threads, "batch": batch}

    def _timed(self, task: dict[str, Any]) -> dict[str, Any]:
        try:
            found = self.server.worker.ask(task, self.server.limit_s, self.gone)
        except TooLong:
            text = f"the measurement took more than {self.server.limit_s:g} s; start the agent with a longer --limit"
            raise Fault(504, text) from None
        except Broken as error:
            raise Fault(500, str(error)) from None
        if "refused" in found:
            raise Fault(422, found["refused"])
        return found

    def _check_anchor(self, anchor: str | None) -> None:
        if anchor is not None and anchor != self.server.anchor:
            raise Fault(409, "this anchor is not here (any more); send it with PUT /v1/anchor")

    @contextmanager
    def _place(self) -> Iterator[None]:
        """One of the measurements that may be under way."""
        if not self.server.places.acquire(blocking=False):
            raise Fault(503, "other measurements are waiting; try again", Retry_After=str(RETRY_AFTER_S))
        try:
            yield
        finally:
            self.server.places.release()

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Wait for the others to end, as long as the client does."""
        while not self.server.turn.acquire(timeout=CANCEL_S):
            if self.gone():
                raise Gone("the client hung up")
        try:
            yield
        finally:
            self.server.turn.release()

    def _whole(self, query: dict[str, str], name: str, most: int) -> int:
        text = query.get(name, "1")
        if not re.fullmatch(r"[0-9]{1,6}", text) or not 1 <= int(text) <= most:
            raise Fault(400, f"{name} must be a whole number from 1 to {most}, got {text:.20}")
        return int(text)
