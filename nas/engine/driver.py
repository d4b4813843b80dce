"""A search under way: starts evaluations, takes what finishes, decides what goes on and when to stop.

Every proposal takes this way::

    ask -> seen before? tell the sampler the known result -> predicted latency -> too slow? tell it, never evaluate
        -> submit -> wait for the first to finish -> at a rung? submit again, unless it is stopped there
        -> tell the sampler -> store -> report progress
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING

from optuna.trial import Trial

from nas.arch.arch import Arch
from nas.arch.cost import cost_of
from nas.arch.space import Space
from nas.engine.executors.base import Executor, Finished
from nas.engine.fidelity import Halving
from nas.engine.jobs import Job
from nas.engine.judge import Judge
from nas.engine.options import SearchOptions
from nas.engine.progress import RunningStats, SearchProgress
from nas.engine.proposals import Proposals
from nas.engine.run.info import Stop
from nas.engine.run.record import Candidate
from nas.engine.run.store import Store
from nas.latency.limits import Limits
from nas.system.errors import NasError
from nas.training.evaluate import failed

if TYPE_CHECKING:
    from nas.latency.devices import LatencyModel

ATTEMPTS = 2  # of a candidate whose worker dies
ALIKE = 5  # failures with one cause, before anything was scored, that end a search: more would fail the same way


class Search:
    """A search under way; `run_search` explains its parts.

    Attributes:
        candidates, references: what finished, those of earlier calls first.
        ending: whether nothing more is submitted.
    """

    def __init__(
        self,
        space: Space,
        model: LatencyModel,
        options: SearchOptions,
        *,
        limits: Limits,
        executor: Executor,
        proposals: Proposals,
        references: Mapping[str, Arch],
        earlier: tuple[list[Candidate], list[Candidate]],
        judge: Judge | None,
        store: Store | None,
        watch: Callable[[SearchProgress], None] | None,
        spent_s: float,
        halving: Halving | None,
    ) -> None:
        self._space, self._model, self._options, self._limits = space, model, options, limits
        self._executor, self._proposals, self._store, self._watch = executor, proposals, store, watch
        self.candidates, self.references = earlier
        self._judge, self._halving = judge, halving
        self.ending = False
        self._began = time.monotonic() - max(spent_s, store.spent_s if store else 0.0)  # the latter includes the former
        self._seen = {candidate.key: candidate for candidate in self.candidates}
        self._stats = RunningStats(options.target_ms)
        if judge is not None:
            judge.learn([*self.references, *self.candidates])
        for candidate in self.estimated(self.candidates):
            self._stats.add(candidate)
        self._running: dict[int, Job] = {}
        self._next_ticket = 0
        self._exhausted = False
        self._causes: list[str | None] | None = []  # of this call's failures, until something is scored
        done = {reference.name for reference in self.references}
        self._waiting = deque((name, arch) for name, arch in references.items() if name not in done)
        self._unfinished = deque[Arch]()
        if halving is not None:
            halving.learn([*self.references, *self.candidates])
            self._sort_out({arch.key for arch in references.values()}, halving)

    def loop(self) -> None:
        """Until nothing may start and nothing runs."""
        self._report(None)
        while True:
            may_start = self._may_start()
            if may_start:
                self._start_one()
                may_start = self._may_start()
            if self._running:
                finished = self._executor.wait(0.0 if may_start else None)
                if finished:
                    self._settle(finished)
            elif not may_start:
                return

    def estimated(self, candidates: list[Candidate]) -> list[Candidate]:
        """The candidates with their accuracies as they are estimated now."""
        return candidates if self._judge is None else self._judge.estimated(candidates)

    def rescue(self) -> None:
        """Keep what finished but was not fetched when the search was interrupted."""
        while self._running and (finished := self._executor.wait(0.0)):
            if not finished.died:
                self._settle(finished)

    def why_stop(self) -> Stop | None:
        """Why no further candidate may start."""
        running = len(self._under_way())
        if self._options.trials is not None and self._stats.evaluated + running >= self._options.trials:
            return "trials"
        if self._exhausted or len(self._seen) + running >= self._space.size:
            return "exhausted"
        if self._options.budget_s is not None and self._elapsed() >= self._options.budget_s:
            return "budget"
        return None

    def _elapsed(self) -> float:
        return time.monotonic() - self._began

    def _may_start(self) -> bool:
        if len(self._running) >= self._executor.slots:
            return False
        return bool(self._waiting) or self.why_stop() is None

    def _start_one(self) -> None:
        if self._waiting:
            name, arch = self._waiting.popleft()
            self._submit(Job(arch, self._model(arch), name=name))
            self._report(None)
        elif self._unfinished:
            arch = self._unfinished.popleft()
            self._submit(Job(arch, self._model(arch), self._space.encode(arch)))
        elif self._proposals.ready({*self._seen, *self._under_way()}):
            self._propose()
        else:
            self._exhausted = True

    def _sort_out(self, fixed: Collection[str], halving: Halving) -> None:
        """Go on with what was in training when an earlier call ended; it counts as started. References are evaluated
        anyway, by the checkpoints that they have."""
        for arch in halving.unfinished():
            if arch.key in self._seen or (arch.key not in fixed and arch not in self._space):
                halving.forget(arch)
            elif arch.key not in fixed:
                self._unfinished.append(arch)

    def _under_way(self) -> dict[str, Job]:
        """Candidates that run, by key."""
        return {job.arch.key: job for job in self._running.values() if job.name is None}

    def _propose(self) -> None:
        """Take one proposal of the sampler: report its result at once if that is known, else submit it."""
        trial, arch = self._proposals.ask()
        if known := self._seen.get(arch.key):
            self._proposals.missed()
            self._tell(trial, known)
            return
        if twin := self._under_way().get(arch.key):
            self._proposals.missed()
            twin.twins.append(trial)
            return
        job = Job(arch, self._model(arch), dict(trial.params), trial)
        if broken := self._limits.broken_by(arch):
            self._proposals.missed()
            cost = cost_of(arch)
            too_slow = Candidate(
                *(arch, "TOO_SLOW", job.predicted, cost.params, cost.macs, cost.memory_bytes),
                genes=job.genes,
                reason=None if broken.startswith("latency:") else broken,
            )
            self._finish(job, too_slow)
        else:
            self._proposals.accepted()
            self._submit(job)

    def _submit(self, job: Job) -> None:
        ticket, self._next_ticket = self._next_ticket, self._next_ticket + 1
        self._running[ticket] = job
        stop = None if self._halving is None else self._halving.lengths[len(job.rungs)]
        self._executor.submit(ticket, job.arch, self._options.seed, stop)

    def _settle(self, finished: Finished) -> None:
        job = self._running.pop(finished.ticket)
        evaluation = finished.evaluation
        if evaluation is None:
            if job.attempts < ATTEMPTS:
                job.attempts += 1
                self._submit(job)
                return
            evaluation = failed(job.arch, f"its worker died {job.attempts} times: {finished.died}")
        if self._halving is not None:
            job.reached(self._halving.lengths, evaluation)
        candidate = job.candidate(evaluation)
        if candidate.state == "STOPPED" and self._goes_on(job, candidate):
            return
        if job.name is None:
            self._finish(job, candidate)
        else:
            self.references.append(candidate)
            if self._store:
                self._store.append_reference(candidate, self._elapsed())
            self._forget_rungs(candidate)
            self._learn(candidate)
            self._report(self.estimated([candidate])[0])
        self._check_causes(candidate)

    def _goes_on(self, job: Job, candidate: Candidate) -> bool:
        """Train on after a rung, if that is decided; references always."""
        assert self._halving is not None
        if self.ending:
            return True  # in a later call, from its checkpoint
        if not self._halving.goes_on(candidate):
            return False
        job.attempts = 1
        self._submit(job)
        self._report(None)
        return True

    def _forget_rungs(self, candidate: Candidate) -> None:
        if self._halving is not None:
            self._halving.learn([candidate])
            self._halving.forget(candidate.arch)

    def _check_causes(self, candidate: Candidate) -> None:
        """Raise if everything so far failed for one reason, which is then the evaluation's and not the networks'."""
        if self._causes is None:
            return
        if candidate.trained:
            self._causes = None
            return
        self._causes.append(candidate.reason)
        if len(self._causes) >= ALIKE and len(set(self._causes)) == 1:
            raise NasError(f"the first {len(self._causes)} evaluations all failed: {candidate.reason}")

    def _finish(self, job: Job, candidate: Candidate) -> None:
        if self._store:  # first: an interrupt from here on costs nothing
            self._store.append(candidate, self._elapsed(), self._proposals.excess(candidate))
        self._forget_rungs(candidate)
        self.candidates.append(candidate)
        self._stats.add(candidate)
        self._learn(candidate)
        candidate = self.estimated([candidate])[0]
        if job.trial is None:
            self._proposals.add(candidate)
        for trial in [job.trial, *job.twins]:
            if trial is not None:
                self._tell(trial, candidate)
        self._seen[candidate.key] = candidate
        self._report(candidate)

    def _learn(self, candidate: Candidate) -> None:
        """A training may change the estimates of all, also one that failed after it reached a rung."""
        if self._judge is not None and (candidate.trained or candidate.rungs):
            self._judge.learn([candidate])
            self._stats.estimated(self.estimated(self.candidates))

    def _tell(self, trial: Trial, candidate: Candidate) -> None:
        self._exhausted |= self._proposals.tell(trial, candidate)

    def _report(self, latest: Candidate | None) -> None:
        if self._watch is None:
            return
        stats = self._stats
        progress = SearchProgress(
            evaluated=stats.evaluated,
            too_slow=stats.counts["TOO_SLOW"],
            failed=stats.counts["FAILED"],
            stopped=stats.counts["STOPPED"],
            running=len(self._running),
            trials=self._options.trials,
            budget_s=self._options.budget_s,
            elapsed_s=self._elapsed(),
            latest=latest,
            best=stats.best,
            hypervolume=stats.hypervolume(),
            phase=self._phase(),
        )
        self._watch(progress)

    def _phase(self) -> str:
        names = [job.name for job in self._running.values() if job.name is not None]
        if names:
            return f"reference {names[0]}"
        if self._running and self.why_stop() is not None:
            return f"last {len(self._running)} running"
        return "search"
