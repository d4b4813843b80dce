"""Facts about the machine this process runs on."""

from __future__ import annotations

from functools import lru_cache

from nas.system.cpu import cpu


def usable_cores() -> int:
    """Processor cores this process may run on: those of its affinity, where the system knows such a thing."""
    import psutil

    process = psutil.Process()
    return len(process.cpu_affinity()) if hasattr(process, "cpu_affinity") else psutil.cpu_count() or 1


@lru_cache(maxsize=1)
def host() -> str:
    """This machine: CPU model and the number of cores this process may use."""
    cores = usable_cores()
    return f"{cpu()}, {cores} core{'s' if cores > 1 else ''}"
