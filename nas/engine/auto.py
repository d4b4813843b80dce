"""The sampler ``auto``: the network, of all that clear the limits, that is expected to improve most on what is known.

Accuracy is judged by a model that learns from the scores, latency by the device's model. So the whole space can be
searched for each proposal: a small one is listed, a large one explored by evolution over genes as arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from nas.arch.arch import Arch
from nas.arch.batch import Batch, current_rows
from nas.arch.codes import INACTIVE, Coder, Codes
from nas.arch.genes import Scalar
from nas.arch.space import Space
from nas.engine.improvement import Known, expected_hypervolume_improvement, expected_improvement, order
from nas.engine.judge import Judge
from nas.engine.options import Objective
from nas.engine.run.pareto import front_mask
from nas.engine.space_sampler import SpaceSampler

if TYPE_CHECKING:
    from nas.latency.limits import Limits

Floats = NDArray[np.float64]
Worth = Callable[[Batch, Floats], Floats]

STARTUP = 5  # random networks before a model that knows nothing decides
FIRST = 2  # and before one that knows networks already
CHILDREN = 2500  # networks of a generation
GENERATIONS = 4  # of a proposal
FIRST_GENERATIONS = 16  # of the first proposal
QUESTIONS = 256  # networks that a slow device is asked about for a proposal
PARENTS = 64
AT_THE_LIMIT = 0.7  # share of the proposals for the most accurate network within a target; the others are for the front


@dataclass(frozen=True)
class _Known:
    """A network of a trial: its codes, its latency, and whether it is within the limits and did not fail."""

    codes: NDArray[np.int16]
    arch: Arch
    time: float
    counts: bool


class AutoSampler(SpaceSampler):
    """Proposes by expected improvement, of the best network or of the front's hypervolume.

    Args:
        space: to search.
        limits: what networks must clear; its device tells latencies, the second objective. None: only accuracy counts.
        seed: random seed; None is a random one.
        objective: ``pareto``: the front; with a latency limit most proposals are for its best network all the same.
            ``accuracy``: the best network alone.
        judge: estimates accuracies, and is kept up to date by its owner; None: the sampler learns from the first value
            of the study's trials.
        questions: networks whose latency may be asked for each proposal, where the device answers slowly; None is no
            bound.
        among: the only networks to choose from, as `nas.arch.codes` numbers them; None is the whole space. The random
            ones at the beginning are of the whole space all the same.

    >>> import optuna
    >>> from nas.arch.space_yaml import load_space
    >>> optuna.logging.set_verbosity(optuna.logging.WARNING)
    >>> space = load_space("efficientnet")
    >>> def objective(trial):
    ...     arch = space.realise(lambda gene: trial.suggest_categorical(gene.name, gene.options))
    ...     return sum(row.se > 0 for row in arch.rows) / len(arch.rows)
    >>> study = optuna.create_study(direction="maximize", sampler=AutoSampler(space, seed=0))
    >>> study.optimize(objective, n_trials=15)
    >>> study.best_value > 0.8
    True
    """

    def __init__(
        self,
        space: Space,
        limits: Limits | None = None,
        seed: int | None = None,
        *,
        objective: Objective = "pareto",
        judge: Judge | None = None,
        questions: int | None = None,
        among: Codes | None = None,
    ) -> None:
        super().__init__(space, limits, seed)
        self._objective = objective
        self._judge = Judge(space, None, trained=True, exact=True) if judge is None else judge
        self._own = judge is None
        self._coder = Coder(space)
        self._among = None if among is None else self._coder.batch(among)
        if questions is None and self.limits is not None and not self.limits.fast:
            questions = QUESTIONS
        self._children = CHILDREN if questions is None else max(1, min(CHILDREN, questions // GENERATIONS))
        self._slow = questions is not None
        self._trials: dict[int, _Known] = {}  # finished trials of the study, by number
        self._elite: dict[Objective, Codes] = {}
        self._slowest_met = 0.0
        self._questions = questions

    @property
    def startup(self) -> int:
        """Random networks before it decides by itself."""
        return FIRST if self._judge.warm else STARTUP

    def propose(self, study: Study, trial: FrozenTrial) -> Mapping[str, Scalar] | None:
        """Genes of the unknown network within the limits that promises most; None if none is left."""
        known = self._known(study, trial)
        scored = [one for one in known if one.counts]
        beliefs = self._judge.beliefs
        if len(scored) < self.startup or beliefs is None:
            return self._random(known)
        aim = self._aim()
        codes = np.array([one.codes for one in scored])
        front = Known(beliefs(self._coder.batch(codes))[0], np.array([one.time for one in scored]))

        def worth(batch: Batch, times: Floats) -> Floats:
            means, sds = beliefs(batch)
            best = float(front.scores.max())
            if aim == "accuracy":
                return order(means, sds, expected_improvement(means, sds, best), best)
            won = expected_hypervolume_improvement(means, sds, times, front, self._slowest(front, times))
            return order(means, sds, won, best)

        words = set(self._coder.batch(np.array([one.codes for one in known])).words())
        listed = self._draws.listed if self._among is None else self._among
        if listed is not None:
            best = self._of_list(listed, worth, words)
        else:
            best = self._evolved(self._parents(codes, front), aim, worth, words)
        if best is None:
            return self._random(known)
        return self.space.encode(self.space.decode(self._coder.genes(best)))  # of several settings of the genes, one

    def _of_list(self, everything: Batch, worth: Worth, words: Collection[bytes]) -> NDArray[np.int16] | None:
        if everything.rows is not current_rows():
            everything = self._coder.batch(_codes(everything))
        new = np.flatnonzero([word not in words for word in everything.words()])
        if self._questions is not None and len(new) > self._questions:
            new = self.rng.choice(new, self._questions, replace=False)
        found = self._within(everything.take(new))
        if not len(found[0]):
            return None
        at = int(np.argmax(worth(*found)))
        best: NDArray[np.int16] = _codes(found[0])[at]
        return best

    def _evolved(
        self, parents: Codes, aim: Objective, worth: Worth, words: Collection[bytes]
    ) -> NDArray[np.int16] | None:
        """The best network met in an evolution that goes on from proposal to proposal."""
        first = aim not in self._elite
        pool = self._elite.get(aim, parents[:0])
        values = np.zeros(0)
        met = set(words)
        if len(pool):
            pool, values = self._judged(pool, worth, met)
        # A model that does not learn judges alike in all proposals: each carries the evolution on by a generation.
        steady = GENERATIONS if self._judge.trained or self._slow else 1
        for _ in range(FIRST_GENERATIONS if first and not self._slow else steady):
            everyone = np.concatenate([parents, pool])
            children = self._coder.children(everyone, self._children, self.rng)
            born, worths = self._judged(children, worth, met)
            pool, values = np.concatenate([pool, born]), np.concatenate([values, worths])
            kept = np.argsort(-values, kind="stable")[:PARENTS]
            pool, values = pool[kept], values[kept]
        self._elite[aim] = pool
        return pool[0] if len(pool) else None

    def _judged(self, codes: Codes, worth: Worth, met: set[bytes]) -> tuple[Codes, Floats]:
        """Distinct networks within the limits that were not `met` yet, and what they are worth."""
        batch = self._coder.batch(codes)
        distinct = {word: at for at, word in enumerate(batch.words()) if word not in met}
        met.update(distinct)
        batch, times = self._within(batch.take(np.array(list(distinct.values()), dtype=np.int64)))
        return _codes(batch), worth(batch, times) if len(batch) else np.zeros(0)

    def _within(self, batch: Batch) -> tuple[Batch, Floats]:
        """The networks within the limits, and their latencies."""
        if self.limits is None or not len(batch):
            return batch, np.zeros(len(batch))
        batch = batch.take(self.limits.loads(batch) <= 1)
        return batch, np.asarray(self.limits.model.many(batch), dtype=float)

    def _slowest(self, front: Known, times: Floats) -> float:
        """The latency up to which the area below the front counts: the limit, or the slowest network met so far."""
        if self.limits is not None and self.limits.limit_ms is not None:
            return self.limits.limit_ms
        if not self._slowest_met and self.limits is not None and not self._slow:
            drawn = self._coder.batch(self._coder.random(CHILDREN, self.rng))
            self._slowest_met = float(np.max(self._within(drawn)[1], initial=0.0))
        self._slowest_met = float(max(self._slowest_met, front.times.max(), np.max(times, initial=0.0)))
        return self._slowest_met

    def _parents(self, codes: Codes, front: Known) -> Codes:
        """The best that is known, and the front."""
        best = np.argsort(-front.scores, kind="stable")[: PARENTS // 2]
        on_front = np.flatnonzero(front_mask(front.scores.tolist(), front.times.tolist()))
        if len(on_front) > PARENTS // 2:
            on_front = self.rng.choice(on_front, PARENTS // 2, replace=False)
        return codes[np.union1d(best, on_front)]

    def _random(self, known: Sequence[_Known]) -> Mapping[str, Scalar] | None:
        seen = {one.arch.key for one in known}
        # Where few networks are within the limits, a slow device must answer more questions, or the search would end.
        found = self._draws.unseen(seen, most=self._questions) or self._draws.unseen(seen)
        return found[0] if found else None

    def _aim(self) -> Objective:
        """What this proposal is for."""
        if self.limits is None or self._objective == "accuracy":
            return "accuracy"
        return "accuracy" if self.limits.limit_ms and self.rng.random() < AT_THE_LIMIT else "pareto"

    def _known(self, study: Study, trial: FrozenTrial) -> list[_Known]:
        """The networks of the study's other trials, those under way included."""
        found, running = [], []
        new: list[FrozenTrial] = []
        for one in study.get_trials(deepcopy=False):
            if one.number in self._trials:
                found.append(self._trials[one.number])
            elif one.number != trial.number:
                chosen = self._chosen.get(one.number)
                running += [chosen] if chosen else []
                new += [] if chosen else [one]
        genes = [one.params for one in new] + running
        coded = self._coded(genes)
        sign = 1 if study.directions[0] == StudyDirection.MAXIMIZE else -1
        for at, known in enumerate(coded):
            if known is None:
                continue
            if at < len(new) and new[at].state.is_finished():
                if new[at].state == TrialState.FAIL:
                    known = replace(known, counts=False)
                if self._own and new[at].state == TrialState.COMPLETE:
                    self._judge.observe(known.arch, sign * new[at].values[0])
                self._trials[new[at].number] = known
            found.append(known)
        return found

    def _coded(self, genes: Sequence[Mapping[str, Scalar]]) -> list[_Known | None]:
        """Networks by their genes; None for parameters that are no network of the space."""
        if not genes:
            return []
        rows = np.full((len(genes), len(self.space.genes)), INACTIVE, dtype=np.int16)
        for row, one in zip(rows, genes, strict=True):
            own = {name: value for name, value in one.items() if value in self._options.get(name, ())}
            row[:] = self._coder.codes(own)
        batch = self._coder.batch(np.maximum(rows, 0))
        whole = ((_codes(batch) != INACTIVE) == (rows != INACTIVE)).all(axis=1)
        loads, times = np.zeros(len(batch)), np.zeros(len(batch))
        if self.limits is not None and whole.any():
            loads[whole] = self.limits.loads(batch.take(whole))
            times[whole] = self.limits.model.many(batch.take(whole))
        return [
            _Known(row, batch[at], float(times[at]), bool(loads[at] <= 1)) if whole[at] else None
            for at, row in enumerate(rows)
        ]


def _codes(batch: Batch) -> Codes:
    assert batch.codes is not None
    return batch.codes
