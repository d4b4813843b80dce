"""The name of this machine's processor. Needs only the standard library; agents carry a copy."""

from __future__ import annotations

import platform
import re
import subprocess
from contextlib import suppress
from pathlib import Path

CPU_FILES = (  # Raspberry Pi and other boards; x86; Android
    ("/proc/device-tree/model", r"([^\0]+)"),
    ("/proc/cpuinfo", r"(?m)^model name\s*:\s*(\S.*)$"),
    ("/proc/cpuinfo", r"(?m)^(?:Hardware|Model)\s*:\s*(\S.*)$"),
)
MACOS_COMMAND = ("sysctl", "-n", "machdep.cpu.brand_string")


def cpu() -> str:
    """The name of the processor, or of the board it is part of; at most 120 characters."""
    for path, pattern in CPU_FILES:
        try:
            match = re.search(pattern, Path(path).read_text(encoding="utf-8", errors="replace"))
        except OSError:
            continue
        if match:
            return match[1].strip()[:120]
    name = ""
    if platform.system() == "Darwin":
        with suppress(OSError, subprocess.SubprocessError):
            name = subprocess.run(MACOS_COMMAND, capture_output=True, text=True, timeout=5, check=False).stdout.strip()
    return (name or platform.processor() or platform.machine() or "unknown CPU")[:120]
