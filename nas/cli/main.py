"""The command line: strings in, api calls, exit codes out. Results go to stdout, all else to stderr."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

import typer

# In the order in which `nas --help` lists their verbs.
from nas.cli import agent, count, devices, measure, references, runs, spaces  # noqa: F401  # importing them adds their verbs
from nas.cli.app import app
from nas.system.errors import InputError, NasError

INTERRUPTED = 130


def _with_ray_alone(arguments: list[str]) -> list[str]:
    """``--ray`` may stand alone: then it means ``--ray auto``."""
    expanded: list[str] = []
    for at, argument in enumerate(arguments):
        expanded.append(argument)
        following = arguments[at + 1] if at + 1 < len(arguments) else "-"
        if argument == "--ray" and following.startswith("-"):
            expanded.append("auto")
    return expanded


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and exit with the documented code."""
    try:
        given = sys.argv[1:] if arguments is None else arguments
        code = app(_with_ray_alone(given) or ["--help"], standalone_mode=False) or 0
    except NasError as error:
        code = error.exit_code
        typer.echo(f"nas: {error}", err=True)
    except typer.TyperException as error:
        code = InputError.exit_code
        typer.echo(f"nas: {error.format_message().rstrip('.')}; see nas --help", err=True)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except BrokenPipeError:  # the reader of our output has gone: nothing is left to tell it
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
        code = 1
    sys.exit(code)
