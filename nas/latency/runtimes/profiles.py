"""Assigns the kernels in a profile of ONNX Runtime to the parts of a network."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from nas.system.errors import NasError

PROFILE_WARM_UP = 2
BRANCHES = ("layers", "left", "right")  # attributes of a block that hold its layers, in order of execution

# "/features/features.3/layers/layers.0/layers.0.0/Conv_output_0_nchwc" -> features.3.layers.0
_NODE = re.compile(rf"/(?:features/(features\.\d+)(?:/(?:\w+/)?((?:{'|'.join(BRANCHES)})\.\d+))?|(classifier))(?=/)")
_PRODUCTS = ("Gemm", "MatMul", "FusedGemm", "FusedMatMul")

Kernel = tuple[str, str, float]  # node, operator, ms


def times_of_parts(events: list[dict[str, Any]], names: list[str]) -> list[tuple[float, int]]:
    """Milliseconds and number of kernels of each part of a network, over the calmest half of the runs of a profile."""
    runs: list[list[Kernel]] = []
    kernels: list[Kernel] = []
    for event in sorted(events, key=lambda event: event.get("ts", 0) + event.get("dur", 0)):
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            kernels.append((event["name"], str(event.get("args", {}).get("op_name")), event["dur"] / 1e3))
        elif event["name"] == "model_run":
            runs.append(kernels)
            kernels = []
    runs = [run for run in runs[PROFILE_WARM_UP:] if len(run) == len(runs[-1])]
    if not runs or not runs[-1]:
        raise NasError("ONNX Runtime wrote a profile without kernels; install another version of it")
    totals = [sum(ms for _, _, ms in run) for run in runs]
    calm = [runs[i] for i in np.argsort(totals)[len(runs) // 8 : len(runs) // 8 + (len(runs) + 1) // 2]]
    sums = dict.fromkeys(names, (0.0, 0))
    for at, part in enumerate(_parts_of_kernels(calm[0], names)):
        ms, count = sums[part]
        sums[part] = (ms + float(np.mean([run[at][2] for run in calm])), count + 1)
    if missing := [name for name, (_, count) in sums.items() if not count]:
        raise NasError(f"ONNX Runtime's profile has no kernel for {', '.join(missing)}; please report this network")
    return list(sums.values())


def _parts_of_kernels(kernels: list[Kernel], names: list[str]) -> list[str]:
    """The part that each kernel of a run belongs to.

    Some names contain no module. A reordering then belongs to the kernel after it, a fused activation to the kernel
    before it, and the last matrix products to the last parts.
    """
    products = [at for at, (_, op, _) in enumerate(kernels) if op in _PRODUCTS]
    parts: list[str | None] = []
    for at, (node, _, _) in enumerate(kernels):
        if match := _NODE.search(node):
            part = match[3] or ".".join(filter(None, (match[1], match[2])))
            parts.append(part if part in names else owner(part, names))
        else:
            parts.append(names[products.index(at) - len(products)] if at in products else None)
    after = names[-1]
    for at in reversed(range(len(parts))):
        if parts[at] is None and kernels[at][1].startswith("Reorder"):
            parts[at] = after
        after = parts[at] or after
    before = names[0]
    settled: list[str] = []
    for part in parts:
        before = part or before
        settled.append(before)
    return settled


def owner(row: str, names: list[str]) -> str:
    """The last part of a row, to which the operators that join its branches belong."""
    within = [name for name in names if name.startswith(f"{row}.")]
    if not within:
        raise NasError(f"ONNX Runtime's profile names {row}, which the network does not have; please report it")
    return within[-1]
