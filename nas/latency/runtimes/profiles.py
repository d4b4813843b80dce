"""A profile of ONNX Runtime, kernel by kernel, put down to the parts of a network."""

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
    """Sum the kernels of a profile over the parts of the network, for the calmest half of the runs."""
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
        raise NasError("ONNX Runtime wrote a profile without kernels")
    totals = [sum(ms for _, _, ms in run) for run in runs]
    calm = [runs[i] for i in np.argsort(totals)[len(runs) // 8 : len(runs) // 8 + (len(runs) + 1) // 2]]
    found = dict.fromkeys(names, (0.0, 0))
    for at, part in enumerate(_parts_of_kernels(calm[0], names)):
        ms, count = found[part]
        found[part] = (ms + float(np.mean([run[at][2] for run in calm])), count + 1)
    if missing := [name for name, (_, count) in found.items() if not count]:
        raise NasError(f"the profile of ONNX Runtime has no kernel of {', '.join(missing)}")
    return list(found.values())


def _parts_of_kernels(kernels: list[Kernel], names: list[str]) -> list[str]:
    """The part each kernel of a run belongs to.

    Some have no module in their names: a reordering serves the kernel after it, a fused activation the one before, and
    the last matrix products are those of the last parts.
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
    """The last part of a row: what joins its branches stands in the row, not in one of its layers."""
    within = [name for name in names if name.startswith(f"{row}.")]
    if not within:
        raise NasError(f"the profile of ONNX Runtime names {row}, which the network does not have")
    return within[-1]
