"""How an agent is started: ``python agent.py``, or ``nas agent``."""

from __future__ import annotations

import argparse
import ipaddress
import os
import re
import secrets
import signal
import socket
import sys
from contextlib import suppress

from nas.latency.remote.bounds import LIMIT_S, MAX_BODY, PORT
from nas.latency.remote.process import Broken
from nas.latency.remote.server import AgentServer
from nas.latency.remote.worker import work

TOKEN_VARIABLE = "NAS_AGENT_TOKEN"
LONG_TOKEN = 16


def serve(
    host: str = "127.0.0.1",
    port: int = PORT,
    token: str | None = None,
    name: str | None = None,
    threads: int | None = None,
    limit_s: float = LIMIT_S,
    max_mb: int = MAX_BODY >> 20,
) -> None:
    """Serve until interrupted.

    Args:
        host: address to listen at.
        port: 0 takes a free one and prints it.
        token: that clients must bring; None makes one up and prints it.
        name: of the device, for people; None is its CPU.
        threads: that a measurement may use at most; None is all cores.
        limit_s: for one measurement, in seconds.
        max_mb: largest model, in MB.

    Raises:
        ValueError: an option out of bounds; one line.
        OSError: the device has no room for what the agent keeps.
        Broken: the address cannot be listened at, or ONNX Runtime does not load.
    """
    made = secrets.token_urlsafe(24) if not token else None
    token = token or made or ""
    for option, good, rule in (
        ("port", 0 <= port <= 65535, "from 0 to 65535"),
        ("threads", threads is None or threads >= 1, "at least 1"),
        ("limit", 1 <= limit_s <= 3600, "from 1 to 3600 seconds"),
        ("max-mb", 1 <= max_mb <= 2000, "from 1 to 2000"),
        ("token", re.fullmatch("[!-~]{1,200}", token), "up to 200 printable ASCII characters without spaces"),
        ("name", name is None or (1 <= len(name) <= 150 and name.isprintable()), "1 to 150 printable characters"),
    ):
        if not good:
            raise ValueError(f"--{option} must be {rule}")
    with AgentServer((host, port), token, name, threads, limit_s, max_mb << 20) as server:
        reached = reachable(host)
        address = f"http://{f'[{reached}]' if ':' in reached else reached}:{server.server_address[1]}"
        say(f"agent of {server.name}, ONNX Runtime {server.worker.versions.get('onnxruntime')}, at {address}")
        if made:
            say(f"token: {made}")
        if not is_loopback(host):
            say("warning: plain HTTP, which others on the way can read; use a trusted network or an SSH tunnel")
        if len(token) < LONG_TOKEN:
            say(f"warning: a token of less than {LONG_TOKEN} characters can be guessed")
        signal.signal(signal.SIGTERM, _interrupt)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            say("agent ended")


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def say(text: str) -> None:
    """For whoever starts the agent."""
    print(text, flush=True)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def reachable(host: str) -> str:
    """What others can type for `host`: where that is all addresses, the one towards the network, else the name."""
    with suppress(ValueError):
        if host and not ipaddress.ip_address(host).is_unspecified:
            return host
        with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(("192.0.2.1", 9))  # of no machine (RFC 5737): a route is looked up, nothing is sent
            return str(probe.getsockname()[0])
        return socket.gethostname()
    return host


def main() -> int:
    """The command line of the file on its own."""
    if sys.argv[1:] == ["--worker"]:
        work()
        return 0
    parser = argparse.ArgumentParser(description="Time ONNX models for `nas --device http://HOST:PORT`.")
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen at; 0.0.0.0 is all (default: %(default)s)"
    )
    parser.add_argument("--port", type=int, default=PORT, help="default: %(default)s")
    parser.add_argument(
        "--token", default=os.environ.get(TOKEN_VARIABLE), help=f"default: ${TOKEN_VARIABLE}, else a random one"
    )
    parser.add_argument("--name", help="of this device, for people (default: its CPU)")
    parser.add_argument("--threads", type=int, help="a measurement may use at most (default: all cores)")
    parser.add_argument(
        "--limit", metavar="S", type=float, default=LIMIT_S, help="of a measurement (default: %(default)g)"
    )
    parser.add_argument("--max-mb", type=int, default=MAX_BODY >> 20, help="largest model (default: %(default)s)")
    given = parser.parse_args()
    try:
        serve(given.host, given.port, given.token, given.name, given.threads, given.limit, given.max_mb)
    except (ValueError, OSError, Broken) as error:
        print(f"agent: {error}", file=sys.stderr)
        return 1 if isinstance(error, (OSError, Broken)) else 2
    return 0
