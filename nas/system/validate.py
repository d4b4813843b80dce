"""Checks of plain values that come from outside: arguments, files, other machines."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import TypeGuard

from nas.system.errors import InputError


def is_number(value: object) -> TypeGuard[float]:
    """Whether a value from outside is a finite number that a float can hold; numpy's count, ``True`` does not.

    >>> is_number(0.5), is_number("0.5"), is_number(float("nan")), is_number(10**400)
    (True, False, False, False)
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def is_whole(value: object, low: int = 1, high: int | None = None) -> TypeGuard[int]:
    """Whether a value is a whole number in bounds, both included; numpy's count, ``True`` does not.

    >>> is_whole(3), is_whole(3.0), is_whole(True), is_whole(3, high=2)
    (True, False, False, False)
    """
    if isinstance(value, bool) or not isinstance(value, Integral):
        return False
    return low <= int(value) and (high is None or int(value) <= high)


def whole_number(name: str, value: object, low: int = 1, high: int | None = None, where: str = "") -> int:
    """The value as an ``int``, if it is a whole number in bounds.

    Args:
        name: of the argument or field, for the error.
        value: to check; whole numbers of numpy are accepted.
        low: the smallest number accepted.
        high: the largest; None is no upper bound.
        where: of the bound, for the error, e.g. ``" on this machine"``.

    Raises:
        InputError: anything else.

    >>> whole_number("threads", 4, high=8)
    4
    """
    if not is_whole(value, low, high):
        bounds = f"from {low}" if high is None else f"from {low} to {high}"
        raise InputError(f"{name} must be a whole number {bounds}{where}, got {value!r:.60}")
    return int(value)
