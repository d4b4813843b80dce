"""What the machine an agent runs on is called."""

from __future__ import annotations

import os
import platform

from nas.system.cpu import cpu


def cores() -> int:
    """Processor cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def machine() -> dict[str, str | int]:
    """What tells one machine from another."""
    return {
        "cpu": cpu(),
        "cores": cores(),
        "machine": platform.machine(),
        "system": platform.system(),
        "node": platform.node()[:120],
    }


def device_name() -> str:
    """For people."""
    return f"{cpu()}, {cores()} core{'s' if cores() > 1 else ''} (agent)"
