"""The sentences of the report, each made from the facts of the run: the result, and what it can and cannot claim."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from nas.report.strips import Nearest
from nas.report.tables import Counts, Entry, front_at, missed, number, score_of, section, settings
from nas.report.wording import (
    NONE, Score, big, circumstances, counted, listed, megabytes, millions, ms, percent, standard_error, target,
)  # fmt: skip
from nas.search.record import Candidate, Record
from nas.units import clock


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
    images = number(section(record.options, "data").get("val"))
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
    first = (
        f"{c.key} has the best {score.name} of {counted(counts.complete, 'scored network')}{within}. "
        f"Latency {latency.source} on {circumstances(latency)}."
    )
    if c.measured is None:
        first += " It was not measured after the search, so the target is judged by the prediction alone."
    figures = [
        (score.name.capitalize(), score.text(c.proxy_accuracy)),
        ("Latency, measured", f"{ms(c.measured.ms)} ms" if c.measured else "not measured"),
        ("Latency, predicted", f"{ms(c.predicted.ms)} ms"),
        ("Target", NONE if record.target_ms is None else target(record.target_ms)),
        ("Parameters", millions(c.params)),
        ("MACs", millions(c.macs)),
        ("Memory access", megabytes(c.memory_bytes)),
        ("Input", f"{c.arch.resolution} px"),
    ]
    title = f"{score.text(c.proxy_accuracy)} {score.name} at {ms(latency.ms)} ms {latency.source}"
    return Headline(title, tuple(figures), (first, *_beside(record, found, score), *_missed(record, score)))


def _why_none(record: Record, counts: Counts) -> str:
    if counts.total == 0:
        return "The run ended before any candidate was finished."
    parts = [
        f"{counted(counts.complete, 'candidate')} scored",
        f"{counts.failed:,} failed",
        f"{counts.too_slow:,} predicted over the target and never trained",
    ]
    if counts.complete and record.target_ms is not None:
        return f"No scored network is within the target of {target(record.target_ms)}: {listed(parts)}."
    return f"No candidate was scored: {listed(parts)}."


def _beside(record: Record, found: Sequence[Entry], score: Score) -> list[str]:
    """The front against each reference, at no more than its latency; and whether a reference beats the best."""
    ahead, behind, faster = [], [], []
    for entry in found:
        if entry.kind != "reference" or entry.candidate.proxy_accuracy is None:
            continue
        rival = front_at(record, entry.candidate.latency_ms)
        if rival is None or rival.proxy_accuracy is None:
            faster.append(entry.name)
            continue
        gain = rival.proxy_accuracy - entry.candidate.proxy_accuracy
        (ahead if gain > 0 else behind).append(f"{entry.name} ({score.difference(gain)})")
    sentences = []
    margin = noise(record)
    caution = f" Differences below about {score.distance(margin[2])} are within noise." if margin else ""
    if ahead or behind:
        text = []
        if ahead:
            text.append(f"the front has the higher {score.name} than {listed(ahead)}")
        if behind:
            text.append(f"{'it does' if ahead else 'the front does'} not beat {listed(behind)}")
        sentences.append(f"At no more than their latency {', '.join(text)}.{caution}")
    if faster:
        sentences.append(f"No network of the front is as fast as {listed(faster)}.")
    return sentences


def _missed(record: Record, score: Score) -> list[str]:
    late = missed(record)
    if not late or record.target_ms is None:
        return []
    names = [
        f"{c.key} ({score.text(c.proxy_accuracy)}, predicted {ms(c.predicted.ms)}, measured {ms(c.measured.ms)} ms)"
        for c in late[:5]
        if c.measured
    ]
    more = f" and {len(late) - 5} more" if len(late) > 5 else ""
    return [
        f"Missed: {counted(len(late), 'network')} predicted within {target(record.target_ms)} measured above it and "
        f"therefore not on the front: {', '.join(names)}{more}."
    ]


def likeness_sentences(near: Nearest | None) -> list[str]:
    """How far the best network resembles a reference, beside what chance gives."""
    if near is None:
        return []
    beyond = near.share > near.random_high
    verdict = "more than chance explains" if beyond else "no more than chance explains"
    return [
        f"Nearest reference of the best network: {near.name}, with {percent(near.share)} of the choices equal (kernel, "
        "expansion, SE and activation of every block, compared at the same depth of the feature map).",
        f"A random network of the space has {percent(near.random_mean)} in common with the reference nearest to it, and one in "
        f"twenty more than {percent(near.random_high)}; so the likeness is {verdict}.",
    ]


def can_claim(record: Record, found: Sequence[Entry]) -> list[str]:
    """What the run shows."""
    claims = []
    measured = [e.candidate for e in found if e.candidate.measured is not None]
    front = [e for e in found if e.kind in ("best", "front")]
    if measured:
        where = listed(settings([c.measured for c in measured if c.measured]))
        judged = sum(e.source == "measured" for e in front)
        if record.target_ms is None:
            text = f"{judged} of {counted(len(front), 'front network')} measured after the search"
        else:
            text = f"{judged} of {counted(len(front), 'front network')} measured at or below {target(record.target_ms)}"
        claims.append(f"{text}, on {where}.")
        errors = [abs(e.error) for e in found if e.error is not None]
        claims.append(
            f"Predicted latency of the {counted(len(errors), 'network')} measured after the search was off by "
            f"{percent(sum(errors) / len(errors), 1)} on average and {percent(max(errors), 1)} at worst."
        )
    claims += _table_error(record)
    if any(e.kind == "reference" and e.candidate.proxy_accuracy is not None for e in found):
        same = "trained by the same recipe on the same data" if score_of(record).percent else "scored by the same function"
        claims.append(f"The references were {same} and timed in the same way, so they compare beyond the noise stated here.")
    return [*claims, *_feasible(record)]


def _table_error(record: Record) -> list[str]:
    error = record.table_error or {}
    parts = []
    if (mape := number(error.get("mape"))) is not None:
        parts.append(f"mean error {percent(mape, 1)}")
    if (worst := number(error.get("worst"))) is not None:
        parts.append(f"worst {percent(abs(worst), 1)}")
    if (rank := number(error.get("spearman"))) is not None:
        parts.append(f"rank correlation (Spearman) {rank:.3f}")
    if not parts:
        return []
    nets = number(error.get("nets"))
    on = f" on {counted(int(nets), 'whole network')}" if nets else ""
    return [f"The latency model was tested{on} it had not been fitted to: {', '.join(parts)}."]


def _feasible(record: Record) -> list[str]:
    facts = record.feasibility or {}
    fastest, slowest = number(facts.get("fastest_ms")), number(facts.get("slowest_ms"))
    share = number(facts.get("share"))
    if fastest is None or slowest is None:
        return []
    text = f"Networks of the space take from about {ms(fastest)} to about {ms(slowest)} ms on this device (predicted)."
    if record.target_ms is not None:
        text += f" The target of {target(record.target_ms)} {'binds' if facts.get('binds') else 'does not bind'}"
        text += "." if share is None else f": {_share(share)} of the space meets it."
        if not facts.get("binds"):
            text += f" Only a target below about {ms(slowest)} ms would exclude anything."
    return [text]


def _share(share: float) -> str:
    return "less than 0.1 %" if 0 < share < 0.001 else percent(share, 1 if share < 0.1 or 0.99 < share < 1 else 0)


def cannot_claim(record: Record, found: Sequence[Entry], counts: Counts) -> list[str]:
    """Where the run's word ends."""
    claims = [*_data(record), *_proxy(record), *_sampling(record), *_seed(record), *_coverage(record, counts)]
    latencies = [e.candidate.measured or e.candidate.predicted for e in found]
    where = listed(settings(latencies))
    if where:
        claims.append(f"Latency holds for {where}; another device, runtime, thread count or batch may order networks otherwise.")
    unmeasured = [e for e in found if e.kind != "missed" and e.candidate.measured is None]
    if unmeasured:
        claims.append(
            f"{counted(len(unmeasured), 'network')} of the tables ({listed(e.name for e in unmeasured[:6])}"
            f"{', …' if len(unmeasured) > 6 else ''}) not measured after the search: only predicted latencies stand there."
        )
    noisy = [e for e in found if e.candidate.measured is not None and e.candidate.measured.warning]
    for entry in noisy[:6]:
        warning = entry.candidate.measured.warning if entry.candidate.measured else None
        claims.append(f"Measurement of {entry.name} (marked * in the table) deserves less trust: {warning}.")
    if len(noisy) > 6:
        claims.append(f"{len(noisy) - 6} more measurements are marked * for the same kind of reason.")
    return claims


def _data(record: Record) -> list[str]:
    data = section(record.options, "data")
    if not score_of(record).percent and not data:
        return ["The score comes from the caller's own function; this report cannot say how far it can be trusted."]
    name = str(data.get("name") or "unknown")
    facts = [
        counted(int(value), noun, plural)
        for key, noun, plural in (
            ("classes", "class", "classes"),
            ("train", "training image", "training images"),
            ("val", "held-out image", "held-out images"),
        )
        if (value := number(data.get(key))) is not None
    ]
    text = f"Data: {name}{f' ({listed(facts)})' if facts else ''}."
    if data.get("generated"):
        text += " The images are generated, not photographs: they rank networks only roughly. For a decision, search on real images."
    notes = data.get("notes")
    notes = [notes] if isinstance(notes, str) else notes if isinstance(notes, (list, tuple)) else []
    return [text, *(str(note) for note in notes)]


def _proxy(record: Record) -> list[str]:
    if record.options.get("proxy") is None:
        return []
    proxy = section(record.options, "proxy")
    width, side = number(proxy.get("width")), number(proxy.get("resolution"))
    reduced = [f"{width:g} of the channels"] if width is not None else []
    reduced += [f"{side:.0f} px input"] if side is not None else []
    how = f" at reduced size ({listed(reduced)})" if reduced else ""
    return [
        f"Proxy accuracy is the result of a short training{how}, not the accuracy the network reaches when it is fully "
        "trained; published accuracies of the references are not comparable with it, and the order of networks may change."
    ]


def _sampling(record: Record) -> list[str]:
    margin = noise(record)
    if margin is None:
        return []
    images, error, difference = margin
    text = (
        f"{images:,} held-out images give a proxy accuracy a standard error of {100 * error:.1f} points; two networks less than "
        f"about {100 * difference:.1f} points apart are not told apart"
    )
    scores = [c.proxy_accuracy for c in record.front if c.proxy_accuracy is not None]
    close = sum(later - earlier < difference for earlier, later in zip(scores, scores[1:], strict=False))
    if close:
        text += f", which is so for {close} of the {counted(len(scores) - 1, 'step')} of the front"
    return [text + "."]


def _seed(record: Record) -> list[str]:
    seed = record.options.get("seed")
    which = "" if seed is None else f" (seed {seed})"
    return [f"One run{which}: how much a second seed would change is not known, and comes on top of the sampling error."]


def _coverage(record: Record, counts: Counts) -> list[str]:
    distinct = len({c.key for c in record.candidates})
    size = record.space.size
    return [
        f"{counted(distinct, 'distinct network')} looked at ({counts.complete:,} trained or scored) of {big(size)} in space "
        f"{record.space.name}. The front is the best that was found, not the best there is."
        if distinct < size
        else f"All {big(size)} networks of space {record.space.name} were looked at."
    ]


def search_facts(record: Record, counts: Counts) -> list[tuple[str, str]]:
    """How the search went, as pairs."""
    options = record.options
    facts = [
        ("Candidates", f"{counts.total:,}"),
        ("Scored", f"{counts.complete:,}"),
        ("Too slow, never trained", f"{counts.too_slow:,}"),
        ("Failed", f"{counts.failed:,}{_reasons(record.candidates)}"),
        ("Time in evaluations", clock(counts.seconds)),
    ]
    if (spent := number(options.get("seconds"))) is not None:
        facts.append(("Time of the run", clock(spent)))
    facts.append(("Space", f"{record.space.name}, {big(record.space.size)} networks"))
    for name in ("sampler", "seed", "workers", "trials", "started", "finished"):
        if options.get(name) is not None:
            facts.append((name.capitalize(), str(options[name])))
    if (budget := number(options.get("budget_s"))) is not None:
        facts.append(("Budget", clock(budget)))
    for name in ("device", "data", "proxy", "versions"):
        if pairs := [f"{k} {_plain(v)}" for k, v in section(options, name).items() if v is not None]:
            facts.append((name.capitalize(), ", ".join(pairs).removeprefix("name ")))
    return facts


def _plain(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return "; ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _reasons(candidates: Sequence[Candidate]) -> str:
    """The most frequent reason of failure, if any."""
    reasons = [c.reason for c in candidates if c.state == "FAILED" and c.reason]
    if not reasons:
        return ""
    common = max(dict.fromkeys(reasons), key=reasons.count)
    return f" (mostly: {common:.120})" if len(set(reasons)) > 1 else f" ({common:.120})"
