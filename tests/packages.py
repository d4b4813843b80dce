"""Which packages this distribution declares, and the modules of those that a plain `pip install .` would not bring."""

from __future__ import annotations

import re
import sys
import tomllib
from functools import cache
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
OWN = "mbconv-nas"


def declared() -> dict[str | None, list[Requirement]]:
    """The requirements in pyproject.toml by extra; those of None are always installed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = {name: list(map(Requirement, texts)) for name, texts in project["optional-dependencies"].items()}
    return {None: list(map(Requirement, project["dependencies"]))} | extras


def plain(name: str) -> str:
    """A distribution's name as PyPI compares names."""
    return re.sub(r"[-_.]+", "-", name).lower()


@cache
def modules() -> dict[str, set[str]]:
    """The installed top-level modules, and which distributions they are from."""
    return {name: set(map(plain, owners)) for name, owners in metadata.packages_distributions().items()}


@cache
def closure(extra: str | None = None) -> frozenset[str]:
    """Every distribution that the requirements of an extra bring along, directly or not."""
    found: set[str] = set()
    todo = [(requirement.name, requirement.extras) for requirement in declared()[extra]]
    while todo:
        name, extras = todo.pop()
        if plain(name) == OWN:
            found.update(*(closure(each) for each in extras))
            continue
        if plain(name) in found and not extras:
            continue
        found.add(plain(name))
        try:
            texts = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        for requirement in map(Requirement, texts):
            marker = requirement.marker
            if marker is None or any(marker.evaluate({"extra": each}) for each in extras or {""}):
                todo.append((requirement.name, requirement.extras))
    return frozenset(found)


def beyond_required() -> list[str]:
    """Installed modules that no required dependency brings along."""
    others = {name for name, owners in modules().items() if name.isidentifier() and not owners & closure()}
    return sorted(others - sys.stdlib_module_names - {"nas", "tests"})
