"""The rungs of a search: at which lengths trainings are compared, and where they are kept meanwhile."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from nas.engine.judge import trains_count
from nas.engine.options import SearchOptions
from nas.system.errors import InputError
from nas.training.config import ProxyConfig

if TYPE_CHECKING:
    from nas.engine.fidelity import Halving
    from nas.engine.judge import Judge
    from nas.training.evaluate import Evaluator


def in_rungs(config: ProxyConfig, options: SearchOptions) -> ProxyConfig:
    """How candidates are trained, with the rungs of the options. Trainings by shared weights, and those that are no
    evidence, have none.

    Raises:
        InputError: rungs are given for trainings that count for nothing, or they do not fit the length of these.
    """
    from nas.engine.fidelity import default_rungs

    if options.rungs == "off" or config.shared_steps:
        return config
    if not trains_count(options):
        if isinstance(options.rungs, str):
            return config
        given = ",".join(map(str, options.rungs))
        raise InputError(f"rungs {given} need trainings that count, and those on generated images do not; give --data")
    rungs = default_rungs(config.steps) if isinstance(options.rungs, str) else tuple(options.rungs)
    return replace(config, rungs=rungs)


@contextmanager
def halving_of(
    evaluator: Evaluator, judge: Judge | None, folder: Path | None
) -> Iterator[tuple[Evaluator, Halving | None]]:
    """The evaluator with a folder for checkpoints, and who decides on its rungs; the evaluator alone if it has none.

    Args:
        evaluator: of the search.
        judge: estimates accuracies.
        folder: for the checkpoints of a run; None keeps them in a temporary folder.
    """
    from nas.engine.fidelity import Halving
    from nas.training.evaluate import ProxyEvaluator

    if judge is None or not isinstance(evaluator, ProxyEvaluator) or not evaluator.config.rungs:
        yield evaluator, None
        return
    with tempfile.TemporaryDirectory(prefix="nas-checkpoints-") as temporary:
        where = Path(temporary) if folder is None else folder.absolute()
        where.mkdir(exist_ok=True)
        yield replace(evaluator, checkpoints=where), Halving(evaluator.config.lengths, judge, where)
        if folder is not None:
            with suppress(OSError):
                where.rmdir()  # empty, unless trainings are left for a later call
