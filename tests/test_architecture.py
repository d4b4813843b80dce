"""Imports run one way, rooms beside each other do not know each other, and the front door stays light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "nas"
ORDER = [
    *("errors", "units", "files", "cpu", "machine", "torchvision_schemas", "row", "arch", "yaml_nodes", "genes"),
    *("stage", "automaton", "space", "space_file", "ops", "blocks", "build", "layers", "trace", "cost"),
    *("guidelines", "convolutions", "references", "published", "weights", "pretrained", "libraries", "named"),
    *("breakdown", "pareto", "latency", "proxy", "evaluate", "search", "report", "standalone", "quantize"),
    *("export", "calibration", "comparison", "options", "session", "api", "chosen", "held", "networks", "progress"),
    *("commands", "cli", "__main__"),
]
STRANGERS = {"latency": "proxy", "proxy": "latency", "report": "proxy"}
HEAVY = ("torch", "ray", "torchvision", "onnxruntime", "matplotlib", "plotly", "pandas", "optuna", "sklearn")
MODULES = sorted(path.relative_to(ROOT) for path in ROOT.rglob("*.py") if path.name != "__init__.py")


def room(path: Path) -> str:
    return path.parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """Rooms of nas a module imports, wherever the statement stands."""
    found = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "nas":
            parts = node.module.split(".")
            found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("nas.")}
    return {name for name in found if (ROOT / name).is_dir() or (ROOT / f"{name}.py").exists()}


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_imports_run_downwards(path: Path) -> None:
    here = room(path)
    assert here in ORDER, f"give {here} its place in the order"
    for other in imported(path) - {here}:
        assert ORDER.index(other) < ORDER.index(here), f"{path} imports {other}"
        assert STRANGERS.get(here) != other, f"{path} imports {other}, the room beside it"


def loaded_by(code: str) -> set[str]:
    text = f"{code}\nimport sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    return {name for name in done.stdout.split() if name in HEAVY}


@pytest.mark.parametrize(
    ("code", "allowed"),
    [
        ("import nas", set()),
        ("import nas.cli.main", set()),
        ("import nas; nas.load_space('mbconv').sample(0)", set()),
        ("import nas.engine.loop", {"optuna", "pandas", "sklearn"}),
        ("import nas.reports.write", {"pandas"}),
    ],
)
def test_heavy_libraries_are_loaded_where_they_are_needed_only(code: str, allowed: set[str]) -> None:
    assert loaded_by(code) <= allowed


def test_verbs_stay_functions_after_their_rooms_are_imported() -> None:
    """`nas.search` is the function although ``nas/search/`` is a package."""
    code = (
        "import nas.engine.loop, nas.build, nas.export, nas.reports.write, nas\n"
        "assert all(callable(getattr(nas, name)) for name in nas.__all__), nas.__all__\n"
        "from nas.search import engine; assert engine.run_search"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
