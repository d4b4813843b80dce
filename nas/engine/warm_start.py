"""What a search knows when it begins: networks to evaluate first, and trainings of earlier runs (``warm_start.json``).

Trainings on the same images by the same proxy are trainings of the new run. Those of another task are fitted by a model
of their own, and what its estimates count for is one more effect that the new run's trainings decide.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nas.accuracy.posterior import Training
from nas.arch.arch import Arch
from nas.engine.options import MAX_START, MAX_WARM_STARTS, SearchOptions
from nas.engine.run.info import RunInfo
from nas.engine.run.json_file import load_json
from nas.engine.run.record import Candidate
from nas.system.errors import InputError
from nas.system.validate import is_number, is_whole
from nas.training.config import ProxyConfig

FILE_NAME = "warm_start.json"
SCHEMA = 1
MAX_BYTES = 256 << 20
MAX_TRAININGS = 20_000
_REMEDY = "restore it from a copy, or start a new run"


@dataclass(frozen=True)
class EarlierRun:
    """The trainings of an earlier run.

    Args:
        name: name of its folder.
        trainings: of its candidates and references.
        custom: whether a caller's function scored them.
        data: key of the images; None for a caller's function.
        proxy: settings of the proxy (`nas.training.config.ProxyConfig`); None for a caller's function.
    """

    name: str
    trainings: tuple[Training, ...]
    custom: bool = False
    data: str | None = None
    proxy: Mapping[str, Any] | None = None

    def same_task(self, info: RunInfo) -> bool:
        """Whether its scores are of the same task as those of another run: the same images and proxy, or functions of
        the caller in both, who says by giving the run that they are one function."""
        if self.custom or is_custom(info):
            return self.custom and is_custom(info)
        return info.data is not None and (info.data.key, _settings(info.proxy)) == (self.data, _settings(self.proxy))

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        trainings = [
            {
                "arch": json.loads(one.arch.to_json()),
                "accuracy": one.accuracy,
                "loss": one.loss,
                "length": one.length,
            }
            for one in self.trainings
        ]
        proxy = None if self.proxy is None else dict(self.proxy)
        return {"name": self.name, "custom": self.custom, "data": self.data, "proxy": proxy, "trainings": trainings}

    @staticmethod
    def from_dict(data: Any) -> EarlierRun:
        """Read what `to_dict` returned.

        Raises:
            InputError: a field is missing, of a wrong kind or out of bounds.
        """
        if not isinstance(data, dict) or not isinstance(data.get("name"), str):
            raise InputError(f"an earlier run must be an object with a name, got {data!r:.60}")
        trainings, key, proxy = data.get("trainings"), data.get("data"), data.get("proxy")
        if not isinstance(trainings, list) or not 0 < len(trainings) <= MAX_TRAININGS:
            raise InputError(f"trainings must be a list of 1 to {MAX_TRAININGS:,}")
        if not (key is None or isinstance(key, str)) or not (proxy is None or isinstance(proxy, dict)):
            raise InputError(f"data must be a text and proxy an object, or null, got {key!r:.40} and {proxy!r:.40}")
        return EarlierRun(data["name"], tuple(map(_training, trainings)), data.get("custom") is True, key, proxy)


@dataclass(frozen=True)
class WarmStart:
    """What a search knows when it begins.

    Args:
        networks: to evaluate first, by the names that were given.
        runs: whose trainings are evidence.
    """

    networks: Mapping[str, Arch]
    runs: tuple[EarlierRun, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.networks or self.runs)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        networks = [{"name": name, "arch": json.loads(arch.to_json())} for name, arch in self.networks.items()]
        return {"schema": SCHEMA, "networks": networks, "runs": [run.to_dict() for run in self.runs]}

    @staticmethod
    def load(folder: Path, options: SearchOptions) -> WarmStart:
        """Read `FILE_NAME` of a run folder.

        Args:
            folder: of the run.
            options: of the run; nothing is known if they name nothing.

        Raises:
            InputError: the file is broken, or missing although the options name networks or runs.
        """
        path = folder / FILE_NAME
        if not path.exists():
            if options.start or options.warm_start:
                raise InputError(f"{path} is missing, which holds what the run began with; {_REMEDY}")
            return NOTHING
        data = load_json(path, _REMEDY, SCHEMA, most=MAX_BYTES)
        try:
            return _read(data)
        except InputError as error:
            raise InputError(f"{path}: {error}; {_REMEDY}") from None


NOTHING = WarmStart({})


def trainings_of(candidate: Candidate) -> list[Training]:
    """What was observed of a candidate, at each rung if it was trained in rungs, and with each seed; nothing if it was
    not trained."""
    if not candidate.trained or candidate.proxy_accuracy is None:
        return []
    arch, length = candidate.arch, candidate.steps or 0
    first = [Training(arch, candidate.proxy_accuracy, candidate.proxy_loss)]
    if candidate.rungs:
        first = [Training(arch, rung.accuracy, rung.loss, rung.steps) for rung in candidate.rungs]
    return [*first, *(Training(arch, again.accuracy, again.loss, length) for again in candidate.repeats)]


def is_custom(info: RunInfo) -> bool:
    """Whether a caller's function scores the candidates of a run."""
    return info.options.evaluate is not None or "evaluate" in info.custom


def _settings(proxy: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Settings with those that an earlier version did not have yet."""
    return None if proxy is None else ProxyConfig.from_dict(proxy).to_dict()


def _read(data: Mapping[str, Any]) -> WarmStart:
    networks, runs = data.get("networks"), data.get("runs")
    if not isinstance(networks, list) or len(networks) > MAX_START:
        raise InputError(f"networks must be a list of at most {MAX_START}")
    if not isinstance(runs, list) or len(runs) > MAX_WARM_STARTS:
        raise InputError(f"runs must be a list of at most {MAX_WARM_STARTS}")
    named = {}
    for one in networks:
        if not isinstance(one, dict) or not isinstance(one.get("name"), str):
            raise InputError(f"a network must be an object with a name, got {one!r:.60}")
        named[one["name"]] = Arch.from_json(json.dumps(one.get("arch")))
    return WarmStart(named, tuple(map(EarlierRun.from_dict, runs)))


def _training(data: Any) -> Training:
    if not isinstance(data, dict) or not is_number(data.get("accuracy")) or not is_whole(data.get("length"), 0):
        raise InputError(f"a training must be an object with an accuracy and a length, got {data!r:.60}")
    loss = data.get("loss")
    if loss is not None and not is_number(loss):
        raise InputError(f"a loss must be null or a finite number, got {loss!r:.40}")
    return Training(Arch.from_json(json.dumps(data.get("arch"))), float(data["accuracy"]), loss, data["length"])
