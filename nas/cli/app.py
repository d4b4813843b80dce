"""The command line itself and what its verbs share."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Any

import typer

from nas.latency.runtimes.base import RUNTIMES

app = typer.Typer(
    name="nas",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="""Search for the most accurate network that meets a latency budget measured on your device.

\b
Examples, one for each command:
  nas search --space mbconv --latency-target 66ms --data photos/
  nas resume results/mbconv-20260131-101500
  nas report results/mbconv-20260131-101500
  nas export results/mbconv-20260131-101500 --out shipped/
  nas measure mobilenet_v3_large efficientnet_b0@resolution=160
  nas count mobilenet_v2 --by block
  nas profile --space mbconv --out table.json
  nas spaces mbconv
  nas references
  nas devices show pixel1
  nas accuracy predict mobilenet_v3_large
  nas bench samplers nas-bench-macro_cifar10.json --cap 60M
  nas agent --write agent.py
  nas cache --clear --older-than 30d
""",
    epilog="Exit codes: 0 done, 1 failed, 2 bad input, 3 no network can meet the target, 130 interrupted (resumable).",
)

Space = Annotated[str, typer.Option("--space", help="Search space: a name (`nas spaces` lists them) or a YAML file.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
Runtime = Annotated[str, typer.Option("--runtime", help=f"Runtime of the network: {', '.join(RUNTIMES)}.")]
Threads = Annotated[int, typer.Option("--threads", help="Number of threads of the timed network.")]
Token = Annotated[
    str | None, typer.Option("--token", help="Token of the agent at http://HOST:PORT.  [default: $NAS_AGENT_TOKEN]")
]
Run = Annotated[Path, typer.Argument(help="Run folder.", show_default=False)]


def split_names(text: str) -> list[str]:
    """Names between commas; a comma followed by a multiplier belongs to its name (``a@width=0.5,resolution=160``)."""
    names = [name.strip() for name in re.split(r",(?!\s*\w+=)", text)]
    return [] if names == ["none"] else [name for name in names if name]


def show(data: Any, text: str, as_json: bool) -> None:
    """Print a result on stdout, for programs or for people."""
    typer.echo(json.dumps(data) if as_json else text)


def watcher_for(as_json: bool) -> Any:
    """A progress display on stderr, silent when a program reads the output."""
    from nas.cli.progress import watcher

    return watcher(quiet=as_json)
