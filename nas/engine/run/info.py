"""``run.json``: what a run was asked for, on what it ran and how it went; one typed, versioned record."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args

from nas.arch.space import Space
from nas.arch.space_yaml import parse_space
from nas.data.torchvision_sets import SETS
from nas.engine.options import SearchOptions
from nas.latency.margin import SafetyMargin
from nas.system.errors import InputError
from nas.system.units import milliseconds
from nas.system.validate import is_number, is_whole

SCHEMA = 2  # 1: one flat dictionary of options and facts; still read
MAX_CLASSES = 100_000

Stop = Literal["trials", "budget", "exhausted"]


@dataclass(frozen=True)
class DataInfo:
    """The images of a run.

    Args:
        name: of the folder or data set.
        key: hash of the content; a run is resumed on the same images only.
        classes: names, in the order of the labels.
        train: number of training images.
        val: number of held-out images.
        generated: whether a program drew them.
        notes: what a reader of the results must know.
        counts: images per class, training and held-out together; empty for runs that did not keep them.
    """

    name: str
    key: str
    classes: tuple[str, ...]
    train: int
    val: int
    generated: bool = False
    notes: tuple[str, ...] = ()
    counts: tuple[int, ...] = ()


@dataclass(frozen=True)
class DeviceInfo:
    """The device whose latency a run is about.

    Args:
        name: for people.
        modelled: whether only a model of it is at hand, so that nothing can be measured.
        runtime: networks are timed with; None if a caller's function answers.
        threads: of the timed network; None as with `runtime`.
        identity: what tells this device from others of the same name: facts of the machine; None if unknown.
        agent: identity that the agent on the device has of itself, if there is one.
    """

    name: str
    modelled: bool = False
    runtime: str | None = None
    threads: int | None = None
    identity: Mapping[str, Any] | None = None
    agent: str | None = None

    def facts(self) -> dict[str, Any]:
        """What an agent compares itself with (`Agent.check_is`); what is unknown is left out."""
        facts = {"device_name": self.name, "agent_identity": self.agent, "machine": self.identity}
        return {name: value for name, value in facts.items() if value is not None}

    @property
    def word(self) -> str:
        """What a latency that was not measured is called."""
        return "modelled" if self.modelled else "predicted"


@dataclass(frozen=True)
class FurtherDevice:
    """A device besides the first, whose predicted latency is limited.

    Args:
        name: as the option gives it.
        device: name of the device, for people.
        target_ms: its latency target.
        margin: its safety margin.
    """

    name: str
    device: str
    target_ms: float
    margin: SafetyMargin

    @property
    def admitted_ms(self) -> float:
        """The slowest corrected prediction that is trained."""
        return self.margin.limit_ms(self.target_ms)


@dataclass(frozen=True)
class RunInfo:
    """What ``run.json`` holds.

    Args:
        options: of the search; paths in them are as seen from this process.
        space: the searched space.
        name: of the run.
        custom: options that were Python objects; to resume, they are given again.
        versions: of the libraries the run began with.
        resumed_with: versions that were others when it was resumed last.
        started: time of the beginning, UTC, ISO 8601.
        finished: time of the end; None while it runs, or if it was interrupted.
        spent_s: search time; None until the end.
        stopped_because: what ended it.
        device: None until it is known.
        data: None with an own evaluation.
        proxy: settings of the short training (`nas.training.proxy.ProxyConfig`); None with an own evaluation.
        table_error: held-out error of the latency table (`nas.latency.held_out.HeldOut`), if there is a table.
        margin: safety margin below the target.
        admitted_ms: slowest prediction that is trained; None without a target.
        feasibility: what the space has (`nas.latency.feasibility.Feasibility`).
        further: the devices besides the first.
        clearance: what all limits together leave of the space (`nas.latency.clearance.Clearance`); None if only the
            first device's latency is limited.
        measured_only: whether the measurements after the search ended at their bound, so that only networks that were
            measured are on the front.
    """

    options: SearchOptions
    space: Space
    name: str
    custom: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    resumed_with: Mapping[str, str] = field(default_factory=dict)
    started: str = field(default_factory=lambda: now())
    finished: str | None = None
    spent_s: float | None = None
    stopped_because: Stop | None = None
    device: DeviceInfo | None = None
    data: DataInfo | None = None
    proxy: Mapping[str, Any] | None = None
    table_error: Mapping[str, Any] | None = None
    margin: SafetyMargin | None = None
    admitted_ms: float | None = None
    feasibility: Mapping[str, Any] | None = None
    further: tuple[FurtherDevice, ...] = ()
    clearance: Mapping[str, Any] | None = None
    measured_only: bool = False

    @property
    def modelled(self) -> bool:
        """Whether no latency of the run can be measured, since only a model of the device is at hand."""
        return self.device is not None and self.device.modelled

    @property
    def latency_word(self) -> str:
        """What a latency of this run that was not measured is called: ``predicted`` or ``modelled``."""
        return "predicted" if self.device is None else self.device.word

    @property
    def trains(self) -> bool:
        """Whether candidates are trained, or scored by a caller's function; else an accuracy model decides alone."""
        return not self.options.estimates_only

    @property
    def scored_word(self) -> str:
        """How a candidate gets its score: ``trained``, ``estimated`` without a training, or ``scored`` by a caller's
        function or by shared weights."""
        if self.proxy and self.proxy.get("shared_steps") and not self.proxy.get("tune"):
            return "scored"
        if self.options.evaluate is not None or "evaluate" in self.custom:
            return "scored"
        return "trained" if self.trains else "estimated"

    @property
    def limited(self) -> bool:
        """Whether anything but the first device's latency is limited."""
        return bool(self.options.limits or self.options.further)

    @property
    def over_word(self) -> str:
        """What a candidate is called that was not trained since it exceeds a limit."""
        return "over a limit" if self.limited else "too slow"

    def to_dict(self, folder: Path) -> dict[str, Any]:
        """Plain values; relative paths are written as seen from `folder`, so that a run can be moved with its data."""
        plain = {
            name: getattr(self, name)
            for name in (
                *("name", "started", "finished", "spent_s", "stopped_because", "proxy", "table_error", "admitted_ms"),
                *("feasibility", "clearance", "measured_only"),
            )
        }
        options = self.options.to_dict()
        for name in ("data", "device"):
            options[name] = _moved(options[name], name, lambda path: _relative(path, folder))
        further = options["further"].items()
        options["further"] = {_moved(one, "device", lambda path: _relative(path, folder)): ms for one, ms in further}
        return {
            "schema": SCHEMA,
            "options": options,
            "custom": list(self.custom),
            "space": {"name": self.space.name, "key": self.space.key, "text": self.space.text},
            "versions": dict(self.versions),
            "resumed_with": dict(self.resumed_with),
            "device": None if self.device is None else asdict(self.device),
            "data": None if self.data is None else asdict(self.data),
            "margin": None if self.margin is None else self.margin.to_dict(),
            "further": [asdict(one) for one in self.further],
            **plain,
        }

    @staticmethod
    def from_dict(data: Mapping[str, Any], folder: Path) -> RunInfo:
        """Read what `to_dict` wrote, or what version 0.1 wrote.

        Raises:
            InputError: a field is missing, of the wrong kind or out of bounds; the text names it.
        """
        if data.get("schema") == 1:
            data = _from_schema_1(data)
        options, space = _mapping(data, "options"), _mapping(data, "space")
        if not isinstance(space.get("text"), str):
            raise InputError("space.text must be the text of a space file")
        if "target_ms" not in options:
            raise InputError("options.target_ms is missing")
        options = dict(options)
        for name in ("data", "device"):
            options[name] = _moved(options.get(name), name, lambda path: _from_here(path, folder))
        if isinstance(options.get("further"), Mapping):
            given = options["further"].items()
            options["further"] = {_moved(one, "device", lambda path: _from_here(path, folder)): ms for one, ms in given}
        admitted, target = data.get("admitted_ms"), options["target_ms"]
        read = RunInfo(
            options=SearchOptions.from_dict({k: v for k, v in options.items() if v is not None or k == "target_ms"}),
            space=parse_space(space["text"], f"{folder / 'run.json'} (space)"),
            name=str(data.get("name") or folder.name),
            custom=_texts(data.get("custom"), "custom"),
            versions=_versions(data, "versions"),
            resumed_with=_versions(data, "resumed_with"),
            started=str(data.get("started") or ""),
            finished=None if data.get("finished") is None else str(data["finished"]),
            spent_s=_number(data, "spent_s"),
            stopped_because=_one_of(data, "stopped_because", get_args(Stop)),
            device=_device(data.get("device")),
            data=_data(data.get("data")),
            proxy=_optional_mapping(data, "proxy"),
            table_error=_optional_mapping(data, "table_error"),
            margin=None if data.get("margin") is None else SafetyMargin.from_dict(data["margin"]),
            feasibility=_optional_mapping(data, "feasibility"),
            further=_further(data.get("further"), options.get("further") or {}),
            clearance=_clearance(data),
            measured_only=data.get("measured_only") is True,
        )
        if admitted is not None and (target is None or not is_number(admitted) or not 0 < admitted <= target):
            raise InputError(f"admitted_ms must be a number up to the target, got {admitted!r:.40}")
        return replace(read, admitted_ms=admitted)


def now() -> str:
    """The time, UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _moved(value: Any, name: str, move: Any) -> Any:
    """The option with its path, if it is one, seen from elsewhere."""
    if not isinstance(value, str):
        return value
    if name == "data":
        return value if value in SETS else move(value)
    kind, colon, path = value.partition(":")
    return f"table:{move(path)}" if kind == "table" and colon else value


def _relative(path: str, folder: Path) -> str:
    """A relative path that exists, as seen from the run folder; links are followed at both ends first, since ``..``
    leads out of where a link points to."""
    if Path(path).is_absolute() or not Path(path).exists():
        return path
    return os.path.relpath(os.path.realpath(path), os.path.realpath(folder))


def _from_here(path: str, folder: Path) -> str:
    """A path kept relative to the run folder, as seen from this process."""
    here = os.path.normpath(os.path.join(os.path.realpath(folder), path))
    return here if os.path.exists(here) or path.startswith("..") else path  # else a name, or what never was a path


def _from_schema_1(data: Mapping[str, Any]) -> dict[str, Any]:
    old = dict(_mapping(data, "options"))
    data_before = old.get("data")
    images = data_before if isinstance(data_before, Mapping) else None
    timed = old.get("timed_with") or {}
    timed = timed if isinstance(timed, Mapping) else {}
    device = None
    if isinstance(old.get("device_name"), str):
        device = {
            "name": old["device_name"],
            "modelled": old.get("modelled") is True,
            "runtime": timed.get("runtime", old.get("runtime")),
            "threads": timed.get("threads", old.get("threads")),
            "agent": old.get("agent_identity"),
        }
    same = ("name", "custom", "versions", "started", "finished", "stopped_because", "proxy", "table_error")
    return {
        **{name: old.get(name) for name in (*same, "admitted_ms", "feasibility")},
        "schema": SCHEMA,
        "options": {name: value for name, value in old.items() if name != "data"} | {"data": old.get("images")},
        "space": data.get("space"),
        "spent_s": old.get("seconds"),
        "device": device,
        "data": images,
        "margin": old.get("admission"),
    }


def _device(found: Any) -> DeviceInfo | None:
    if found is None:
        return None
    about = _object(found, "device")
    if not isinstance(about.get("name"), str):
        raise InputError(f"device.name must be a text, got {about.get('name')!r:.40}")
    runtime, threads = about.get("runtime"), about.get("threads")
    if runtime is not None and not isinstance(runtime, str):
        raise InputError(f"device.runtime must be null or a text, got {runtime!r:.40}")
    if threads is not None and not is_whole(threads):
        raise InputError(f"device.threads must be null or a whole number from 1, got {threads!r:.40}")
    agent = about.get("agent")
    return DeviceInfo(
        name=about["name"],
        modelled=about.get("modelled") is True,
        runtime=runtime,
        threads=threads,
        identity=_optional_mapping(about, "identity"),
        agent=None if agent is None else str(agent),
    )


def _further(found: Any, targets: Mapping[str, float]) -> tuple[FurtherDevice, ...]:
    """The further devices of a run that has found its limits; none before."""
    rows = [] if found is None else found
    if not isinstance(rows, (list, tuple)) or len(rows) not in (0, len(targets)):
        raise InputError(f"further must be a list of {len(targets)} devices, got {found!r:.40}")
    read = []
    for row, (name, target_ms) in zip(rows, targets.items(), strict=False):
        about = _object(row, "further")
        margin = SafetyMargin.from_dict(about.get("margin"))
        read.append(FurtherDevice(name, str(about.get("device")), milliseconds(target_ms), margin))
    return tuple(read)


def _clearance(data: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What all limits together leave of the space: a share, and the extremes of each quantity."""
    found = _optional_mapping(data, "clearance")
    if found is None:
        return None
    bounds = found.get("bounds")
    if not is_number(found.get("share")) or not isinstance(bounds, (list, tuple)) or len(bounds) > MAX_CLASSES:
        raise InputError(f"clearance must have a share and a list of bounds, got {found!r:.80}")
    for bound in bounds:
        if not isinstance(_object(bound, "bounds").get("name"), str) or not is_number(bound.get("largest")):
            raise InputError(f"a bound must have a name and a largest value, got {bound!r:.80}")
    return found


def _data(found: Any) -> DataInfo | None:
    if found is None:
        return None
    about = _object(found, "data")
    classes = about.get("classes")
    for name in ("train", "val"):
        if not is_whole(about.get(name), 0):
            raise InputError(f"data.{name} must be a whole number from 0, got {about.get(name)!r:.40}")
    counts = about.get("counts") or ()
    if not isinstance(counts, (list, tuple)) or not all(is_whole(count, 0) for count in counts):
        raise InputError(f"data.counts must be a list of whole numbers from 0, got {counts!r:.40}")
    if counts and len(counts) != len(classes or ()):
        raise InputError(f"data.counts must have one number per class, got {len(counts)}")
    generated = about.get("generated") is True
    name = str(about.get("name"))
    return DataInfo(
        name="generated" if generated and name == "embedded" else name,  # as versions before 0.2 called it
        key=str(about.get("key")),
        classes=_texts(classes, "data.classes"),
        train=about["train"],
        val=about["val"],
        generated=generated,
        notes=_texts(about.get("notes"), "data.notes"),
        counts=tuple(counts),
    )


def _object(found: Any, name: str) -> Mapping[str, Any]:
    if not isinstance(found, Mapping):
        raise InputError(f"{name} must be an object, got {found!r:.40}")
    return found


def _mapping(data: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    return _object(data.get(name), name)


def _optional_mapping(data: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
    return None if data.get(name) is None else _mapping(data, name)


def _versions(data: Mapping[str, Any], name: str) -> dict[str, str]:
    return {str(key): str(value) for key, value in (_optional_mapping(data, name) or {}).items()}


def _texts(found: Any, name: str) -> tuple[str, ...]:
    texts = [] if found is None else found
    if not isinstance(texts, (list, tuple)) or len(texts) > MAX_CLASSES or not all(isinstance(t, str) for t in texts):
        raise InputError(f"{name} must be a list of texts, got {found!r:.40}")
    return tuple(texts)


def _number(data: Mapping[str, Any], name: str) -> float | None:
    found = data.get(name)
    if found is not None and not (is_number(found) and found >= 0):
        raise InputError(f"{name} must be null or a number from 0, got {found!r:.40}")
    return None if found is None else float(found)


def _one_of(data: Mapping[str, Any], name: str, known: tuple[Any, ...]) -> Any:
    found = data.get(name)
    if found is not None and found not in known:
        raise InputError(f"{name} must be null or one of {', '.join(known)}, got {found!r:.40}")
    return found
