"""The report of a run, drawn from a record alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from nas.arch import Arch
from nas.cost import estimate
from nas.latency.measure import Latency
from nas.references import reference
from nas.search.record import Candidate, Record
from nas.space_file import load_space

REFERENCES = ("mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small", "efficientnet_b0")
DEVICE = "Intel(R) Xeon(R) Processor @ 2.60GHz, 2 cores"


def latency(ms: float, source: Any = "predicted", warning: str | None = None) -> Latency:
    measured = source == "measured"
    return Latency(
        ms, 0.02 * ms if measured else None, 60 if measured else None, DEVICE, "onnxruntime", 1, 1, source, warning
    )


def candidate(arch: Arch, rng: np.random.Generator, **changes: Any) -> Candidate:
    """A network with a lifelike latency (proportional to MACs) and proxy accuracy (saturating in MACs)."""
    cost = estimate(arch)
    true_ms = 0.9 + cost.macs / 45e6 * rng.normal(1, 0.06)
    accuracy = 0.30 + 0.42 * (1 - np.exp(-cost.macs / 120e6)) + rng.normal(0, 0.02)
    values: dict[str, Any] = {
        "arch": arch, "state": "COMPLETE", "predicted": latency(true_ms * rng.normal(1, 0.03)), "params": cost.params,
        "macs": cost.macs, "memory_bytes": cost.memory_bytes, "proxy_accuracy": round(float(accuracy), 4),
        "proxy_loss": 1.2, "seconds": 7.5,
    }  # fmt: skip
    return Candidate(**values | changes)


def options() -> dict[str, Any]:
    data = {"name": "cifar10", "classes": 10, "train": 8000, "val": 2000, "generated": False, "notes": []}
    proxy = {"width": 0.35, "resolution": 40, "steps": 400}
    return {
        "name": "lifelike", "seed": 0, "sampler": "tpe", "workers": 1, "trials": 120, "budget_s": 600.0, "data": data,
        "proxy": proxy, "device": "host", "versions": {"nas": "0.1.0"}, "seconds": 598.0,
    }  # fmt: skip


def lifelike(count: int = 120, target_ms: float | None = 6.0, seed: int = 3) -> Record:
    """A finished run on mbconv: too-slow candidates, failures, front and references measured."""
    rng = np.random.default_rng(seed)
    space = load_space("mbconv")
    found = []
    for at in range(count):
        arch = space.sample(rng)
        one = candidate(arch, rng, genes=space.encode(arch))
        if target_ms is not None and one.predicted.ms > target_ms:
            one = replace(one, state="TOO_SLOW", proxy_accuracy=None, proxy_loss=None, seconds=0.0)
        elif at % 23 == 7:
            one = replace(one, state="FAILED", proxy_accuracy=None, proxy_loss=None, reason="loss was NaN at step 40")
        found.append(one)
    fixed = [candidate(reference(name), rng, name=name) for name in REFERENCES]
    record = Record(options(), space, target_ms, found, fixed)
    again = {c.key: latency(c.predicted.ms * rng.normal(1.0, 0.03), "measured") for c in (*record.front, *fixed)}
    noisy = record.front[0].key
    again[noisy] = replace(again[noisy], warning="noisy machine: the median is known to ±3.1% only, not ±1%")
    return replace(
        record.with_measured(again),
        feasibility={"fastest_ms": 1.6, "slowest_ms": 31.0, "share": 0.41, "binds": True, "target_ms": target_ms},
        table_error={"mape": 0.031, "worst": 0.092, "spearman": 0.987, "nets": 12},
    )
