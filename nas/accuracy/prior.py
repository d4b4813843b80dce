"""An accuracy model that needs no training: effects of features, fitted on tables of trained networks, as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.accuracy.features import NAMES, features, is_product
from nas.accuracy.record import Accuracy, chance_above
from nas.accuracy.words import listed
from nas.arch.arch import Arch
from nas.system.errors import InputError
from nas.system.files import write_atomic
from nas.system.text import one_line
from nas.system.validate import is_number, is_whole

SCHEMA = 1
MAX_BYTES = 8 << 20
MAX_SOURCES = 64
BUNDLED = "imagenet"
OUTSIDE_SD = 0.35  # of an effect that no source could show, on the scale of the logit: a third of the odds of an error
ROUNDING = 1e-4  # bounds of a file have six digits: differences this small are none

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class HeldOut:
    """How well networks of one source were predicted that the fit had not seen.

    Args:
        networks: number of networks.
        tau: Kendall's tau between predicted and true accuracy.
        equal_cost_tau: the same within groups of nearly equal MACs (`nas.accuracy.ranking`).
        rmse: root mean square error, as a share of images.
        coverage: share of the 90 % intervals that hold the truth.
    """

    networks: int
    tau: float
    equal_cost_tau: float
    rmse: float
    coverage: float


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """One table that a model was fitted on, with the error on its own held-out networks."""

    name: str
    task: str
    licence: str
    origin: str
    held_out: HeldOut


@dataclass(frozen=True, eq=False)
class PriorModel:
    """Linear effects of `nas.accuracy.features` on the logit of the accuracy, with their covariance.

    Args:
        name: name of the model.
        task: what its accuracies are of.
        level: name of the source whose training recipe the predicted level is of.
        features: names of the features, as in `nas.accuracy.features.NAMES`.
        centre: mean of each feature in the data.
        scale: spread of each feature; features of spread 0 were never varied.
        low: smallest value of each feature in the data.
        high: largest value of each feature in the data.
        intercept: logit of the accuracy where all features are at `centre`.
        weights: effect of one unit of `scale`, shape (p,).
        covariance: of intercept and weights, shape (p + 1, p + 1).
        family_sd: standard deviation of what families of networks have in common beyond their features, on the logit.
        noise_sd: standard deviation of what the features do not explain within a family, on the logit.
        stretch: factor of all intervals, with which 90 % of them hold the accuracies of held-out networks.
        sources: what the model was fitted on.
    """

    name: str
    task: str
    level: str
    features: tuple[str, ...]
    centre: Floats
    scale: Floats
    low: Floats
    high: Floats
    intercept: float
    weights: Floats
    covariance: Floats
    family_sd: float
    noise_sd: float
    stretch: float
    sources: tuple[SourceFacts, ...]

    def many(self, archs: Sequence[Arch]) -> tuple[Floats, Floats]:
        """Means and standard deviations of the accuracies, 0 to 1, each of shape ``(len(archs),)``."""
        return self.of_features(features(archs))

    def of_features(self, values: Floats) -> tuple[Floats, Floats]:
        """`many` for networks whose features, shape (n, p), are known already."""
        x = self._standardised(values)
        mean = self.intercept + x @ self.weights
        inner = np.hstack([np.ones((len(x), 1)), x]) @ self._root
        variance = np.einsum("ij,ij->i", inner, inner) + self._outside(values) ** 2
        accuracy = 1 / (1 + np.exp(-mean))
        slope = accuracy * (1 - accuracy)
        return accuracy, self.stretch * slope * np.sqrt(variance + self.family_sd**2 + self.noise_sd**2)

    def logits(self, values: Floats) -> Floats:
        """Expected logits of networks with these features, shape (n, p): one number a network, without bounds, for
        models that use this one's answer as evidence."""
        logits: Floats = self.intercept + self._standardised(values) @ self.weights
        return logits

    def __call__(self, arch: Arch) -> Accuracy:
        means, sds = self.many([arch])
        outside = self.outside(arch)
        evidence = self.evidence
        if outside:
            evidence += f"; outside its data: {listed(outside)}"
        return Accuracy(float(means[0]), float(sds[0]), self.task, evidence)

    def better(self, one: Arch, other: Arch) -> float:
        """The probability that `one` is more accurate than `other` if both are trained by the same recipe."""
        values = features([one, other])
        x = self._standardised(values)
        difference = x[0] - x[1]
        variance = float(difference @ self.covariance[1:, 1:] @ difference) + 2 * self.noise_sd**2
        variance += float(np.sum(self._outside(values) ** 2))
        return chance_above(float(difference @ self.weights), math.sqrt(variance))

    @property
    def evidence(self) -> str:
        """What its estimates rest on, one line."""
        return f"the {self.name} model, fitted on {self.networks:,} trained networks"

    @property
    def networks(self) -> int:
        """Number of networks it was fitted on."""
        return sum(source.held_out.networks for source in self.sources)

    def outside(self, arch: Arch) -> list[str]:
        """Features of `arch` that no network of the data had: its estimate is less certain there."""
        beyond = self._beyond(features([arch]))[0]
        names = [name for name, far in zip(self.features, beyond, strict=True) if far > 0]
        return [name for name in names if not is_product(name)]

    def never_varied(self) -> list[str]:
        """Features that are equal in all networks of the data."""
        pairs = zip(self.features, self.scale, strict=True)
        return [name for name, scale in pairs if scale == 0 and not is_product(name)]

    def _standardised(self, values: Floats) -> Floats:
        spread = np.where(self.scale > 0, self.scale, 1.0)
        x: Floats = np.where(self.scale > 0, (values - self.centre) / spread, 0.0)
        return x

    def _beyond(self, values: Floats) -> Floats:
        """How far each feature is outside its range in the data, as a share of that range (or of 1)."""
        width = np.where(self.high - self.low > ROUNDING, self.high - self.low, 1.0)
        far: Floats = np.maximum(np.maximum(self.low - values, values - self.high), 0.0) / width
        return np.where(far < ROUNDING, 0.0, far)

    def _outside(self, values: Floats) -> Floats:
        """The standard deviation that features outside the data add to the logit, shape (n,)."""
        main = np.array([not is_product(name) for name in self.features])
        far: Floats = OUTSIDE_SD * np.sqrt(np.sum(np.minimum(self._beyond(values)[:, main], 1.0) ** 2, axis=1))
        return far

    @cached_property
    def _root(self) -> Floats:
        """A matrix R with ``R R' = covariance``."""
        values, vectors = np.linalg.eigh(self.covariance)
        root: Floats = vectors * np.sqrt(np.maximum(values, 0.0))
        return root

    def to_json(self) -> str:
        """The model as JSON, which `from_json` reads; numbers keep six significant digits."""
        lower = self.covariance[np.tril_indices(len(self.covariance))]
        content: dict[str, Any] = {
            "schema": SCHEMA,
            "kind": "accuracy",
            **{name: getattr(self, name) for name in ("name", "task", "level")},
            "features": list(self.features),
            **{name: _rounded(getattr(self, name)) for name in _COLUMNS},
            "covariance": _rounded(lower, 4),
            **{name: float(f"{getattr(self, name):.6g}") for name in _SCALARS},
            "sources": [asdict(source) for source in self.sources],
        }
        return json.dumps(content, indent=None, separators=(",", ": "))

    def save(self, path: Path) -> None:
        """Write the model as JSON, whole or not at all."""
        write_atomic(path, self.to_json() + "\n")

    @staticmethod
    def from_json(text: str) -> PriorModel:
        """Read what `to_json` wrote.

        Raises:
            InputError: not such JSON, another schema, or features that this version does not have.
        """
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InputError(f"broken JSON ({one_line(error, 80)})") from None
        if not isinstance(data, dict) or data.get("kind") != "accuracy":
            raise InputError('not an accuracy model: "kind" must be "accuracy"; make one with nas accuracy calibrate')
        if data.get("schema") != SCHEMA:
            raise InputError(f"schema must be {SCHEMA}, got {data.get('schema')!r:.40}; calibrate it again")
        names = data.get("features")
        if names != list(NAMES):
            unknown = sorted(set(map(str, names)) - set(NAMES)) if isinstance(names, list) else []
            which = f"it has {unknown[0]!r:.40}" if unknown else "some are missing or in another order"
            raise InputError(f"its features are not those of this version: {which}; calibrate it again")
        count = len(NAMES)
        columns = {name: _array(data, name, count) for name in _COLUMNS}
        lower = _array(data, "covariance", (count + 1) * (count + 2) // 2)
        covariance = np.zeros((count + 1, count + 1))
        covariance[np.tril_indices(count + 1)] = lower
        covariance += np.tril(covariance, -1).T
        for name in _SCALARS:
            if not is_number(data.get(name)):
                raise InputError(f"{name} must be a number, got {data.get(name)!r:.40}")
        if any(data[name] < 0 for name in ("family_sd", "noise_sd", "stretch")) or np.any(columns["scale"] < 0):
            raise InputError("standard deviations and scales must be 0 or more")
        sources = data.get("sources")
        if not isinstance(sources, list) or not 0 < len(sources) <= MAX_SOURCES:
            raise InputError(f"sources must be a list of 1 to {MAX_SOURCES} objects")
        values: dict[str, Any] = {
            **{name: _text(data, name) for name in ("name", "task", "level")},
            **columns,
            **{name: float(data[name]) for name in _SCALARS},
        }
        return PriorModel(
            features=NAMES, covariance=covariance, sources=tuple(_source(source) for source in sources), **values
        )

    @staticmethod
    def load(path: Path) -> PriorModel:
        """Read a file that `save` wrote.

        Raises:
            InputError: the file cannot be read, or is not an accuracy model of this version.
        """
        try:
            if path.stat().st_size > MAX_BYTES:
                raise InputError(f"{path} is larger than {MAX_BYTES >> 20} MB, which no accuracy model is")
            return PriorModel.from_json(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(f"cannot read the accuracy model {path}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise InputError(f"{path} is not an accuracy model: not UTF-8 text") from None
        except InputError as error:
            raise InputError(f"{path}: {error}" if str(path) not in str(error) else str(error)) from None


_COLUMNS = ("centre", "scale", "low", "high", "weights")
_SCALARS = ("intercept", "family_sd", "noise_sd", "stretch")


def bundled(name: str = BUNDLED) -> PriorModel:
    """The model of that name that comes with this package.

    >>> from nas.references.table import reference
    >>> large, small = (bundled()(reference(f"mobilenet_v3_{size}")) for size in ("large", "small"))
    >>> large.mean > small.mean + 0.04
    True
    """
    return PriorModel.from_json(resources.files("nas.accuracy").joinpath("bundled", f"{name}.json").read_text("utf-8"))


def _rounded(values: Floats, digits: int = 6) -> list[float]:
    return [float(f"{value:.{digits}g}") for value in values]


def _array(data: Mapping[str, Any], name: str, count: int) -> Floats:
    values = data.get(name)
    if not isinstance(values, list) or len(values) != count or not all(map(is_number, values)):
        raise InputError(f"{name} must be a list of {count} finite numbers")
    return np.array(values, dtype=float)


def _text(data: Mapping[str, Any], name: str) -> str:
    value = data.get(name)
    if not isinstance(value, str) or len(value) > 1000:
        raise InputError(f"{name} must be a short text, got {value!r:.40}")
    return value


def _source(data: Any) -> SourceFacts:
    if not isinstance(data, dict) or not isinstance(data.get("held_out"), dict):
        raise InputError(f"a source must be an object with held_out, got {data!r:.60}")
    held_out = data["held_out"]
    for field in fields(HeldOut):
        if not is_number(held_out.get(field.name)):
            raise InputError(f"{field.name} of a source must be a number, got {held_out.get(field.name)!r:.40}")
    if not is_whole(held_out["networks"]):
        raise InputError(f"networks of a source must be a whole number, got {held_out['networks']!r:.40}")
    figures = HeldOut(**{field.name: held_out[field.name] for field in fields(HeldOut)})
    name, task, licence, origin = (_text(data, key) for key in ("name", "task", "licence", "origin"))
    return SourceFacts(name, task, licence, origin, figures)
