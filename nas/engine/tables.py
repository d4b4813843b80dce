"""Networks whose accuracies are known, which searches are replayed on: published data sets, own tables, past runs."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nas.accuracy.calibrate import fit_only
from nas.accuracy.prior import PriorModel
from nas.accuracy.sources import FEWEST, MAX_BYTES, Source, read_source
from nas.arch.arch import Arch
from nas.arch.codes import Coder, Codes
from nas.arch.cost import cost_of, costs
from nas.arch.space import Space
from nas.arch.space_yaml import load_space
from nas.arch.uniform import Uniform
from nas.engine.run.resolve import is_run
from nas.engine.run.store import Store
from nas.latency.devices import LatencyModel, Saved
from nas.latency.record import Latency
from nas.system.errors import InfeasibleError, InputError
from nas.system.text import one_line
from nas.system.validate import is_number

HALVES = "model:"  # before the path of a table: a model of one half is searched, one of the other half judges
TABULAR, MACRO = "tabular", "nas_bench_macro"
SPACES = {"imagenet-mbconv": "efficientnet"}  # of the tables that are recognised
SAMPLE = 10_000  # random networks that levels and hypervolumes of a whole space are relative to
MACS, MS = "M MACs", "ms"
CIFAR10_CLASSES = 10
_CODE = re.compile(r"[0-2]{8}", re.ASCII)

Floats = NDArray[np.float64]


class MacsModel:
    """Millions of multiply-accumulates as the cost that is capped; a `nas.latency.devices.LatencyModel`.

    Args:
        num_classes: size of the classifier.
    """

    device, table, fast = "MACs", None, True

    def __init__(self, num_classes: int = 1000) -> None:
        self._num_classes = num_classes

    def __call__(self, arch: Arch) -> Latency:
        macs = cost_of(arch, self._num_classes).macs
        return Latency(macs / 1e6, None, None, self.device, None, None, 1, "predicted")

    def many(self, archs: Sequence[Arch]) -> Floats:
        """Millions of MACs, shape (n,)."""
        return costs(archs, self._num_classes)[:, 1] / 1e6

    def measure(self, arch: Arch) -> None:
        """Nothing can be measured."""


class NoCost(MacsModel):
    """The same cost for every network: what a search sees of cost where accuracy alone is its objective."""

    device = "no cost"

    def __call__(self, arch: Arch) -> Latency:
        return Latency(1.0, None, None, self.device, None, None, 1, "predicted")

    def many(self, archs: Sequence[Arch]) -> Floats:
        """Ones, shape (n,)."""
        return np.ones(len(archs))


@dataclass(frozen=True, eq=False)
class Table:
    """What a replayed search sees, and what it is judged by.

    Args:
        name: name of the table, for people.
        space: the searched space.
        archs: distinct networks that levels and hypervolumes are relative to: all of the table, or with `models` a
            random sample of the space.
        accuracies: of `archs`: shares of images, or other scores, higher is better, shape (n,).
        costs: of `archs`, in `unit`, shape (n,).
        model: predicts the cost of any network of the space.
        unit: of costs: ``M MACs`` or ``ms``.
        codes: genes of `archs` as `nas.arch.codes` numbers them, where proposals are restricted to `archs`.
        models: where every network of the space has an accuracy: the model that a search observes, and the one, fitted
            on other networks, by which its choice is judged.
    """

    name: str
    space: Space
    archs: tuple[Arch, ...]
    accuracies: Floats
    costs: Floats
    model: LatencyModel
    unit: str = MACS
    codes: Codes | None = None
    models: tuple[PriorModel, PriorModel] | None = None

    @property
    def percent(self) -> bool:
        """Whether accuracies are shares, which people read in percent."""
        return bool(self.accuracies.min() >= 0 and self.accuracies.max() <= 1)

    def under(self, cap: float | None) -> NDArray[np.int64]:
        """Indices of the networks that cost at most `cap`.

        Raises:
            InfeasibleError: there is none.
        """
        found = np.arange(len(self.archs)) if cap is None else np.flatnonzero(self.costs <= cap)
        if not len(found):
            least = self.costs.min()
            raise InfeasibleError(
                f"no network of {self.name} costs at most {cap:g} {self.unit}; the smallest costs {least:.4g}"
            )
        return found

    def observed(self, arch: Arch) -> float:
        """What a search observes of a network, without noise."""
        return float(self.models[0].many([arch])[0][0]) if self.models else self._known[arch.key]

    def judged(self, archs: Sequence[Arch]) -> Floats:
        """The accuracies that networks are judged by, shape (n,)."""
        if self.models:
            return self.models[1].many(archs)[0]
        return np.array([self._known[arch.key] for arch in archs])

    @cached_property
    def _known(self) -> dict[str, float]:
        return {arch.key: float(accuracy) for arch, accuracy in zip(self.archs, self.accuracies, strict=True)}

    @cached_property
    def key(self) -> str:
        """A hash of the content, 12 hexadecimal digits. MACs follow from the networks, milliseconds do not."""
        rows = [f"{key} {accuracy:.9g}" for key, accuracy in self._known.items()]
        if self.unit != MACS:
            rows = [f"{row} {cost:.9g}" for row, cost in zip(rows, self.costs, strict=True)]
        text = "\n".join([self.space.key, self.unit, str(self.models is None), *sorted(rows)])
        return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def read_table(spec: str | Path, space: Space | None = None) -> Table:
    """Read a table to replay searches on.

    Args:
        spec: the published JSON of NAS-Bench-Macro; a CSV as `nas.accuracy.sources.read_source` takes it; the folder of
            a run; or ``model:`` and a CSV: one half of its networks, drawn at random, fits the model that is searched
            over the whole space, the other half the model by which the found network is judged.
        space: space of the networks of an own CSV; the published tables and runs have theirs.

    Raises:
        InputError: the table cannot be read, has too few networks or no space, or a network is not in the space; or
            nothing was trained in the run.
    """
    text = str(spec)
    halves = text.startswith(HALVES)
    path = Path(text.removeprefix(HALVES)).expanduser()
    if halves and (is_run(path) or path.suffix.lower() == ".json"):
        raise InputError(f"{HALVES} takes a CSV of networks and accuracies, got {path}; leave {HALVES} out")
    if is_run(path):
        return _of_run(path)
    if path.suffix.lower() == ".json":
        return _macro(path)
    source = read_source(path)
    if space is None:
        if source.name not in SPACES:
            raise InputError(f"{path} does not say which space its networks are of; give it with --space")
        space = load_space(SPACES[source.name])
    return _halves(source, space) if halves else _of_networks(source.name, space, source.archs, source.accuracies)


def _of_networks(
    name: str,
    space: Space,
    archs: Sequence[Arch],
    scores: Sequence[float] | Floats,
    model: LatencyModel | None = None,
    unit: str = MACS,
) -> Table:
    """The distinct networks, which must be in the space but for their dropout, which tables do not state; of several
    scores of one network the mean."""
    found: dict[Arch, list[float]] = {}
    for arch, score in zip(archs, scores, strict=True):
        found.setdefault(Arch(arch.rows, arch.resolution, **space.arch_options), []).append(float(score))
    if len(found) < FEWEST:
        raise InputError(f"{name} has {len(found)} different networks with a score; at least {FEWEST} are required")
    distinct = tuple(found)
    means = np.array([np.mean(found[arch]) for arch in distinct])
    if means.min() == means.max():
        raise InputError(f"{name}: all scores are {means[0]:g}, so there is nothing to search for")
    model = model or MacsModel()
    costs_ = np.asarray(model.many(distinct), dtype=float)
    complete = len(distinct) == space.size and unit == MACS
    return Table(name, space, distinct, means, costs_, model, unit, None if complete else _codes(name, space, distinct))


def _codes(name: str, space: Space, archs: Sequence[Arch]) -> Codes:
    coder = Coder(space)
    rows = []
    for number, arch in enumerate(archs, start=1):
        try:
            rows.append(coder.codes(space.encode(arch)))
        except InputError as error:
            raise InputError(f"{name}, network {number}: {one_line(error)}; give its space with --space") from None
    return np.array(rows, dtype=np.int16)


def _halves(source: Source, space: Space, seed: int = 0) -> Table:
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(source.archs))
    observed, judge = (fit_only([_part(source, at)], name=source.name) for at in np.array_split(order, 2))
    archs = tuple(dict.fromkeys(Uniform(space).batch(SAMPLE, rng)))
    model = MacsModel()
    accuracies = judge.many(archs)[0]
    name = f"{source.name}, models of its halves"
    return Table(name, space, archs, accuracies, model.many(archs), model, models=(observed, judge))


def _part(source: Source, at: NDArray[np.int64]) -> Source:
    archs, families = (tuple(values[i] for i in at) for values in (source.archs, source.families))
    return replace(source, archs=archs, families=families, accuracies=source.accuracies[at])


def _of_run(folder: Path) -> Table:
    """The candidates of a run that were trained to the end, with their scores, and latencies by the run's table; MACs
    where it has none."""
    with Store.open(folder, read_only=True) as store:
        if not store.info.trains:
            raise InputError(f"{folder}: an accuracy model decided in that run, so it has no trainings; give another")
        candidates, _ = store.load()
        scored = [
            (one.arch, one.proxy_accuracy)
            for one in candidates
            if one.state == "COMPLETE" and one.proxy_accuracy is not None
        ]
        archs, scores = [arch for arch, _ in scored], [score for _, score in scored]
        if store.table_path.exists():
            return _of_networks(folder.name, store.space, archs, scores, Saved(store.table_path), MS)
        return _of_networks(folder.name, store.space, archs, scores)


def _macro(path: Path) -> Table:
    """NAS-Bench-Macro (Su et al., arXiv 2103.11922): eight digits, one a gene, and the mean accuracy in percent."""
    wrong = f"{path} is not the published JSON of NAS-Bench-Macro"
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{wrong}: it is larger than {MAX_BYTES >> 20} MB")
        records = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else one_line(error, 80)
        raise InputError(f"cannot read {path}: {reason}") from None
    if not isinstance(records, dict) or not all(map(_CODE.fullmatch, records)):
        raise InputError(f"{wrong}: it must be an object whose names are eight digits from 0 to 2")
    space = load_space(MACRO, TABULAR)
    accuracies = []
    for code, record in records.items():
        accuracy = record.get("mean_acc") if isinstance(record, dict) else None
        if not is_number(accuracy) or not 0 <= accuracy <= 100:
            raise InputError(f"{wrong}: mean_acc of {code} must be a number from 0 to 100, got {accuracy!r:.40}")
        accuracies.append(accuracy / 100)
    coder = Coder(space)
    codes = np.array([[int(digit) for digit in code] for code in records], dtype=np.int16).reshape(len(records), 8)
    return _of_networks("nas-bench-macro", space, coder.batch(codes), accuracies, MacsModel(CIFAR10_CLASSES))
