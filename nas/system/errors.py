"""The errors of this program, by kind of fault. Each has the exit code of the command line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class NasError(Exception):
    """Something failed; exit code 1."""

    exit_code = 1


class InputError(NasError, ValueError):
    """An input cannot be used: one line with the rule, the value and what to do; exit code 2."""

    exit_code = 2


class InfeasibleError(NasError, ValueError):
    """No architecture of the space can meet the latency target; exit code 3."""

    exit_code = 3


class TargetMissedError(NasError, RuntimeError):
    """The exported network, or every network of a front, was measured above the latency target; exit code 1."""


class RunBusyError(InputError):
    """Another process is using this run folder; exit code 2."""


def known(names: Iterable[object]) -> str:
    """``known: a, b, c``: what to do about an unknown name."""
    return "known: " + ", ".join(str(name) for name in names)


def nearest(name: str, names: Sequence[str]) -> str:
    """As `known`, for long lists: only the names most similar to `name`, if there are any.

    >>> nearest("mobilenet_v9", [f"net_{at}" for at in range(20)] + ["mobilenet_v2"])
    'did you mean mobilenet_v2? (21 are known)'
    """
    close = difflib.get_close_matches(name, names, 3)
    if len(names) > 40 and not close:
        return f"none of the {len(names)} known names is similar"
    if len(names) <= 12 or not close:
        return known(names)
    return f"did you mean {' or '.join(close)}? ({len(names)} are known)"
