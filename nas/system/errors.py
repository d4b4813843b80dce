"""The kinds of fault this program knows. Each names the exit code of the command line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class NasError(Exception):
    """Something failed while working; exit code 1."""

    exit_code = 1


class InputError(NasError, ValueError):
    """What was given cannot be used: one line with the rule, the value and the way out; exit code 2."""

    exit_code = 2


class InfeasibleError(NasError, ValueError):
    """No architecture of the space can meet the latency target; exit code 3."""

    exit_code = 3


class TargetMissedError(NasError, RuntimeError):
    """What was exported, or every network that a search found, was measured above the latency target; exit code 1."""


class RunBusyError(InputError):
    """Another process is working on this run folder; exit code 2."""


def known(names: Iterable[object]) -> str:
    """``known: a, b, c``: the way out of every unknown-name error."""
    return "known: " + ", ".join(str(name) for name in names)


def nearest(name: str, names: Sequence[str]) -> str:
    """As `known`, for long lists: only the names most like `name`, if any are.

    >>> nearest("mobilenet_v9", [f"net_{at}" for at in range(20)] + ["mobilenet_v2"])
    'did you mean mobilenet_v2? (21 are known)'
    """
    close = difflib.get_close_matches(name, names, 3)
    if len(names) > 40 and not close:
        return f"none of the {len(names)} known is like it"
    if len(names) <= 12 or not close:
        return known(names)
    return f"did you mean {' or '.join(close)}? ({len(names)} are known)"
