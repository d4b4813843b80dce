"""What a run can and cannot claim, and how it went, in sentences made from its facts."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from nas.engine.run.record import Candidate, Record
from nas.reports.formatting import and_list, counted, large_number, ms, percent, target
from nas.reports.run.headline import noise
from nas.reports.run.similarity import NearestReference
from nas.reports.run.tables import Counts, Entry, distinct_conditions, latency_word, number, score_of
from nas.system.units import clock


def similarity_sentences(near: NearestReference | None) -> list[str]:
    """How far the best network resembles a reference, beside what chance gives."""
    if near is None:
        return []
    beyond = near.share > near.random_high
    verdict = "more than chance explains" if beyond else "no more than chance explains"
    return [
        f"NearestReference reference of the best network: {near.name}, with {percent(near.share)} of the choices equal "
        f"({near.choices} of every block, compared at the same depth of the feature map).",
        f"A random network of the space has {percent(near.random_mean)} in common with the reference nearest to it, "
        f"and one in twenty more than {percent(near.random_high)}; so the likeness is {verdict}.",
    ]


def findings(record: Record, entries: Sequence[Entry]) -> list[str]:
    """What the run shows."""
    claims = []
    measured = [e.candidate for e in entries if e.candidate.measured is not None]
    front = [e for e in entries if e.kind in ("best", "front")]
    if measured:
        where = and_list(distinct_conditions([c.measured for c in measured if c.measured]))
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
        errors = [abs(e.error) for e in entries if e.error is not None]
        claims.append(
            f"Predicted latency of the {counted(len(errors), 'network')} measured after the search was off by "
            f"{percent(sum(errors) / len(errors), 1)} on average and {percent(max(errors), 1)} at worst."
        )
    claims += [*_table_error(record), *_admitted(record)]
    if any(e.kind == "reference" and e.candidate.proxy_accuracy is not None for e in entries):
        same = (
            "trained by the same recipe on the same data" if score_of(record).percent else "scored by the same function"
        )
        claims.append(
            f"The references were {same} and timed in the same way, so they compare beyond the noise stated here."
        )
    return [*claims, *_feasible(record)]


def _table_error(record: Record) -> list[str]:
    error = record.info.table_error or {}
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
    margin, limit = record.info.margin, record.info.admitted_ms
    if record.target_ms is None or limit is None or margin is None or not margin.guard or margin.source == "none":
        return []
    guard = percent(margin.guard, 1)
    if limit >= record.target_ms:
        return [f"The fastest network is within {guard} of the target, so the safety margin was off."]
    given = margin.source == "given"
    why = "as given" if given else "wide enough for about 9 in 10 networks that err as those tested did"
    return [f"Candidates were trained up to {ms(limit)} ms {latency_word(record)}: a safety margin of {guard}, {why}."]


def _correction(record: Record) -> list[str]:
    margin = record.info.margin
    if margin is None or not margin.pairs_ms:
        return []
    return [
        f"{counted(len(margin.pairs_ms), 'network')} around the target, measured before the search, took "
        f"{margin.correction:.3f} times the predicted latency in the median; predictions are corrected by that."
    ]


def _feasible(record: Record) -> list[str]:
    facts = record.info.feasibility or {}
    fastest, slowest = number(facts.get("fastest_ms")), number(facts.get("slowest_ms"))
    share = number(facts.get("share"))
    if fastest is None or slowest is None:
        return []
    word = latency_word(record)
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


def limitations(record: Record, entries: Sequence[Entry], counts: Counts) -> list[str]:
    """Where the run's word ends."""
    claims = [*_data(record), *_proxy(record), *_sampling(record), *_seed(record), *_coverage(record, counts)]
    latencies = [e.candidate.measured or e.candidate.predicted for e in entries]
    where = and_list(distinct_conditions(latencies))
    if where:
        claims.append(
            f"Latency holds for {where}; another device, runtime, thread count or batch may order networks otherwise."
        )
    bare = [e for e in entries if e.kind != "missed" and e.candidate.measured is None]
    if bare:
        names = and_list(e.name for e in bare[:6]) + (", …" if len(bare) > 6 else "")
        claims.append(
            f"Not measured after the search, so that only a {latency_word(record)} latency is given: "
            f"{counted(len(bare), 'network')} of the tables ({names})."
        )
    noisy = [e for e in entries if e.candidate.measured is not None and e.candidate.measured.warning]
    for entry in noisy[:6]:
        warning = entry.candidate.measured.warning if entry.candidate.measured else None
        claims.append(f"Measurement of {entry.name} (marked * in the table) deserves less trust: {warning}.")
    if len(noisy) > 6:
        claims.append(f"{len(noisy) - 6} more measurements are marked * for the same kind of reason.")
    return claims


def _data(record: Record) -> list[str]:
    data = record.info.data
    if data is None:
        return ["The score comes from the caller's own function; this report cannot say how far it can be trusted."]
    facts = [
        counted(len(data.classes), "class", "classes"),
        counted(data.train, "training image", "training images"),
        counted(data.val, "held-out image", "held-out images"),
    ]
    text = f"Data: {data.name} ({and_list(facts)})."
    if data.generated:
        text += (
            " The images are generated, not photographs: they rank networks only roughly. For a decision, search on "
            "images of the task."
        )
    return [text, *(f"Data: {note}." for note in data.notes if "rank networks only roughly" not in note)]


def _proxy(record: Record) -> list[str]:
    proxy = record.info.proxy
    if proxy is None:
        return []
    width, side, full = (number(proxy.get(name)) for name in ("width", "resolution", "full_resolution"))
    steps, batch = number(proxy.get("steps")), number(proxy.get("batch"))
    reduced = [f"{width:g} of the channels"] if width is not None else []
    if side is not None:
        reduced.append(f"{side:.0f} px input" + (f" for a network of {full:.0f} px" if full is not None else ""))
    how = f" of {steps:,.0f} steps" if steps is not None else ""
    how += f" of {batch:.0f} images" if steps is not None and batch is not None else ""
    how += f" at reduced width and resolution ({and_list(reduced)})" if reduced else ""
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
    return [f"One run (seed {record.info.options.seed}): how much a second seed would change is not known."]


def _coverage(record: Record, counts: Counts) -> list[str]:
    distinct, size = len({c.key for c in record.candidates}), record.space.size
    if distinct >= size:
        return [f"The search looked at all {large_number(size)} networks of space {record.space.name}."]
    return [
        f"The search looked at {counted(distinct, 'distinct network')} ({counts.complete:,} scored) of the "
        f"{large_number(size)} in space {record.space.name}. The front is the best found, not the best possible."
    ]


def search_facts(record: Record, counts: Counts) -> list[tuple[str, str]]:
    """How the search went, as pairs."""
    info, options = record.info, record.info.options
    facts = [
        ("Candidates", f"{counts.total:,}"),
        ("Scored", f"{counts.complete:,}"),
        ("Too slow, never trained", f"{counts.too_slow:,}"),
        *([("Over the target when measured", _of_measured(record))] if record.measured and record.target_ms else []),
        ("Failed", f"{counts.failed:,}{_reasons(record.candidates)}"),
        ("Time in evaluations", clock(counts.seconds)),
    ]
    if info.spent_s is not None:
        facts.append(("Time of the run", clock(info.spent_s)))
    facts.append(("Space", f"{record.space.name}, {large_number(record.space.size)} networks"))
    plain = options.to_dict()
    facts += [(name.capitalize(), str(plain[name])) for name in ("sampler", "seed", "workers")]
    if options.trials is not None:
        facts.append(("Trials", str(options.trials)))
    facts += [(name, time) for name, time in (("Started", info.started), ("Finished", info.finished)) if time]
    if options.budget_s is not None:
        facts.append(("Budget", clock(options.budget_s)))
    facts.append(("Device", info.device.name if info.device else str(plain["device"])))
    if info.data is not None:
        classes = " / ".join(info.data.classes)
        facts.append(("Data", f"{info.data.name}, key {info.data.key}, classes {classes}"))
    for name, about in (("Proxy", info.proxy), ("Versions", info.versions), ("Resumed with", info.resumed_with)):
        if about:
            known = [f"{key} {_plain(value)}" for key, value in about.items() if value is not None]
            facts.append((name, ", ".join(known)))
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
