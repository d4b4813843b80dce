"""Which network comes next: what the sampler proposes, and networks enqueued that it would not find by itself."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

import numpy as np
import optuna
from optuna.samplers import BaseSampler
from optuna.trial import Trial

from nas.arch.arch import Arch
from nas.arch.genes import Scalar
from nas.arch.space import Space
from nas.engine.climb import CHILDREN, QUESTIONS, Climber
from nas.engine.judge import Judge
from nas.engine.quiet import quiet_optuna
from nas.engine.run.journal import DIRECTIONS
from nas.engine.run.record import Candidate
from nas.engine.run.trials import CONSTRAINT, excess_ms, frozen, scores_of, told_state
from nas.engine.samplers import STARTUP, Climbing
from nas.latency.feasible_sampler import FeasibleSampler
from nas.system.errors import InputError
from nas.system.text import one_line

if TYPE_CHECKING:
    from nas.latency.devices import LatencyModel

FIRST = 2  # random networks to start from where the accuracy model needs no trainings
PATIENCE = 30  # proposals in a row that are too slow or known before a random one within the target is taken


class Proposals:
    """The Optuna study of a search, and what is enqueued in it. Only the driver touches it.

    Args:
        space: to search.
        model: predicts latency.
        limit_ms: the slowest prediction that is admitted; None admits all.
        sampler: proposes.
        seed: of networks that are drawn.
        candidates: of earlier calls, which the sampler learns from.
        judge: estimates accuracies; with sampler `Climbing` it also proposes.
        proposer: proposes where there is no judge; None: one that knows nothing yet.
        start: networks of the space that are proposed first.
        questions: networks that `model` may be asked about for each proposal of `Climbing`.
        target_ms: the target, which measured candidates of earlier calls must meet.
        first_draws: networks that `model` is asked about to find the first feasible ones; None is no bound.
        fastest: a network within the limit, proposed first where those draws find none.
    """

    def __init__(
        self,
        space: Space,
        model: LatencyModel,
        limit_ms: float | None,
        sampler: BaseSampler,
        seed: int,
        candidates: Sequence[Candidate],
        *,
        judge: Judge | None = None,
        proposer: Judge | None = None,
        start: Sequence[Arch] = (),
        questions: int = QUESTIONS,
        target_ms: float | None = None,
        first_draws: int | None = None,
        fastest: Arch | None = None,
    ) -> None:
        self._space, self._limit_ms, self._target_ms = space, limit_ms, target_ms
        self._misses = 0
        rng = np.random.default_rng([seed, len(candidates)])
        self._judge = judge or proposer or Judge(space, None, trained=True)
        # A model that does not learn scores alike in all proposals: each carries the same evolution on by a generation.
        questions = questions if self._judge.trained else min(questions, CHILDREN)
        self._climber = Climber(space, model, limit_ms, rng, questions) if isinstance(sampler, Climbing) else None
        self._own, self._rng = judge is None, rng
        self._scored: set[str] = set()
        with quiet_optuna():
            self._study = optuna.create_study(directions=list(DIRECTIONS), sampler=sampler)
            self._study.add_trials([frozen(one, space, limit_ms, target_ms=target_ms, told=True) for one in candidates])
        self._draws = FeasibleSampler(space, model, limit_ms, rng)
        seen = {candidate.key for candidate in candidates}
        first = [arch for arch in start if arch.key not in seen]
        self._startup = max(FIRST if self._judge.warm else STARTUP, len(first))
        missing = self._startup - sum(candidate.state == "COMPLETE" for candidate in candidates) - len(first)
        for arch in first:
            self._enqueue(space.encode(arch))
        for one in candidates:
            self._learn(one)
        if limit_ms is not None and missing > 0:
            drawn = self._draws.unseen({*seen, *(arch.key for arch in first)}, missing, first_draws)
            if not drawn and fastest is not None:
                drawn = [space.encode(fastest)]
            for genes in drawn:
                self._enqueue(genes)

    def ready(self, seen: Collection[str]) -> bool:
        """Prepare the next proposal; False if no unseen network within the target can be found.

        Args:
            seen: keys of networks that are known or under way.
        """
        if self._misses >= PATIENCE:
            self._misses = 0
            found = self._draws.unseen(seen)
            for genes in found:
                self._enqueue(genes)
            return bool(found)
        if (
            self._climber is not None
            and len(self._scored) >= self._startup
            and (scores := self._judge.drawn(self._rng))
        ):
            if climbed := self._climber.propose(scores, seen):
                self._enqueue(climbed)
            else:
                self._misses = PATIENCE  # nothing unseen was met: look for it at random
                return self.ready(seen)
        return True

    def _learn(self, candidate: Candidate) -> None:
        """Let the climber start from what was scored."""
        if candidate.state == "COMPLETE":
            self._scored.add(candidate.key)
        if self._own:
            self._judge.learn([candidate])
        if self._climber is not None and candidate.state == "COMPLETE":
            self._climber.add(candidate.genes, candidate.arch, candidate.predicted.ms)

    def ask(self) -> tuple[Trial, Arch]:
        """What the sampler proposes, or what was enqueued."""
        with quiet_optuna(), self._named_faults():
            trial = self._study.ask()
            return trial, self._space.realise(
                lambda gene: cast(Scalar, trial.suggest_categorical(gene.name, gene.options))
            )

    @contextmanager
    def _named_faults(self) -> Iterator[None]:
        """Optuna's samplers say in many ways that they cannot search categorical genes or two objectives."""
        try:
            yield
        except (ValueError, TypeError, KeyError, NotImplementedError) as error:
            name = type(self._study.sampler).__name__
            raise InputError(
                f"sampler {name} cannot propose networks of space {self._space.name}: {one_line(error)}; give another"
            ) from None

    def missed(self) -> None:
        """The proposal was too slow, or known."""
        self._misses += 1

    def accepted(self) -> None:
        """The proposal is evaluated."""
        self._misses = 0

    def tell(self, trial: Trial, candidate: Candidate) -> bool:
        """Report the result of a proposal to the sampler; returns whether the sampler has exhausted the space."""
        self._learn(candidate)
        with quiet_optuna():
            if self._limit_ms is not None:
                # TPE sets infeasible trials apart before it looks at states and values, so none need be made up.
                trial.set_constraint(CONSTRAINT, excess_ms(candidate, self._limit_ms, self._target_ms))
            try:
                with self._named_faults():
                    self._study.tell(trial, scores_of(candidate), told_state(candidate))
            except RuntimeError as error:
                if "Study.stop" not in str(error):
                    raise
                return True  # an exhaustive sampler (brute force, grid)
        return False

    def add(self, candidate: Candidate) -> None:
        """Let the sampler learn from a candidate that an earlier call proposed."""
        self._learn(candidate)
        with quiet_optuna():
            self._study.add_trial(frozen(candidate, self._space, self._limit_ms, target_ms=self._target_ms, told=True))

    def _enqueue(self, genes: Mapping[str, Scalar]) -> None:
        with quiet_optuna():
            self._study.enqueue_trial(dict(genes))
