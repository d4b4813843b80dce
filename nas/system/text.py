"""Text from outside on one line, and tables for people. Needs only the standard library; agents carry a copy."""

from __future__ import annotations

from collections.abc import Sequence


def one_line(text: object, most: int = 200) -> str:
    """A message, or an exception's, on one line and cut to length; an exception without a message is named.

    >>> one_line(ValueError("cannot read\\n  this")), one_line(KeyboardInterrupt())
    ('cannot read this', 'KeyboardInterrupt')
    """
    words = " ".join(str(text).split())
    if not words and isinstance(text, BaseException):
        words = type(text).__name__
    return "".join(letter if letter.isprintable() else " " for letter in words)[:most]


def table(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]], left: tuple[int, ...] = (0,)) -> str:
    """Columns for people, those at `left` aligned to the left."""
    widths = [max(len(row[at]) for row in [heads, *rows]) for at in range(len(heads))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if at in left else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in [heads, *rows]
    )
