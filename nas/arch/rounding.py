"""How channel counts are rounded when a network's width is scaled."""

from __future__ import annotations

ROUNDINGS = ("divisible", "floor", "floor_8")


def make_divisible(value: float, divisor: int = 8) -> int:
    """The nearest multiple of `divisor`, or the next one if that would lose more than 10 % (MobileNetV2's code).

    >>> make_divisible(2.3 * 80), make_divisible(16 * 0.75), make_divisible(3)
    (184, 16, 8)
    """
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


def rounded(channels: float, rule: str) -> int:
    """A scaled width, rounded by its family's rule: ``divisible`` (`make_divisible`; MobileNetV2 and later), ``floor``
    (ShuffleNetV1) or ``floor_8`` (rounded down, at least 8; MobileNetV1).

    >>> rounded(60.8, "divisible"), rounded(60.8, "floor"), rounded(6.4, "floor_8")
    (64, 60, 8)
    """
    return make_divisible(channels) if rule == "divisible" else max(8 if rule == "floor_8" else 1, int(channels))
