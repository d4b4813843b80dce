"""After the search: the best networks are trained again with other seeds, until one is surely best or time is up.

The network with the best estimate among many is partly the luckiest. Repeated trainings show how much of a score is
chance, and what each of the best is beyond that (`nas.accuracy.posterior`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import count

from nas.engine.executors.base import Executor, Finished
from nas.engine.judge import Judge
from nas.engine.options import MAX_SEED, SearchOptions
from nas.engine.run.info import RunInfo
from nas.engine.run.record import Candidate, Record, Repeat
from nas.system.progress import Step

SHARE = 0.1  # of the budget that is left, or of the number of candidates where only that is limited
CONTENDERS = 5  # networks that are compared, the best one included
TIMES = 8  # trainings of one network, at most
SURE = 0.95  # chance at which one network is taken to be better than another
TEXT = "training the best networks again with other seeds"


def seed_matters(info: RunInfo, judge: Judge | None) -> bool:
    """Whether training a network again with another seed says something about it."""
    return judge is not None and judge.trained and not _scored_alike(info)


def _scored_alike(info: RunInfo) -> bool:
    proxy = info.proxy or {}
    return bool(proxy.get("shared_steps")) and not proxy.get("tune")


def with_reserve(options: SearchOptions, spent_s: float) -> SearchOptions:
    """The options of the search itself: of the budget that is left, it leaves a share for what comes after it.

    Args:
        options: of the run.
        spent_s: search time of earlier calls, which the budget includes.
    """
    if options.budget_s is None:
        return options
    return replace(options, budget_s=spent_s + (1 - SHARE) * (options.budget_s - spent_s))


def most_repeats(options: SearchOptions, record: Record) -> int | None:
    """How many trainings may be added; None where the budget alone decides."""
    if options.trials is None:
        return None
    scored = [one for one in record.candidates if one.score is not None]
    return max(0, int(SHARE * len(scored)) - sum(len(one.repeats) for one in scored))


def confirm(
    record: Record,
    judge: Judge,
    executor: Executor,
    *,
    may_start: Callable[[], bool],
    most: int | None,
    keep: Callable[[str, Repeat], None],
    progress: Step,
) -> Record:
    """Train the best networks again.

    Args:
        record: of the search.
        judge: estimates accuracies; learns from what is trained.
        executor: where they are trained.
        may_start: whether there is time for another training.
        most: number of trainings, at most; None is no bound.
        keep: called with the key of the network after each training.
        progress: called as ``progress(done, total, text)``.

    Returns:
        The record with the repeated trainings and the estimates by all trainings.
    """
    running: dict[int, tuple[str, int]] = {}
    failed: set[str] = set()
    started = 0
    contenders = {one.key for one in undecided(record)}  # each is trained again, whatever becomes of the others
    while True:
        unsure = {one.key for one in undecided(record)}
        open_ = [
            one
            for one in record.candidates
            if one.key not in failed and (one.key in unsure or (one.key in contenders and _times(one, running) == 1))
        ]
        while open_ and len(running) < executor.slots and (most is None or started < most) and may_start():
            chosen = min(open_, key=lambda one: _times(one, running))
            if _times(chosen, running) >= TIMES:
                break
            seed = _unused_seed(chosen, record.info.options.seed, running)
            running[started] = (chosen.key, seed)
            executor.submit(started, chosen.arch, seed)
            started += 1
            progress(started - len(running), started, TEXT)
        finished = executor.wait() if running else None
        if finished is None:
            if started:
                progress(started, started, TEXT)
            return record
        key, seed = running.pop(finished.ticket)
        if (repeat := _repeat(finished, seed)) is None:
            failed.add(key)
            continue
        keep(key, repeat)
        record = _with_repeat(record, judge, key, repeat)


def undecided(record: Record) -> list[Candidate]:
    """The most accurate network within the target, and those of the next that may be better; empty if none may be."""
    model = record.model
    within = [one for one in record.candidates if one.score is not None and record.meets(one)]
    if not within or model is None:
        return []
    best, *others = sorted(within, key=lambda one: -(one.score or 0.0))[:CONTENDERS]
    rivals = [one for one in others if model.better(one.arch, best.arch) > 1 - SURE]
    return [best, *rivals] if rivals else []


def _times(candidate: Candidate, running: dict[int, tuple[str, int]]) -> int:
    return candidate.trainings + sum(key == candidate.key for key, _ in running.values())


def _unused_seed(candidate: Candidate, first: int, running: dict[int, tuple[str, int]]) -> int:
    """The next seed after the run's own that no training of the network has; an earlier call may have left gaps."""
    used = {repeat.seed for repeat in candidate.repeats} | {
        seed for key, seed in running.values() if key == candidate.key
    }
    return next(seed for at in count(1) if (seed := (first + at) % (MAX_SEED + 1)) not in used)


def _repeat(finished: Finished, seed: int) -> Repeat | None:
    found = finished.evaluation
    if found is None or found.proxy_accuracy is None:
        return None
    return Repeat(seed, found.proxy_accuracy, found.proxy_loss, found.seconds)


def _with_repeat(record: Record, judge: Judge, key: str, repeat: Repeat) -> Record:
    candidates = [replace(c, repeats=(*c.repeats, repeat)) if c.key == key else c for c in record.candidates]
    judge.learn([one for one in candidates if one.key == key])
    references = judge.estimated(record.references)
    return replace(record, candidates=judge.estimated(candidates), references=references, model=judge.model)
