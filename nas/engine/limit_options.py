"""Devices, latency targets and limits as people write them, checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import cast

from nas.arch.arch import Arch
from nas.latency.limits import QUANTITIES, in_bytes
from nas.system.errors import InputError, known
from nas.system.units import amount, milliseconds

Device = str | Callable[[Arch], float]
Target = str | float | Mapping[str, str | float]


def checked_limits(given: Mapping[str, str | float]) -> dict[str, float]:
    """Limits by quantity (`nas.latency.limits.QUANTITIES`), in numbers and bytes.

    >>> checked_limits({"params": "4M", "memory": 8e6})
    {'params': 4000000.0, 'memory': 8000000.0}

    Raises:
        InputError: an unknown quantity, or a bound that is no positive number.
    """
    if not isinstance(given, Mapping):
        raise InputError(f"limits must be a mapping of quantities to bounds, got {given!r:.60}")
    for name in given:
        if name not in QUANTITIES:
            target = "; limit latency with --latency-target" if name == "latency" else ""
            raise InputError(f"no limit is called {name!r:.60}; {known(QUANTITIES)}{target}")
    return {name: amount(bound, f"limit {name}", in_bytes(name)) for name, bound in given.items()}


def read_limits(texts: Sequence[str]) -> dict[str, str]:
    """``["params=4M", "size=5MB"]`` as a mapping.

    >>> read_limits(["params=4M", "size=5MB"])
    {'params': '4M', 'size': '5MB'}

    Raises:
        InputError: a text without ``=``, or two limits on one quantity.
    """
    limits: dict[str, str] = {}
    for text in texts:
        name, equals, bound = text.partition("=")
        if not equals:
            raise InputError(f"write a limit as params=4M, got {text!r:.60}")
        if name.strip() in limits:
            raise InputError(f"limit {name.strip()} may be given only once, got {text!r:.60}")
        limits[name.strip()] = bound
    return limits


def read_devices(
    devices: Device | Sequence[Device], target: Target | None
) -> tuple[Device, float | None, dict[str, float]]:
    """The first device, its latency target in ms (None is no target), and the targets of further devices by name.

    >>> read_devices("pixel1", "66ms")
    ('pixel1', 66.0, {})
    >>> read_devices(["pixel1", "host"], "pixel1=66ms,host=8ms")
    ('pixel1', 66.0, {'host': 8.0})

    Raises:
        InputError: a device is given twice, or further devices are no names or have no target; a target names no device
            that is given, or cannot be read.
    """
    given: list[Device] = list(devices) if isinstance(devices, (list, tuple)) else [cast(Device, devices)]
    if not given:
        raise InputError("give at least one device")
    names = [one if isinstance(one, str) else "" for one in given]
    if "" in names and len(names) > 1:
        raise InputError("several devices must be given by name; a function can only be the one device")
    if twice := [name for name in names if names.count(name) > 1]:
        raise InputError(f"device {twice[0]!r:.80} may be given only once")
    targets = _targets(target, names)
    if missing := [name for name in names[1:] if name not in targets]:
        form = ",".join(f"{name}=...ms" for name in names)
        raise InputError(f"device {missing[0]!r:.80} needs a latency target; give --latency-target {form}")
    return given[0], targets.get(names[0]), {name: targets[name] for name in names[1:]}


def _targets(target: Target | None, names: Sequence[str]) -> dict[str, float]:
    """Latency targets in ms by device; a plain one is the first device's."""
    if target is None:
        return {}
    if isinstance(target, str) and "=" in target:
        pairs = [part.rpartition("=") for part in target.split(",")]
        read = {name.strip(): text for name, _, text in pairs}
        if len(read) < len(pairs):
            raise InputError(f"a device may have only one latency target, got {target!r:.80}")
        target = read
    if not isinstance(target, Mapping):
        return {names[0]: milliseconds(target)}
    if unknown := [name for name in target if name not in names]:
        raise InputError(f"a latency target names {unknown[0]!r:.80}, which is no --device; {known(names)}")
    return {name: milliseconds(value) for name, value in target.items()}
