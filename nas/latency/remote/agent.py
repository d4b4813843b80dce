"""A device across the wire: networks are sent to an agent (`nas agent`) as ONNX, and timed there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cache, cached_property
from pathlib import Path
from urllib.parse import urlencode

import numpy as np

from nas.arch.arch import Arch
from nas.arch.space import Space
from nas.latency.anchor import ANCHOR, BASELINE_QUANTILE, CLASSES, baseline_ms
from nas.latency.measure import latency_from_samples
from nas.latency.record import Latency
from nas.latency.remote.client import Link, NoAnchor, facts_of, is_duration, samples_of
from nas.latency.runtimes.base import MAX_BATCH
from nas.latency.sampling import Samples
from nas.latency.table.cache import cached_path, drop_stale, store
from nas.latency.table.calibrate import from_networks
from nas.latency.table.columns import CLASSES as TABLE_CLASSES
from nas.latency.table.measurements import Measured
from nas.latency.table.sample_networks import draw_sets
from nas.latency.table.table import LatencyTable
from nas.network.serialize.onnx import onnx_bytes
from nas.references.external import LibraryNetwork, at_resolution, takes_its_images
from nas.system.errors import InputError, NasError
from nas.system.files import write_atomic
from nas.system.machine import Machine, difference, host
from nas.system.progress import Step

MAX_FILE = 512 << 20
GRACE_S = 60.0
TABLE_SCHEMA = 3  # raised when a table was measured in another way
FITTED = 40  # networks at most: each is sent, and timed for a second or two


class Agent:
    """A device that runs an agent. With a space it predicts by a table, which is measured on first use through the
    agent and kept in the cache; without one it measures every network it is asked about.

    Args:
        url: ``http://HOST:PORT``.
        space: whose networks are to be predicted.
        token: the agent's; None is that of ``NAS_AGENT_TOKEN``. It is neither kept nor shown.
        threads: of the timed network.
        seed: of the networks that a new table is fitted to.
        progress: called as ``progress(done, total, text)``.
        kept: table to predict by, in place of one of its own.
        refresh: whether a table is measured anew, though one is in the cache.

    Raises:
        InputError: not an agent's address, a wrong token, or more threads than the device offers.
        NasError: it cannot be reached.
    """

    runtime = "onnxruntime"

    def __init__(
        self,
        url: str,
        space: Space | None = None,
        token: str | None = None,
        threads: int = 1,
        seed: int = 0,
        progress: Step | None = None,
        kept: Path | None = None,
        refresh: bool = False,
    ) -> None:
        self._link = Link(url, token)
        self._space, self._threads, self._seed = space, threads, seed
        self._progress, self._kept, self._refresh = progress or _silent, kept, refresh
        facts = self._link.ask("GET", "/v1/device")
        self._facts = facts_of(facts, self._link.url)
        most = self._facts["threads"]
        if isinstance(threads, bool) or not isinstance(threads, int) or not 1 <= threads <= most:
            raise InputError(f"threads must be a whole number from 1 to {most} on {self.device}, got {threads!r}")

    @property
    def device(self) -> str:
        """The agent's name for its device; never that of this host, where an agent may run too."""
        name = str(self._facts["name"])
        return f"{name} (agent)" if name == host() else name

    @property
    def identity(self) -> str:
        """A hash that distinguishes its machine from others of the same name."""
        return str(self._facts["identity"])

    @property
    def machine(self) -> Machine:
        """The machine it runs on."""
        machine: Machine = self._facts["machine"]
        return machine

    def check_is(self, facts: Mapping[str, object], alternative: str) -> None:
        """Check that a run was measured on this device.

        Args:
            facts: of the run: ``device_name``, ``agent_identity``, and the agent's ``machine`` as a dictionary. Facts
                that an old run lacks are not compared.
            alternative: what the user can do instead of starting the agent on that device again.

        Raises:
            InputError: it was measured on another device; names what differs.
        """
        name, identity = facts.get("device_name", self.device), facts.get("agent_identity", self.identity)
        if (name, identity) == (self.device, self.identity):
            return
        other = self.device
        if name == self.device:
            was = facts.get("machine")
            changed = difference(was, self.machine) if isinstance(was, Mapping) else None
            other = "another machine of that name" + (f" ({changed})" if changed else "")
        raise InputError(
            f"this run was measured on {name!s:.200}, but the agent at {self._link.url} runs on {other}; start the "
            f"agent there again, or {alternative}"
        )

    @property
    def version(self) -> str:
        """Of ONNX Runtime there."""
        return str(self._facts["version"])

    @cached_property
    def table(self) -> LatencyTable | None:
        if self._kept is not None:
            return LatencyTable.load(self._kept)
        return None if self._space is None else self._cached(self._space)

    def __call__(self, arch: Arch) -> Latency:
        return self.measure(arch) if self.table is None else self.table(arch)

    def many(self, archs: Sequence[Arch]) -> np.ndarray:
        if self.table is not None:
            return self.table.many(archs)
        return np.array([self.measure(arch).ms for arch in archs], dtype=float)

    def measure(
        self,
        arch: Arch | LibraryNetwork,
        batch: int = 1,
        *,
        keep_samples: bool = False,
        resolution: int | None = None,
    ) -> Latency:
        """Time a network there, with initial weights; the options are those of `nas.latency.measure.measure`.

        Raises:
            InputError: a number out of bounds.
            NasError: it could not be measured; names the network and what to do.
        """
        from nas.network.build import build

        _check_batch(batch)
        sized = at_resolution(arch, resolution)
        if isinstance(sized, LibraryNetwork):
            with takes_its_images(sized):
                model = onnx_bytes(sized.network, sized.resolution, None, traced=batch)
            found = self._measured(model, sized.name, batch, keep_samples)
        else:
            model = onnx_bytes(build(sized, TABLE_CLASSES), sized.resolution, None, traced=batch)
            found = self._measured(model, sized.key, batch, keep_samples)
        return replace(found, resolution=sized.resolution if sized.resolution != arch.resolution else None)

    def measure_onnx(self, model: bytes | Path, batch: int = 1, *, keep_samples: bool = False) -> Latency:
        """Time an ONNX model there, as `nas.latency.measure.measure_onnx` does here."""
        _check_batch(batch)
        if isinstance(model, bytes):
            return self._measured(model, "the model", batch, keep_samples)
        try:
            if model.stat().st_size > MAX_FILE:
                raise InputError(f"{model} has more than {MAX_FILE >> 20} MB, which no agent takes")
            content = model.read_bytes()
        except OSError as error:
            raise InputError(f"cannot read {model}: {error.strerror}; give an exported .onnx file") from None
        return self._measured(content, str(model), batch, keep_samples)

    def _measured(self, model: bytes, name: str, batch: int, keep_samples: bool) -> Latency:
        found = self._samples(model, f"network {name}", batch)
        usual = baseline_ms(found.anchor_ms, *self._circumstances())
        here = {"device": self.device, "runtime": self.runtime, "threads": self._threads, "batch": batch}
        return latency_from_samples(found, usual, **here, keep_samples=keep_samples)  # type: ignore[arg-type]

    def _circumstances(self) -> tuple[object, ...]:
        return ("agent", self.identity, self.runtime, self.version, self._threads)

    def _samples(self, model: bytes, about: str, batch: int) -> Samples:
        """Durations of a model there, held against the anchor, which is sent first where it is missing."""
        if len(model) > self._facts["max_bytes"]:
            raise NasError(
                f"{about} has {len(model) >> 20} MB, more than the agent at {self._link.url} takes; start it with a "
                "larger --max-mb"
            )
        anchor, anchor_hash = _anchor()
        query = urlencode({"threads": self._threads, "batch": batch, "anchor": anchor_hash})
        patience_s = self._facts["limit_s"] * self._facts["places"] + GRACE_S
        for _ in range(4):  # other clients may bring anchors of their own meanwhile
            if self._facts["anchor"] != anchor_hash:
                self._link.ask("PUT", "/v1/anchor", anchor, about, patience_s)
                self._facts["anchor"] = anchor_hash
            try:
                answer = self._link.ask("POST", f"/v1/measure?{query}", model, about, patience_s)
                return samples_of(answer, self._link.url, about)
            except NoAnchor:
                self._facts["anchor"] = None
        raise NasError(
            f"the agent at {self._link.url} keeps forgetting the anchor of {about}: other versions of this program use "
            "it too; use it alone"
        )

    def _cached(self, space: Space) -> LatencyTable:
        """The table of `space` there from the cache, else measured now. What was measured before an interruption is
        not measured again."""
        identity = json.dumps([space.key, *self._circumstances(), ANCHOR.key, TABLE_SCHEMA])
        name = hashlib.blake2b(identity.encode(), digest_size=12).hexdigest()
        path = cached_path(f"agent-{name}")
        part = path.with_suffix(f".{self._seed}.part.json") if path else None
        if self._refresh:
            drop_stale(part)
        with suppress(InputError):  # none yet, or damaged
            if path is not None and not self._refresh:
                return LatencyTable.load(path)
        table = self._fitted(space, part)
        store(table, path, part)
        return table

    def _fitted(self, space: Space, part: Path | None) -> LatencyTable:
        held_out, fitted = draw_sets(space, self._seed)
        fitted = fitted[:FITTED]
        archs = [*held_out, *fitted]
        known = _read_part(part) if part else {}
        text = f"latency table: measuring networks on {self.device}"
        for at, arch in enumerate(archs):
            self._progress(at, len(archs), text)
            if arch.key not in known:
                known[arch.key] = self._quotient_and_anchor(arch)
                with suppress(OSError):  # a courtesy
                    if part is not None:
                        write_atomic(part, json.dumps(known))
        self._progress(len(archs), len(archs), text)
        usual = float(np.quantile([known[arch.key][1] for arch in archs], BASELINE_QUANTILE))
        ms = [known[arch.key][0] * usual for arch in archs]
        measured = [Measured(arch, one) for arch, one in zip(archs, ms, strict=True)]
        table = from_networks(measured[: len(held_out)], measured[len(held_out) :], self.device, seed=self._seed)
        here = {self.runtime: self.version}
        return replace(table, runtime=self.runtime, threads=self._threads, space_key=space.key, versions=here)

    def _quotient_and_anchor(self, arch: Arch) -> tuple[float, float]:
        """A network's time over the anchor's, and the anchor's in ms."""
        from nas.network.build import build

        model = onnx_bytes(build(arch, TABLE_CLASSES), arch.resolution, None)
        found = self._samples(model, f"network {arch.key}", 1)
        baseline_ms(found.anchor_ms, *self._circumstances())
        return float(np.median(found.quotients)), found.anchor_ms


@cache
def _anchor() -> tuple[bytes, str]:
    """The anchor as ONNX, and its hash."""
    from nas.network.build import build

    model = onnx_bytes(build(ANCHOR, CLASSES), ANCHOR.resolution)
    return model, hashlib.sha256(model).hexdigest()


def _silent(done: int, total: int, text: str) -> None:
    pass


def _check_batch(batch: int) -> None:
    if isinstance(batch, bool) or not isinstance(batch, int) or not 1 <= batch <= MAX_BATCH:
        raise InputError(f"batch must be a whole number from 1 to {MAX_BATCH}, got {batch!r}")


def _read_part(path: Path) -> dict[str, tuple[float, float]]:
    """What an interrupted profile had measured: quotient and anchor's ms by network."""
    try:
        data = json.loads(path.read_text(encoding="utf-8")) if path.stat().st_size < 1 << 20 else None
    except (OSError, ValueError):
        return {}
    good = isinstance(data, dict) and all(
        isinstance(pair, list) and len(pair) == 2 and all(map(is_duration, pair)) for pair in data.values()
    )
    return {str(key): (pair[0], pair[1]) for key, pair in data.items()} if good and isinstance(data, dict) else {}
