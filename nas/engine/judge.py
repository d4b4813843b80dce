"""How accurate the networks of a run are taken to be: by a model, or by one that learns from the run's trainings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nas.accuracy.posterior import Effects, Posterior, Training
from nas.accuracy.prior import PriorModel, bundled
from nas.accuracy.record import Accuracy, AccuracyModel
from nas.arch.arch import Arch
from nas.arch.space import Space
from nas.engine.options import FILE, OBSERVED, SearchOptions
from nas.engine.run.info import RunInfo
from nas.engine.run.record import Candidate

MODEL = "accuracy_model.json"
"""File of a run folder with the accuracy model that the run estimates with, if it was read from a file."""

WITHOUT_DATA = (
    "the bundled ImageNet model decides, for photographs like ImageNet's; trainings on generated images count for "
    "nothing; --data makes trainings count"
)
"""What a search says if it trains, and the trainings are no evidence."""

Scores = Callable[[Sequence[Arch]], NDArray[np.float64]]
"""Networks to numbers, higher is better."""


def judge_of(info: RunInfo, folder: Path | None = None) -> Judge | None:
    """The judge of a run; None where the observed scores decide: those of a caller's own function, or of an
    earlier version.

    Args:
        info: of the run.
        folder: of the run, where a model that was read from a file is kept.

    Raises:
        InputError: the file of the accuracy model cannot be read.
    """
    spec = info.options.accuracy
    own = info.options.evaluate is not None or {"evaluate", "accuracy"} & set(info.custom)
    if own or not isinstance(spec, str) or spec == OBSERVED:
        return None
    if spec.startswith(FILE):
        kept = None if folder is None else folder / MODEL
        found = kept if kept is not None and kept.exists() else Path(spec.removeprefix(FILE)).expanduser()
        return Judge(info.space, PriorModel.load(found), trained=False)
    prior = None if spec == "train" else bundled()
    name = info.data.name if info.data else "own images"
    return Judge(info.space, prior, trains_count(info.options), f"{name}, proxy")


def trains_count(options: SearchOptions) -> bool:
    """Whether trainings are evidence: on generated images, which are no photographs, they count only if nothing else
    does."""
    return options.accuracy in ("train", OBSERVED) or (options.accuracy == "auto" and options.data is not None)


def trains_for_nothing(options: SearchOptions) -> bool:
    """Whether candidates are trained on generated images although a bundled model decides."""
    return options.evaluate is None and not options.estimates_only and not trains_count(options)


class Judge:
    """Estimates the accuracy of networks.

    Args:
        space: the searched space.
        prior: a model fitted elsewhere, or None.
        trained: whether trainings of the run count; without, `prior` decides alone.
        task: what the trainings are of.
    """

    def __init__(self, space: Space, prior: PriorModel | None, trained: bool, task: str = "") -> None:
        self._prior, self.trained, self._task = prior, trained, task
        self._effects = Effects(space, prior)
        self._trainings: dict[str, Training] = {}
        self._posterior: Posterior | None = None

    def learn(self, candidates: Sequence[Candidate]) -> None:
        """Take finished candidates and references into account."""
        for one in candidates:
            if self.trained and one.state == "COMPLETE" and one.proxy_accuracy is not None:
                self._trainings[one.key] = Training(one.arch, one.proxy_accuracy, one.proxy_loss)
                self._posterior = None

    @property
    def model(self) -> AccuracyModel | None:
        """The model by which networks are judged now; None before the first training where trainings decide."""
        if not self.trained:
            return self._prior
        if self._posterior is None and self._trainings:
            name = None if self._prior is None else f"the {self._prior.name} model"
            self._posterior = Posterior(self._effects, list(self._trainings.values()), self._task, name)
        return self._posterior

    def estimated(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        """The same candidates; those that completed with their estimates."""
        model = self.model
        scored = [one for one in candidates if one.state == "COMPLETE"]
        if model is None or not scored:
            return list(candidates)
        means, sds = model.many([one.arch for one in scored])
        found = {
            one.key: Accuracy(float(mean), float(sd), model.task, model.evidence)
            for one, mean, sd in zip(scored, means, sds, strict=True)
        }
        return [replace(one, estimate=found.get(one.key)) if one.state == "COMPLETE" else one for one in candidates]

    def drawn(self, rng: np.random.Generator) -> Scores | None:
        """Scores to propose by. Where trainings decide, they are of one draw from the posterior (Thompson sampling,
        Russo et al., arXiv 1707.02038): networks are proposed as often as they may be the best. None before the first
        training."""
        model = self.model
        if isinstance(model, Posterior):
            weights = model.draw(rng)
            return lambda archs: model.scores(archs, weights)
        return None if model is None else (lambda archs: model.many(archs)[0])
