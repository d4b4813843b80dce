"""How accurate the networks of a run are taken to be: by a model, or by one that learns from the run's trainings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nas.accuracy.curves import extrapolated
from nas.accuracy.posterior import Effects, Posterior, Training
from nas.accuracy.prior import PriorModel, bundled
from nas.accuracy.record import Accuracy, AccuracyModel
from nas.accuracy.surrogate import Surrogate
from nas.arch.arch import Arch
from nas.arch.space import Space
from nas.engine.options import FILE, OBSERVED, SearchOptions
from nas.engine.run.info import RunInfo
from nas.engine.run.record import Candidate
from nas.engine.warm_start import NOTHING, EarlierRun, WarmStart, is_custom, trainings_of

MODEL = "accuracy_model.json"
"""File of a run folder with the accuracy model that the run estimates with, if it was read from a file."""

WITHOUT_DATA = (
    "the bundled ImageNet model decides, for photographs like ImageNet's; trainings on generated images count for "
    "nothing; --data makes trainings count"
)
"""What a search says if it trains, and the trainings are no evidence."""

OWN_TRAININGS = 8  # of a run, from which they alone decide what trainings of other tasks count for
FEWEST_OF_A_TASK = 8  # trainings of another task, or of other networks, below which they say too little

Beliefs = Callable[[Sequence[Arch]], tuple[NDArray[np.float64], NDArray[np.float64]]]
"""Networks to expected scores, higher is better, and their standard deviations."""


def judge_of(info: RunInfo, folder: Path | None = None, warm: WarmStart | None = None) -> Judge | None:
    """The judge of a run; None where the observed scores decide: those of a caller's own function, or of an
    earlier version.

    Args:
        info: of the run.
        folder: of the run, where a model that was read from a file is kept, and what the run knew when it began.
        warm: what the run knew when it began; None: what its folder says.

    Raises:
        InputError: a file of the run, or the file of the accuracy model, cannot be read.
    """
    spec = info.options.accuracy
    if is_custom(info) or "accuracy" in info.custom or not isinstance(spec, str) or spec == OBSERVED:
        return None
    if spec.startswith(FILE):
        kept = None if folder is None else folder / MODEL
        found = kept if kept is not None and kept.exists() else Path(spec.removeprefix(FILE)).expanduser()
        return Judge(info.space, PriorModel.load(found), trained=False)
    prior = None if spec == "train" else bundled()
    name = info.data.name if info.data else "own images"
    if not trains_count(info.options):
        return Judge(info.space, prior, trained=False)
    if warm is None:
        warm = NOTHING if folder is None else WarmStart.load(folder, info.options)
    return Judge(info.space, prior, True, f"{name}, proxy", [(run, run.same_task(info)) for run in warm.runs])


def proposer_of(info: RunInfo, warm: WarmStart) -> Judge:
    """What a search proposes by where observed scores decide."""
    earlier = [(run, run.same_task(info)) for run in warm.runs]
    return Judge(info.space, None, True, "own score", earlier, exact=True)


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
        earlier: runs whose trainings are evidence, and whether they are of the same task.
        exact: whether a score is the network's own, and not that of a short training: `nas.accuracy.surrogate`.
    """

    def __init__(
        self,
        space: Space,
        prior: PriorModel | None,
        trained: bool,
        task: str = "",
        earlier: Sequence[tuple[EarlierRun, bool]] = (),
        exact: bool = False,
    ) -> None:
        self._prior, self.trained, self._task, self._exact = prior, trained, task, exact
        self._earlier: list[Training] = []  # of the same task
        self._other: list[Training] = []  # of other tasks; each has a length of its own, below that of any training
        words = [] if prior is None else [f"the {prior.name} model"]
        others = []
        for number, (run, same) in enumerate(earlier, 1):
            within = [replace(one, run=number) for one in run.trainings if same and one.arch in space]
            self._earlier += within
            rest = [one for one in run.trainings if not same or one.arch not in space]
            if len(rest) >= FEWEST_OF_A_TASK:
                others.append(_model_of(rest, space, prior, run.name))
                self._other += [replace(one, length=-len(others)) for one in rest]
                words.append(f"{len(rest)} scores of {run.name}")
        self._effects = Effects(space, prior, others, pooled=exact)
        self._words = " and ".join(words) or None
        self._trainings: dict[str, list[Training]] = {}
        self._posterior: Posterior | None = None
        self._surrogate: Surrogate | None = None
        self._changed = True

    def observe(self, arch: Arch, score: float) -> None:
        """Take the score of a network into account."""
        self._trainings[arch.key] = [Training(arch, score)]
        self._posterior, self._changed = None, True

    def learn(self, candidates: Sequence[Candidate]) -> None:
        """Take finished candidates and references into account. One that failed is no evidence, whatever it scored at
        rungs before."""
        for one in candidates:
            if self.trained and (trainings := trainings_of(one)):
                self._trainings[one.key] = trainings
            elif self._trainings.pop(one.key, None) is None:
                continue
            self._posterior, self._changed = None, True

    @property
    def warm(self) -> bool:
        """Whether networks can be ranked before the first training of the run."""
        return not self.trained or bool(self._earlier or self._other)

    @property
    def model(self) -> AccuracyModel | None:
        """The model by which networks are judged now; None before the first training where trainings decide."""
        if not self.trained:
            return self._prior
        # A network that was trained again had perhaps the same seed before, which says nothing more.
        known = [one for one in self._earlier if one.arch.key not in self._trainings]
        own = [*known, *(one for trainings in self._trainings.values() for one in trainings)]
        other = self._other if len(own) < OWN_TRAININGS else []
        if self._exact and self._trainings and not other:
            return self._own_scores()
        if self._posterior is None and (own or other):
            self._posterior = Posterior(self._effects, [*extrapolated(own), *other], self._task, self._words)
        return self._posterior

    def estimated(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        """The same candidates; those that were trained with their estimates."""
        model = self.model
        scored = [one for one in candidates if one.trained]
        if model is None or not scored:
            return list(candidates)
        means, sds = model.many([one.arch for one in scored])
        found = {
            one.key: Accuracy(float(mean), float(sd), model.task, model.evidence)
            for one, mean, sd in zip(scored, means, sds, strict=True)
        }
        return [replace(one, estimate=found.get(one.key)) if one.trained else one for one in candidates]

    @property
    def beliefs(self) -> Beliefs | None:
        """What networks of the space are expected to score, and the standard deviation that evaluating them would
        reduce; None before the first training where trainings decide."""
        model = self.model
        if isinstance(model, Surrogate):
            return model.many
        if isinstance(model, Posterior):
            return model.reducible
        return None if model is None else (lambda archs: (model.many(archs)[0], np.zeros(len(archs))))

    def _own_scores(self) -> Surrogate:
        if self._changed or self._surrogate is None:
            scored = {one.arch.key: one for one in self._earlier}
            scored |= {key: trainings[-1] for key, trainings in self._trainings.items()}
            archs, scores = zip(*((one.arch, one.accuracy) for one in scored.values()), strict=True)
            self._surrogate = Surrogate(self._effects, archs, scores, self._task, self._surrogate)
            self._changed = False
        return self._surrogate


def _model_of(trainings: Sequence[Training], space: Space, prior: PriorModel | None, name: str) -> Posterior:
    """What trainings of another task, or of networks outside the space, say about networks of the space: by its genes
    if they are all in it, else by features that all networks have."""
    genes = space if all(one.arch in space for one in trainings) else None
    return Posterior(Effects(genes, prior), trainings, name)
