"""Starting an agent: ``python agent.py`` or ``nas agent``."""

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

from nas.latency.remote.bounds import LIMIT_S, MAX_BODY, PORT, TOKEN_VARIABLE
from nas.latency.remote.process import AgentError
from nas.latency.remote.server import AgentServer
from nas.latency.remote.worker import work

SAFE_TOKEN = 16  # characters


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
        host: address to listen on.
        port: port to listen on; 0 takes a free one, which is printed.
        token: token that clients must send; None generates one and prints it.
        name: name of the device for people; None takes that of its CPU.
        threads: largest number of threads of a measurement; None allows all cores.
        limit_s: longest duration of one measurement, in seconds.
        max_mb: largest size of a model, in MB.

    Raises:
        ValueError: an option is out of bounds; one line.
        OSError: the device has no room for temporary files.
        AgentError: the address is not available, or ONNX Runtime does not load.
    """
    generated = secrets.token_urlsafe(24) if not token else None
    token = token or generated or ""
    for option, value, is_valid, rule in (
        ("port", port, 0 <= port <= 65535, "from 0 to 65535"),
        ("threads", threads, threads is None or threads >= 1, "at least 1"),
        ("limit", limit_s, 1 <= limit_s <= 3600, "from 1 to 3600 seconds"),
        ("max-mb", max_mb, 1 <= max_mb <= 2000, "from 1 to 2000"),
        ("name", name, name is None or (1 <= len(name) <= 150 and name.isprintable()), "1 to 150 printable characters"),
    ):
        if not is_valid:
            raise ValueError(f"--{option} must be {rule}, got {value!r:.60}")
    if not re.fullmatch("[!-~]{1,200}", token):
        raise ValueError("--token must be up to 200 printable ASCII characters without spaces")
    with AgentServer((host, port), token, name, threads, limit_s, max_mb << 20) as server:
        reached = reachable(host)
        address = f"http://{f'[{reached}]' if ':' in reached else reached}:{server.server_address[1]}"
        say(f"agent of {server.name}, ONNX Runtime {server.worker.versions.get('onnxruntime')}, at {address}")
        if generated:
            say(f"token: {generated}")
        if not is_loopback(host):
            say("warning: plain HTTP can be read by others on the network; use a trusted one, or an SSH tunnel")
        if len(token) < SAFE_TOKEN:
            say(f"warning: a token shorter than {SAFE_TOKEN} characters can be guessed; give a longer one")
        signal.signal(signal.SIGTERM, _interrupt)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            say("agent ended")


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def say(text: str) -> None:
    """Print a line for the person who starts the agent."""
    print(text, flush=True)


def is_loopback(host: str) -> bool:
    """Whether `host` can be reached from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def reachable(host: str) -> str:
    """An address that other machines can use for `host`: if that means all addresses, then the one on the network, or
    the host name where there is no network."""
    with suppress(ValueError):
        if host and not ipaddress.ip_address(host).is_unspecified:
            return host
        with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(("192.0.2.1", 9))  # a documentation address (RFC 5737): a route is looked up, nothing is sent
            return str(probe.getsockname()[0])
        return socket.gethostname()
    return host


def main() -> int:
    """The command line of the agent's file."""
    if sys.argv[1:] == ["--worker"]:
        work()
        return 0
    parser = argparse.ArgumentParser(description="Time ONNX models for `nas --device http://HOST:PORT`.")
    default = "(default: %(default)s)"
    parser.add_argument("--host", default="127.0.0.1", help=f"address to listen on; 0.0.0.0 listens on all {default}")
    parser.add_argument("--port", type=int, default=PORT, help=f"port to listen on; 0 takes a free one {default}")
    parser.add_argument(
        "--token",
        default=os.environ.get(TOKEN_VARIABLE),
        help=f"token that clients must send (default: ${TOKEN_VARIABLE}, else a random one)",
    )
    parser.add_argument("--name", help="name of this device (default: its CPU)")
    parser.add_argument("--threads", type=int, help="largest number of threads of a measurement (default: all cores)")
    parser.add_argument(
        "--limit",
        metavar="S",
        type=float,
        default=LIMIT_S,
        help="longest measurement in s (default: %(default)g)",
    )
    parser.add_argument("--max-mb", type=int, default=MAX_BODY >> 20, help=f"largest model in MB {default}")
    given = parser.parse_args()
    try:
        serve(given.host, given.port, given.token, given.name, given.threads, given.limit, given.max_mb)
    except (ValueError, OSError, AgentError) as error:
        print(f"agent: {error}", file=sys.stderr)
        return 1 if isinstance(error, (OSError, AgentError)) else 2
    return 0
