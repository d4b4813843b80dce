"""Asking an agent over HTTP: the address and the answers are checked, lost connections are tried again."""

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

from nas.latency.remote.bounds import MAX_ERROR, PORT
from nas.latency.remote.main import TOKEN_VARIABLE
from nas.latency.remote.server import PROTOCOL
from nas.latency.sampling import Samples
from nas.system.errors import InputError, NasError
from nas.system.machine import Machine
from nas.system.text import one_line
from nas.system.validate import is_number, is_whole

TRIES = 8
CRASHES = 2  # of the agent's measuring process, over one model
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 20.0
CONNECT_S = 10.0
MAX_ANSWER = 32 << 20
MAX_SAMPLES = 1_000_000
MAX_CORES = 4096
NOT_HERE, REFUSED = 409, (400, 404, 411, 413, 422, 504, 507)

Lost = (OSError, http.client.HTTPException)


class NoAnchor(Exception):
    """The agent does not have the anchor (any more)."""


class Link:
    """How one agent is reached.

    Args:
        url: ``http://HOST:PORT``, or ``https`` where a proxy adds it.
        token: None is that of ``NAS_AGENT_TOKEN``.
        sleep: waits between two tries.

    Raises:
        InputError: not such an address, or no token.
    """

    def __init__(self, url: str, token: str | None = None, sleep: Callable[[float], object] = time.sleep) -> None:
        parts, port = check_address(url)
        self.host, self.port, self.secure = str(parts.hostname), port, parts.scheme == "https"
        shown = f"[{self.host}]" if ":" in self.host else self.host
        self.url = f"{parts.scheme}://{shown}:{port}"
        self._token, self._sleep = token or os.environ.get(TOKEN_VARIABLE, ""), sleep
        if not re.fullmatch("[!-~]{1,200}", self._token):
            raise InputError(
                f"the agent at {self.url} wants its token, printed when it started; give it with --token or in "
                f"{TOKEN_VARIABLE}"
            )

    def ask(
        self, method: str, path: str, body: bytes = b"", about: str = "its device", patience_s: float = CONNECT_S
    ) -> dict[str, Any]:
        """The answer, an object.

        Args:
            method: of HTTP.
            path: with the query.
            body: to send.
            about: what is affected if it fails, for people.
            patience_s: for the answer, once the body is sent.

        Raises:
            InputError: the token is wrong.
            NoAnchor: the anchor has to be sent first.
            NasError: it refused, or it was not reached within `TRIES` tries; names `about` and the way out.
        """
        crashes = 0
        for attempt in range(TRIES):
            after = 0.0
            try:
                status, told, after = self._once(method, path, body, patience_s)
            except Lost as error:
                status, reason = 0, one_line(error, 100)
            else:
                reason = one_line(told.get("error") or f"HTTP status {status}", MAX_ERROR)
                if status == 200:
                    return told
            self._give_up_on(status, reason, about)
            crashes += status == 500
            if attempt == TRIES - 1 or crashes == CRASHES:
                break
            wait = min(LONGEST_WAIT_S, max(FIRST_WAIT_S * 2**attempt, after))
            self._sleep(wait * random.uniform(0.75, 1.25))
        raise NasError(
            f"the agent at {self.url} did not answer for {about} after {attempt + 1} tries ({reason}); see that it "
            "runs there (python agent.py) and can be reached from here, then go on"
        )

    def _give_up_on(self, status: int, reason: str, about: str) -> None:
        """Raise for an answer that another try would not change."""
        if status == 401:
            raise InputError(
                f"the agent at {self.url} does not take this token; give the one it printed when it started, with "
                f"--token or in {TOKEN_VARIABLE}"
            )
        if status == NOT_HERE:
            raise NoAnchor
        if status in REFUSED:
            raise NasError(f"the agent at {self.url} refused {about}: {reason}")
        if status not in (0, 500, 503):
            raise NasError(f"{self.url} does not answer as an agent does, for {about}: {reason}")

    def _once(self, method: str, path: str, body: bytes, patience_s: float) -> tuple[int, dict[str, Any], float]:
        """Status, answer, and the seconds it asks to wait."""
        kind = http.client.HTTPSConnection if self.secure else http.client.HTTPConnection
        connection = kind(self.host, self.port, timeout=CONNECT_S)
        try:
            connection.connect()
            connection.sock.settimeout(max(patience_s, CONNECT_S))
            with suppress(BrokenPipeError, ConnectionResetError):  # it answers before it has read all, perhaps
                connection.request(method, path, body or None, {"Authorization": f"Bearer {self._token}"})
            response = connection.getresponse()
            content = response.read(MAX_ANSWER + 1)
        finally:
            connection.close()
        if response.length or len(content) > MAX_ANSWER:
            raise http.client.HTTPException("a part of an answer, or too large a one")
        try:
            told = json.loads(content)
        except (ValueError, RecursionError):
            told = None
        if not isinstance(told, dict):
            told = {}
            if response.status == 200:
                raise NasError(f"{self.url} does not answer as an agent does")
        after = response.getheader("Retry-After", "")
        return response.status, told, float(after) if re.fullmatch("[0-9]{1,2}", after) else 0.0


def check_address(url: str) -> tuple[SplitResult, int]:
    """The parts of an agent's address, and its port; raises as `Link`."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise InputError(f"not an address of an agent: {url!r:.80}; give http://HOST:PORT") from None
    if parts.username is not None or parts.password is not None:
        raise InputError(
            "an agent's address with user:password@ is not taken: it would be kept in run.json; give the token with "
            f"--token or in {TOKEN_VARIABLE}"
        )
    plain = parts.path in ("", "/") and not parts.query and not parts.fragment and url.isprintable()
    if parts.scheme not in ("http", "https") or not host or not plain or " " in url or port == 0:
        shown = f"{parts.scheme}://{host}"
        raise InputError(f"not an address of an agent: {shown!r:.80}, with nothing after it; give http://HOST:PORT")
    return parts, port or (443 if parts.scheme == "https" else PORT)


def facts_of(told: Mapping[str, Any], url: str) -> dict[str, Any]:
    """What an agent tells of itself, checked: threads, max_bytes, limit_s, places, name, identity, version, anchor.

    Raises:
        NasError: it is of another version, or tells what cannot be.
    """
    if told.get("protocol") != PROTOCOL:
        raise NasError(
            f"{url} is no agent of this version; write its file again (nas agent --write agent.py) and start that there"
        )
    facts: dict[str, Any] = {}
    for name, most in (("threads", 1024), ("max_bytes", 1 << 40), ("limit_s", 3600), ("places", 64)):
        value = told.get(name)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 1 <= value <= most:
            raise NasError(f"the agent at {url} tells of {name} {value!r:.40}; start it again")
        facts[name] = value
    versions = told.get("versions")
    texts = {"name": told.get("name"), "identity": told.get("identity")}
    texts["version"] = versions.get("onnxruntime") if isinstance(versions, dict) else None
    for name, text in texts.items():
        if not isinstance(text, str) or not one_line(text, 150).strip():
            raise NasError(f"the agent at {url} does not tell its {name}; start it again")
        facts[name] = one_line(text, 150)
    anchor = told.get("anchor")
    return facts | {"machine": _machine_of(told, url), "anchor": anchor if isinstance(anchor, str) else None}


def _machine_of(told: Mapping[str, Any], url: str) -> Machine:
    """The machine an agent runs on; its host name may be empty."""
    for name in ("cpu", "machine", "system", "node"):
        if not isinstance(told.get(name), str):
            raise NasError(f"the agent at {url} does not report its {name}; start it again")
    if not is_whole(told.get("cores"), 1, MAX_CORES):
        raise NasError(f"the agent at {url} reports cores {told.get('cores')!r:.40}; start it again")
    cpu, machine, system, node = (one_line(told[name], 150) for name in ("cpu", "machine", "system", "node"))
    return Machine(cpu, int(told["cores"]), machine, system, node)


def samples_of(told: Mapping[str, Any], url: str, about: str) -> Samples:
    """Durations in an answer, checked; `about` is what was measured, for people. Raises `NasError`."""
    rows = {}
    for name in ("runs", "rounds", "anchors"):
        values = told.get(name)
        if not isinstance(values, list) or not 1 <= len(values) <= MAX_SAMPLES or not all(map(is_duration, values)):
            raise NasError(f"the agent at {url} answered for {about} without durations ({name}); start it again")
        rows[name] = tuple(map(float, values))
    if len(rows["rounds"]) != len(rows["anchors"]):
        raise NasError(f"the agent at {url} answered for {about} with rounds that have no anchors; start it again")
    return Samples(**rows)


def is_duration(value: object) -> bool:
    """Whether `value` can be a time in seconds or ms."""
    return is_number(value) and 0 < value < 1e5
