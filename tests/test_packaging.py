"""The wheel stands alone, and its dependencies are those that the code imports."""

import ast
import os
import re
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

import nas
from nas.references.external import library_network
from nas.system.compat import torchvision
from nas.system.errors import InputError
from tests.packages import closure, declared, modules, plain

pytestmark = pytest.mark.processes

ROOT = Path(__file__).parents[1]


def test_the_wheel_works_away_from_the_checkout(tmp_path: Path) -> None:
    """Spaces and references are inside. Dependencies come from this environment, whose own nas stays invisible in the
    venv: a folder on PYTHONPATH does not process the .pth file of an editable install."""
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob(f"mbconv_nas-{nas.__version__}-*.whl")
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run(
        [python, "-m", "pip", "install", "--no-deps", "--no-index", str(wheel)], check=True, capture_output=True
    )
    environment = dict(os.environ) | {"PYTHONPATH": sysconfig.get_paths()["purelib"]}

    def output(*command: str) -> str:
        done = subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True)
        return done.stdout

    assert str(tmp_path / "venv") in output(str(python), "-c", "import nas; print(nas.__file__)")
    assert "mbconv" in output(str(tmp_path / "venv" / "bin" / "nas"), "spaces")
    assert "5,288,548" in output(str(tmp_path / "venv" / "bin" / "nas"), "references", "--device", "none")


def imported() -> set[str]:
    """Top-level names of the modules that nas imports, at the top of a file or inside a function."""
    found = set()
    for path in (ROOT / "nas").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            found |= {name.partition(".")[0] for name in names}
    return found - set(sys.stdlib_module_names) - {"nas", ""}


def owners(module: str) -> set[str]:
    return modules().get(module, {plain(module)})


def test_every_required_dependency_is_imported() -> None:
    used = set().union(*map(owners, imported()))
    assert {plain(requirement.name) for requirement in declared()[None]} <= used


def test_everything_imported_is_a_dependency_or_comes_with_an_extra() -> None:
    """The extra of the tests does not count."""
    brought = set().union(*(closure(extra) for extra in declared() if extra != "test"))
    assert [name for name in imported() if not owners(name) & brought] == []


@pytest.mark.parametrize(
    ("package", "use"),
    [
        ("torchvision", torchvision),
        ("torchvision", lambda: library_network("torchvision:vgg16")),
        ("timm", lambda: library_network("timm:legacy_xception")),
    ],
)
def test_an_absent_extra_is_one_line_with_the_command(
    package: str, use: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)  # Python takes it for a package that is not there
    assert package in declared()
    with pytest.raises(InputError, match=rf"pip install 'mbconv-nas\[{package}\]'") as caught:
        use()
    assert "\n" not in str(caught.value)


def test_the_version_is_the_same_everywhere() -> None:
    """In the package, in the topmost release of the change log, and in the citation, which also has its date."""
    release = re.search(r"(?m)^## \[(.+)\] - (\d{4}-\d\d-\d\d)$", (ROOT / "CHANGELOG.md").read_text())
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert release is not None
    assert release.groups() == (nas.__version__, str(cited["date-released"]))
    assert cited["version"] == nas.__version__


def test_the_workflow_runs_the_checks_of_this_repository() -> None:
    steps = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())["jobs"]["checks"]["steps"]
    assert [step["run"] for step in steps if "run" in step] == ["bash .ci/run"]


@pytest.mark.parametrize("path", sorted((ROOT / ".github" / "ISSUE_TEMPLATE").iterdir()), ids=lambda path: path.name)
def test_the_fields_of_an_issue_template_are_distinct_and_labelled(path: Path) -> None:
    """GitHub shows no form that lacks a name, a description or the label of a field."""
    form = yaml.safe_load(path.read_text())
    assert form["name"]
    assert form["description"]
    assert len({field["id"] for field in form["body"]}) == len(form["body"])
    assert all(field["attributes"]["label"] for field in form["body"])
