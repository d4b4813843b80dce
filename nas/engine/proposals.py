"""Which network comes next: what the sampler proposes, and networks enqueued that it would not find by itself."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

import numpy as np
import optuna
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, Trial, TrialState

from nas.arch.arch import Arch
from nas.arch.genes import Scalar
from nas.arch.space import Space
from nas.engine.judge import Judge
from nas.engine.quiet import quiet_optuna
from nas.engine.run.journal import DIRECTIONS
from nas.engine.run.record import Candidate
from nas.engine.run.trials import CONSTRAINT, excess_ms, frozen, reported_state, scores_of
from nas.engine.space_sampler import STARTUP, SpaceSampler
from nas.latency.feasible_sampler import FeasibleSampler
from nas.system.errors import InputError
from nas.system.text import one_line

if TYPE_CHECKING:
    from nas.latency.limits import Limits

PATIENCE = 30  # proposals in a row that are too slow or known before a random one within the target is taken


class Proposals:
    """The Optuna study of a search, and what is enqueued in it. Only the driver touches it.

    Args:
        space: to search.
        limits: what networks must clear.
        sampler: proposes.
        seed: of networks that are drawn.
        candidates: of earlier calls, which the sampler learns from.
        proposer: by which the sampler judges networks, if it needs that; None: no sampler of this search does.
        learns: whether `proposer` learns from what is reported here; else its owner keeps it up to date.
        start: networks of the space that are proposed first.
        target_ms: the target, which measured candidates of earlier calls must meet.
        first_draws: networks that a slow device is asked about to find the first feasible ones; None is no bound.
        admitted: a network within the limits, proposed first where those draws find none.
    """

    def __init__(
        self,
        space: Space,
        limits: Limits,
        sampler: BaseSampler,
        seed: int,
        candidates: Sequence[Candidate],
        *,
        proposer: Judge,
        learns: bool = False,
        start: Sequence[Arch] = (),
        target_ms: float | None = None,
        first_draws: int | None = None,
        admitted: Arch | None = None,
    ) -> None:
        self._space, self._limits, self._target_ms = space, limits, target_ms
        self._sampler, self._proposer, self._learns = sampler, proposer, learns
        self._misses = 0
        self._asked: Trial | None = None
        self._draws = FeasibleSampler(space, limits, np.random.default_rng([seed, len(candidates)]))
        with quiet_optuna():
            self._study = optuna.create_study(directions=list(DIRECTIONS), sampler=sampler)
            self._study.add_trials([self._frozen(one) for one in candidates])
        for one in candidates:
            self._learn(one)
        seen = {candidate.key for candidate in candidates}
        first = [arch for arch in start if arch.key not in seen]
        for arch in first:
            self._enqueue(space.encode(arch))
        startup = sampler.startup if isinstance(sampler, SpaceSampler) else STARTUP
        missing = startup - sum(candidate.state == "COMPLETE" for candidate in candidates) - len(first)
        if limits and missing > 0:
            drawn = self._draws.unseen({*seen, *(arch.key for arch in first)}, missing, first_draws)
            if not drawn and admitted is not None:
                drawn = [space.encode(admitted)]
            for genes in drawn:
                self._enqueue(genes)

    def ready(self, seen: Collection[str]) -> bool:
        """Prepare the next proposal; False if no unseen network within the limits can be found.

        Args:
            seen: keys of networks that are known or under way.
        """
        if self._misses >= PATIENCE:
            self._misses = 0
            found = self._draws.unseen(seen)
            for genes in found:
                self._enqueue(genes)
            return bool(found)
        with quiet_optuna(), self._named_faults():
            self._asked = self._study.ask()
        if isinstance(self._sampler, SpaceSampler) and self._sampler.exhausted:
            with quiet_optuna():
                self._study.tell(self._asked, state=TrialState.FAIL)
            return False
        return True

    def _learn(self, candidate: Candidate) -> None:
        if self._learns:
            self._proposer.learn([candidate])

    def ask(self) -> tuple[Trial, Arch]:
        """What the sampler proposes, or what was enqueued."""
        with quiet_optuna(), self._named_faults():
            trial = self._study.ask() if self._asked is None else self._asked
            self._asked = None
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
            if (excess := self.excess(candidate)) is not None:
                # TPE sets infeasible trials apart before it looks at states and values, so none need be made up.
                trial.set_constraint(CONSTRAINT, excess)
            try:
                with self._named_faults():
                    self._study.tell(trial, scores_of(candidate), reported_state(candidate))
            except RuntimeError as error:
                if "Study.stop" not in str(error):
                    raise
                return True  # an exhaustive sampler (brute force, grid)
        return False

    def add(self, candidate: Candidate) -> None:
        """Let the sampler learn from a candidate that an earlier call proposed."""
        self._learn(candidate)
        with quiet_optuna():
            self._study.add_trial(self._frozen(candidate))

    def _frozen(self, candidate: Candidate) -> FrozenTrial:
        return frozen(candidate, self._space, self.excess(candidate), for_sampler=True)

    def excess(self, candidate: Candidate) -> float | None:
        """By how much a candidate is above what is admitted, in ms, or as a share of the limit where latency has
        none; None without limits."""
        if not self._limits:
            return None
        limit_ms, others = self._limits.limit_ms, self._limits.bounds or self._limits.devices
        share = float(self._limits.loads([candidate.arch])[0]) - 1 if others else -1.0
        return share if limit_ms is None else max(share * limit_ms, excess_ms(candidate, limit_ms, self._target_ms))

    def _enqueue(self, genes: Mapping[str, Scalar]) -> None:
        with quiet_optuna():
            self._study.enqueue_trial(dict(genes))
