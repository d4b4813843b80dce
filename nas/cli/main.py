"""The command line: strings in, API calls, exit codes out. Results go to stdout, everything else to stderr."""

from __future__ import annotations

import io
import os
import re
import sys
from typing import Any, NoReturn

import typer

# Importing them adds their commands, in the order in which `nas --help` lists them.
from nas.cli import search, report, export, measure, count, profile, spaces, references, devices, accuracy, agent, cache  # noqa: F401  # isort: skip
from nas.cli import accuracy_check, bench  # noqa: F401  # isort: skip
from nas.cli.app import app
from nas.system.errors import InputError, NasError

INTERRUPTED = 130


_RAY_ADDRESS = re.compile(r"auto|local|\S+:\d+")  # as ray.init takes it: also ray://HOST:PORT


def _with_ray_address(arguments: list[str]) -> list[str]:
    """Expand ``--ray`` without an address to ``--ray auto``, also in ``nas resume --ray RUN``."""
    expanded: list[str] = []
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=True):
        expanded.append(argument)
        if argument == "--ray" and not _RAY_ADDRESS.fullmatch(following):
            expanded.append("auto")
    return expanded


def _names(context: Any) -> list[str]:
    """The words after ``nas`` that lead to a command, such as ``devices show``."""
    if context is None or context.parent is None:
        return []
    return [*_names(context.parent), str(context.info_name)]


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and exit with the documented code."""
    for stream in (sys.stdout, sys.stderr):  # names of files, and signs such as ±, in any locale
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        given = sys.argv[1:] if arguments is None else arguments
        code = app(_with_ray_address(given) or ["--help"], standalone_mode=False) or 0
    except NasError as error:
        code = error.exit_code
        typer.echo(f"nas: {error}", err=True)
    except typer.TyperException as error:
        code = InputError.exit_code
        context = getattr(error, "ctx", None)
        command = " ".join(["nas", *_names(context)])
        typer.echo(f"nas: {error.format_message().rstrip('.')}; see {command} --help", err=True)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except BrokenPipeError:  # nobody reads our output any more
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
        code = 1
    sys.exit(code)
