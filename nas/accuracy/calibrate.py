"""Fits an accuracy model on tables of trained networks: shared effects, and what each source does differently."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from nas.accuracy.features import NAMES, features, group_of, is_capacity, is_product
from nas.accuracy.linear import LEAST_NOISE as ALONE
from nas.accuracy.linear import Linear, fit
from nas.accuracy.prior import HeldOut, PriorModel, SourceFacts
from nas.accuracy.ranking import equal_cost_tau, tau
from nas.accuracy.record import INTERVAL
from nas.accuracy.sources import Source
from nas.arch.cost import cost_of
from nas.system.errors import InputError
from nas.system.progress import Step, no_step

PUBLISHED = "published"  # the source whose level a model predicts, if it is among the sources
FOLDS = 10
COVERED = 0.9  # share of intervals that shall hold the truth: the 90 % of `INTERVAL`
LEAST_NOISE = 0.1
"""Standard deviation of the logit, about two points of accuracy, below which no source counts as exact. A thousand
networks of one space fix the effects in that space to a tenth of a point; for networks of another kind these effects
are no more than similar. Without this bound, with 0.05, 0.1 and 0.2, families left out of the published table were
predicted with Spearman 0.883, 0.955, 0.970 and 0.973 and errors of 3.8, 2.8, 2.8 and 2.7 points; at equal cost, unseen
networks of imagenet-mbconv were ranked with tau 0.841, 0.836, 0.817 and 0.775, and of ofa-mbv3, which differ by less,
with 0.812, 0.671, 0.632 and 0.616 (``benchmarks/accuracy_prior.py --least-noise``). A table alone knows no other kind,
and has no such bound: ofa-mbv3 alone is ranked with 0.814, and with the bound of 0.1 with 0.641."""
EDGE = 1e-3  # accuracies are kept this far from 0 and 1, where the logit has no value

Floats = NDArray[np.float64]

_CAPACITY = np.array([is_capacity(name) for name in NAMES])
_PLAIN = np.array([not is_capacity(name) and not is_product(name) for name in NAMES])


def calibrate(
    sources: Sequence[Source], name: str = "own", level: str | None = None, step: Step = no_step
) -> PriorModel:
    """Fit one model on all sources and measure its error on networks that it has not seen.

    The logit of an accuracy is a sum of effects of the features that all sources share, an offset of the source, what
    the source does differently, and an offset of the network's family. A source of one family differs in capacity and
    in structure; one of many families, whose networks are few and unlike each other, in capacity alone. How large each
    kind of effect may be, and how noisy each source is, the evidence decides (`nas.accuracy.linear`).

    Args:
        sources: tables of one task.
        name: name of the model.
        level: name of the source whose recipe the predicted accuracies are of; None: ``published`` if it is there, else
            the first.
        step: sees progress.

    Raises:
        InputError: no source, two of one name, of different tasks, or no source is called `level`.
    """
    level = _level(sources, level)
    names = [source.name for source in sources]
    tables = [_Table.of(source) for source in sources]
    folds = [(at, part) for at, table in enumerate(tables) for part in table.folds()]
    unseen = [_Unseen(table) for table in tables]
    for done, (at, part) in enumerate(folds):
        step(done, len(folds) + 1, f"predicting networks of {names[at]} that the fit has not seen")
        seen = [replace(t, mask=t.mask & ~part) if i == at else t for i, t in enumerate(tables)]
        unseen[at].add(_model(_Fit.of(seen), tables, names[at], name), part)
    step(len(folds), len(folds) + 1, "fitting on all networks")
    facts = tuple(
        SourceFacts(s.name, s.task, s.licence, s.origin, u.facts(s)) for s, u in zip(sources, unseen, strict=True)
    )
    spreads = unseen[names.index(level)].spreads()
    model = replace(
        _model(_Fit.of(tables), tables, level, name),
        family_sd=spreads["family_sd"],
        noise_sd=spreads["noise_sd"],
        stretch=spreads["stretch"],
        sources=facts,
    )
    step(len(folds) + 1, len(folds) + 1, "fitting on all networks")
    return model


def fit_only(sources: Sequence[Source], name: str = "own", level: str | None = None) -> PriorModel:
    """The same fit without its error: standard deviations are those of the effects alone, and no source is listed. For
    benchmarks, which choose themselves what a fit may not see."""
    level = _level(sources, level)
    tables = [_Table.of(source) for source in sources]
    return _model(_Fit.of(tables), tables, level, name)


def _level(sources: Sequence[Source], level: str | None) -> str:
    """The name of the source of the level, after a check of all sources."""
    names = [source.name for source in sources]
    if not sources or len(set(names)) < len(names):
        raise InputError(f"give at least one table, each once; got {', '.join(names) or 'none'}")
    if len({source.task for source in sources}) > 1:
        raise InputError(f"tables must be of one task, got {', '.join(sorted({s.task for s in sources}))}; use --task")
    level = level or (PUBLISHED if PUBLISHED in names else names[0])
    if level not in names:
        raise InputError(f"no table is called {level!r:.60}; it must be one of {', '.join(names)}")
    return level


@dataclass(frozen=True, eq=False)
class _Table:
    """A source as numbers; rows outside `mask` are left out of a fit."""

    name: str
    task: str
    values: Floats
    accuracies: Floats
    y: Floats
    families: NDArray[np.str_]
    mask: NDArray[np.bool_]

    @staticmethod
    def of(source: Source) -> _Table:
        accuracies = np.clip(source.accuracies, EDGE, 1 - EDGE)
        return _Table(
            source.name,
            source.task,
            features(source.archs),
            source.accuracies,
            np.log(accuracies / (1 - accuracies)),
            np.array(source.families, dtype=str),
            np.ones(len(accuracies), bool),
        )

    @property
    def many_families(self) -> bool:
        return len(set(self.families.tolist())) > 1

    def folds(self) -> list[NDArray[np.bool_]]:
        """Which rows to hold out together: a family at a time, or a tenth of the networks."""
        if self.many_families:
            return [self.families == family for family in sorted(set(self.families.tolist()))]
        order = np.random.default_rng(0).permutation(len(self.y))
        return [np.isin(np.arange(len(self.y)), part) for part in np.array_split(order, FOLDS)]


@dataclass(frozen=True, eq=False)
class _Fit:
    """The fitted effects, and where in the design matrix they are."""

    linear: Linear
    centre: Floats
    scale: Floats
    names: list[str]
    parts: list[list[NDArray[np.bool_]]]  # per source: the features in which it may differ, by group
    families: list[str]

    @staticmethod
    def of(tables: Sequence[_Table]) -> _Fit:
        values = np.vstack([table.values[table.mask] for table in tables])
        spread = values.std(0)
        scale = np.where(spread > 1e-9, spread, 0.0)
        families = sorted({family for t in tables if t.many_families for family in t.families[t.mask].tolist()})
        parts = [_differs(table) if len(tables) > 1 else [] for table in tables]
        empty = Linear(np.zeros(0), np.zeros((0, 0)), np.zeros(0), np.zeros(0), 0.0)
        made = _Fit(empty, values.mean(0), scale, [t.name for t in tables], parts, families)
        x, y, kinds = [], [], []
        for at, table in enumerate(tables):
            x.append(made.design(table.values[table.mask], at, table.families[table.mask]))
            y.append(table.y[table.mask])
            kinds.append(np.full(int(table.mask.sum()), at))
        least = LEAST_NOISE if len(tables) > 1 else ALONE
        linear = fit(np.vstack(x), np.hstack(y), made.groups(), np.hstack(kinds).tolist(), least)
        return replace(made, linear=linear)

    def groups(self) -> list[int]:
        """The group of each column of `design`."""
        kinds = [group_of(name) for name in NAMES]
        order = {kind: at for at, kind in enumerate(dict.fromkeys(kinds))}
        groups = [order[kind] for kind in kinds]
        for part in (part for own in self.parts for part in own):
            groups += [max(groups) + 1] * int(part.sum())
        groups += [max(groups) + 1] * (1 + len(self.names))
        return groups + [max(groups) + 1] * len(self.families)

    def design(self, values: Floats, source: int, families: NDArray[np.str_] | None) -> Floats:
        """Rows of the design matrix: features, differences of each source, offsets of sources and families."""
        x = np.where(self.scale > 0, (values - self.centre) / np.where(self.scale > 0, self.scale, 1), 0.0)
        columns = [x]
        for at, own in enumerate(self.parts):
            columns += [x[:, part] * (at == source) for part in own]
        offsets = np.zeros((len(x), 1 + len(self.names)))
        offsets[:, [0, 1 + source]] = 1.0
        columns.append(offsets)
        known = np.zeros((len(x), len(self.families)))
        if families is not None:
            known = (families[:, None] == np.array(self.families, dtype=str)[None]).astype(float)
        return np.hstack([*columns, known])


def _differs(table: _Table) -> list[NDArray[np.bool_]]:
    return [_CAPACITY] if table.many_families else [_CAPACITY, _PLAIN]


def _model(found: _Fit, tables: Sequence[_Table], level: str, name: str) -> PriorModel:
    """The fitted effects as a model of one source's level, by a linear map of all effects to intercept and weights."""
    at = found.names.index(level)
    probes = np.vstack([found.centre, found.centre + np.diag(found.scale)])  # all at their mean; then each one unit up
    rows = found.design(probes, at, None)
    change = np.vstack([rows[0], rows[1:] - rows[0]])
    values = np.vstack([table.values for table in tables])
    weights = change @ found.linear.weights
    return PriorModel(
        name=name,
        task=tables[at].task,
        level=level,
        features=NAMES,
        centre=found.centre,
        scale=found.scale,
        low=values.min(0),
        high=values.max(0),
        intercept=float(weights[0]),
        weights=weights[1:],
        covariance=change @ found.linear.covariance @ change.T,
        family_sd=0.0,
        noise_sd=0.0,
        stretch=1.0,
        sources=(),
    )


class _Unseen:
    """Predictions of one source's networks by models that have not seen them."""

    def __init__(self, table: _Table) -> None:
        self._table = table
        self._logits, self._variances = np.zeros(len(table.y)), np.zeros(len(table.y))
        self._fold = np.zeros(len(table.y), int)

    def add(self, model: PriorModel, part: NDArray[np.bool_]) -> None:
        """Predict the networks of `part`, which `model` has not seen."""
        values = self._table.values[part]
        accuracies, sds = model.of_features(values)
        self._logits[part] = model.logits(values)
        self._variances[part] = (sds / (accuracies * (1 - accuracies))) ** 2
        self._fold[part] = self._fold.max() + 1

    def spreads(self) -> dict[str, float]:
        """What families have in common that the model does not see, what it does not see within them, and how far all
        intervals must be stretched so that 90 % hold the truth (split conformal prediction)."""
        return self._spreads(np.ones(len(self._fold), bool))

    def _spreads(self, rows: NDArray[np.bool_]) -> dict[str, float]:
        errors = (self._logits - self._table.y)[rows]
        families = self._table.families[rows]
        _, at, counts = np.unique(families, return_inverse=True, return_counts=True)
        means = np.bincount(at, errors) / counts
        family_sd = float(np.sqrt(np.mean(means**2))) if len(counts) > 1 else 0.0
        within = errors - means[at] if len(counts) > 1 else errors
        noise_sd = float(np.sqrt(np.sum(within**2) / max(1, len(errors) - (len(counts) if family_sd else 0))))
        sds = np.sqrt(self._variances[rows] + family_sd**2 + noise_sd**2)
        stretch = float(np.quantile(np.abs(errors) / sds, COVERED)) / INTERVAL
        return {"family_sd": family_sd, "noise_sd": noise_sd, "stretch": stretch}

    def facts(self, source: Source) -> HeldOut:
        """The figures; whether an interval holds the truth is judged with the spreads of the other folds."""
        truth, y = self._table.accuracies, self._table.y
        means = 1 / (1 + np.exp(-self._logits))
        held = np.zeros(len(y), bool)
        for fold in np.unique(self._fold):
            rows = self._fold == fold
            spreads = self._spreads(~rows)
            sds = np.sqrt(self._variances[rows] + spreads["family_sd"] ** 2 + spreads["noise_sd"] ** 2)
            held[rows] = np.abs(self._logits - y)[rows] <= INTERVAL * spreads["stretch"] * sds
        return HeldOut(
            networks=len(y),
            tau=round(tau(means, truth), 3),
            equal_cost_tau=round(equal_cost_tau(means, truth, [cost_of(arch).macs for arch in source.archs]), 3),
            rmse=round(float(np.sqrt(np.mean((means - truth) ** 2))), 5),
            coverage=round(float(held.mean()), 3),
        )
