"""The limits of a search besides its first device's target: further devices, and bounds on size, compute and memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from nas.arch.arch import Arch
from nas.arch.space import Space
from nas.engine.options import SearchOptions
from nas.engine.progress import Watcher
from nas.engine.run.info import FurtherDevice
from nas.latency.devices import RUNTIME, THREADS, LatencyModel, device, is_agent
from nas.latency.limits import DeviceLimit, Limits
from nas.system.errors import InfeasibleError

if TYPE_CHECKING:
    from nas.latency.clearance import Bound


@dataclass(frozen=True)
class LimitsCheck:
    """What can be checked of the limits of a search before images are read and networks are timed.

    Args:
        bounds: what each limit besides latency leaves of the space; empty for a resumed run.
        models: latency models of further devices, by name.
        tables: where each of them keeps its latency table in the run folder; empty without one.
    """

    bounds: Sequence[Bound]
    models: Mapping[str, LatencyModel]
    tables: Mapping[str, Path]


def check_limits(
    options: SearchOptions, space: Space, folder: Path | None, resumed: bool, watch: Watcher
) -> LimitsCheck:
    """Read the further devices, and find the smallest value of each limited quantity.

    Raises:
        InputError: a device is unknown.
        InfeasibleError: no network of the space can meet one of the limits.
    """
    from nas.latency.clearance import bounds_of

    bounds = () if resumed else bounds_of(space, options.limits, options.seed)
    models, tables = {}, {}
    for number, name in enumerate(options.further, 2):
        if folder is not None:
            tables[name] = folder / f"latency_table_{number}.json"
        kept = tables[name] if name in tables and tables[name].exists() else None
        own = name == "host" or is_agent(name)  # a table has its own runtime and threads
        models[name] = device(
            f"table:{kept}" if kept and not is_agent(name) else name,
            space,
            runtime=options.runtime if own and not kept else RUNTIME,
            threads=options.threads if own and not kept else THREADS,
            seed=options.seed,
            progress=watch.step,
            token=options.token,
            kept=kept,
        )
    return LimitsCheck(bounds, models, tables)


def further_devices(
    options: SearchOptions, space: Space, early: LimitsCheck, known: Sequence[FurtherDevice], watch: Watcher
) -> tuple[FurtherDevice, ...]:
    """The further devices with the slowest predictions that they admit, by the same rule as the first device.

    Args:
        options: of the search.
        space: searched space.
        early: what `check_limits` found.
        known: what an earlier call found, which is used again: one run has one rule.
        watch: sees measurements.

    Raises:
        InfeasibleError: no network of the space can meet one of the targets.
    """
    if known:
        return tuple(known)
    return tuple(_further(options, space, name, early, watch) for name in options.further)


def _further(options: SearchOptions, space: Space, name: str, early: LimitsCheck, watch: Watcher) -> FurtherDevice:
    from nas.latency.feasibility import feasibility
    from nas.latency.margin import Corrected, SafetyMargin, learn

    model, target_ms = early.models[name], options.further[name]
    if model.table is not None and name in early.tables:
        model.table.save(early.tables[name])
    if options.guard is not None:
        margin = SafetyMargin(options.guard, source="given")
    else:
        margin = learn(space, model, target_ms, seed=options.seed, progress=watch.step)
    corrected = Corrected(model, margin.correction)
    try:
        found = feasibility(space, corrected, target_ms, options.seed, guard=margin.guard)
    except InfeasibleError as error:
        raise InfeasibleError(f"on {model.device}: {error}") from None
    if found.dropped_guard is not None:
        margin = replace(margin, guard=0.0)
    limit_ms = margin.limit_ms(target_ms)
    watch.say(
        f"{model.device}: fastest network {found.fastest_ms:.3g} ms; {found.share or 0:.1%} of the space clears the "
        f"target of {target_ms:g} ms by {margin.guard:.1%} ({limit_ms:.3g} ms predicted)"
    )
    return FurtherDevice(name, model.device, target_ms, margin)


def limits_of(
    options: SearchOptions,
    model: LatencyModel,
    limit_ms: float | None,
    further: Sequence[FurtherDevice],
    early: LimitsCheck,
) -> Limits:
    """All limits of a search.

    Args:
        options: of the search.
        model: latency model of the first device.
        limit_ms: slowest prediction that it admits.
        further: what `further_devices` found.
        early: what `check_limits` found.
    """
    from nas.latency.margin import Corrected

    devices = [
        DeviceLimit(one.device, Corrected(early.models[one.name], one.margin.correction), one.admitted_ms)
        for one in further
    ]
    return Limits(model, limit_ms, options.limits, tuple(devices))


def clear_all(
    space: Space, limits: Limits, early: LimitsCheck, seed: int, most: int | None, watch: Watcher
) -> tuple[dict[str, object], Arch]:
    """What all limits together leave of the space, as plain values, and a network that clears them.

    Raises:
        InfeasibleError: no network that clears all of them was found.
    """
    from nas.latency.clearance import clearance

    found = clearance(space, limits, early.bounds, seed, most=most)
    watch.say(str(found))
    return found.to_dict(), found.admitted
