"""Imports run one way: down the floors of the house, and in order inside each room; the front door stays light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "nas"
FLOORS = (  # lowest first; rooms on one floor do not know each other
    ("system",),
    ("arch",),
    ("network",),
    ("references", "data"),
    ("accuracy", "latency", "training"),
    ("engine",),
    ("reports",),
    ("artifacts",),
    ("api",),
    ("cli",),
)
ROOMS = [room for floor in FLOORS for room in floor]
HEAVY = ("torch", "ray", "torchvision", "onnxruntime", "matplotlib", "plotly", "pandas", "optuna", "sklearn")


def names() -> dict[str, Path]:
    """Every module of nas by its dotted name without ``nas.``; packages by theirs."""
    found = {}
    for path in ROOT.rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    del found[""], found["__main__"]
    return found


MODULES = names()


def imported(path: Path) -> set[str]:
    """Modules of nas that a file imports, wherever the statement is: at the top, for types only, or in a function."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "nas":
            inside = node.module.removeprefix("nas").removeprefix(".")
            for alias in node.names:
                whole = f"{inside}.{alias.name}".removeprefix(".")
                found.add(whole if whole in MODULES else inside)
        elif isinstance(node, ast.Import):
            found |= {alias.name.removeprefix("nas.") for alias in node.names if alias.name.startswith("nas.")}
    return found


IMPORTS = {name: imported(path) for name, path in MODULES.items()}


def floor(module: str) -> int:
    return next(at for at, rooms in enumerate(FLOORS) if module.split(".")[0] in rooms)


def test_the_package_is_its_rooms() -> None:
    assert sorted(path.name for path in ROOT.iterdir() if path.is_dir() and path.name != "__pycache__") == sorted(ROOMS)
    assert {path.name for path in ROOT.iterdir() if path.is_file()} == {"__init__.py", "__main__.py", "py.typed"}


def test_no_room_bears_the_name_of_a_public_verb() -> None:
    import nas

    assert not set(nas.__all__) & set(ROOMS)


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_are_of_modules_that_exist_on_lower_floors(module: str) -> None:
    for other in IMPORTS[module]:
        assert other in MODULES, f"nas.{module} imports nas.{other}, which does not exist"
        if other.split(".")[0] != module.split(".")[0]:
            assert floor(other) < floor(module), f"nas.{module} imports nas.{other}, not from a lower floor"


@pytest.mark.parametrize("room", ROOMS)
def test_the_files_of_a_room_have_an_order(room: str) -> None:
    """Taking away, again and again, the files that import none of those left takes all away: there is no circle."""
    left = {name for name in MODULES if name.split(".")[0] == room}
    while lowest := {name for name in left if not IMPORTS[name] & left - {name}}:
        left -= lowest
    assert not left, f"these import each other in a circle: {sorted(left)}"


def test_tests_mirror_the_rooms() -> None:
    folders = {path.name for path in Path(__file__).parent.iterdir() if list(path.glob("test_*.py"))}
    assert folders == set(ROOMS)


def loaded_by(code: str) -> set[str]:
    text = f"{code}\nimport sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    return {name for name in done.stdout.split() if name in HEAVY}


@pytest.mark.parametrize(
    ("code", "allowed"),
    [
        ("import nas", set()),
        ("import nas.cli.main", set()),
        ("import nas; nas.count(nas.load_space('mbconv').sample(0))", set()),
        ("import nas.engine.loop", {"optuna", "pandas", "sklearn"}),
        ("import nas.reports.run.write", {"pandas"}),
    ],
)
def test_heavy_libraries_are_loaded_where_they_are_needed_only(code: str, allowed: set[str]) -> None:
    assert loaded_by(code) <= allowed


def test_every_public_name_is_there_whatever_was_imported_before() -> None:
    code = (
        "import nas.engine.loop, nas.network.build, nas.artifacts.export, nas.reports.run.write, nas\n"
        "assert all(callable(getattr(nas, name)) for name in nas.__all__), nas.__all__"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
