"""Writes the table of published networks to files, each whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from nas.reports.references.page import reference_page
from nas.reports.references.plot import top1_png
from nas.reports.references.table import ReferenceTable
from nas.system.errors import InputError
from nas.system.files import write_atomic


def check_places(files: Mapping[str, Path]) -> None:
    """Check, before anything is timed, that the files can be written.

    Raises:
        InputError: the folder of a file does not exist, a path is a folder, or two files share a path.
    """
    for kind, path in files.items():
        if not path.parent.is_dir() or path.is_dir():
            raise InputError(f"--{kind} needs a file in a folder that exists, got {path}")
    if len({path.absolute() for path in files.values()}) < len(files):
        raise InputError(f"each file needs its own path, got {', '.join(map(str, files.values()))}")


def write_table(table: ReferenceTable, files: Mapping[str, Path]) -> None:
    """Write the table as ``csv``, ``html`` and ``png``, whichever `files` has a path for.

    Raises:
        InputError: a file cannot be written, or no network of a plot has both a latency and a top-1.
    """
    for kind, path in files.items():
        content: str | bytes | None
        if kind == "csv":
            content = table.frame().to_csv(index=False)
        else:
            content = reference_page(table) if kind == "html" else top1_png(table)
        if content is None:
            raise InputError("a plot needs networks with a latency and a published top-1; select others, or a --device")
        try:
            write_atomic(path, content)
        except OSError as error:
            raise InputError(f"cannot write {path}: {error.strerror}; make its folder writable") from None
