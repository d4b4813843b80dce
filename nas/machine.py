"""Facts about the machine this process runs on."""

from __future__ import annotations

import platform
from functools import lru_cache
from pathlib import Path


def usable_cores() -> int:
    """Processor cores this process may run on: those of its affinity, where the system knows such a thing."""
    import psutil

    process = psutil.Process()
    return len(process.cpu_affinity()) if hasattr(process, "cpu_affinity") else psutil.cpu_count() or 1


@lru_cache(maxsize=1)
def host() -> str:
    """This machine: CPU model and the number of cores this process may use."""
    model = platform.processor() or platform.machine() or "unknown CPU"
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        model = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass  # not Linux, or a CPU that does not name itself
    cores = usable_cores()
    return f"{model[:120]}, {cores} core{'s' if cores > 1 else ''}"
