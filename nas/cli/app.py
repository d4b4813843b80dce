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
Examples, one for each verb:
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
  nas agent --write agent.py
""",
    epilog="Exit codes: 0 done, 1 failed, 2 bad input, 3 no network can meet the target, 130 interrupted (resumable).",
)

Space = Annotated[str, typer.Option("--space", help="A space by name (`nas spaces`) or a path to a .yaml file.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
Runtime = Annotated[str, typer.Option("--runtime", help=f"What runs the network: {', '.join(RUNTIMES)}.")]
Threads = Annotated[int, typer.Option("--threads", help="Threads of the timed network.")]
Token = Annotated[
    str | None, typer.Option("--token", help="Of an agent (http://HOST:PORT).  [default: $NAS_AGENT_TOKEN]")
]
Run = Annotated[Path, typer.Argument(help="The folder of a run.", show_default=False)]


def split_names(text: str) -> list[str]:
    """Names between commas; a comma followed by a multiplier belongs to its name (``a@width=0.5,resolution=160``)."""
    return [] if text == "none" else re.split(r",(?!\w+=)", text)


def show(data: Any, text: str, as_json: bool) -> None:
    typer.echo(json.dumps(data) if as_json else text)


def watcher_for(as_json: bool) -> Any:
    from nas.cli.progress import watcher

    return watcher(quiet=as_json)
