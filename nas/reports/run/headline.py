"""The result of a run in one line, a few figures and a few sentences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from nas.engine.run.record import Record
from nas.reports.formatting import (
    NONE,
    Score,
    and_list,
    chance,
    conditions,
    counted,
    is_or_are,
    measured_ms,
    megabytes,
    millions,
    ms,
    standard_error,
    target,
)
from nas.reports.run.tables import Counts, Entry, number, score_of


@dataclass(frozen=True)
class Headline:
    """The result of a run.

    Args:
        title: the result in one line.
        figures: names and values of the best network.
        sentences: the best network, its references, and networks that missed the target.
    """

    title: str
    figures: tuple[tuple[str, str], ...]
    sentences: tuple[str, ...]


@dataclass(frozen=True)
class Noise:
    """Sampling error of an observed proxy accuracy.

    Args:
        images: number of held-out images that are scored.
        standard_error: standard error of one accuracy, as a share.
        difference: smallest difference between two networks that is not noise: two standard errors of a difference,
            as if each network were scored on images of its own.
    """

    images: int
    standard_error: float
    difference: float


def noise_of(record: Record) -> Noise | None:
    """Sampling error of the best accuracy; None if the score is no observed accuracy or the number of images is
    unknown."""
    held_out = None if record.info.data is None else record.info.data.val
    most = number((record.info.proxy or {}).get("val_images"))
    images = held_out if most is None or held_out is None else min(held_out, most)
    scores = [c.proxy_accuracy for c in record.front if c.proxy_accuracy is not None]
    score = score_of(record)
    if not score.percent or score.task or not images or images < 1 or not scores:
        return None
    error = standard_error(scores[-1], int(images))
    return Noise(int(images), error, 2 * math.sqrt(2) * error)


def headline(record: Record, entries: Sequence[Entry], counts: Counts) -> Headline:
    """The best network and how it compares, or why there is none."""
    score = score_of(record)
    best = next((entry for entry in entries if entry.kind == "best"), None)
    if best is None:
        return Headline("No network to recommend", (), (_why_none(record, counts), *_missed(record, score)))
    c = best.candidate
    within = "" if record.target_ms is None else f" within {target(record.target_ms)}"
    rivals = sum(other.score is not None and record.meets(other) for other in record.candidates)
    networks = "network" if score.task else "scored network"
    first = (
        f"{c.key} has the best {score.name} of {counted(rivals, networks)}{within}. "
        f"Its latency was {best.source} {'for' if c.measured is None else 'on'} {conditions(c.latency)}"
    )
    if c.measured is None:
        first += "; that device cannot be measured here" if record.info.modelled else " and not measured"
        first += "" if record.target_ms is None else ", so the target is judged without a measurement"
    first += "."
    figures = [
        (score.title, score.of(c)),
        ("Latency, measured", f"{measured_ms(c.measured)} ms" if c.measured else "not measured"),
        (f"Latency, {record.info.latency_word}", f"{ms(c.predicted.ms)} ms"),
        ("Target", NONE if record.target_ms is None else target(record.target_ms)),
        ("Parameters", millions(c.params)),
        ("MACs", millions(c.macs)),
        ("Memory access", megabytes(c.memory_bytes)),
        ("Input", f"{c.arch.resolution} px"),
    ]
    title = f"{score.with_name(c)} at {ms(c.latency_ms)} ms {best.source}"
    compared = (_chances if score.task else _beside)(record, entries, score)
    sentences = (first, *_evidence(record, score), *compared, *_missed(record, score))
    return Headline(title, tuple(figures), sentences)


def _evidence(record: Record, score: Score) -> list[str]:
    """What estimates are of, and what they rest on."""
    if not score.task or record.model is None:
        return []
    what = f"The {score.name} (mean ± standard deviation) is for {score.task}"
    return [f"{what}, and rests on {record.model.evidence}."]


def _why_none(record: Record, counts: Counts) -> str:
    if counts.total == 0:
        return "The run ended before any candidate finished."
    untrained = " and never trained" if record.info.trains else ""
    over = ("" if record.info.limited else f"{record.info.latency_word} ") + record.info.over_word
    parts = [
        *([f"{counts.failed:,} failed"] if counts.failed else []),
        *([f"{counts.too_slow:,} {over}{untrained}"] if counts.too_slow else []),
    ]
    if counts.complete and record.target_ms is not None:
        late = f" ({len(record.missed):,} of them measured, none reliably within the target)" if record.missed else ""
        parts = [f"{counts.complete:,} scored{late}", *parts]
        return f"No scored network is within the target of {target(record.target_ms)}: {and_list(parts)}."
    return f"No candidate was scored: of {counted(counts.total, 'candidate')} {and_list(parts)}."


def _beside(record: Record, entries: Sequence[Entry], score: Score) -> list[str]:
    """Compare each reference with the best network of the front that is no slower, by observed scores: ahead, level or
    behind."""
    groups: dict[str, list[str]] = {"ahead": [], "level": [], "behind": [], "faster": [], "over": []}
    noise = noise_of(record)
    for entry in entries:
        c = entry.candidate
        if entry.kind != "reference" or c.score is None:
            continue
        rival = entry.rival
        if entry.meets is False:
            groups["over"].append(f"{entry.name} ({score.of(c)} at {ms(c.latency_ms)} ms)")
        elif rival is None or rival.score is None:
            groups["faster"].append(f"{entry.name} ({ms(c.latency_ms)} ms)")
        else:
            gain = rival.score - c.score
            level = noise is not None and abs(gain) < noise.difference
            group = "level" if level or gain == 0 else "ahead" if gain > 0 else "behind"
            groups[group].append(f"{entry.name} ({score.difference(gain)})")
    sentences = []
    for group, words in (("ahead", "ahead of"), ("level", "level with"), ("behind", "behind")):
        if groups[group]:
            text = f"At the same latency or less, the front is {words} {and_list(groups[group])} in {score.name}"
            if noise and group == "level":
                text += f"; differences below about {score.distance(noise.difference)} are within noise"
            sentences.append(f"{text}.")
    return [*sentences, *_out_of_reach(groups["faster"], groups["over"])]


def _chances(record: Record, entries: Sequence[Entry], score: Score) -> list[str]:
    """For each reference, the chance that the best network of the front which is no slower is more accurate."""
    beaten, same, faster, over = [], [], [], []
    for entry in entries:
        c, rival = entry.candidate, entry.rival
        if entry.kind != "reference" or c.score is None:
            continue
        if entry.meets is False:
            better = "" if entry.chance is None else f", chance of beating it {chance(entry.chance)}"
            over.append(f"{entry.name} ({score.of(c)} at {ms(c.latency_ms)} ms{better})")
        elif rival is None or rival.score is None:
            faster.append(f"{entry.name} ({ms(c.latency_ms)} ms)")
        elif rival.key == c.key:
            same.append(entry.name)
        else:
            gain = score.difference(rival.score - c.score)
            beaten.append(f"{entry.name} at its latency: {chance(entry.chance)} ({gain})")
    return [
        *([f"Chance of beating {'; '.join(beaten)}."] if beaten else []),
        *([f"{and_list(same)} {is_or_are(len(same))} on the front."] if same else []),
        *_out_of_reach(faster, over),
    ]


def _out_of_reach(faster: Sequence[str], over: Sequence[str]) -> list[str]:
    sentences = [f"No network on the front is as fast as {and_list(faster)}."] if faster else []
    return [*sentences, *([f"References over the target: {and_list(over)}."] if over else [])]


def _missed(record: Record, score: Score) -> list[str]:
    """How many of the measured networks were over the target, and which they are."""
    late = record.missed
    if not late or record.target_ms is None:
        return []
    names = [
        f"{c.key} ({score.of(c)}, {ms(c.predicted.ms)} ms predicted, {measured_ms(c.measured)} ms measured)"
        for c in late[:5]
        if c.measured
    ]
    more = f" and {len(late) - 5} more" if len(late) > 5 else ""
    were, them = ("was", "it") if len(late) == 1 else ("were", "them")
    outcome = f"and {were} replaced" if record.front else f"and no other network could replace {them}"
    return [
        f"{len(late):,} of {counted(record.measured, 'measured network')} missed the target of "
        f"{target(record.target_ms)} {outcome}: {', '.join(names)}{more}."
    ]
