"""One search from the data to the report: the parts are made, wired, run, and measured again on the quiet machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import TYPE_CHECKING, Any

from nas.arch.arch import Arch
from nas.arch.space import Space
from nas.arch.space_yaml import names
from nas.engine.options import Custom, Options
from nas.engine.progress import Watcher
from nas.references.table import reference
from nas.system.errors import InfeasibleError, InputError

if TYPE_CHECKING:
    from pathlib import Path

    from nas.engine.executors.base import Executor
    from nas.engine.progress import SearchProgress
    from nas.engine.run.record import Record
    from nas.engine.run.store import Store
    from nas.latency.devices import LatencyModel
    from nas.latency.margin import SafetyMargin
    from nas.latency.record import Latency
    from nas.training.evaluate import Evaluator


FEASIBILITY_S = 60.0
LEAST_PREDICTIONS = 300  # fewer could miss networks that meet the target


@dataclass
class Session:
    """Wires one search. `run` does all of it.

    Args:
        space: to search.
        options: what was asked for.
        custom: parts given as objects.
        store: the run folder, or None to keep everything in memory.
        watch: sees it happen.
    """

    space: Space
    options: Options
    custom: Custom
    store: Store | None
    watch: Watcher
    facts: dict[str, Any] = field(default_factory=dict)

    def run(self) -> Record:
        """Data, latency model, feasibility, search, measuring again, report."""
        from nas.engine.loop import run_search
        from nas.engine.run.record import Record
        from nas.engine.samplers import AUTO, make_sampler
        from nas.engine.verify import measure_front
        from nas.latency.margin import Corrected

        options = self.options
        self._check_early()
        stored = len(self.store.load()[0]) if self.store else 0
        parallel = options.workers > 1 or options.ray is not None
        sampler = make_sampler(self.custom.sampler or options.sampler, options.seed, parallel, stored)
        evaluator = self._evaluator()
        device = self._model()
        admission = self._admission(device)
        model = Corrected(device, admission.correction)
        word = "modelled" if self.facts["modelled"] else "predicted"
        references = self._references(model, word)
        feasible, limit_ms = self._check_target(model, admission, word)
        self._keep(admission=admission.to_dict(), admitted_ms=limit_ms, feasibility=feasible)
        self._keep(trials=options.trials, budget_s=options.budget_s, finished=None)
        with self._executor(evaluator) as executor:
            outcome = run_search(
                self.space,
                model,
                target_ms=options.target_ms,
                executor=executor,
                sampler=sampler,
                references=references,
                trials=options.trials,
                budget_s=options.budget_s,
                seed=options.seed,
                store=self.store,
                watch=self._see,
                limit_ms=limit_ms,
                reaching=self.custom.sampler is None and options.sampler == AUTO and bool(feasible.get("binds")),
            )
        record = Record(
            options=self.facts,
            space=self.space,
            target_ms=options.target_ms,
            candidates=outcome.candidates,
            references=outcome.references,
            feasibility=feasible,
            table_error=self.facts.get("table_error"),
        )
        record = measure_front(record, model, self.store.write_measured if self.store else _forget, self.watch.step)
        self._keep(stopped_because=outcome.stopped_because)
        if self.store:
            self.store.finish()
            record = self.store.record()
        return record

    def _see(self, progress: SearchProgress) -> None:
        self.watch.search(replace(progress, modelled=self.facts["modelled"]))

    def _from_here(self, path: str | None) -> str | None:
        """A path kept relative to the run folder, as seen from where this process stands."""
        if path is None or self.store is None or not (self.store.folder / path).exists():
            return path
        return str(self.store.folder / path)

    def _check_early(self) -> None:
        """What can be known to be wrong before images are read and networks timed."""
        from nas.engine.executors.base import MAX_WORKERS

        options = self.options
        self._check_machine(self._device())
        if options.workers > MAX_WORKERS:
            raise InputError(f"workers must be a whole number from 1 to {MAX_WORKERS}, got {options.workers}")
        if options.ray not in (None, "auto"):
            from nas.engine.executors.ray import check_reachable

            check_reachable(options.ray)

    def _keep(self, **facts: Any) -> None:
        self.facts |= facts
        if self.store:
            self.store.update(facts)

    def _evaluator(self) -> Evaluator:
        from nas.training.evaluate import CustomEvaluator

        if self.custom.evaluate is not None:
            self._keep(data=None, proxy=None)
            return CustomEvaluator(self.custom.evaluate)
        from nas.data.load import load_data
        from nas.training.evaluate import ProxyEvaluator
        from nas.training.proxy import ProxyConfig

        config = ProxyConfig(full_resolution=max(self.space.resolution))
        config = config if self.options.steps is None else replace(config, steps=self.options.steps)
        data = load_data(self._from_here(self.options.images), config.resolution, self.watch.step)
        self.watch.say(f"images: {data}")
        for note in data.notes:
            self.watch.say(f"  {note}")
        earlier = (self.store.options.get("data") or {}).get("key") if self.store else None
        if earlier not in (None, data.key):
            raise InputError(
                f"the images have changed since this run began ({earlier} then, {data.key} now); "
                "bring the old ones back, or start a new run"
            )
        facts = {
            "name": data.name,
            "classes": list(data.classes),
            "train": len(data.train_labels),
            "val": len(data.val_labels),
            "generated": data.generated,
            "notes": list(data.notes),
            "key": data.key,
        }
        self._keep(data=facts, proxy=config.to_dict())
        return ProxyEvaluator(data, config, threads=None)

    def _kept_table(self) -> Path | None:
        """Where the run keeps its latency table, there already or not."""
        return self.store.folder / "latency_table.json" if self.store else None

    def _device(self) -> LatencyModel:
        """What answers for the device that was asked for, by the table that the run has kept if it has."""
        from nas.latency.devices import device, is_agent

        options = self.options
        kind, _, path = options.device.partition(":")
        spec = self.custom.device or (f"table:{self._from_here(path)}" if kind == "table" else options.device)
        kept = self._kept_table()
        again = kept if kept and kept.exists() and self.custom.device is None else None
        if again and not is_agent(options.device):
            spec = f"table:{again}"  # one run, one table: what was predicted with another cannot be compared
        return device(
            spec,
            self.space,
            runtime=options.runtime,
            threads=options.threads,
            seed=options.seed,
            progress=self.watch.step,
            token=self.custom.token,
            kept=again,
        )

    def _check_machine(self, model: LatencyModel) -> None:
        """A run measured on one machine goes on there alone. Elsewhere its table is that of a device that is not at
        hand: nothing more could be measured, the networks that were would stand beside others that never are, and all
        of it would be called modelled. A name counts the usable cores, for with them a machine's times change, too."""
        from nas.latency.devices import is_modelled
        from nas.latency.remote.agent import Agent
        from nas.system.machine import host

        facts = self.store.options if self.store else {}
        if isinstance(model, Agent):
            model.check_is(facts, "start a new run")
            return
        was = facts.get("device_name", model.device)
        if self.options.device == "host" and self.custom.device is None:
            moved = (was, model.device) != (host(), host())
        else:
            moved = facts.get("modelled") is False and is_modelled(model)
        if moved:
            raise InputError(
                f"this run is measured on {was!s:.200}, but this is {host()} (cores that this process may use); resume "
                "it there, with as many cores, or start a new run"
            )

    def _model(self) -> LatencyModel:
        from nas.latency.devices import is_modelled
        from nas.latency.remote.agent import Agent

        kept, model = self._kept_table(), self._device()
        table = model.table
        if table is not None:
            self.watch.say(f"latency table: {table}")
            self._keep(table_error=table.error.to_dict())
            self._keep(timed_with={"runtime": table.runtime, "threads": table.threads})
            if kept and not kept.exists():
                table.save(kept)
        self._keep(device_name=model.device, modelled=is_modelled(model))
        if isinstance(model, Agent):
            self._keep(agent_identity=model.identity)
        return model

    def _admission(self, model: LatencyModel) -> SafetyMargin:
        """How far below the target candidates must be predicted: kept in the run folder and used again, so that one
        run has one rule."""
        from nas.latency.margin import SafetyMargin, learn

        target_ms, guard = self.options.target_ms, self.options.guard
        kept = self.store.options.get("admission") if self.store else None
        begun = self.store is not None and any(self.store.load())
        if kept is not None or target_ms is None or begun:  # begun without one: by a version that knew no guard
            return SafetyMargin() if kept is None else SafetyMargin.from_dict(kept)
        if guard is not None:
            found = SafetyMargin(guard, source="given")
        else:
            found = learn(self.space, model, target_ms, seed=self.options.seed, progress=self.watch.step)
        if str(found):
            self.watch.say(str(found))
        if found.far_off and (command := self._profile_anew()):
            self.watch.say(f"  a table made in a quieter hour may serve a new search better: `{command}`")
        return found

    def _profile_anew(self) -> str | None:
        """The command that makes this search's latency table anew; None if it is not made here."""
        from nas.latency.devices import is_agent

        if self.options.device != "host" and not is_agent(self.options.device):
            return None
        space = self.space.name if self.space.name in names() else "FILE"
        asked = {name: getattr(self.options, name) for name in ("device", "runtime", "threads")}
        others = [f" --{name} {value}" for name, value in asked.items() if value != getattr(Options, name)]
        return f"nas profile --refresh --space {space}{''.join(others)}"

    def _references(self, model: LatencyModel, word: str) -> dict[str, Arch]:
        """The fixed networks this device can say something about."""
        found = {}
        for name in self.options.references:
            arch = reference(name)
            try:
                latency = model(arch)
                self.watch.say(f"  {name}: {latency.ms:.2f} ms {word if latency.source == 'predicted' else 'measured'}")
            except InputError as error:
                self.watch.say(f"  {name} is left out: {error}")
            else:
                found[name] = arch
        return found

    def _check_target(
        self, model: LatencyModel, admission: SafetyMargin, word: str
    ) -> tuple[dict[str, Any], float | None]:
        """What is feasible, and the slowest prediction to be admitted; both kept in the run folder and used again.

        Whether the guard is dropped hangs on the fastest network found, and that, for a caller's function, on how many
        could be asked about in time: found anew it could change the rule in the middle of a run.
        """
        from nas.latency.feasibility import feasibility

        target_ms, seed = self.options.target_ms, self.options.seed
        facts = self.store.options if self.store else {}
        known, limit_ms = facts.get("feasibility"), facts.get("admitted_ms")
        if target_ms is not None and limit_ms is not None and isinstance(known, dict):
            if not isinstance(limit_ms, (int, float)) or isinstance(limit_ms, bool) or not 0 < limit_ms <= target_ms:
                raise InputError(f"admitted_ms of the run cannot be {limit_ms!r:.40}; restore run.json from a copy")
            return known, limit_ms
        most = None if model.table is not None else self._affordable(model)
        try:
            found = feasibility(self.space, model, target_ms, seed, most=most, guard=admission.guard, word=word)
        except InfeasibleError as error:
            if admission.source != "given" or self.facts["modelled"] or model.table is None:
                raise
            way_out = "networks around the target are measured first, and correct that, if --guard is left out"
            raise InfeasibleError(f"{error}; {way_out}") from None
        self.watch.say(str(found))
        return found.to_dict(), found.admitted_ms

    def _affordable(self, model: LatencyModel) -> int:
        """Predictions of a caller's function, or of a device that is asked itself, that fit into a minute."""
        begun = monotonic()
        model.many([self.space.sample(seed) for seed in range(2)])
        return max(LEAST_PREDICTIONS, int(2 * FEASIBILITY_S / max(monotonic() - begun, 1e-6)))

    def _executor(self, evaluator: Evaluator) -> Executor:
        from nas.engine.executors.base import ProcessExecutor, SerialExecutor

        options = self.options
        if options.ray is not None:
            from nas.engine.executors.ray import RayExecutor

            address = None if options.ray == "auto" else options.ray
            return RayExecutor(evaluator, address, options.cpus_per_trial, options.gpus_per_trial)
        return ProcessExecutor(evaluator, options.workers) if options.workers > 1 else SerialExecutor(evaluator)


def _forget(measured: Mapping[str, Latency]) -> None:
    """Where there is no run folder, the record alone holds what was measured."""
