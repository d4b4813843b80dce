"""Findings and limitations of a run, and facts about the search, in sentences made from its figures."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from nas.accuracy.posterior import Posterior
from nas.accuracy.prior import PriorModel
from nas.accuracy.words import listed
from nas.data.dataset import class_counts
from nas.engine.judge import WITHOUT_DATA
from nas.engine.run.info import RunInfo
from nas.engine.run.record import Candidate, Record
from nas.latency.limits import shown
from nas.reports.formatting import and_list, counted, date_time, is_or_are, large_number, ms, percent, target
from nas.reports.names import reference_name
from nas.reports.run.headline import noise_of
from nas.reports.run.similarity import NearestReference
from nas.reports.run.tables import Counts, Entry, distinct_conditions, number, score_of
from nas.system.units import clock

SURE = 0.9  # chances below are named


def similarity_sentences(near: NearestReference | None) -> list[str]:
    """How similar the best network is to a reference, and whether chance explains it."""
    if near is None:
        return []
    verdict = "more than chance explains" if near.share > near.random_high else "no more than chance explains"
    return [
        f"The best network is most similar to {near.name}: {percent(near.share)} of their choices agree "
        f"({near.choices} of each block, compared at the same depth).",
        f"A random network of the space agrees with its nearest reference in {percent(near.random_mean)} of the "
        f"choices on average, and 1 in 20 in more than {percent(near.random_high)}; this similarity is {verdict}.",
    ]


def findings(record: Record, entries: Sequence[Entry]) -> list[str]:
    """What the run shows."""
    claims = []
    measured = [e.candidate for e in entries if e.candidate.measured is not None]
    front = [e for e in entries if e.kind in ("best", "front")]
    if measured:
        where = and_list(distinct_conditions([c.measured for c in measured if c.measured]))
        judged = sum(e.source == "measured" for e in front)
        limit = "" if record.target_ms is None else f", at or below the target of {target(record.target_ms)}"
        claims.append(
            f"Measured after the search: {judged} of {counted(len(front), 'front network')}{limit}, on {where}."
        )
        if any(c.measured and c.measured.holds_ms is not None for c in measured):
            claims.append(
                "Networks close to the target were measured several times. The figure after ≤ is a bound for 95 of 100 "
                "further measurements, and the target is judged by that bound."
            )
        errors = [abs(e.error) for e in entries if e.error is not None]
        claims.append(
            f"For the {counted(len(errors), 'network')} measured after the search, the predicted latency was off by "
            f"{percent(sum(errors) / len(errors), 1)} on average and {percent(max(errors), 1)} at worst."
        )
    claims += [*_repeats(record), *_table_error(record), *_safety_margin(record), *_correction(record)]
    if any(e.kind == "reference" and e.candidate.score is not None for e in entries):
        score = score_of(record)
        recipe = "trained by the same recipe on the same data" if score.percent else "scored in the same way"
        recipe = "estimated by the same model" if score.task and not score.proxy else recipe
        claims.append(f"The references were {recipe} and timed in the same way, so they are comparable.")
    return [*claims, *_feasible(record)]


def _repeats(record: Record) -> list[str]:
    """What training the best networks again has shown."""
    again = [c for c in record.candidates if c.repeats]
    if not again or record.model is None or not record.front:
        return []
    best = record.front[-1]
    others = [c for c in again if c.key != best.key and record.meets(c)]
    trainings = counted(sum(len(c.repeats) for c in again), "training")
    which = f"{counted(len(again), 'network')} that may be the best {'was' if len(again) == 1 else 'were'}"
    text = f"{which} trained again with other seeds, {trainings} in all."
    if others:
        chances = [record.model.better(best.arch, c.arch) for c in others]
        least = f"at least {min(chances):.2f}"
        text += f" The chance that {best.key} is more accurate than any single one of the others is {least}."
    return [text]


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
    on = counted(int(nets), "held-out network") if nets else "held-out networks"
    return [f"Accuracy of the latency model on {on}: {', '.join(parts)}."]


def _safety_margin(record: Record) -> list[str]:
    """How far below the target a prediction had to be for a candidate to be trained, and why."""
    margin, limit = record.info.margin, record.info.admitted_ms
    if record.target_ms is None or limit is None or margin is None or not margin.guard or margin.source == "none":
        return []
    guard = percent(margin.guard, 1)
    if limit >= record.target_ms:
        return [f"The fastest network is within {guard} of the target, so the safety margin was off."]
    given = margin.source == "given"
    why = "set by the user" if given else "wide enough for about 9 in 10 networks if the model errs as it did in tests"
    return [
        f"A candidate was {record.info.scored_word} only if its {record.info.latency_word} latency was at most "
        f"{ms(limit)} ms: a safety margin of {guard}, {why}."
    ]


def _correction(record: Record) -> list[str]:
    """The factor by which predictions are multiplied, which does not depend on the safety margin."""
    margin = record.info.margin
    if margin is None or not margin.pairs_ms:
        return []
    return [
        f"{counted(len(margin.pairs_ms), 'network')} around the target, measured before the search, took "
        f"{margin.correction:.3f} times the predicted latency in the median; predictions are corrected by this factor."
    ]


def _feasible(record: Record) -> list[str]:
    facts = record.info.feasibility or {}
    fastest, slowest = number(facts.get("fastest_ms")), number(facts.get("slowest_ms"))
    share = number(facts.get("share"))
    if fastest is None or slowest is None:
        return []
    word = record.info.latency_word
    text = f"Networks of the space take about {ms(fastest)} to {ms(slowest)} ms on this device ({word})."
    if record.target_ms is not None:
        text += f" The target of {target(record.target_ms)} {'binds' if facts.get('binds') else 'does not bind'}"
        margin = f" with the safety margin of {percent(guard, 1)}" if (guard := number(facts.get("guard"))) else ""
        text += "." if share is None else f": {_share(share)} of the space meets it{margin}."
        if not facts.get("binds"):
            binding = number(facts.get("binding_ms")) or slowest
            text += f" Only a target below about {ms(binding)} ms would exclude any network."
    return [text]


def _share(share: float) -> str:
    return "less than 0.1 %" if 0 < share < 0.001 else percent(share, 1 if share < 0.1 or 0.99 < share < 1 else 0)


def limitations(record: Record, entries: Sequence[Entry], counts: Counts) -> list[str]:
    """What the run cannot show."""
    claims = [*_data(record), *_proxy(record), *_sampling(record), *_steps(record), *_outside(record)]
    claims += [*_size_alone(record), *_seed(record), *_coverage(record, counts)]
    where = and_list(distinct_conditions(e.candidate.latency for e in entries))
    if where:
        claims.append(
            f"Latencies hold for {where}; another device, runtime, thread count or batch size may rank networks "
            "differently."
        )
    if record.info.measured_only:
        claims.append(
            "Only a part of the networks that the estimates put on the front was measured after the search; the others "
            "are not on it."
        )
    unmeasured = [e for e in entries if e.kind != "missed" and e.candidate.measured is None]
    if unmeasured:
        claims.append(
            f"Only a {record.info.latency_word} latency is known for {counted(len(unmeasured), 'listed network')}: "
            f"{_first_of([e.name for e in unmeasured])}."
        )
    warnings = [(e.name, e.candidate.measured.warning) for e in entries if e.candidate.measured]
    if noisy := [f"{name} ({warning})" for name, warning in warnings if warning]:
        claims.append(f"Measurements marked * in the table are less reliable: {_first_of(noisy)}.")
    return claims


def _first_of(texts: Sequence[str], most: int = 6) -> str:
    """At most `most` texts; the others are counted."""
    rest = len(texts) - most
    return and_list([*texts[:most], *([f"{rest} more"] if rest > 0 else [])])


def _data(record: Record) -> list[str]:
    data = record.info.data
    if data is None and score_of(record).task:
        return ["No network was trained: the accuracies are what the model expects; on other images they may differ."]
    if data is None:
        return ["The score comes from the caller's own function; this report cannot say how reliable it is."]
    facts = [
        counted(len(data.classes), "class", "classes"),
        counted(data.train, "training image", "training images"),
        counted(data.val, "held-out image", "held-out images"),
    ]
    text = f"Data: {data.name} ({and_list(facts)})."
    if _for_nothing(record):
        return [f"{WITHOUT_DATA[0].upper()}{WITHOUT_DATA[1:]} (docs/accuracy.md says why)."]
    if data.generated:
        text += " The images are generated, not photographs. Before you decide, search on images of your task."
    return [text, *(f"Data: {note}." for note in data.notes)]


def _for_nothing(record: Record) -> bool:
    """Whether candidates were trained although that is no evidence."""
    return record.model is not None and record.info.proxy is not None and not score_of(record).proxy


def _proxy(record: Record) -> list[str]:
    proxy = record.info.proxy
    if proxy is None or _for_nothing(record):
        return []
    width, side, full = (number(proxy.get(name)) for name in ("width", "resolution", "full_resolution"))
    steps, batch = number(proxy.get("steps")), number(proxy.get("batch"))
    reduced = [f"{width:g} of the channels"] if width is not None else []
    if side is not None:
        reduced.append(f"{side:.0f} px input" + (f" for a network of {full:.0f} px" if full is not None else ""))
    shared, tune = number(proxy.get("shared_steps")), number(proxy.get("tune"))
    of_images = f" of {batch:.0f} images" if batch is not None else ""
    if shared:
        how = f"weights that all networks share, trained for {shared:,.0f} steps{of_images}"
        how += f" and {tune:,.0f} more for each network," if tune else ""
    else:
        how = "a short training" + (f" of {steps:,.0f} steps{of_images}" if steps is not None else "")
    how += f" at reduced width and resolution ({and_list(reduced)})" if reduced else ""
    return [
        f"Proxy accuracy comes from {how}. Full training reaches other accuracies and may rank the networks "
        "differently. Published accuracies of the references are not comparable with it.",
        "It holds for these images alone: on small images, networks of equal cost can rank against their order on "
        "ImageNet. docs/proxy.md and docs/accuracy.md show how well it ranks networks.",
    ]


def _sampling(record: Record) -> list[str]:
    noise = noise_of(record)
    if noise is None:
        return []
    text = (
        f"With {noise.images:,} held-out images, a proxy accuracy has a standard error of "
        f"{100 * noise.standard_error:.1f} points. Differences below about {100 * noise.difference:.1f} points are "
        "within noise"
    )
    scores = [c.proxy_accuracy for c in record.front if c.proxy_accuracy is not None]
    close = sum(later - earlier < noise.difference for earlier, later in pairwise(scores))
    if close:
        text += f", and so {is_or_are(close)} {close} of the {counted(len(scores) - 1, 'step')} along the front"
    return [text + "."]


def _steps(record: Record) -> list[str]:
    """How many steps along the front the estimates cannot tell from none."""
    model, front = record.model, record.front
    if model is None or len(front) < 2 or not score_of(record).task:
        return []
    unsure = sum(model.better(slower.arch, faster.arch) < SURE for faster, slower in pairwise(front))
    if not unsure:
        return []
    return [
        f"For {unsure:,} of the {counted(len(front) - 1, 'step')} along the front, the chance that the slower network "
        f"is more accurate is below {SURE:g}."
    ]


def _outside(record: Record) -> list[str]:
    """What the best network has that the accuracy model never saw."""
    if not isinstance(record.model, PriorModel) or record.best is None:
        return []
    features = record.model.outside(record.best)
    if not features:
        return []
    return [
        f"The best network is outside the data of the {record.model.name} model: {listed(features)}. Its estimate is "
        "less certain for that, which its standard deviation includes."
    ]


def _size_alone(record: Record) -> list[str]:
    """References whose choices the trainings of the space say nothing about."""
    if not isinstance(record.model, Posterior):
        return []
    scored = [c for c in record.references if c.score is not None]
    foreign = [reference_name(c.name or c.key) for c in scored if c.arch not in record.space]
    if not foreign:
        return []
    alone = "their size alone" if record.info.options.accuracy == "train" else "their size and the bundled model alone"
    return [
        f"Not in the space: {and_list(foreign)}. Their estimates rest on {alone}, for trainings show what choices of "
        "the space are worth; the chances of beating them are rough."
    ]


def _seed(record: Record) -> list[str]:
    text = f"One run (seed {record.info.options.seed}): the variation between seeds is unknown."
    if record.info.proxy and record.info.scored_word == "scored":
        text += " No network was scored again: with shared weights another seed gives nearly the same score."
    return [text]


def _coverage(record: Record, counts: Counts) -> list[str]:
    distinct, size = len({c.key for c in record.candidates}), record.space.size
    if distinct >= size:
        return [f"The search looked at all {large_number(size)} networks of space {record.space.name}."]
    return [
        f"The search looked at {counted(distinct, 'distinct network')} ({counts.complete:,} scored) of the "
        f"{large_number(size)} in space {record.space.name}. The front is the best found, not the best possible."
    ]


def search_facts(record: Record, counts: Counts) -> list[tuple[str, str]]:
    """Names and values that describe the search."""
    info, options = record.info, record.info.options
    facts = [
        ("Candidates", f"{counts.total:,}"),
        ("Scored", f"{counts.complete:,}"),
        *([("Stopped early, at a rung", f"{counts.stopped:,}")] if counts.stopped else []),
        (info.over_word.capitalize() + (", never trained" if info.trains else ""), f"{counts.too_slow:,}"),
        *([("Measured over the target", _of_measured(record))] if record.measured and record.target_ms else []),
        ("Failed", f"{counts.failed:,}{_reasons(record.candidates)}"),
        ("Evaluation time, all workers", clock(counts.seconds)),
    ]
    if info.spent_s is not None:
        facts.append(("Search time", clock(info.spent_s)))
    facts.append(("Space", f"{record.space.name}, {large_number(record.space.size)} networks"))
    plain = options.to_dict()
    if record.model is not None:
        facts.append(("Accuracy", f"{plain['accuracy']}: {record.model.evidence}"))
    facts += [(name.capitalize(), str(plain[name])) for name in ("sampler", "seed", "workers")]
    if options.accelerator not in ("auto", "cpu"):
        facts.append(("Accelerator", options.accelerator))
    if options.trials is not None:
        facts.append(("Trials", str(options.trials)))
    facts += [(name, date_time(at)) for name, at in (("Started", info.started), ("Finished", info.finished)) if at]
    if options.budget_s is not None:
        facts.append(("Budget", clock(options.budget_s)))
    facts.append(("Device", info.device.name if info.device else str(plain["device"])))
    if info.limited:
        facts.append(("Limits", limits_text(info)))
    if info.data is not None:
        data = info.data
        facts.append(("Data", f"{data.name}, {counted(len(data.classes), 'class', 'classes')}; key {data.key}"))
        title = "Images per class" if data.counts else "Classes"
        facts.append((title, class_counts(data.classes, data.counts, 50)))
    for name, about in (("Proxy", info.proxy), ("Versions", info.versions), ("Resumed with", info.resumed_with)):
        if about:
            known = [f"{key.replace('_', ' ')} {_plain(value)}" for key, value in about.items() if value is not None]
            facts.append((name, ", ".join(known)))
    return facts


def limits_text(info: RunInfo) -> str:
    """The limits besides the first device's target, and what they leave of the space."""
    found = {bound["name"]: bound for bound in (info.clearance or {}).get("bounds", ())}
    parts = [f"{one.device} up to {target(one.target_ms)}" for one in info.further]
    for name, bound in info.options.limits.items():
        loose = name in found and found[name]["largest"] <= bound
        parts.append(f"{name} up to {shown(name, bound)}{' (does not bind)' if loose else ''}")
    share = (info.clearance or {}).get("share")
    together = [] if share is None else [f"{share:.1%} of the space clears all limits"]
    return "; ".join([", ".join(parts), *together])


def _of_measured(record: Record) -> str:
    return f"{len(record.missed):,} of {counted(record.measured, 'measured network')}"


def _plain(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _reasons(candidates: Sequence[Candidate]) -> str:
    """The most frequent reason of failures, if there are any."""
    reasons = [c.reason for c in candidates if c.state == "FAILED" and c.reason]
    if not reasons:
        return ""
    common = max(dict.fromkeys(reasons), key=reasons.count)
    return f" (mostly: {common:.120})" if len(set(reasons)) > 1 else f" ({common:.120})"
