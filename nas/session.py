"""One search from the data to the report: the parts are made, wired, run, and measured again on the quiet machine."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from time import monotonic
from typing import TYPE_CHECKING, Any

from nas.arch import Arch
from nas.errors import InputError
from nas.options import Custom, Options, Watcher
from nas.references import reference
from nas.space import Space

if TYPE_CHECKING:
    from nas.evaluate import Evaluator
    from nas.latency.devices import LatencyModel
    from nas.latency.feasibility import Feasibility
    from nas.latency.measure import Latency
    from nas.search.executors import Executor
    from nas.search.record import Record
    from nas.search.store import Store


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
        from nas.search.engine import run_search
        from nas.search.record import Record
        from nas.search.samplers import make_sampler

        options = self.options
        self._check_early()
        stored = len(self.store.load()[0]) if self.store else 0
        parallel = options.workers > 1 or options.ray is not None
        sampler = make_sampler(self.custom.sampler or options.sampler, options.seed, parallel, stored)
        evaluator = self._evaluator()
        model = self._model()
        references = self._references(model)
        feasible = self._check_target(model)
        self._keep(feasibility=feasible.to_dict(), trials=options.trials, budget_s=options.budget_s, finished=None)
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
                watch=self.watch.search,
            )
        record = Record(
            options=self.facts,
            space=self.space,
            target_ms=options.target_ms,
            candidates=outcome.candidates,
            references=outcome.references,
            feasibility=self.facts["feasibility"],
            table_error=self.facts.get("table_error"),
        )
        record = self._measure_again(record, model)
        self._keep(stopped_because=outcome.stopped_because)
        if self.store:
            self.store.finish()
            record = self.store.record()
        return record

    def _from_here(self, path: str | None) -> str | None:
        """A path kept relative to the run folder, as seen from where this process stands."""
        if path is None or self.store is None or not (self.store.folder / path).exists():
            return path
        return str(self.store.folder / path)

    def _check_early(self) -> None:
        """What can be known to be wrong before images are read and networks timed."""
        from nas.latency.devices import device
        from nas.search.executors import MAX_WORKERS

        options = self.options
        kind, _, path = options.device.partition(":")
        spec = self.custom.device or (f"table:{self._from_here(path)}" if kind == "table" else options.device)
        device(spec, self.space, runtime=options.runtime, threads=options.threads, token=self.custom.token)
        if options.workers > MAX_WORKERS:
            raise InputError(f"workers must be a whole number from 1 to {MAX_WORKERS}, got {options.workers}")
        if options.ray not in (None, "auto"):
            from nas.search.ray_executor import check_reachable

            check_reachable(options.ray)

    def _keep(self, **facts: Any) -> None:
        self.facts |= facts
        if self.store:
            self.store.update(facts)

    def _evaluator(self) -> Evaluator:
        from nas.evaluate import CustomEvaluator

        if self.custom.evaluate is not None:
            self._keep(data=None, proxy=None)
            return CustomEvaluator(self.custom.evaluate)
        from nas.evaluate import ProxyEvaluator
        from nas.proxy.data import load_data
        from nas.proxy.training import ProxyConfig

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

    def _model(self) -> LatencyModel:
        from nas.latency.devices import device, is_agent

        options = self.options
        kept = self.store.folder / "latency_table.json" if self.store else None
        kind, _, path = options.device.partition(":")
        spec = self.custom.device or (f"table:{self._from_here(path)}" if kind == "table" else options.device)
        again = kept if kept and kept.exists() and self.custom.device is None else None
        if again and not is_agent(options.device):
            spec = f"table:{again}"  # one run, one table: what was predicted with another cannot be compared
        model = device(
            spec,
            self.space,
            runtime=options.runtime,
            threads=options.threads,
            seed=options.seed,
            progress=self.watch.step,
            token=self.custom.token,
            kept=again,
        )
        table = model.table
        if table is not None:
            self.watch.say(f"latency table: {table}")
            self._keep(table_error=table.error.to_dict())
            if kept and not kept.exists():
                table.save(kept)
        self._keep(device_name=model.device)
        return model

    def _references(self, model: LatencyModel) -> dict[str, Arch]:
        """The fixed networks this device can say something about."""
        found = {}
        for name in self.options.references:
            arch = reference(name)
            try:
                self.watch.say(f"  {name}: {model(arch).ms:.2f} ms {model(arch).source}")
            except InputError as error:
                self.watch.say(f"  {name} is left out: {error}")
            else:
                found[name] = arch
        return found

    def _check_target(self, model: LatencyModel) -> Feasibility:
        from nas.latency.feasibility import feasibility

        most = None if model.table is not None else self._affordable(model)
        found = feasibility(self.space, model, self.options.target_ms, self.options.seed, most=most)
        self.watch.say(str(found))
        return found

    def _affordable(self, model: LatencyModel) -> int:
        """Predictions of a caller's function, or of a device that is asked itself, that fit into a minute."""
        begun = monotonic()
        model.many([self.space.sample(seed) for seed in range(2)])
        return max(LEAST_PREDICTIONS, int(2 * FEASIBILITY_S / max(monotonic() - begun, 1e-6)))

    def _executor(self, evaluator: Evaluator) -> Executor:
        from nas.search.executors import ProcessExecutor, SerialExecutor

        options = self.options
        if options.ray is not None:
            from nas.search.ray_executor import RayExecutor

            address = None if options.ray == "auto" else options.ray
            return RayExecutor(evaluator, address, options.cpus_per_trial, options.gpus_per_trial)
        return ProcessExecutor(evaluator, options.workers) if options.workers > 1 else SerialExecutor(evaluator)

    def _measure_again(self, record: Record, model: LatencyModel) -> Record:
        """Measure the front and the references for real. A front member over the target makes room for those it hid,
        which are measured in their turn, so the front that remains is a measured one."""
        measured: dict[str, Latency] = self.store.measured() if self.store else {}
        record = record.with_measured(measured)
        while waiting := [c for c in [*record.references, *record.front] if c.measured is None]:
            for at, candidate in enumerate(waiting):
                self.watch.step(at, len(waiting), "measuring the front and the references on the quiet machine")
                latency = model.measure(candidate.arch)
                if latency is None:  # a modelled device cannot be asked again
                    return record
                measured[candidate.key] = latency
            if self.store:
                self.store.write_measured(measured)
            record = record.with_measured(measured)
            self.watch.step(1, 1, "measuring the front and the references on the quiet machine")
        return record
