"""A device on the network: an agent (`nas agent`) runs there, receives networks as ONNX, and times them."""

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
from nas.latency.remote.client import AnchorMissing, Link, check_facts, check_samples, is_duration
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
from nas.system.progress import Step, no_step
from nas.system.validate import whole_number

MAX_FILE = 512 << 20  # bytes
GRACE_S = 60.0
TABLE_SCHEMA = 3  # raised when the way tables are measured changes
FITTED = 40  # networks at most: each one is sent, and timed for a second or two
ANCHOR_TRIES = 4  # other clients may replace the anchor in the meantime
MAX_CHECKPOINT = 1 << 20  # bytes


class Agent:
    """A device that runs an agent.

    With a space, it predicts latencies from a table, which is measured through the agent on first use and cached.
    Without a space, it measures every network.

    Args:
        url: ``http://HOST:PORT``.
        space: space of the networks to predict.
        token: the agent's token; None takes ``NAS_AGENT_TOKEN``. It is neither stored nor shown.
        threads: number of threads of the timed network.
        seed: random seed of the networks that a new table is fitted to.
        progress: called as ``progress(done, total, text)``.
        kept: path of a table to predict from, instead of a cached or new one.
        refresh: whether to measure a new table even if one is cached.

    Raises:
        InputError: the address is invalid, the token is wrong, or the device has fewer threads.
        NasError: the agent cannot be reached.
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
        self._progress, self._kept, self._refresh = progress or no_step, kept, refresh
        self._facts = check_facts(self._link.request("GET", "/v1/device"), self._link.url)
        whole_number("threads", threads, high=self._facts["threads"], where=f" on {self.device}")

    @property
    def device(self) -> str:
        """The agent's name for its device. It differs from the name of this host, where an agent may run, too."""
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
        """Version of ONNX Runtime on the device."""
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
        """Time a network with initial weights on the device; the options are those of `nas.latency.measure.measure`.

        Raises:
            InputError: a number is out of bounds.
            NasError: the network could not be measured; the error names it and says what to do.
        """
        from nas.network.build import build

        whole_number("batch", batch, high=MAX_BATCH)
        sized = at_resolution(arch, resolution)
        if isinstance(sized, LibraryNetwork):
            with takes_its_images(sized):
                model = onnx_bytes(sized.network, sized.resolution, None, traced=batch)
            latency = self._measured(model, sized.name, batch, keep_samples)
        else:
            model = onnx_bytes(build(sized, TABLE_CLASSES), sized.resolution, None, traced=batch)
            latency = self._measured(model, sized.key, batch, keep_samples)
        return replace(latency, resolution=sized.resolution if sized.resolution != arch.resolution else None)

    def measure_onnx(self, model: bytes | Path, batch: int = 1, *, keep_samples: bool = False) -> Latency:
        """Time an ONNX model on the device, as `nas.latency.measure.measure_onnx` does on this host."""
        whole_number("batch", batch, high=MAX_BATCH)
        if isinstance(model, bytes):
            return self._measured(model, "the model", batch, keep_samples)
        try:
            if model.stat().st_size > MAX_FILE:
                raise InputError(f"an agent accepts at most {MAX_FILE >> 20} MB, {model} is larger; give another file")
            content = model.read_bytes()
        except OSError as error:
            raise InputError(f"cannot read {model}: {error.strerror}; give an exported .onnx file") from None
        return self._measured(content, str(model), batch, keep_samples)

    def _measured(self, model: bytes, name: str, batch: int, keep_samples: bool) -> Latency:
        samples = self._samples(model, f"network {name}", batch)
        return latency_from_samples(
            samples,
            baseline_ms(samples.anchor_ms, *self._circumstances()),
            device=self.device,
            runtime=self.runtime,
            threads=self._threads,
            batch=batch,
            keep_samples=keep_samples,
        )

    def _circumstances(self) -> tuple[object, ...]:
        """What a latency depends on, apart from the network."""
        return ("agent", self.identity, self.runtime, self.version, self._threads)

    def _samples(self, model: bytes, about: str, batch: int) -> Samples:
        """Durations of a model on the device, each beside the anchor's; the anchor is sent first if it is missing."""
        if len(model) > self._facts["max_bytes"]:
            raise NasError(
                f"{about} has {len(model) >> 20} MB, more than the agent at {self._link.url} accepts; start the agent "
                "with a larger --max-mb"
            )
        anchor, anchor_hash = _anchor()
        query = urlencode({"threads": self._threads, "batch": batch, "anchor": anchor_hash})
        timeout_s = self._facts["limit_s"] * self._facts["places"] + GRACE_S
        for _ in range(ANCHOR_TRIES):
            if self._facts["anchor"] != anchor_hash:
                self._link.request("PUT", "/v1/anchor", anchor, about, timeout_s)
                self._facts["anchor"] = anchor_hash
            try:
                answer = self._link.request("POST", f"/v1/measure?{query}", model, about, timeout_s)
                return check_samples(answer, self._link.url, about)
            except AnchorMissing:
                self._facts["anchor"] = None
        raise NasError(
            f"the agent at {self._link.url} lost the anchor of {about} {ANCHOR_TRIES} times: another version of this "
            "program uses it at the same time; use the agent from one place only"
        )

    def _cached(self, space: Space) -> LatencyTable:
        """The table of `space` from the cache, or a new one. What an interrupted call measured is not measured
        again."""
        identity = json.dumps([space.key, *self._circumstances(), ANCHOR.key, TABLE_SCHEMA])
        name = hashlib.blake2b(identity.encode(), digest_size=12).hexdigest()
        path = cached_path(f"agent-{name}")
        checkpoint = path.with_suffix(f".{self._seed}.part.json") if path else None
        if self._refresh:
            drop_stale(checkpoint)
        with suppress(InputError):  # there is none, or it is damaged
            if path is not None and not self._refresh:
                return LatencyTable.load(path)
        table = self._fit(space, checkpoint)
        store(table, path, checkpoint)
        return table

    def _fit(self, space: Space, checkpoint: Path | None) -> LatencyTable:
        """A table fitted to networks of `space` that are measured now, or were measured before an interruption."""
        held_out, fitted = draw_sets(space, self._seed)
        archs = [*held_out, *fitted[:FITTED]]
        known = _read_checkpoint(checkpoint) if checkpoint else {}
        text = f"latency table: measuring networks on {self.device}"
        for done, arch in enumerate(archs):
            self._progress(done, len(archs), text)
            if arch.key not in known:
                known[arch.key] = self._quotient_and_anchor_ms(arch)
                with suppress(OSError):  # without a checkpoint an interruption costs time, nothing else
                    if checkpoint is not None:
                        write_atomic(checkpoint, json.dumps(known))
        self._progress(len(archs), len(archs), text)
        anchor_ms = float(np.quantile([known[arch.key][1] for arch in archs], BASELINE_QUANTILE))
        measured = [Measured(arch, known[arch.key][0] * anchor_ms) for arch in archs]
        table = from_networks(measured[: len(held_out)], measured[len(held_out) :], self.device, seed=self._seed)
        versions = {self.runtime: self.version}
        return replace(table, runtime=self.runtime, threads=self._threads, space_key=space.key, versions=versions)

    def _quotient_and_anchor_ms(self, arch: Arch) -> tuple[float, float]:
        """The latency of a network over that of the anchor, and that of the anchor in ms."""
        from nas.network.build import build

        model = onnx_bytes(build(arch, TABLE_CLASSES), arch.resolution, None)
        samples = self._samples(model, f"network {arch.key}", 1)
        baseline_ms(samples.anchor_ms, *self._circumstances())  # remembers it
        return float(np.median(samples.quotients)), samples.anchor_ms


@cache
def _anchor() -> tuple[bytes, str]:
    """The anchor as ONNX, and its SHA-256."""
    from nas.network.build import build

    model = onnx_bytes(build(ANCHOR, CLASSES), ANCHOR.resolution)
    return model, hashlib.sha256(model).hexdigest()


def _read_checkpoint(path: Path) -> dict[str, tuple[float, float]]:
    """What an interrupted call measured: by network, its quotient and the anchor's ms; empty if damaged."""
    try:
        data = json.loads(path.read_text(encoding="utf-8")) if path.stat().st_size < MAX_CHECKPOINT else None
    except (OSError, ValueError):
        return {}
    if not isinstance(data, dict):
        return {}
    pairs = data.values()
    if not all(isinstance(pair, list) and len(pair) == 2 and all(map(is_duration, pair)) for pair in pairs):
        return {}
    return {key: (quotient, anchor_ms) for key, (quotient, anchor_ms) in data.items()}
