"""Search for the most accurate MBConv network that meets a latency budget measured on your device.

Importing this is cheap: each name below is loaded when it is first used.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nas.api import report as report
    from nas.api import resume as resume
    from nas.api import search as search
    from nas.arch import Arch as Arch
    from nas.build import build as build
    from nas.comparison import compare_references as compare_references
    from nas.cost import Cost as Cost
    from nas.cost import count as count
    from nas.errors import InfeasibleError as InfeasibleError
    from nas.errors import InputError as InputError
    from nas.errors import NasError as NasError
    from nas.latency.devices import device as device
    from nas.latency.measure import Latency as Latency
    from nas.latency.measure import measure as measure
    from nas.networks import export as export
    from nas.networks import profile as profile
    from nas.references import reference as reference
    from nas.references import reference_names as reference_names
    from nas.row import Block as Block
    from nas.space import Space as Space
    from nas.space_file import load_space as load_space
    from nas.weights import load_weights as load_weights

__version__ = "0.1.0"

_OFFERS = {
    "Arch": "arch",
    "Block": "row",
    "Cost": "cost",
    "InfeasibleError": "errors",
    "InputError": "errors",
    "Latency": "latency.measure",
    "NasError": "errors",
    "Space": "space",
    "build": "build",
    "compare_references": "comparison",
    "count": "cost",
    "device": "latency.devices",
    "export": "networks",
    "load_space": "space_file",
    "load_weights": "weights",
    "measure": "latency.measure",
    "profile": "networks",
    "reference": "references",
    "reference_names": "references",
    "report": "api",
    "resume": "api",
    "search": "api",
}
__all__ = sorted(_OFFERS)


def __getattr__(name: str) -> Any:
    if name not in _OFFERS:
        raise AttributeError(f"module 'nas' has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(f"nas.{_OFFERS[name]}"), name)
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


class _Offering(ModuleType):
    """Lets a room and a verb bear one name: importing ``nas.search.engine`` binds the package ``search`` to this
    module, where ``nas.search(...)`` must stay the function. The package itself remains in ``sys.modules``."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _OFFERS and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Offering
