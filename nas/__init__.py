"""Search for the most accurate MBConv network that meets a latency budget measured on your device.

Importing this is cheap: each name below is loaded when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nas.api.networks import export as export
    from nas.api.networks import profile as profile
    from nas.api.reference_table import compare_references as compare_references
    from nas.api.search import report as report
    from nas.api.search import resume as resume
    from nas.api.search import search as search
    from nas.arch.arch import Arch as Arch
    from nas.arch.block import Block as Block
    from nas.arch.cost import Cost as Cost
    from nas.arch.space import Space as Space
    from nas.arch.space_yaml import load_space as load_space
    from nas.latency.devices import device as device
    from nas.latency.measure import measure as measure
    from nas.latency.record import Latency as Latency
    from nas.network.build import build as build
    from nas.network.count import count as count
    from nas.network.weights import load_weights as load_weights
    from nas.references.table import reference as reference
    from nas.references.table import reference_names as reference_names
    from nas.system.errors import InfeasibleError as InfeasibleError
    from nas.system.errors import InputError as InputError
    from nas.system.errors import NasError as NasError

__version__ = "0.2.0"

_OFFERS = {
    "Arch": "arch.arch",
    "Block": "arch.block",
    "Cost": "arch.cost",
    "InfeasibleError": "system.errors",
    "InputError": "system.errors",
    "Latency": "latency.record",
    "NasError": "system.errors",
    "Space": "arch.space",
    "build": "network.build",
    "compare_references": "api.reference_table",
    "count": "network.count",
    "device": "latency.devices",
    "export": "api.networks",
    "load_space": "arch.space_yaml",
    "load_weights": "network.weights",
    "measure": "latency.measure",
    "profile": "api.networks",
    "reference": "references.table",
    "reference_names": "references.table",
    "report": "api.search",
    "resume": "api.search",
    "search": "api.search",
}
__all__ = sorted(_OFFERS)


def __getattr__(name: str) -> Any:
    if name not in _OFFERS:
        raise AttributeError(f"module 'nas' has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(f"nas.{_OFFERS[name]}"), name)
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
