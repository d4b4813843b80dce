"""One HTTP request to an agent: read within bounds of bytes and seconds, answered in JSON, logged in one line."""

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
from nas.latency.remote.process import ClientDisconnected
from nas.system.text import one_line

HEAD_S, HEAD_BYTES = 8.0, 32 << 10
IDLE_S, BODY_S = 10.0, 180.0
ANSWER_S = 10.0
DRAIN_S, DRAIN_BYTES = 2.0, 64 << 20
UNAUTHORISED_BYTES = 1 << 20  # instead of DRAIN_BYTES without the token
CHUNK = 256 << 10

Endpoint = Callable[[dict[str, str]], dict[str, Any]]


def log(client: str, text: str) -> None:
    """Log one line about a request, without the token."""
    print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {client} {text}", file=sys.stderr, flush=True)


def remove(path: Path) -> None:
    """Delete a file if it exists."""
    with suppress(OSError):
        path.unlink()


class RequestError(Exception):
    """The request is answered with an error."""

    def __init__(self, status: int, text: str, **headers: str) -> None:
        super().__init__(text)
        self.status, self.headers = status, headers


class BoundedReader(io.RawIOBase):
    """Reads from a socket within the bytes and seconds that are allowed."""

    def __init__(self, connection: socket.socket) -> None:
        super().__init__()
        self._connection = connection
        self.allow(HEAD_BYTES, HEAD_S)

    def allow(self, size: int, seconds: float) -> None:
        """Set the bounds from now on; they replace the earlier ones."""
        self._left, self._deadline = size, time.monotonic() + seconds

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        remaining = self._deadline - time.monotonic()
        if remaining <= 0 or self._left <= 0:
            raise socket.timeout("took too long, or sent too much")  # noqa: UP041  # not TimeoutError before 3.10
        self._connection.settimeout(min(remaining, IDLE_S))
        count = self._connection.recv_into(buffer, min(len(buffer), self._left))
        self._left -= count
        return count


class Request(BaseHTTPRequestHandler):
    """One connection, which carries one request; `authorise` and `endpoints` say who may request what."""

    server_version, sys_version = "nas-agent", ""

    def setup(self) -> None:
        super().setup()
        self.rfile.close()
        self._reader = BoundedReader(self.connection)
        self.rfile = io.BufferedReader(self._reader)
        self._begun, self._unread, self._drain_bytes = time.monotonic(), False, UNAUTHORISED_BYTES

    def authorise(self) -> None:
        """Raises `RequestError` unless this client may send requests; the body has not been read yet."""
        raise NotImplementedError

    def endpoints(self) -> dict[tuple[str, str], Endpoint]:
        """By method and path, the function that takes the query and returns the answer."""
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
            self.authorise()
            self._drain_bytes = DRAIN_BYTES
            endpoints = self.endpoints()
            if (self.command, url.path) not in endpoints:
                raise RequestError(404, "known: " + ", ".join(f"{method} {path}" for method, path in endpoints))
            query = {name: values[-1] for name, values in parse_qs(url.query, max_num_fields=20).items()}
            self._answer(200, endpoints[self.command, url.path](query))
        except RequestError as error:
            self._answer(error.status, {"error": one_line(error, MAX_ERROR)}, **error.headers)
        except ValueError as error:  # an invalid path or query
            self._answer(400, {"error": one_line(error, MAX_ERROR)})

    def body_length(self, high: int) -> int:
        """The length of the body in bytes; raises `RequestError` if it is missing or above `high`."""
        lengths = self.headers.get_all("Content-Length", [])
        if "Transfer-Encoding" in self.headers or len(lengths) != 1 or not re.fullmatch("[0-9]{1,15}", lengths[0]):
            raise RequestError(411, "send the model as the body, with its Content-Length")
        if int(lengths[0]) > high:
            raise RequestError(413, f"the body must have at most {high} bytes, got {lengths[0]}")
        return int(lengths[0])

    def receive_body(self, length: int, folder: Path) -> tuple[Path, str]:
        """Write the body to a new file in `folder`; returns the file and its SHA-256."""
        self._reader.allow(length, BODY_S)
        digest, left = hashlib.sha256(), length
        handle, name = tempfile.mkstemp(dir=folder)
        try:
            with os.fdopen(handle, "wb") as file:
                while left:
                    chunk = self.rfile.read1(min(left, CHUNK))
                    if not chunk:
                        raise ClientDisconnected("the client hung up in the middle of its body")
                    digest.update(chunk)
                    try:
                        file.write(chunk)
                    except OSError as error:
                        raise RequestError(507, f"this device cannot store the model: {error.strerror}") from None
                    left -= len(chunk)
        except BaseException:
            remove(Path(name))
            raise
        self._unread = False
        return Path(name), digest.hexdigest()

    def is_disconnected(self) -> bool:
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
        """Read on for a moment: closing a connection with unread bytes resets it, and the answer is lost."""
        self.connection.shutdown(socket.SHUT_WR)
        self._reader.allow(self._drain_bytes, DRAIN_S)
        buffer = bytearray(CHUNK)
        try:
            while self._reader.readinto(buffer):
                pass
        except OSError:
            pass

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer in JSON what the base class finds wrong with a request."""
        self._answer(int(code), {"error": one_line(message or "bad request", MAX_ERROR)})

    def log_request(self, code: Any = "-", size: Any = "-") -> None:
        method, path = getattr(self, "command", None) or "?", getattr(self, "path", "").partition("?")[0]
        log(self.client_address[0], one_line(f"{method} {path} {code} {time.monotonic() - self._begun:.2f} s", 160))

    def log_message(self, format: str, *values: Any) -> None:
        log(self.client_address[0], one_line(format % values, 160))
