"""Requests to an agent over HTTP: addresses and answers are checked, and lost connections are retried."""

from __future__ import annotations

import http.client
import json
import os
import random
import re
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import SplitResult, urlsplit

from nas.latency.remote.bounds import MAX_ERROR, PORT, TOKEN_VARIABLE
from nas.latency.remote.server import PROTOCOL
from nas.latency.sampling import Samples
from nas.system.errors import InputError, NasError
from nas.system.machine import Machine
from nas.system.text import one_line
from nas.system.validate import is_number, is_whole

TRIES = 8
MAX_CRASHES = 2  # of the agent's measuring process, for one model
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 20.0
CONNECT_S = 10.0
MAX_ANSWER = 32 << 20
MAX_SAMPLES = 1_000_000
MAX_CORES = 4096
MAX_TEXT = 150  # characters of a name or version
NO_ANCHOR, REFUSED = 409, (400, 404, 411, 413, 422, 504, 507)  # HTTP status
CHECK_ADDRESS = "check the address (nas agent prints it)"
CONNECTION_ERRORS = (OSError, http.client.HTTPException)


class AnchorMissing(Exception):
    """The agent does not have the anchor, or no longer has it."""


class Link:
    """The connection to one agent.

    Args:
        url: ``http://HOST:PORT``, or ``https`` behind a proxy that adds TLS.
        token: the agent's token; None takes ``NAS_AGENT_TOKEN``.
        sleep: waits so many seconds between two tries.

    Raises:
        InputError: the address is invalid, or there is no token.
    """

    def __init__(self, url: str, token: str | None = None, sleep: Callable[[float], object] = time.sleep) -> None:
        parts, port = check_address(url)
        self.host, self.port, self.secure = str(parts.hostname), port, parts.scheme == "https"
        shown = f"[{self.host}]" if ":" in self.host else self.host
        self.url = f"{parts.scheme}://{shown}:{port}"
        self._token, self._sleep = token or os.environ.get(TOKEN_VARIABLE, ""), sleep
        if not re.fullmatch("[!-~]{1,200}", self._token):
            raise InputError(
                f"the agent at {self.url} requires the token it printed when it started; give it with --token or in "
                f"{TOKEN_VARIABLE}"
            )

    def request(
        self, method: str, path: str, body: bytes = b"", about: str = "its device", timeout_s: float = CONNECT_S
    ) -> dict[str, Any]:
        """The agent's answer, a JSON object.

        Args:
            method: method of HTTP.
            path: path with the query.
            body: content to send.
            about: what the request is about, for errors.
            timeout_s: how long to wait for the answer once the body is sent.

        Raises:
            InputError: the token is wrong.
            AnchorMissing: the anchor must be sent first.
            NasError: the agent refused, or did not answer within `TRIES` tries; names `about` and says what to do.
        """
        crashes = 0
        for attempt in range(TRIES):
            retry_after_s = 0.0
            try:
                status, answer, retry_after_s = self._try(method, path, body, timeout_s)
            except CONNECTION_ERRORS as error:
                status, reason = 0, one_line(error, 100)
            else:
                reason = one_line(answer.get("error") or f"HTTP status {status}", MAX_ERROR)
                if status == 200:
                    return answer
            self._raise_if_final(status, reason, about)
            crashes += status == 500
            if attempt == TRIES - 1 or crashes == MAX_CRASHES:
                break
            wait_s = min(LONGEST_WAIT_S, max(FIRST_WAIT_S * 2**attempt, retry_after_s))
            self._sleep(wait_s * random.uniform(0.75, 1.25))
        raise NasError(
            f"the agent at {self.url} did not answer for {about} after {attempt + 1} tries ({reason}); check that it "
            "is running (python agent.py) and can be reached from this machine, then try again"
        )

    def _raise_if_final(self, status: int, reason: str, about: str) -> None:
        """Raise for an answer that another try would not change."""
        if status == 401:
            raise InputError(
                f"the agent at {self.url} rejects this token; give the one it printed when it started, with --token or "
                f"in {TOKEN_VARIABLE}"
            )
        if status == NO_ANCHOR:
            raise AnchorMissing
        if status in REFUSED:
            raise NasError(f"the agent at {self.url} refused {about}: {reason}")
        if status not in (0, 500, 503):
            raise NasError(f"{self.url} does not answer like an agent, for {about}: {reason}; {CHECK_ADDRESS}")

    def _try(self, method: str, path: str, body: bytes, timeout_s: float) -> tuple[int, dict[str, Any], float]:
        """HTTP status, answer, and the seconds to wait before the next try."""
        kind = http.client.HTTPSConnection if self.secure else http.client.HTTPConnection
        connection = kind(self.host, self.port, timeout=CONNECT_S)
        try:
            connection.connect()
            connection.sock.settimeout(max(timeout_s, CONNECT_S))
            with suppress(BrokenPipeError, ConnectionResetError):  # the agent may answer before it has read all
                connection.request(method, path, body or None, {"Authorization": f"Bearer {self._token}"})
            response = connection.getresponse()
            content = response.read(MAX_ANSWER + 1)
        finally:
            connection.close()
        if response.length or len(content) > MAX_ANSWER:
            raise http.client.HTTPException("the answer is incomplete or too large")
        try:
            answer = json.loads(content)
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):
            answer = {}
            if response.status == 200:
                raise NasError(f"{self.url} does not answer like an agent; {CHECK_ADDRESS}")
        retry_after = response.getheader("Retry-After", "")
        return response.status, answer, float(retry_after) if re.fullmatch("[0-9]{1,2}", retry_after) else 0.0


def check_address(url: str) -> tuple[SplitResult, int]:
    """The parts of an agent's address, and its port. Raises `InputError` if it is invalid."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise InputError(f"an agent's address must be http://HOST:PORT, got {url!r:.80}") from None
    if parts.username is not None or parts.password is not None:
        raise InputError(
            "an agent's address must not contain user:password@, which would be stored in run.json; give the token "
            f"with --token or in {TOKEN_VARIABLE}"
        )
    plain = parts.path in ("", "/") and not parts.query and not parts.fragment and url.isprintable()
    if parts.scheme not in ("http", "https") or not host or not plain or " " in url or port == 0:
        shown = f"{parts.scheme}://{host}"  # what follows may be a secret
        raise InputError(f"an agent's address must be http://HOST:PORT with nothing after it, got {shown!r:.80}")
    return parts, port or (443 if parts.scheme == "https" else PORT)


def check_facts(answer: Mapping[str, Any], url: str) -> dict[str, Any]:
    """What an agent reports about itself, checked: threads, max_bytes, limit_s, places, name, identity, version,
    machine, anchor.

    Raises:
        NasError: the agent is of another version, or reports something impossible.
    """
    if answer.get("protocol") != PROTOCOL:
        raise NasError(
            f"the agent at {url} is of another version; write its file again (nas agent --write agent.py), copy it to "
            "the device, and start it there"
        )
    facts: dict[str, Any] = {}
    for name, high in (("threads", 1024), ("max_bytes", 1 << 40), ("limit_s", 3600), ("places", 64)):
        value = answer.get(name)
        if not is_number(value) or not 1 <= value <= high:
            raise _impossible(url, name, value)
        facts[name] = value
    versions = answer.get("versions")
    texts = {"name": answer.get("name"), "identity": answer.get("identity")}
    texts["version"] = versions.get("onnxruntime") if isinstance(versions, dict) else None
    for name, text in texts.items():
        if not isinstance(text, str) or not one_line(text, MAX_TEXT).strip():
            raise _impossible(url, name, text)
        facts[name] = one_line(text, MAX_TEXT)
    anchor = answer.get("anchor")
    return facts | {"machine": _machine_of(answer, url), "anchor": anchor if isinstance(anchor, str) else None}


def _machine_of(answer: Mapping[str, Any], url: str) -> Machine:
    """The machine an agent runs on; its host name may be empty."""
    names = ("cpu", "machine", "system", "node")
    for name in names:
        if not isinstance(answer.get(name), str):
            raise _impossible(url, name, answer.get(name))
    if not is_whole(answer.get("cores"), 1, MAX_CORES):
        raise _impossible(url, "cores", answer.get("cores"))
    cpu, machine, system, node = (one_line(answer[name], MAX_TEXT) for name in names)
    return Machine(cpu, int(answer["cores"]), machine, system, node)


def _impossible(url: str, name: str, value: object) -> NasError:
    return NasError(f"the agent at {url} reports {name} {value!r:.40}, which cannot be; start it again")


def check_samples(answer: Mapping[str, Any], url: str, about: str) -> Samples:
    """The durations in an answer, checked; `about` is what was measured, for errors. Raises `NasError`."""
    rows = {}
    for name in ("runs", "rounds", "anchors"):
        values = answer.get(name)
        if not isinstance(values, list) or not 1 <= len(values) <= MAX_SAMPLES or not all(map(is_duration, values)):
            raise NasError(f"the agent at {url} answered for {about} without durations ({name}); start it again")
        rows[name] = tuple(map(float, values))
    if len(rows["rounds"]) != len(rows["anchors"]):
        raise NasError(f"the agent at {url} answered for {about} with unequal rounds and anchors; start it again")
    return Samples(**rows)


def is_duration(value: object) -> bool:
    """Whether `value` can be a time in seconds or ms."""
    return is_number(value) and 0 < value < 1e5
