"""After the search: the front is measured on the quiet device; networks that miss the target make room for others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from nas.engine.run.record import Candidate, Record
from nas.latency.close_calls import TIMES, confirmed, surely
from nas.latency.record import Latency
from nas.system.progress import Step

if TYPE_CHECKING:
    from nas.latency.devices import LatencyModel

CONFIRMING = "measuring the best again"
TEXT = "measuring the front and the references on the quiet machine"
SHOWN = 16  # networks of a long front that are measured; a search without trainings finds hundreds
LEAST_BOUND = 60  # measurements of candidates; of 2 to 5 s each
PER_NETWORK = 4  # or so many for each network of the first front: three where it is close, and one for who follows


class _CannotMeasureError(Exception):
    """Only a model of the device is at hand."""


class _SpentError(Exception):
    """The bound of measurements is reached."""


def measure_front(
    record: Record,
    model: LatencyModel,
    keep: Callable[[Mapping[str, Latency]], None],
    progress: Step,
    most: int | None = None,
) -> Record:
    """Measure the front and the references for real.

    The most accurate come first: one of them is recommended. A front member over the target makes room for those it
    hid, which are measured in their turn, until the whole front that remains was measured and meets the target. The
    best of it is measured again, and goes the same way if it does not hold. With a biased latency model that would
    be every scored candidate, so measurements are bounded, and of a long front only a part is measured: networks that
    were not measured leave the front (`RunInfo.measured_only`).

    Args:
        record: of the search; what was measured already is not measured again.
        model: of the device. One that cannot be measured leaves the record as it is.
        keep: called after every network with all latencies measured in this call so far, by architecture key.
        progress: called as ``progress(done, total, text)``.
        most: measurements of candidates; None: four for each network of the first front, at least 60.
    """
    record = replace(record, info=replace(record.info, measured_only=False))
    most = max(LEAST_BOUND, PER_NETWORK * min(SHOWN, len(record.front))) if most is None else most
    clock = _Clock(model, most)
    measured: dict[str, Latency] = {}
    try:
        while True:
            while waiting := [c for c in [*record.references, *_part(record)] if c.measured is None]:
                for at, candidate in enumerate(waiting):
                    progress(at, len(waiting), TEXT)
                    target_ms = None if candidate.name else record.target_ms
                    measured[candidate.key] = surely(clock.of(candidate), target_ms)
                    keep(measured)
                record = record.with_measured(measured)
                progress(len(waiting), len(waiting), TEXT)
            best = record.front[-1] if record.front else None
            if best is None or best.measured is None:
                return _of_measured(record)
            found = confirmed(best.measured, clock.of(best, progress), record.target_ms)
            if found is best.measured:  # there is nothing to confirm
                return _of_measured(record)
            progress(TIMES, TIMES, CONFIRMING)
            measured[best.key] = found
            keep(measured)
            record = record.with_measured(measured)
    except _CannotMeasureError:
        return record
    except _SpentError:
        return _of_measured(record.with_measured(measured))


def _of_measured(record: Record) -> Record:
    """The record without networks on its front that were not measured."""
    unmeasured = any(candidate.measured is None for candidate in record.front)
    return replace(record, info=replace(record.info, measured_only=unmeasured))


def _part(record: Record) -> list[Candidate]:
    """What to measure of a front, the most accurate first: all of a short one; of a long one the best, and others
    evenly until `SHOWN` networks have met the target. Those that others dominate by prediction alone count as well: a
    biased latency model would else put them aside one after the other."""
    front = record.front[::-1]
    new = [candidate for candidate in front if candidate.measured is None]
    if len(front) <= SHOWN:
        return new
    room = SHOWN - sum(c.measured is not None and record.meets(c) for c in record.candidates)
    wanted = min(len(new), max(room, int(front[0].measured is None)))
    return [new[round(at)] for at in np.linspace(0, len(new) - 1, wanted)]


class _Clock:
    """Measures candidates, up to a bound; references are few and do not count."""

    def __init__(self, model: LatencyModel, most: int) -> None:
        self._model, self._left = model, most

    def of(self, candidate: Candidate, progress: Step | None = None) -> Callable[[], Latency]:
        """What measures `candidate` once, each time it is called."""
        made = 0

        def once() -> Latency:
            nonlocal made
            if candidate.name is None:
                if self._left == 0:
                    raise _SpentError
                self._left -= 1
            if progress:
                progress(made, TIMES, CONFIRMING)
            made += 1
            found = self._model.measure(candidate.arch)
            if found is None:
                raise _CannotMeasureError
            return found

        return once
