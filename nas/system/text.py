"""Text from outside on one line. Needs only the standard library; agents carry a copy."""

from __future__ import annotations


def one_line(text: object, most: int = 200) -> str:
    """A message, or an exception's, on one line and cut to length; an exception without a message is named.

    >>> one_line(ValueError("cannot read\\n  this")), one_line(KeyboardInterrupt())
    ('cannot read this', 'KeyboardInterrupt')
    """
    words = " ".join(str(text).split())
    if not words and isinstance(text, BaseException):
        words = type(text).__name__
    return "".join(letter if letter.isprintable() else " " for letter in words)[:most]
