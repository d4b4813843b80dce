"""Compares an exported file with the latency target of its run, on the device of the target."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nas.artifacts.export import Exported
    from nas.artifacts.source import ExportSource
    from nas.latency.record import Latency


def check_against_target(done: Exported, source: ExportSource, folder: Path) -> Exported:
    """Add the target of the run to an export. A file that is too close to the target for one measurement to decide is
    measured again (`nas.latency.close_calls.settled`).

    Args:
        done: exported and measured once.
        source: what the run knows of the network.
        folder: where the files are.
    """
    from nas.latency.close_calls import settled

    done = replace(
        done,
        target_ms=source.target_ms,
        target_runtime=source.runtime,
        modelled=source.modelled,
        elsewhere=source.elsewhere,
    )
    first = done.checked
    if first is None or source.target_ms is None:
        return done

    def again() -> Latency:
        from nas.latency.measure import measure_onnx, measure_pte

        if source.runtime == "executorch":
            return measure_pte(folder / "model.pte", source.threads)
        model = folder / "model.onnx"
        return source.agent.measure_onnx(model) if source.agent else measure_onnx(model, source.threads)

    latency = settled(first, again, source.target_ms)
    return replace(done, pte_measured=latency) if source.runtime == "executorch" else replace(done, measured=latency)
