"""Facts about the machine this process runs on. Needs only the standard library; agents carry a copy."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache

from nas.system.cpu import cpu

MAX_NAME = 120  # characters


@dataclass(frozen=True)
class Machine:
    """What distinguishes one machine from another; as text, its name for people, e.g. ``AMD EPYC, 2 cores``.

    Args:
        cpu: name of the processor, or of the board.
        cores: number of cores that a process may use.
        machine: architecture, e.g. ``x86_64``.
        system: operating system, e.g. ``Linux``.
        node: host name. Virtual machines of one kind differ in nothing else.
    """

    cpu: str
    cores: int
    machine: str
    system: str
    node: str

    def __str__(self) -> str:
        return f"{self.cpu}, {self.cores} core{'s' if self.cores > 1 else ''}"

    def identity(self, *names: str) -> str:
        """A short hash of all facts, and of `names` that were given to the device by hand."""
        return hashlib.sha256(json.dumps([*names, *self.to_dict().values()]).encode()).hexdigest()[:16]

    def to_dict(self) -> dict[str, str | int]:
        return asdict(self)


FACT_NAMES = {
    "cpu": "processor",
    "cores": "number of usable cores",
    "machine": "architecture",
    "system": "operating system",
    "node": "host name",
}


def usable_cores() -> int:
    """Number of processor cores this process may run on: those of its affinity, where the system has such a thing."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@lru_cache(maxsize=1)
def here() -> Machine:
    """The machine this process runs on, as it was at the first call: measuring pins the process to fewer cores."""
    return Machine(cpu(), usable_cores(), platform.machine(), platform.system(), platform.node()[:MAX_NAME])


def host() -> str:
    """The name of this machine for people: its processor and the number of cores this process may use."""
    return str(here())


def difference(was: Mapping[str, object] | None, now: Machine, name: str | None = None) -> str | None:
    """What differs between a machine on record and another one, in words; None if nothing does.

    A container that was restarted under another host name counts as another machine; the text says how to undo that.

    Args:
        was: `Machine.to_dict` of the machine on record; None if only its name was recorded. Unknown facts may be left
            out.
        now: the machine to compare with.
        name: the recorded name for people; it is compared only where `was` is None.

    >>> pi = Machine("Raspberry Pi 5", 4, "aarch64", "Linux", "kitchen")
    >>> difference({"cores": 2, "node": "kitchen"}, pi)
    'the number of usable cores is 4, was 2'
    """
    facts = now.to_dict()
    if was is None:
        return None if name in (None, str(now)) else f"the machine is {str(now)!r}, was {name!r:.200}"
    changed = [field for field in facts if field in was and was[field] != facts[field]]
    if not changed:
        return None
    text = ", ".join(f"the {FACT_NAMES[at]} is {facts[at]!r}, was {was[at]!r:.{MAX_NAME}}" for at in changed)
    if changed == ["node"]:
        text += "; if it is the same machine, restore its host name, e.g. docker run --hostname NAME"
    return text
