"""After the search: the front is measured on the quiet device, and what misses the target makes room for others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import count
from typing import TYPE_CHECKING

from nas.engine.run.record import Candidate, Record
from nas.latency.close_calls import TIMES, confirmed, surely
from nas.latency.record import Latency
from nas.system.progress import Step

if TYPE_CHECKING:
    from nas.latency.devices import LatencyModel

CONFIRMING = "measuring the best again"
TEXT = "measuring the front and the references on the quiet machine"


class _CannotMeasure(Exception):
    """Only a model of the device is at hand."""


def measure_front(
    record: Record,
    model: LatencyModel,
    keep: Callable[[Mapping[str, Latency]], None],
    progress: Step,
) -> Record:
    """Measure the front and the references for real. A front member over the target makes room for those it hid, which
    are measured in their turn, until the whole front that remains, if any does, was measured and meets the target. The
    best of it is measured again, from anew, and goes the same way if it does not hold.

    Args:
        record: of the search; what it has as measured is not measured again.
        model: of the device. One that cannot be measured leaves the record as it is.
        keep: given all that was measured in this call so far, by architecture key, after every network.
        progress: called as ``progress(done, total, text)``.
    """
    measured: dict[str, Latency] = {}
    try:
        while True:
            while waiting := [c for c in [*record.references, *record.front] if c.measured is None]:
                for at, candidate in enumerate(waiting):
                    progress(at, len(waiting), TEXT)
                    target_ms = None if candidate.name else record.target_ms
                    measured[candidate.key] = surely(_again(candidate, model), target_ms)
                    keep(measured)
                record = record.with_measured(measured)
                progress(len(waiting), len(waiting), TEXT)
            best = record.front[-1] if record.front else None
            if best is None or best.measured is None:
                return record
            found = confirmed(best.measured, _again(best, model, progress), record.target_ms)
            if found is best.measured:  # there is nothing to confirm
                return record
            progress(TIMES, TIMES, CONFIRMING)
            measured[best.key] = found
            keep(measured)
            record = record.with_measured(measured)
    except _CannotMeasure:
        return record


def _again(candidate: Candidate, model: LatencyModel, progress: Step | None = None) -> Callable[[], Latency]:
    made = count()

    def once() -> Latency:
        if progress:
            progress(next(made), TIMES, CONFIRMING)
        found = model.measure(candidate.arch)
        if found is None:
            raise _CannotMeasure
        return found

    return once
