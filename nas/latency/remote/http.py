"""One request at an agent: read within bounds of bytes and seconds, answered in JSON, noted in one line."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import select
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from nas.latency.remote.bounds import MAX_ERROR
from nas.latency.remote.process import Gone
from nas.system.text import one_line

HEAD_S, HEAD_BYTES = 8.0, 32 << 10
IDLE_S, BODY_S = 10.0, 180.0
ANSWER_S = 10.0
DRAIN_S, DRAIN_BYTES = 2.0, 64 << 20
STRANGER_BYTES = 1 << 20  # in place of DRAIN_BYTES
CHUNK = 256 << 10

Verb = Callable[[dict[str, str]], dict[str, Any]]


def log(client: str, text: str) -> None:
    """One line about one request, for whoever looks after the device. Never the token."""
    print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {client} {text}", file=sys.stderr, flush=True)


def remove(path: Path) -> None:
    """Delete a file, if it is there."""
    with suppress(OSError):
        path.unlink()


class Fault(Exception):
    """A request that gets an error as its answer."""

    def __init__(self, status: int, text: str, **headers: str) -> None:
        super().__init__(text)
        self.status, self.headers = status, headers


class BoundedReader(io.RawIOBase):
    """What a socket sends, as long as it keeps to the bytes and seconds it has been allowed."""

    def __init__(self, connection: socket.socket) -> None:
        super().__init__()
        self._connection = connection
        self.allow(HEAD_BYTES, HEAD_S)

    def allow(self, most: int, seconds: float) -> None:
        """Bounds from now on, in place of the earlier ones."""
        self._left, self._end = most, time.monotonic() + seconds

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        remaining = self._end - time.monotonic()
        if remaining <= 0 or self._left <= 0:
            raise socket.timeout("took too long, or sent too much")  # noqa: UP041  # before 3.10 no TimeoutError
        self._connection.settimeout(min(remaining, IDLE_S))
        count = self._connection.recv_into(buffer, min(len(buffer), self._left))
        self._left -= count
        return count


class Request(BaseHTTPRequestHandler):
    """One connection, which is one request. Who may ask for what is said by `check` and `verbs`."""

    server_version, sys_version = "nas-agent", ""

    def setup(self) -> None:
        super().setup()
        self.rfile.close()
        self._reader = BoundedReader(self.connection)
        self.rfile = io.BufferedReader(self._reader)
        self._begun, self._unread, self._drained = time.monotonic(), False, STRANGER_BYTES

    def check(self) -> None:
        """Raises `Fault` unless this client may ask at all; the body has not been read yet."""
        raise NotImplementedError

    def verbs(self) -> dict[tuple[str, str], Verb]:
        """What answers which method and path: from the query to the answer."""
        raise NotImplementedError

    def do_GET(self) -> None:
        self._serve()

    def do_PUT(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def _serve(self) -> None:
        try:
            url = urlsplit(self.path)
            self._unread = any(name in self.headers for name in ("Content-Length", "Transfer-Encoding"))
            self.check()
            self._drained = DRAIN_BYTES
            verbs = self.verbs()
            if (self.command, url.path) not in verbs:
                raise Fault(404, "there are " + ", ".join(f"{method} {path}" for method, path in verbs))
            query = {name: values[-1] for name, values in parse_qs(url.query, max_num_fields=20).items()}
            self._answer(200, verbs[self.command, url.path](query))
        except Fault as fault:
            self._answer(fault.status, {"error": one_line(fault, MAX_ERROR)}, **fault.headers)
        except ValueError as error:  # a path or query that is none
            self._answer(400, {"error": one_line(error, MAX_ERROR)})

    def length(self, most: int) -> int:
        lengths = self.headers.get_all("Content-Length", [])
        if "Transfer-Encoding" in self.headers or len(lengths) != 1 or not re.fullmatch("[0-9]{1,15}", lengths[0]):
            raise Fault(411, "send the model as the body, with its Content-Length")
        if int(lengths[0]) > most:
            raise Fault(413, f"a model has at most {most} bytes here, got {lengths[0]}")
        return int(lengths[0])

    def received(self, length: int, folder: Path) -> tuple[Path, str]:
        """The body as a file in `folder`, and its hash."""
        self._reader.allow(length, BODY_S)
        digest, left = hashlib.sha256(), length
        handle, name = tempfile.mkstemp(dir=folder)
        try:
            with os.fdopen(handle, "wb") as file:
                while left:
                    chunk = self.rfile.read1(min(left, CHUNK))
                    if not chunk:
                        raise Gone("the client hung up amid its body")
                    digest.update(chunk)
                    try:
                        file.write(chunk)
                    except OSError as error:
                        raise Fault(507, f"this device cannot keep the model: {error.strerror}") from None
                    left -= len(chunk)
        except BaseException:
            remove(Path(name))
            raise
        self._unread = False
        return Path(name), digest.hexdigest()

    def gone(self) -> bool:
        """Whether the client has hung up."""
        try:
            if not select.select([self.connection], [], [], 0)[0]:
                return False
            return not self.connection.recv(1, socket.MSG_PEEK)
        except OSError:
            return True

    def _answer(self, status: int, data: dict[str, Any], **headers: str) -> None:
        body = json.dumps(data).encode()
        self.connection.settimeout(ANSWER_S)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        if self._unread:
            self._drain()

    def _drain(self) -> None:
        """Read on for a moment: closed with bytes unread, a connection is reset and the answer with it."""
        self.connection.shutdown(socket.SHUT_WR)
        self._reader.allow(self._drained, DRAIN_S)
        buffer = bytearray(CHUNK)
        try:
            while self._reader.readinto(buffer):
                pass
        except OSError:
            pass

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the base class finds wrong with a request, as JSON."""
        self._answer(int(code), {"error": one_line(message or "bad request", MAX_ERROR)})

    def log_request(self, code: Any = "-", size: Any = "-") -> None:
        method, path = getattr(self, "command", None) or "?", getattr(self, "path", "").partition("?")[0]
        log(self.client_address[0], one_line(f"{method} {path} {code} {time.monotonic() - self._begun:.2f} s", 160))

    def log_message(self, format: str, *values: Any) -> None:
        log(self.client_address[0], one_line(format % values, 160))
