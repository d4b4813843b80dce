"""The kinds of fault this program knows. Each names the exit code of the command line."""

from __future__ import annotations


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
    """An exported network was measured above its latency target; exit code 1."""


class RunBusyError(InputError):
    """Another process is working on this run folder; exit code 2."""


def known(names: object) -> str:
    """``known: a, b, c``: the way out of every unknown-name error."""
    return "known: " + ", ".join(str(name) for name in names)  # type: ignore[attr-defined]
