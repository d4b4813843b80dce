"""One search from the images to the measured front: makes the parts, wires them and runs them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from time import monotonic
from typing import TYPE_CHECKING, Any

from nas.api.limits import check_limits, clear_all, further_devices, limits_of
from nas.api.rungs import halving_of
from nas.api.scoring import accelerator_of, executor_of, scoring_of
from nas.api.shared import shared_weights
from nas.api.warm import announce
from nas.arch.arch import Arch
from nas.arch.space_yaml import names
from nas.engine.options import SearchOptions
from nas.engine.progress import SearchProgress, Watcher
from nas.engine.run.info import DeviceInfo, RunInfo
from nas.engine.warm_start import NOTHING, WarmStart
from nas.latency.devices import LatencyModel, device, is_agent, is_modelled
from nas.latency.limits import Limits
from nas.latency.remembering import Remembering
from nas.latency.remote.agent import Agent
from nas.references.table import reference
from nas.system.errors import InfeasibleError, InputError
from nas.system.machine import difference, here

if TYPE_CHECKING:
    from nas.engine.executors.base import Executor
    from nas.engine.judge import Judge
    from nas.engine.run.record import Record, Repeat
    from nas.engine.run.store import Store
    from nas.latency.margin import SafetyMargin
    from nas.latency.record import Latency
    from nas.training.evaluate import Evaluator


AFFORDED_S = 60.0  # for questions to a device that answers itself, before the first evaluation
TRIED = 100  # random networks, to find two that the device was not asked about yet
LEAST_QUESTIONS = 500  # fewer could miss networks that meet the target
PROPOSALS_A_MINUTE = 300  # if the device alone takes time: a proposal asks it for a fifth of a second,
FEWEST_QUESTIONS = 4  # but about so many networks at least
FIRST_DRAWS = 0.2  # of them are for finding the first networks to evaluate


class _Clock:
    """Search time, of all calls."""

    def __init__(self, spent_s: float) -> None:
        self._began = monotonic() - spent_s

    def __call__(self) -> float:
        return monotonic() - self._began


class Session:
    """Wires one search; `run` does all of it.

    Args:
        options: of the search, with the Python objects a resumed run was given again.
        info: of the run, as far as it is known; without `store` it is kept here alone.
        store: the run folder; None keeps everything in memory.
        watch: sees it happen.
        warm: what the run knows when it begins; with `store`, its folder says it.
    """

    def __init__(
        self, options: SearchOptions, info: RunInfo, store: Store | None, watch: Watcher, warm: WarmStart = NOTHING
    ) -> None:
        self.options, self.info, self.store, self.watch = options, info, store, watch
        self._warm = store.warm_start() if store else warm
        self._space = info.space
        self._remembering: Remembering | None = None

    def run(self) -> Record:
        """Load the images and the latency model, check feasibility, search, measure the front."""
        from nas.engine.auto import QUESTIONS
        from nas.engine.confirm import seed_matters, with_reserve
        from nas.engine.judge import WITHOUT_DATA, proposer_of, trains_for_nothing
        from nas.engine.loop import Opening, run_search
        from nas.engine.run.record import Record
        from nas.engine.samplers import check_sampler, unaware_of_limits
        from nas.engine.verify import measure_front
        from nas.latency.margin import Corrected

        self._check_early()
        options = self.options
        if trains_for_nothing(options):
            self.watch.say(WITHOUT_DATA)
        check_sampler(options.sampler)
        scoring = scoring_of(options, self.info, self.store.folder if self.store else None, self.watch, self._warm)
        self._keep(data=scoring.data, proxy=scoring.proxy)
        announce(self._warm, self.info, self.watch)
        judge = scoring.judge
        found = self._device_model()
        margin = self._safety_margin(found)
        model = Corrected(found, margin.correction)
        most = self._affordable(model)
        questions = None if most is None else min(QUESTIONS, max(FEWEST_QUESTIONS, most // PROPOSALS_A_MINUTE))
        references = self._references(model)
        most = None if most is None or self._remembering is None else max(2, most - self._remembering.asked)
        draws = None if most is None else max(1, int(FIRST_DRAWS * most))
        left = None if most is None or draws is None else most - draws
        feasible, limit_ms, fastest = self._check_target(model, margin, left)
        self._keep(margin=margin, admitted_ms=limit_ms, feasibility=feasible, options=options, finished=None)
        limits, admitted = self._all_limits(model, limit_ms, left)
        if limits and (note := unaware_of_limits(options.sampler)):
            self.watch.say(note)
        evaluator, spent_s = self._with_shared_weights(scoring.evaluator)
        again = seed_matters(self.info, judge)
        used_s = max(spent_s, self.store.spent_s if self.store else 0.0)
        clock = _Clock(used_s)
        folder = self.store.checkpoints_path if self.store else None
        with halving_of(evaluator, judge, folder) as (evaluator, halving), executor_of(evaluator, options) as executor:
            outcome = run_search(
                self._space,
                model,
                with_reserve(options, used_s) if again else options,
                executor,
                options.sampler,
                references=references,
                limits=limits,
                judge=judge,
                proposer=proposer_of(self.info, self._warm) if judge is None else None,
                opening=Opening(self._start(limits), questions, draws, admitted or fastest),
                spent_s=spent_s,
                halving=halving,
                store=self.store,
                watch=self._see,
            )
            record = Record(self.info, outcome.candidates, outcome.references, None if judge is None else judge.model)
            if again and judge is not None:
                record = self._confirmed(record, judge, executor, clock)
        record = measure_front(record, model, self.store.write_measured if self.store else _forget, self.watch.step)
        self._keep(stopped_because=outcome.stopped_because, measured_only=record.info.measured_only)
        if self.store:
            self.store.finish()
            return self.store.record()
        return replace(record, info=self.info)

    def _see(self, progress: SearchProgress) -> None:
        info = self.info
        latency, scored, over = info.latency_word, info.scored_word, info.over_word
        progress = replace(progress, latency_word=latency, scored_word=scored, over_word=over)
        self.watch.search(replace(progress, budget_s=self.options.budget_s))

    def _confirmed(self, record: Record, judge: Judge, executor: Executor, clock: _Clock) -> Record:
        """The record after the best networks were trained again, as far as the budget allows."""
        from nas.engine.confirm import confirm, most_repeats

        def keep(key: str, repeat: Repeat) -> None:
            if self.store:
                self.store.append_repeat(key, repeat, clock())

        budget_s, most = self.options.budget_s, most_repeats(self.options, record)
        return confirm(
            *(record, judge, executor),
            may_start=lambda: budget_s is None or clock() < budget_s,
            most=most,
            keep=keep,
            progress=self.watch.step,
        )

    def _keep(self, **changes: Any) -> None:
        self.info = replace(self.info, **changes)
        if self.store:
            self.store.update(**changes, resumed_with=self.info.resumed_with)

    def _check_early(self) -> None:
        """Find what is wrong before images are read and networks are timed."""
        self._check_machine(self._device())
        folder, resumed = self.store.folder if self.store else None, self.info.clearance is not None
        self._early = check_limits(self.options, self._space, folder, resumed, self.watch)
        if self.options.ray not in (None, "auto"):
            from nas.engine.executors.ray import check_reachable

            check_reachable(self.options.ray)
        if self.options.evaluate is None:
            self.options = replace(self.options, accelerator=accelerator_of(self.options, self.info, self.watch))

    def _with_shared_weights(self, evaluator: Evaluator) -> tuple[Evaluator, float]:
        """The evaluator with its shared weights, if it scores by such, and the seconds of their training."""
        from nas.training.evaluate import ProxyEvaluator

        if not isinstance(evaluator, ProxyEvaluator) or not evaluator.config.shared_steps:
            return evaluator, 0.0
        path = self.store.shared_path if self.store else None
        shared = shared_weights(evaluator.config, self.options, self._space, evaluator.data, path, self.watch)
        return replace(evaluator, shared=shared), shared.seconds

    def _device(self) -> LatencyModel:
        """The device of the options, predicted by the table that the run has kept, if it has."""
        options, spec = self.options, self.options.device
        table = self.store.table_path if self.store else None
        kept = table if table and table.exists() and isinstance(spec, str) else None
        if kept and isinstance(spec, str) and not is_agent(spec):
            spec = f"table:{kept}"  # one run, one table: predictions of two cannot be compared
        return device(
            spec,
            self._space,
            runtime=options.runtime,
            threads=options.threads,
            seed=options.seed,
            progress=self.watch.step,
            token=options.token,
            kept=kept,
        )

    def _check_machine(self, model: LatencyModel) -> None:
        """A run that is measured on one machine continues there only. Elsewhere nothing more could be measured:
        networks that were would be compared with others that never will be, and all would be called modelled."""
        was = self.info.device
        if isinstance(model, Agent):
            if was is not None:
                model.check_is(was.facts(), "start a new run")
            return
        if was is None or was.modelled or not isinstance(self.options.device, str):
            return
        moved = difference(was.identity, here(), was.name)
        if moved is not None:
            raise InputError(f"this run is measured on another machine: {moved}; resume it there, or start a new run")

    def _device_model(self) -> LatencyModel:
        model = self._device()
        table = model.table
        about = DeviceInfo(name=model.device, modelled=is_modelled(model))
        if table is not None:
            self.watch.say(f"latency table: {table}")
            self._keep(table_error=table.error.to_dict())
            about = replace(about, runtime=table.runtime, threads=table.threads)
            if self.store and not self.store.table_path.exists():
                table.save(self.store.table_path)
        if isinstance(model, Agent):
            about = replace(about, agent=model.identity, identity=model.machine.to_dict())
        elif isinstance(self.options.device, str) and not about.modelled:
            about = replace(about, identity=here().to_dict())
        self._keep(device=about)
        if table is not None:
            return model
        # A device without a table needs no correction (`nas.latency.margin.learn`): predictions are its own answers.
        stored = [one for some in self.store.load() for one in some] if self.store else []
        self._remembering = Remembering(model, {one.arch: one.predicted.ms for one in stored})
        return self._remembering

    def _safety_margin(self, model: LatencyModel) -> SafetyMargin:
        """How far below the target a prediction must be: kept in the run folder and used again, so that one run has one
        rule."""
        from nas.latency.margin import SafetyMargin, learn

        target_ms, guard = self.options.target_ms, self.options.guard
        begun = self.store is not None and any(self.store.load())
        if self.info.margin is not None:
            return self.info.margin
        if target_ms is None or begun:  # begun without a margin: by a version that knew none
            return SafetyMargin()
        if guard is not None:
            margin = SafetyMargin(guard, source="given")
        else:
            margin = learn(self._space, model, target_ms, seed=self.options.seed, progress=self.watch.step)
        if str(margin):
            self.watch.say(str(margin))
        if margin.far_off and (command := self._profile_again()):
            self.watch.say(f"  re-profiling when the machine is idle may help: `{command}`")
        return margin

    def _profile_again(self) -> str | None:
        """The command that measures this search's latency table again; None if it was not measured here."""
        device = self.options.device
        if not isinstance(device, str) or (device != "host" and not is_agent(device)):
            return None
        space = self._space.name if self._space.name in names() else "FILE"
        given = {name: getattr(self.options, name) for name in ("device", "runtime", "threads")}
        others = [f" --{name} {value}" for name, value in given.items() if value != getattr(SearchOptions, name)]
        return f"nas profile --refresh --space {space}{''.join(others)}"

    def _references(self, model: LatencyModel) -> dict[str, Arch]:
        """The fixed networks that the device has a latency for, those of ``--start`` outside the space included."""
        outside = {name: arch for name, arch in self._warm.networks.items() if arch not in self._space}
        found = {}
        for name, arch in ({name: reference(name) for name in self.options.reference_names} | outside).items():
            try:
                latency = model(arch)
                word = self.info.latency_word if latency.source == "predicted" else "measured"
                self.watch.say(f"  {name}: {latency.ms:.2f} ms {word}")
            except InputError as error:
                self.watch.say(f"  {name} is left out: {error}")
            else:
                found[name] = arch
        return found

    def _start(self, limits: Limits) -> list[Arch]:
        """The networks to begin with that are in the space and clear the limits."""
        found = []
        for name, arch in self._warm.networks.items():
            if arch not in self._space:
                continue
            if (broken := limits.broken_by(arch)) is None:
                found.append(arch)
            else:
                self.watch.say(f"{name} is not evaluated: {broken}")
        return found

    def _check_target(
        self, model: LatencyModel, margin: SafetyMargin, most: int | None
    ) -> tuple[Mapping[str, Any], float | None, Arch | None]:
        """What is feasible, and the slowest prediction to be trained, both kept in the run folder and used again; and
        the fastest network, unless it was found in an earlier call.

        Whether the margin is dropped depends on the fastest network found, and that, for a caller's function, on how
        many questions could be afforded: a second answer could change the rule in the middle of a run.
        """
        from nas.latency.feasibility import feasibility

        target_ms, seed = self.options.target_ms, self.options.seed
        if target_ms is not None and self.info.admitted_ms is not None and self.info.feasibility is not None:
            return self.info.feasibility, self.info.admitted_ms, None
        word = self.info.latency_word
        try:
            found = feasibility(self._space, model, target_ms, seed, most=most, guard=margin.guard, word=word)
        except InfeasibleError as error:
            if margin.source != "given" or self.info.modelled or model.table is None:
                raise
            remedy = "without --guard, networks around the target are measured first, which corrects the predictions"
            raise InfeasibleError(f"{error}; {remedy}") from None
        self.watch.say(str(found))
        if self._remembering is not None and most is not None:
            asked = self._remembering.asked
            self.watch.say(f"{model.device} was asked about {asked:,} networks; at most {most:,} before the search")
        return found.to_dict(), found.admitted_ms, found.fastest

    def _all_limits(self, model: LatencyModel, limit_ms: float | None, most: int | None) -> tuple[Limits, Arch | None]:
        """What candidates must clear, kept in the run folder; and a network that does, unless only the first device's
        latency is limited or an earlier call found one."""
        options, early = self.options, self._early
        further = further_devices(options, self._space, early, self.info.further, self.watch)
        limits = limits_of(options, model, limit_ms, further, early)
        if self.info.clearance is not None or not (limits.bounds or limits.devices):
            return limits, None
        facts, admitted = clear_all(self._space, limits, early, options.seed, most, self.watch)
        self._keep(further=further, clearance=facts)
        return limits, admitted

    def _affordable(self, model: LatencyModel) -> int | None:
        """How many networks a caller's function, or a device that answers itself, is asked about before the first
        evaluation, so that it takes about a minute; None for a table, which answers at once."""
        if self._remembering is None:
            return None
        new = [arch for arch in map(self._space.sample, range(TRIED)) if arch not in self._remembering][:2]
        if not new:
            return LEAST_QUESTIONS
        begun = monotonic()
        model.many(new)
        return max(LEAST_QUESTIONS, int(len(new) * AFFORDED_S / max(monotonic() - begun, 1e-6)))


def _forget(measured: Mapping[str, Latency]) -> None:
    """Without a run folder, the record alone holds what was measured."""
