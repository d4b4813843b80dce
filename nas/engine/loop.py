"""The search itself: propose, predict, evaluate only what can meet the target, retry what a dying worker lost.

Knows neither torch nor Ray.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from optuna.samplers import BaseSampler

from nas.arch.arch import Arch
from nas.arch.space import Space
from nas.engine.driver import Search
from nas.engine.executors.base import Executor
from nas.engine.fidelity import Halving
from nas.engine.judge import Judge
from nas.engine.options import SearchOptions
from nas.engine.progress import SearchProgress
from nas.engine.proposals import Proposals
from nas.engine.run.info import Stop
from nas.engine.run.record import Candidate
from nas.engine.run.store import Store
from nas.engine.samplers import make_sampler
from nas.latency.limits import Limits

if TYPE_CHECKING:
    from nas.latency.devices import LatencyModel


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a search found.

    Args:
        candidates: in the order in which they finished, those of earlier calls first; without references.
        references: in the order in which they finished.
        stopped_because: ``trials`` or ``budget`` were used up, or ``exhausted``: no unseen network within the target
            could be found.
    """

    candidates: list[Candidate]
    references: list[Candidate]
    stopped_because: Stop


@dataclass(frozen=True, slots=True)
class Opening:
    """How a search begins, and what it may ask of a slow device.

    Args:
        start: networks of the space that are evaluated before any proposal.
        questions: networks that a slow device may be asked about for one proposal; None: as `AutoSampler` says.
        first_draws: networks that the device is asked about to find the first feasible ones; None is no bound.
        fastest: a network within the limits, evaluated first where those draws find none.
    """

    start: Sequence[Arch] = ()
    questions: int | None = None
    first_draws: int | None = None
    fastest: Arch | None = None


def run_search(
    space: Space,
    model: LatencyModel,
    options: SearchOptions,
    executor: Executor,
    sampler: str | BaseSampler,
    *,
    references: Mapping[str, Arch] | None = None,
    limits: Limits | None = None,
    judge: Judge | None = None,
    proposer: Judge | None = None,
    opening: Opening = Opening(),
    spent_s: float = 0.0,
    halving: Halving | None = None,
    store: Store | None = None,
    watch: Callable[[SearchProgress], None] | None = None,
) -> Outcome:
    """Search until the trials or the budget of `options` are used up, or nothing new can be found.

    Candidates that run when the budget ends are awaited. Every evaluation, references included, gets the same seed
    (common random numbers), so that candidates differ by their networks and not by their luck. A worker that dies costs
    its candidate one retry; the second time the candidate is ``FAILED``.

    Args:
        space: to search.
        model: predicts the latency by which candidates are admitted and ranked.
        options: of these the engine reads `target_ms`, `trials` (candidates scored or failed, those of earlier calls on
            the same `store` included, too slow ones not), `budget_s` (search time, of earlier calls up to their last
            finished candidate included; references take their share but are all evaluated) and `seed`.
        executor: where evaluations run; the caller closes it.
        sampler: proposes: a name, or an Optuna sampler; see `nas.engine.samplers.make_sampler`.
        references: fixed networks by name, evaluated first, unknown to the sampler and not counted.
        limits: what a network must clear to be evaluated: predictions up to the target, less the safety margin, and all
            other limits. None is the target alone.
        judge: estimates accuracies; None: the observed scores decide.
        proposer: by which ``auto`` proposes where there is no judge; None: one that knows nothing yet.
        opening: how it begins.
        spent_s: search time used before the first proposal, in this call or an earlier one.
        halving: the rungs of the trainings, and who is trained on; needs `judge`. None trains each in one piece.
        store: keeps everything finished at once; what it holds already is not evaluated again.
        watch: sees every step, from this thread.

    Raises:
        InputError: the sampler cannot work with this space.
        NasError: the first evaluations all failed, with the same cause.
        KeyboardInterrupt: passed on; running work was cancelled, everything finished is in `store`.
    """
    limits = Limits(model, options.target_ms) if limits is None else limits
    earlier = store.load() if store else ([], [])
    own = judge or proposer or Judge(space, None, trained=True, exact=True)
    made = make_sampler(
        sampler,
        space,
        limits,
        options.seed,
        objective=options.objective,
        judge=own,
        questions=opening.questions,
        parallel=executor.slots > 1,
        stored=len(earlier[0]),
    )
    proposals = Proposals(
        space,
        limits,
        made,
        options.seed,
        earlier[0],
        proposer=own,
        learns=judge is None,
        start=opening.start,
        target_ms=options.target_ms,
        first_draws=opening.first_draws,
        admitted=opening.fastest,
    )
    search = Search(
        space,
        model,
        options,
        limits=limits,
        executor=executor,
        proposals=proposals,
        references=references or {},
        earlier=earlier,
        judge=judge,
        store=store,
        watch=watch,
        spent_s=spent_s,
        halving=halving,
    )
    try:
        search.loop()
    except BaseException as error:
        try:
            if isinstance(error, KeyboardInterrupt):
                search.ending = True
                with suppress(Exception):  # the interrupt may have come in the middle of a message
                    search.rescue()
        finally:
            executor.cancel()
        raise
    candidates, fixed_ones = search.estimated(search.candidates), search.estimated(search.references)
    return Outcome(candidates, fixed_ones, search.why_stop() or "trials")
