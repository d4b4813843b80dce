"""The result of a run in a few sentences, each made from its figures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from nas.engine.run.record import Record
from nas.reports.formatting import (
    NONE,
    Score,
    circumstances,
    counted,
    listed,
    measured_ms,
    megabytes,
    millions,
    ms,
    standard_error,
    target,
)
from nas.reports.run.tables import Counts, Entry, front_at, number, score_of, section, unmeasured


@dataclass(frozen=True)
class Headline:
    """The result in one line, a few figures, and sentences about it."""

    title: str
    figures: tuple[tuple[str, str], ...]
    sentences: tuple[str, ...]


def noise(record: Record) -> tuple[int, float, float] | None:
    """Sampling error of the proxy accuracy: held-out images, one standard error, and the difference below which two
    networks cannot be told apart (two standard errors of a difference, the images taken as drawn anew for each).

    None if the score is no accuracy, or the number of held-out images is unknown.
    """
    held_out = number(section(record.options, "data").get("val"))
    most = number(section(record.options, "proxy").get("val_images"))
    images = held_out if most is None or held_out is None else min(held_out, most)
    scores = [c.proxy_accuracy for c in record.front if c.proxy_accuracy is not None]
    if not score_of(record).percent or not images or images < 1 or not scores:
        return None
    error = standard_error(scores[-1], int(images))
    return int(images), error, 2 * math.sqrt(2) * error


def headline(record: Record, found: Sequence[Entry], counts: Counts) -> Headline:
    """The best network, stated plainly; or why there is none."""
    score = score_of(record)
    best = next((entry for entry in found if entry.kind == "best"), None)
    if best is None:
        return Headline("No network to recommend", (), (_why_none(record, counts), *_missed(record, score)))
    c = best.candidate
    latency = c.measured or c.predicted
    within = "" if record.target_ms is None else f" within {target(record.target_ms)}"
    rivals = sum(other.proxy_accuracy is not None and record.meets(other) for other in record.candidates)
    first = (
        f"{c.key} has the best {score.name} of {counted(rivals, 'scored network')}{within}. "
        f"Latency {best.source} {'for' if best.source == 'modelled' else 'on'} {circumstances(latency)}."
    )
    if c.measured is None:
        first += " The device is not at hand" if record.modelled else " It was not measured after the search"
        judge = "model" if record.modelled else "prediction"
        first += "." if record.target_ms is None else f", so the target is judged by the {judge} alone."
    figures = [
        (score.name.capitalize(), score.text(c.proxy_accuracy)),
        ("Latency, measured", f"{measured_ms(c.measured)} ms" if c.measured else "not measured"),
        (f"Latency, {unmeasured(record)}", f"{ms(c.predicted.ms)} ms"),
        ("Target", NONE if record.target_ms is None else target(record.target_ms)),
        ("Parameters", millions(c.params)),
        ("MACs", millions(c.macs)),
        ("Memory access", megabytes(c.memory_bytes)),
        ("Input", f"{c.arch.resolution} px"),
    ]
    title = f"{score.named(c.proxy_accuracy)} at {ms(latency.ms)} ms {best.source}"
    return Headline(title, tuple(figures), (first, *_beside(record, found, score), *_missed(record, score)))


def _why_none(record: Record, counts: Counts) -> str:
    if counts.total == 0:
        return "The run ended before any candidate was finished."
    parts = [
        *([f"{counts.failed:,} failed"] if counts.failed else []),
        *([f"{counts.too_slow:,} {unmeasured(record)} too slow and never trained"] if counts.too_slow else []),
    ]
    if counts.complete and record.target_ms is not None:
        late = f", {len(record.missed):,} of them measured, none within it for sure" if record.missed else ""
        parts = [f"{counts.complete:,} scored{late}", *parts]
        return f"No scored network is within the target of {target(record.target_ms)}: {listed(parts)}."
    return f"No candidate was scored: of {counted(counts.total, 'candidate')} {listed(parts)}."


def _beside(record: Record, found: Sequence[Entry], score: Score) -> list[str]:
    """The front against each reference at no more than its latency: ahead, level within noise, or behind."""
    groups: dict[str, list[str]] = {"ahead": [], "level": [], "behind": [], "faster": [], "over": []}
    margin = noise(record)
    for entry in found:
        c = entry.candidate
        if entry.kind != "reference" or c.proxy_accuracy is None:
            continue
        rival = front_at(record, c.latency_ms)
        if entry.meets is False:
            groups["over"].append(f"{entry.name} ({score.text(c.proxy_accuracy)} at {ms(c.latency_ms)} ms)")
        elif rival is None or rival.proxy_accuracy is None:
            groups["faster"].append(f"{entry.name} ({ms(c.latency_ms)} ms)")
        else:
            gain = rival.proxy_accuracy - c.proxy_accuracy
            level = margin is not None and abs(gain) < margin[2]
            group = "level" if level or gain == 0 else "ahead" if gain > 0 else "behind"
            groups[group].append(f"{entry.name} ({score.difference(gain)})")
    sentences = []
    for group, words in (("ahead", "ahead of"), ("level", "level with"), ("behind", "behind")):
        if groups[group]:
            text = f"At no more than their latency the front is {words} {listed(groups[group])} in {score.name}"
            noisy = (
                f"; less than about {score.distance(margin[2])} is within noise" if margin and group == "level" else ""
            )
            sentences.append(f"{text}{noisy}.")
    if groups["faster"]:
        sentences.append(f"No network of the front is as fast as {listed(groups['faster'])}.")
    if groups["over"]:
        sentences.append(f"Over the target: {listed(groups['over'])}.")
    return sentences


def _missed(record: Record, score: Score) -> list[str]:
    """How many of the measured networks were over the target, and which."""
    late = record.missed
    if not late or record.target_ms is None:
        return []
    names = [
        f"{c.key} ({score.text(c.proxy_accuracy)}, predicted {ms(c.predicted.ms)}, "
        f"measured {measured_ms(c.measured)} ms)"
        for c in late[:5]
        if c.measured
    ]
    more = f" and {len(late) - 5} more" if len(late) > 5 else ""
    replaced = " and were replaced" if record.front else ", and nothing was left to replace them"
    if len(late) == 1:
        replaced = replaced.replace("were", "was").replace("them", "it")
    return [
        f"{len(late):,} of {counted(record.measured, 'measured network')} missed the target of "
        f"{target(record.target_ms)}{replaced}: {', '.join(names)}{more}."
    ]
