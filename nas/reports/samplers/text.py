"""A comparison of samplers as text for people."""

from __future__ import annotations

import re
from collections.abc import Callable

from nas.reports.samplers.data import Band, Comparison, Gain
from nas.system.text import table


def comparison_text(found: Comparison) -> str:
    """A title and three or four tables: best accuracy, hypervolume, evaluations to each level, and with noise what the
    posterior's choice gains."""
    heads = [f"after {at}" for at in found.shown]
    best, volume, reached = [], [], []
    for name in found.best:
        bests, volumes = (
            [Band.of(values[name][:, at - 1]) for at in found.shown] for values in (found.best, found.hypervolume)
        )
        best.append((name, *(_band(one, found.accuracy) for one in bests)))
        volume.append((name, *(_band(one, lambda value: f"{value:.3f}") for one in volumes)))
        reached.append((name, *(_needed(found, name, level) for level in found.levels)))
    levels = [f"{level} ({found.accuracy(accuracy)})" for level, accuracy in found.levels.items()]
    parts = [
        found.title,
        table(("accuracy of the best, %" if found.percent else "score of the best", *heads), best),
        table(("hypervolume, relative", *heads), volume),
        table(("median evaluations to", *levels), reached),
    ]
    if found.gains:
        gains = [
            (
                name,
                found.accuracy(gain.chosen),
                found.accuracy(gain.luckiest),
                _band(gain, lambda value: ("+" if value >= 0 else "") + found.accuracy(value)),
            )
            for name, gain in found.gains.items()
        ]
        parts.append(table(("true accuracy of the choice", "by the posterior", "best score", "gain"), gains))
    return "\n\n".join(parts)


def _band(band: Band | Gain, text: Callable[[float], str]) -> str:
    mean, low, high = (re.sub("^-", "−", text(value)) for value in (band.mean, band.low, band.high))
    return f"{mean} [{low}, {high}]"


def _needed(found: Comparison, sampler: str, level: str) -> str:
    needed = found.needed(sampler, level)
    median = f"> {found.evaluations}" if needed.median is None else f"{needed.median:g}"
    return median if needed.reached == 1 else f"{median} ({needed.reached:.0%} of seeds)"
