"""What the machine an agent runs on is called."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

CPU_FILES = (  # Raspberry Pi and other boards; x86; Android
    ("/proc/device-tree/model", r"([^\0]+)"),
    ("/proc/cpuinfo", r"(?m)^model name\s*:\s*(\S.*)$"),
    ("/proc/cpuinfo", r"(?m)^(?:Hardware|Model)\s*:\s*(\S.*)$"),
)


def cpu() -> str:
    """Its processor, or the board it is soldered to."""
    for path, pattern in CPU_FILES:
        try:
            found = re.search(pattern, Path(path).read_text(encoding="utf-8", errors="replace"))
        except OSError:
            continue
        if found:
            return found[1].strip()[:120]
    return (platform.processor() or platform.machine() or "unknown CPU")[:120]


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
