"""Facts about the machine this process runs on."""

from __future__ import annotations


def usable_cores() -> int:
    """Processor cores this process may run on: those of its affinity, where the system knows such a thing."""
    import psutil

    process = psutil.Process()
    return len(process.cpu_affinity()) if hasattr(process, "cpu_affinity") else psutil.cpu_count() or 1
