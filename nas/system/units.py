"""Text to numbers and back: milliseconds, seconds, counts and bytes. The only parser of units in the program."""

from __future__ import annotations

import math
import re

from nas.system.errors import InputError
from nas.system.validate import is_number

_NUMBER = re.compile(r"\s*([0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?|\.[0-9]+)\s*([a-zA-Zµ]*)\s*")
_MS_PER = {"": 1.0, "ms": 1.0, "s": 1e3, "us": 1e-3, "µs": 1e-3}
_SHARE = re.compile(r"\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*(%?)\s*")
MAX_GUARD = 0.5  # "50%" in error texts
_S_PER = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "ms": 1e-3}
_PER_COUNT = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9}
_BYTES_PER = {"": 1.0, "b": 1.0, "kb": 1e3, "mb": 1e6, "gb": 1e9, "kib": 2.0**10, "mib": 2.0**20, "gib": 2.0**30}


def _parse(value: object, scale: dict[str, float], what: str, forms: str) -> float:
    rule = f"{what} must be a positive number with a unit, got {value!r}; accepted: {forms}"
    if not isinstance(value, str) and not is_number(value):
        raise InputError(rule)
    if isinstance(value, str):
        match = _NUMBER.fullmatch(value)
        if match is None or match[2].lower() not in scale:
            raise InputError(rule)
        number = float(match[1]) * scale[match[2].lower()]
    else:
        number = float(value)
    if not math.isfinite(number) or number <= 0:
        raise InputError(rule)
    return number


def milliseconds(value: str | float) -> float:
    """A latency in ms. A bare number is ms.

    >>> milliseconds("66ms"), milliseconds(66), milliseconds("0.066s"), milliseconds("66000us")
    (66.0, 66.0, 66.0, 66.0)

    Raises:
        InputError: anything else, zero, negative or not finite.
    """
    number = _parse(value, _MS_PER, "a latency", "66ms, 66, 0.066s, 66000us")
    return round(number, 9)  # 0.066 * 1000 is 66.00000000000001; a picosecond is below any clock


def above(ms: float, limit: float) -> str:
    """`ms` with three digits, or as many more as show that it is above `limit`.

    >>> above(71.234, 66), above(66.0412, 66)
    ('71.2', '66.04')
    """
    texts = (f"{ms:.{digits}g}" for digits in range(3, 17))
    return next((text for text in texts if float(text) > limit), repr(ms))


def seconds(value: str | float) -> float:
    """A duration in s. A bare number is s.

    >>> seconds("10m"), seconds("90s"), seconds("1.5h"), seconds("30d"), seconds(30)
    (600.0, 90.0, 5400.0, 2592000.0, 30.0)

    Raises:
        InputError: anything else, zero, negative or not finite.
    """
    return _parse(value, _S_PER, "a duration", "10m, 90s, 1.5h, 600")


def guard_share(value: str | float) -> float:
    """A safety margin as a share of the predicted latency. A bare number is the share itself.

    >>> guard_share("5%"), guard_share(0.05), guard_share("0")
    (0.05, 0.05, 0.0)

    Raises:
        InputError: anything else, negative, or more than a half.
    """
    match = _SHARE.fullmatch(value) if isinstance(value, str) else None
    number = float(match[1]) / (100 if match[2] else 1) if match else value
    if not is_number(number) or not 0 <= number <= MAX_GUARD:
        raise InputError(f"a guard must be 0 to 50%, got {value!r}; accepted: 5%, 0.05, 0")
    return float(number)


def amount(value: str | float, what: str, in_bytes: bool = False) -> float:
    """A count, or a number of bytes. A bare number is the count itself; MB is a million bytes, MiB 1024².

    Args:
        value: number, or text with a unit.
        what: what is counted, for the error.
        in_bytes: whether bytes are counted.

    >>> amount("4M", "params"), amount(3e8, "macs"), amount("8MB", "memory", in_bytes=True)
    (4000000.0, 300000000.0, 8000000.0)

    Raises:
        InputError: anything else, zero, negative or not finite.
    """
    if in_bytes:
        return _parse(value, _BYTES_PER, what, "8MB, 500kB, 8MiB, 8e6")
    return _parse(value, _PER_COUNT, what, "4M, 500k, 1.2G, 4e6")


def with_prefix(value: float, in_bytes: bool = False, limit: float | None = None) -> str:
    """A count or a number of bytes with three digits, or as many more as show that it is above `limit`.

    >>> with_prefix(5_483_032), with_prefix(5e6, in_bytes=True), with_prefix(4_000_001, limit=4e6)
    ('5.48M', '5 MB', '4.000001M')
    """
    scale, prefix = next((pair for pair in ((1e9, "G"), (1e6, "M"), (1e3, "k")) if value >= pair[0]), (1.0, ""))
    digits = above(value / scale, -math.inf if limit is None else limit / scale)
    return f"{digits} {prefix}B" if in_bytes else f"{digits}{prefix}"


def clock(duration_s: float) -> str:
    """A duration for people.

    >>> clock(9.2), clock(75), clock(3700)
    ('9 s', '1:15 min', '1:01 h')
    """
    whole = round(duration_s)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d} min"
    return f"{whole // 3600}:{whole % 3600 // 60:02d} h"
