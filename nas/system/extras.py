"""Packages that only some commands need. Each is an extra of this distribution, under the same name."""

from __future__ import annotations

from importlib.util import find_spec

from nas.system.errors import InputError


def pip_command(extra: str) -> str:
    """The command that installs an extra."""
    return f"pip install 'mbconv-nas[{extra}]'"


def require(package: str, purpose: str) -> None:
    """Check that an optional package is installed, before anything else is done with it.

    Args:
        package: name of the package, and of the extra.
        purpose: what needs it, the subject of the error's sentence.

    Raises:
        InputError: it is not installed; the text has the command that installs it.
    """
    if find_spec(package) is None:
        raise InputError(f"{purpose} needs {package}, which is not installed; {pip_command(package)}")
