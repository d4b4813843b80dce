"""An evaluation under way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from optuna.trial import Trial

from nas.arch.arch import Arch
from nas.arch.genes import Scalar
from nas.engine.run.record import Candidate, Rung
from nas.latency.record import Latency
from nas.training.evaluate import Evaluation


@dataclass
class Job:
    """An evaluation under way: of a candidate, with its trial, or of a reference, with its name. A candidate that an
    earlier call proposed has neither."""

    arch: Arch
    predicted: Latency
    genes: Mapping[str, Scalar] = field(default_factory=dict)
    trial: Trial | None = None
    name: str | None = None
    attempts: int = 1
    twins: list[Trial] = field(default_factory=list)  # the same network, proposed again meanwhile
    rungs: tuple[Rung, ...] = ()
    unfinished: bool = False  # whether there is a longer rung than the last one that was reached
    seconds: float = 0.0  # of the rungs before

    def reached(self, lengths: Sequence[int], evaluation: Evaluation) -> None:
        """Take the score at the next of some lengths into account."""
        if evaluation.state != "COMPLETE" or evaluation.proxy_accuracy is None:
            return
        steps = lengths[len(self.rungs)]
        self.rungs = (*self.rungs, Rung(steps, evaluation.proxy_accuracy, evaluation.proxy_loss))
        self.unfinished = steps < lengths[-1]

    def candidate(self, evaluation: Evaluation) -> Candidate:
        """What is known of the network with this evaluation of it; ``STOPPED`` if its training has a longer rung."""
        self.seconds += evaluation.seconds
        stopped = evaluation.state == "COMPLETE" and self.unfinished
        return Candidate(
            arch=self.arch,
            state="STOPPED" if stopped else evaluation.state,
            predicted=self.predicted,
            params=evaluation.params,
            macs=evaluation.macs,
            memory_bytes=evaluation.memory_bytes,
            genes=self.genes,
            name=self.name,
            proxy_accuracy=evaluation.proxy_accuracy,
            proxy_loss=evaluation.proxy_loss,
            seconds=self.seconds,
            reason=evaluation.reason,
            rungs=self.rungs,
        )
