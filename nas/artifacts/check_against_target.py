"""An exported file held to the target of its run, on the device the target is of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nas.artifacts.export import Exported
    from nas.artifacts.source import ExportSource
    from nas.latency.record import Latency


def check_against_target(done: Exported, asked: ExportSource, folder: Path) -> Exported:
    """`done` with the target that its file is held to. A file measured too close to the target for one measurement to
    say is measured again (`nas.latency.close_calls.settled`).

    Args:
        done: exported and measured once.
        asked: what its run knows.
        folder: that the files were written to.
    """
    from nas.latency.close_calls import settled

    done = replace(
        done,
        target_ms=asked.target_ms,
        target_runtime=asked.runtime,
        modelled=asked.modelled,
        elsewhere=asked.elsewhere,
    )
    first = done.checked
    if first is None or asked.target_ms is None:
        return done

    def again() -> Latency:
        from nas.latency.measure import measure_onnx, measure_pte

        if asked.runtime == "executorch":
            return measure_pte(folder / "model.pte", asked.threads)
        model = folder / "model.onnx"
        return asked.agent.measure_onnx(model) if asked.agent else measure_onnx(model, asked.threads)

    found = settled(first, again, asked.target_ms)
    return replace(done, pte_measured=found) if asked.runtime == "executorch" else replace(done, measured=found)
