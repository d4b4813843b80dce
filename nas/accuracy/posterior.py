"""What the trainings of one search say about all networks of its space, with a bundled model as one more witness.

The score of a training is a sum of effects: of capacity, of the genes of the space, and of the accuracy that a model
fitted elsewhere expects. How large each may be, and how much of a score is noise, the trainings decide
(`nas.accuracy.linear`): where the other model has no say on the user's images its effect vanishes. A score is not the
accuracy of a network but of a network trained briefly, so what a network does better or worse than the sum of its
effects counts as noise. On NAS-Bench-Macro that part of a proxy's score misleads: within 52-60 M MACs the scores of 79
networks rank them with tau 0.655, the sums of effects with 0.705, and sums with interactions of genes with 0.663.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import hypot

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from nas.accuracy.features import NAMES, features, is_capacity
from nas.accuracy.linear import Linear, fit
from nas.accuracy.prior import PriorModel
from nas.accuracy.record import INTERVAL, Accuracy, chance_above
from nas.arch.arch import Arch
from nas.arch.batch import Batch
from nas.arch.codes import Coder
from nas.arch.space import Space
from nas.system.errors import InputError

PRIOR, CAPACITY, GENES, POOLED = 0, 1, 2, 3  # groups of effects; those of other tasks are -1, -2, ...
FEWEST = 4  # trainings below which only their mean and spread are known

Floats = NDArray[np.float64]

_CAPACITY = [at for at, name in enumerate(NAMES) if is_capacity(name)]
_CHOICES = [at for at, name in enumerate(NAMES) if not is_capacity(name)]


class Effects:
    """The numbers of a network that a posterior has effects of; remembered, for they are asked for again and again.

    Args:
        space: whose genes have effects; those of a network outside it, such as a reference, are unknown. None: the
            features that all networks have take the place of genes.
        prior: a model fitted elsewhere, or None.
        others: what trainings of other tasks say: one effect each, of the accuracy that they expect.
        pooled: whether what all blocks at one feature-map size choose has an effect besides each block's own genes: in
            a space of many genes a few dozen scores tell more about the former.
    """

    def __init__(
        self,
        space: Space | None,
        prior: PriorModel | None,
        others: Sequence[Posterior] = (),
        pooled: bool = False,
    ) -> None:
        self._space, self._prior, self._others, self._pooled = space, prior, others, pooled
        self._known: dict[str, Floats] = {}

    def of(self, archs: Sequence[Arch]) -> Floats:
        """float64 of shape ``(len(archs), number of effects)``."""
        if isinstance(archs, Batch) and archs.codes is not None:  # tens of thousands, and each of them once
            if self._space is None:
                return self._columns(archs, None)
            if archs.space_key == self._space.key:
                return self._columns(archs, self._coder.one_hot(archs.codes))
        new = list({arch.key: arch for arch in archs if arch.key not in self._known}.values())
        if new:
            genes = None if self._space is None else self._genes(new, self._space)
            columns = self._columns(new, genes)
            self._known |= dict(zip([arch.key for arch in new], columns, strict=True))
        width = len(self.groups())
        return np.array([self._known[arch.key] for arch in archs]).reshape(len(archs), width)

    def _columns(self, archs: Sequence[Arch], genes: Floats | None) -> Floats:
        values = features(archs)
        prior = [] if self._prior is None else [self._prior.logits(values)[:, None]]
        others = [other.means(archs)[:, None] for other in self._others]
        columns = [*prior, *others, values[:, _CAPACITY], values[:, _CHOICES] if genes is None else genes]
        return np.hstack([*columns, values[:, _CHOICES]] if self._pooled else columns)

    @cached_property
    def _coder(self) -> Coder:
        assert self._space is not None
        return Coder(self._space)

    def groups(self) -> list[int]:
        """The group of each effect: the other models, capacity, genes."""
        prior = [] if self._prior is None else [PRIOR]
        others = [PRIOR - at for at in range(1, 1 + len(self._others))]
        genes = len(_CHOICES) if self._space is None else len(self._space.feature_names)
        pooled = [POOLED] * len(_CHOICES) if self._pooled else []
        return prior + others + [CAPACITY] * len(_CAPACITY) + [GENES] * genes + pooled

    def _genes(self, archs: Sequence[Arch], space: Space) -> Floats:
        rows = []
        for arch in archs:
            try:
                rows.append(space.features(arch))
            except InputError:  # not in the space
                rows.append(np.full(len(space.feature_names), np.nan))
        return np.array(rows)


@dataclass(frozen=True, slots=True)
class Training:
    """What one training said about a network.

    Args:
        arch: the network.
        accuracy: share of held-out images classified correctly.
        loss: held-out loss in nats, or None.
        length: how long it was trained, in a unit of the caller's; trainings of each length have their own level and
            noise.
        run: number of the run; scores of runs other than 0 may be higher or lower than those of run 0 by a constant.
    """

    arch: Arch
    accuracy: float
    loss: float | None = None
    length: int = 0
    run: int = 0


class Posterior:
    """The accuracy that networks of a space are expected to reach in the training that the search gives them.

    What a network does better or worse than the sum of its effects counts as noise, unless it was trained several times
    at the largest length, with several seeds: how much these agree says how much of it is the network's own.

    Args:
        effects: numbers of the networks.
        trainings: what was observed; those of the largest length set the level of the estimates.
        task: what the accuracies are of.
        prior: what else the estimates rest on, in words, or None.
        sampling_sd: standard deviation of what chance adds to the accuracy of one training, if it is known: it is no
            part of what a network can do, and intervals leave it out.

    >>> from nas.arch.space_yaml import load_space
    >>> space = load_space("efficientnet")
    >>> archs = [space.sample(seed) for seed in range(40)]
    >>> truth = {arch: 0.5 + 0.02 * sum(row.se > 0 for row in arch.rows) / len(arch.rows) for arch in archs}
    >>> model = Posterior(Effects(space, None), [Training(arch, truth[arch]) for arch in archs[:30]], "toy")
    >>> bool(abs(model(archs[35]).mean - truth[archs[35]]) < 0.01)
    True
    """

    def __init__(
        self,
        effects: Effects,
        trainings: Sequence[Training],
        task: str,
        prior: str | None = None,
        sampling_sd: float = 0.0,
    ) -> None:
        if not trainings:
            raise InputError("a posterior needs at least one training")
        self.task = task
        self._effects, self._prior, self._count = effects, prior, len(trainings)
        lengths = sorted({training.length for training in trainings}, reverse=True)
        every = np.array([lengths.index(training.length) for training in trainings])
        single, self._offset, self._unit = _scores(trainings, every)
        first, which = _distinct([(training.arch.key, training.length, training.run) for training in trainings])
        times = np.bincount(which)
        scores, kinds, trainings = np.bincount(which, single) / times, every[first], [trainings[at] for at in first]
        x = effects.of([training.arch for training in trainings])
        with np.errstate(invalid="ignore"):
            self._centre = np.nan_to_num(_nanmean(x))
            spread = np.nan_to_num(np.sqrt(_nanmean((x - self._centre) ** 2)))
        self._scale = np.where(spread > 1e-9, spread, 1.0)
        run, runs = np.array([training.run for training in trainings]), max(training.run for training in trainings)
        levels = kinds[:, None] == np.arange(len(lengths))[None]
        offsets = run[:, None] == np.arange(1, runs + 1)[None]
        groups = effects.groups()
        many = len(trainings) >= FEWEST  # of fewer only the level is learned
        # A network outside the space has one effect of its own, as large as all genes of a network together.
        standardised = self._standardised(x) * many
        outside = np.isnan(x).any(axis=1).reshape(len(x))
        self._keys = sorted({trainings[int(at)].arch.key for at in np.flatnonzero(outside)})
        genes = standardised[~outside][:, np.array(groups) == GENES]
        self._size = float(np.sqrt(np.mean(np.sum(genes**2, axis=1)))) if genes.size else 0.0
        own = self._own_columns([training.arch for training in trainings])
        design = np.hstack([standardised, own, levels, offsets])
        columns = [*groups, *([GENES] * own.shape[1]), *([GENES + 1] * len(lengths)), *([GENES + 2] * runs)]
        self._linear: Linear = fit(design, scores, _consecutive(columns), kinds.tolist(), _LEAST_NOISE)
        gene_group = _consecutive(columns)[columns.index(GENES)] if GENES in columns else None
        self._unknown_sd = 0.0 if gene_group is None else self._size * float(self._linear.sds[gene_group])
        self._levels = np.eye(len(lengths) + runs)[0]
        noise = float(self._linear.noise[0])
        chance = (sampling_sd / self._unit) ** 2
        freedom = int(np.sum((times - 1)[kinds == 0]))  # other lengths and tasks have units of their own
        if not chance and freedom:
            chance = _chance((single - scores[which])[every == 0], freedom, noise)
        self._own = max(noise**2 - chance, 0.1 * noise**2) ** 0.5  # of the networks themselves
        self._repeated = {
            trainings[at].arch.key: (self._own**2 / (self._own**2 + chance / times[at]), float(scores[at]))
            for at in np.flatnonzero((times > 1) & (kinds == 0) & (run == 0))
        }
        # The noise was learned from the same few trainings: Student's t instead of the normal distribution.
        left = max(2.0, len(trainings) - self._learned(design, kinds))
        self._widening = float(stdtrit(left, 0.95)) / INTERVAL
        self._widening_seen = float(stdtrit(min(left, freedom + _GUESSED), 0.95)) / INTERVAL

    def many(self, archs: Sequence[Arch]) -> tuple[Floats, Floats]:
        """Means and standard deviations of the accuracies, each of shape ``(len(archs),)``."""
        return self._estimates(self._rows(self._effects.of(archs), archs), self._unknown(archs), *self._seen(archs))

    def of_effects(self, values: Floats) -> tuple[Floats, Floats]:
        """`many` for networks of the space whose `Effects` are known already, shape (n, number of effects); trainings
        with several seeds, of one of them, are not looked up."""
        zeros = np.zeros(len(values))
        return self._estimates(self._rows(values), zeros, zeros, zeros)

    def _estimates(self, rows: Floats, unknown_sd: Floats, share: Floats, seen: Floats) -> tuple[Floats, Floats]:
        mean, sd = self._linear.predict((1 - share)[:, None] * rows)
        sd = np.sqrt(sd**2 + (1 - share) * self._own**2 + unknown_sd**2)
        sd *= np.where(share > 0, self._widening_seen, self._widening)
        return self._offset + self._unit * (mean + share * seen), self._unit * sd

    def reducible(self, archs: Sequence[Arch]) -> tuple[Floats, Floats]:
        """Expected accuracies, and the standard deviation that further trainings would reduce: that of the effects,
        without what a network does better or worse than their sum; each of shape ``(len(archs),)``."""
        coded = isinstance(archs, Batch) and archs.codes is not None  # of the space, without own effects
        mean, sd = self._linear.predict(self._rows(self._effects.of(archs), () if coded else archs))
        return self._offset + self._unit * mean, self._unit * sd

    def means(self, archs: Sequence[Arch]) -> Floats:
        """Expected accuracies by the sum of effects alone, shape ``(len(archs),)``."""
        return self.scores(archs, self._linear.weights)

    def __call__(self, arch: Arch) -> Accuracy:
        means, sds = self.many([arch])
        return Accuracy(float(means[0]), float(sds[0]), self.task, self.evidence)

    @property
    def evidence(self) -> str:
        """What the estimates rest on, one line."""
        trained = f"{self._count} proxy scores"
        return trained if self._prior is None else f"{trained} and {self._prior}"

    def draw(self, rng: np.random.Generator) -> Floats:
        """Effects drawn from their distribution, for `scores`."""
        values, vectors = np.linalg.eigh(self._linear.covariance)
        drawn: Floats = self._linear.weights + vectors @ (np.sqrt(np.maximum(values, 0)) * rng.normal(size=len(values)))
        return drawn

    def scores(self, archs: Sequence[Arch], weights: Floats) -> Floats:
        """The accuracies that networks would have if the effects were `weights`, shape ``(len(archs),)``."""
        return self.scores_of_effects(self._effects.of(archs), weights)

    def scores_of_effects(self, values: Floats, weights: Floats) -> Floats:
        """`scores` for networks whose `Effects` are known already."""
        scores: Floats = self._offset + self._unit * (self._rows(values) @ weights)
        return scores

    def better(self, one: Arch, other: Arch) -> float:
        """The probability that `one` is more accurate than `other`: effects that both share cancel."""
        pair = [one, other]
        share, seen = self._seen(pair)
        rows = (1 - share)[:, None] * self._rows(self._effects.of(pair), pair)
        mean, sd = self._linear.predict((rows[0] - rows[1])[None])
        gain = float(mean[0] + share[0] * seen[0] - share[1] * seen[1])
        left = hypot(float(sd[0]), *(self._own * (1 - share) ** 0.5).tolist(), *self._unknown(pair).tolist())
        return chance_above(gain, left * (self._widening_seen if share.any() else self._widening))

    def _seen(self, archs: Sequence[Arch]) -> tuple[Floats, Floats]:
        """For each network, which share of its estimate is its own mean score, and that score (best linear unbiased
        prediction of random effects; Robinson, Statistical Science 1991). Networks trained once have no share."""
        found = [self._repeated.get(arch.key, (0.0, 0.0)) for arch in archs] if self._repeated else []
        pairs = np.array(found, dtype=float).reshape(-1, 2) if found else np.zeros((len(archs), 2))
        return pairs[:, 0], pairs[:, 1]

    def _learned(self, design: Floats, kinds: NDArray[np.int_]) -> float:
        """The number of effects that the trainings determined (Bishop, equation 3.91)."""
        weighted = design / self._linear.noise[kinds][:, None]
        return float(np.einsum("ij,jk,ik->", weighted, self._linear.covariance, weighted))

    def _standardised(self, values: Floats) -> Floats:
        """Unknown genes, of a network outside the space, count as the mean of those that were trained."""
        x: Floats = np.nan_to_num((values - self._centre) / self._scale)
        return x

    def _rows(self, values: Floats, archs: Sequence[Arch] = ()) -> Floats:
        own = self._own_columns(archs) if archs else np.zeros((len(values), len(self._keys)))
        return np.hstack([self._standardised(values), own, np.tile(self._levels, (len(values), 1))])

    def _own_columns(self, archs: Sequence[Arch]) -> Floats:
        """One column for each trained network outside the space."""
        keys = np.array([arch.key for arch in archs])
        same = keys[:, None] == np.array(self._keys, dtype=keys.dtype)[None]
        columns: Floats = self._size * same.astype(float)
        return columns

    def _unknown(self, archs: Sequence[Arch]) -> Floats:
        """The standard deviation of what is unknown of networks outside the space that were not trained."""
        outside = np.isnan(self._effects.of(archs)).any(axis=1)
        known = np.array([arch.key in self._keys for arch in archs], dtype=bool)
        return np.where(outside & ~known, self._unknown_sd, 0.0)


_LEAST_NOISE = 0.05  # of the spread of the scores: no short training is more exact
_LUCK = 0.75  # share of the variance of the noise that is guessed to be chance: of short trainings it is most of it
_GUESSED = 4  # networks trained twice that this guess is worth


def _chance(residuals: Floats, freedom: int, noise: float) -> float:
    """Variance of what chance adds to a score, from scores of the same networks with several seeds."""
    return min((float(residuals @ residuals) + _GUESSED * _LUCK * noise**2) / (freedom + _GUESSED), noise**2)


def _distinct(items: Sequence[object]) -> tuple[list[int], NDArray[np.int_]]:
    """Where each distinct item is first, and which of them each item is."""
    order: dict[object, int] = {}
    which = np.array([order.setdefault(item, len(order)) for item in items])
    return np.unique(which, return_index=True)[1].tolist(), which


def _nanmean(x: Floats) -> Floats:
    counts = np.maximum(np.sum(~np.isnan(x), axis=0), 1)
    mean: Floats = np.nansum(x, axis=0) / counts
    return mean


def _consecutive(groups: Sequence[int]) -> list[int]:
    order = {group: at for at, group in enumerate(dict.fromkeys(groups))}
    return [order[group] for group in groups]


def _scores(trainings: Sequence[Training], kinds: NDArray[np.int_]) -> tuple[Floats, float, float]:
    """Scores of about unit scale, and the offset and unit that turn them into accuracies of the longest trainings.

    The loss says the same as the accuracy with less noise, for it does not count images but weighs them: within 52-60 M
    MACs of NAS-Bench-Macro it ranks with tau 0.655, the accuracy with 0.631. The line through all trainings turns it
    into an accuracy.
    """
    accuracies = np.array([training.accuracy for training in trainings])
    losses = np.array([np.nan if training.loss is None else training.loss for training in trainings])
    scores = accuracies.copy()
    for kind in range(int(kinds.max()) + 1):
        rows = kinds == kind
        if np.isfinite(losses[rows]).all() and rows.sum() >= FEWEST and np.ptp(losses[rows]) > 0:
            slope, intercept = np.polyfit(losses[rows], accuracies[rows], 1)
            if slope < 0:
                scores[rows] = intercept + slope * losses[rows]
    first = kinds == 0
    offset, unit = float(scores[first].mean()), float(scores[first].std())
    unit = unit if unit > 1e-9 else 0.05
    for kind in range(int(kinds.max()) + 1):
        rows = kinds == kind
        centre, spread = (offset, unit) if kind == 0 else (float(scores[rows].mean()), float(scores[rows].std()))
        scores[rows] = (scores[rows] - centre) / (spread if spread > 1e-9 else 1.0)
    return scores, offset, unit
