"""Search for the most accurate MBConv network that meets a latency budget measured on your device.

Importing this is cheap: each name below is loaded when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nas.accuracy.prior import PriorModel as PriorModel
    from nas.accuracy.record import Accuracy as Accuracy
    from nas.accuracy.record import AccuracyModel as AccuracyModel
    from nas.api.accuracy import accuracy_model as accuracy_model
    from nas.api.accuracy import calibrate_accuracy as calibrate_accuracy
    from nas.api.accuracy_check import check_accuracy as check_accuracy
    from nas.api.bench import bench_samplers as bench_samplers
    from nas.api.networks import export as export
    from nas.api.networks import profile as profile
    from nas.api.reference_table import compare_references as compare_references
    from nas.api.search import report as report
    from nas.api.search import resume as resume
    from nas.api.search import search as search
    from nas.arch.arch import Arch as Arch
    from nas.arch.block import Block as Block
    from nas.arch.cost import Cost as Cost
    from nas.arch.genes import Gene as Gene
    from nas.arch.space import Space as Space
    from nas.arch.space_yaml import load_space as load_space
    from nas.artifacts.export import Exported as Exported
    from nas.engine.options import SearchOptions as SearchOptions
    from nas.engine.progress import SearchProgress as SearchProgress
    from nas.engine.progress import Watcher as Watcher
    from nas.engine.run.info import RunInfo as RunInfo
    from nas.engine.run.record import Candidate as Candidate
    from nas.engine.run.record import Record as Record
    from nas.latency.devices import LatencyModel as LatencyModel
    from nas.latency.devices import device as device
    from nas.latency.measure import measure as measure
    from nas.latency.record import Latency as Latency
    from nas.latency.runtimes.base import Runtime as Runtime
    from nas.latency.table.table import LatencyTable as LatencyTable
    from nas.network.build import build as build
    from nas.network.count import count as count
    from nas.network.weights import load_weights as load_weights
    from nas.references.external import LibraryNetwork as LibraryNetwork
    from nas.references.table import reference as reference
    from nas.references.table import reference_names as reference_names
    from nas.reports.references.table import ReferenceTable as ReferenceTable
    from nas.system.errors import InfeasibleError as InfeasibleError
    from nas.system.errors import InputError as InputError
    from nas.system.errors import NasError as NasError
    from nas.system.errors import RunBusyError as RunBusyError
    from nas.system.errors import TargetMissedError as TargetMissedError
    from nas.training.evaluate import Evaluation as Evaluation
    from nas.training.evaluate import Evaluator as Evaluator

__version__ = "0.2.0"

_OFFERS = {
    "Accuracy": "accuracy.record",
    "AccuracyModel": "accuracy.record",
    "Arch": "arch.arch",
    "Block": "arch.block",
    "Candidate": "engine.run.record",
    "Cost": "arch.cost",
    "Evaluation": "training.evaluate",
    "Evaluator": "training.evaluate",
    "Exported": "artifacts.export",
    "Gene": "arch.genes",
    "InfeasibleError": "system.errors",
    "InputError": "system.errors",
    "Latency": "latency.record",
    "LatencyModel": "latency.devices",
    "LatencyTable": "latency.table.table",
    "LibraryNetwork": "references.external",
    "NasError": "system.errors",
    "PriorModel": "accuracy.prior",
    "Record": "engine.run.record",
    "ReferenceTable": "reports.references.table",
    "RunBusyError": "system.errors",
    "RunInfo": "engine.run.info",
    "Runtime": "latency.runtimes.base",
    "SearchOptions": "engine.options",
    "SearchProgress": "engine.progress",
    "Space": "arch.space",
    "TargetMissedError": "system.errors",
    "Watcher": "engine.progress",
    "accuracy_model": "api.accuracy",
    "bench_samplers": "api.bench",
    "build": "network.build",
    "calibrate_accuracy": "api.accuracy",
    "check_accuracy": "api.accuracy_check",
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
