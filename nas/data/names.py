"""Names of files and classes as text: the same in every locale, and printable."""

from __future__ import annotations

import os
from collections.abc import Sequence

from nas.system.text import one_line


def name_of(name: str) -> str:
    """A name from the file system in UTF-8, whatever the locale; bytes that are not UTF-8 become surrogates, which
    JSON can hold.

    >>> name_of(os.fsdecode(b"caf\\xe9.jpg"))
    'caf\\udce9.jpg'
    """
    return os.fsencode(name).decode("utf-8", "surrogateescape")


def shown(name: str, most: int = 120) -> str:
    """A name that can be printed on one line; bytes that are not UTF-8 are shown as escapes.

    >>> shown("caf\\udce9"), shown("cat\\ndog")
    ('caf\\\\udce9', 'cat dog')
    """
    return one_line(name.encode("utf-8", "backslashreplace").decode(), most)


def some(names: Sequence[str], most: int = 3) -> str:
    """The first few names, for people."""
    return "; ".join(shown(name) for name in names[:most]) + ("; …" if len(names) > most else "")
