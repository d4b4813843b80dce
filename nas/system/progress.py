"""How work of known length reports its progress."""

from __future__ import annotations

from collections.abc import Callable

Step = Callable[[int, int, str], None]
"""Called as ``step(done, total, text)``."""


def no_step(done: int, total: int, text: str) -> None:
    """A `Step` that shows nothing."""
