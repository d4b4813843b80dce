"""What a run can and cannot claim, and how it went, in sentences made from its facts."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from nas.engine.run.record import Candidate, Record
from nas.reports.formatting import big, counted, listed, ms, percent, target
from nas.reports.run.headline import noise
from nas.reports.run.similarity import Nearest
from nas.reports.run.tables import Counts, Entry, number, score_of, section, settings, unmeasured
from nas.system.units import clock


def likeness_sentences(near: Nearest | None) -> list[str]:
    """How far the best network resembles a reference, beside what chance gives."""
    if near is None:
        return []
    beyond = near.share > near.random_high
    verdict = "more than chance explains" if beyond else "no more than chance explains"
    return [
        f"Nearest reference of the best network: {near.name}, with {percent(near.share)} of the choices equal "
        f"({near.choices} of every block, compared at the same depth of the feature map).",
        f"A random network of the space has {percent(near.random_mean)} in common with the reference nearest to it, "
        f"and one in twenty more than {percent(near.random_high)}; so the likeness is {verdict}.",
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
        if any(c.measured and c.measured.holds_ms is not None for c in measured):
            claims.append(
                "What came close to the target was measured several times: 95 of 100 further measurements are to stay "
                "within the figure behind ≤, which is held against the target."
            )
        errors = [abs(e.error) for e in found if e.error is not None]
        claims.append(
            f"Predicted latency of the {counted(len(errors), 'network')} measured after the search was off by "
            f"{percent(sum(errors) / len(errors), 1)} on average and {percent(max(errors), 1)} at worst."
        )
    claims += [*_table_error(record), *_admitted(record)]
    if any(e.kind == "reference" and e.candidate.proxy_accuracy is not None for e in found):
        same = (
            "trained by the same recipe on the same data" if score_of(record).percent else "scored by the same function"
        )
        claims.append(
            f"The references were {same} and timed in the same way, so they compare beyond the noise stated here."
        )
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


def _admitted(record: Record) -> list[str]:
    """How far below the target candidates had to be predicted, and why; and by what predictions are corrected, which
    they are whether a guard is kept or not."""
    return [*_guard(record), *_correction(record)]


def _guard(record: Record) -> list[str]:
    facts, limit = section(record.options, "admission"), number(record.options.get("admitted_ms"))
    guard = number(facts.get("guard"))
    if record.target_ms is None or limit is None or not guard or facts.get("source") == "none":
        return []
    if limit >= record.target_ms:
        return [f"No guard was kept: not even the fastest network leaves the {percent(guard, 1)} that one would take."]
    given = facts.get("source") == "given"
    why = "as asked for" if given else "so wide that about 9 in 10 networks keep it if they err as those tested did"
    return [
        f"Candidates were admitted up to {ms(limit)} ms {unmeasured(record)}, a guard of {percent(guard, 1)}, {why}."
    ]


def _correction(record: Record) -> list[str]:
    facts = section(record.options, "admission")
    pairs, factor = facts.get("pairs_ms"), number(facts.get("correction"))
    if not isinstance(pairs, (list, tuple)) or not pairs or factor is None:
        return []
    return [
        f"{counted(len(pairs), 'network')} around the target, measured before the search, took {factor:.3f} times what "
        "the latency model had said, in the median; predictions are corrected by that."
    ]


def _feasible(record: Record) -> list[str]:
    facts = record.feasibility or {}
    fastest, slowest = number(facts.get("fastest_ms")), number(facts.get("slowest_ms"))
    share = number(facts.get("share"))
    if fastest is None or slowest is None:
        return []
    word = unmeasured(record)
    text = f"Networks of the space take from about {ms(fastest)} to about {ms(slowest)} ms on this device ({word})."
    if record.target_ms is not None:
        text += f" The target of {target(record.target_ms)} {'binds' if facts.get('binds') else 'does not bind'}"
        less = f", less the guard of {percent(guard, 1)}" if (guard := number(facts.get("guard"))) else ""
        text += "." if share is None else f": {_share(share)} of the space meets it{less}."
        if not facts.get("binds"):
            binding = number(facts.get("binding_ms")) or slowest
            text += f" Only a target below about {ms(binding)} ms would exclude anything."
    return [text]


def _share(share: float) -> str:
    return "less than 0.1 %" if 0 < share < 0.001 else percent(share, 1 if share < 0.1 or 0.99 < share < 1 else 0)


def cannot_claim(record: Record, found: Sequence[Entry], counts: Counts) -> list[str]:
    """Where the run's word ends."""
    claims = [*_data(record), *_proxy(record), *_sampling(record), *_seed(record), *_coverage(record, counts)]
    latencies = [e.candidate.measured or e.candidate.predicted for e in found]
    where = listed(settings(latencies))
    if where:
        claims.append(
            f"Latency holds for {where}; another device, runtime, thread count or batch may order networks otherwise."
        )
    bare = [e for e in found if e.kind != "missed" and e.candidate.measured is None]
    if bare:
        names = listed(e.name for e in bare[:6]) + (", …" if len(bare) > 6 else "")
        claims.append(
            f"Not measured after the search, so that only a {unmeasured(record)} latency is given: "
            f"{counted(len(bare), 'network')} of the tables ({names})."
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
    facts = [
        counted(number_of, noun, plural)
        for key, noun, plural in (
            ("classes", "class", "classes"),
            ("train", "training image", "training images"),
            ("val", "held-out image", "held-out images"),
        )
        if (number_of := _how_many(data.get(key))) is not None
    ]
    text = f"Data: {data.get('name') or 'unknown'}{f' ({listed(facts)})' if facts else ''}."
    if data.get("generated"):
        text += (
            " The images are generated, not photographs: they rank networks only roughly. For a decision, search on "
            "images of the task."
        )
    notes = data.get("notes")
    notes = [notes] if isinstance(notes, str) else notes if isinstance(notes, (list, tuple)) else []
    return [text, *(f"Data: {note}." for note in map(str, notes) if "rank networks only roughly" not in note)]


def _how_many(value: Any) -> int | None:
    """A count, or the length of a list of names."""
    if isinstance(value, (list, tuple)):
        return len(value)
    count = number(value)
    return None if count is None else int(count)


def _proxy(record: Record) -> list[str]:
    if record.options.get("proxy") is None:
        return []
    proxy = section(record.options, "proxy")
    width, side, full = (number(proxy.get(name)) for name in ("width", "resolution", "full_resolution"))
    steps, batch = number(proxy.get("steps")), number(proxy.get("batch"))
    reduced = [f"{width:g} of the channels"] if width is not None else []
    if side is not None:
        reduced.append(f"{side:.0f} px input" + (f" for a network of {full:.0f} px" if full is not None else ""))
    how = f" of {steps:,.0f} steps" if steps is not None else ""
    how += f" of {batch:.0f} images" if steps is not None and batch is not None else ""
    how += f" at reduced width and resolution ({listed(reduced)})" if reduced else ""
    return [
        f"Proxy accuracy is the result of a short training{how}, not the accuracy a network reaches when it is fully "
        "trained: full training may order the networks otherwise, and published accuracies of the references are not "
        "comparable with it.",
        # Measured by benchmarks/proxy_rank.py at 160 steps; docs/proxy.md has the table.
        "How rough that order is was measured once, at 160 steps on CIFAR-10 images against published accuracies: "
        "Kendall tau 0.13 over 32 ImageNet networks and 0.47 over 24 CIFAR-10 networks, where counting MACs gives 0.61 "
        "and 0.70. The shorter the training, the more it favours small networks.",
    ]


def _sampling(record: Record) -> list[str]:
    margin = noise(record)
    if margin is None:
        return []
    images, error, difference = margin
    text = (
        f"With {images:,} held-out images a proxy accuracy has a standard error of {100 * error:.1f} points; two "
        f"networks less than about {100 * difference:.1f} points apart are not told apart"
    )
    scores = [c.proxy_accuracy for c in record.front if c.proxy_accuracy is not None]
    close = sum(later - earlier < difference for earlier, later in pairwise(scores))
    if close:
        text += f", which is so for {close} of the {counted(len(scores) - 1, 'step')} of the front"
    return [text + "."]


def _seed(record: Record) -> list[str]:
    seed = record.options.get("seed")
    which = "" if seed is None else f" (seed {seed})"
    return [f"One run{which}: how much a second seed would change is not known."]


def _coverage(record: Record, counts: Counts) -> list[str]:
    distinct, size = len({c.key for c in record.candidates}), record.space.size
    if distinct >= size:
        return [f"All {big(size)} networks of space {record.space.name} were looked at."]
    return [
        f"{counted(distinct, 'distinct network')} looked at ({counts.complete:,} of them scored) of {big(size)} in "
        f"space {record.space.name}. The front is the best that was found, not the best there is."
    ]


def search_facts(record: Record, counts: Counts) -> list[tuple[str, str]]:
    """How the search went, as pairs."""
    options = record.options
    facts = [
        ("Candidates", f"{counts.total:,}"),
        ("Scored", f"{counts.complete:,}"),
        ("Too slow, never trained", f"{counts.too_slow:,}"),
        *([("Over the target when measured", _of_measured(record))] if record.measured and record.target_ms else []),
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
        if pairs := [f"{k} {_plain(v)}" for k, v in section(options, name).items() if v or (v == 0 and v is not False)]:
            facts.append((name.capitalize(), ", ".join(pairs).removeprefix("name ")))
    return facts


def _of_measured(record: Record) -> str:
    return f"{len(record.missed):,} of {counted(record.measured, 'measured network')}"


def _plain(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return " / ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _reasons(candidates: Sequence[Candidate]) -> str:
    """The most frequent reason of failure, if any."""
    reasons = [c.reason for c in candidates if c.state == "FAILED" and c.reason]
    if not reasons:
        return ""
    common = max(dict.fromkeys(reasons), key=reasons.count)
    return f" (mostly: {common:.120})" if len(set(reasons)) > 1 else f" ({common:.120})"
