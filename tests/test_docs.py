"""The documents are true: their Python runs, their spaces load, their links and commands exist."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from nas.arch.space_yaml import parse_space

pytestmark = pytest.mark.processes

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(language: str) -> list[tuple[str, str]]:
    found = []
    for page in PAGES:
        texts = re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
        found += [(f"{page.name} {at}", text) for at, text in enumerate(texts)]
    return found


@pytest.mark.parametrize("name", [name for name, _ in blocks("python")])
def test_python_blocks_run(name: str, tmp_path: Path) -> None:
    """Each runs in a folder with the files that its page shows: YAML blocks that begin with ``# NAME.yaml``."""
    for page, text in blocks("yaml"):
        if (file := re.match(r"# (\w+\.yaml)\n", text)) and page.split()[0] == name.split()[0]:
            (tmp_path / file[1]).write_text(text)
    subprocess.run([sys.executable, "-c", dict(blocks("python"))[name]], cwd=tmp_path, check=True)


@pytest.mark.parametrize("name", [name for name, text in blocks("yaml") if text.startswith("name:")])
def test_spaces_in_the_documents_load(name: str) -> None:
    space = parse_space(dict(blocks("yaml"))[name], name)
    assert space.size > 1
    assert space.decode(space.encode(space.sample(0))) == space.sample(0)


def test_the_example_space_is_the_one_explained() -> None:
    assert (ROOT / "docs" / "example_space.yaml").read_text() == dict(blocks("yaml"))["spaces.md 0"]


def test_links_dependencies_and_commands() -> None:
    subprocess.run([sys.executable, str(ROOT / "tests" / "check_docs.py")], check=True)


def test_the_readme_is_short_and_has_exactly_two_set_up_commands() -> None:
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) < 100
    assert [line for line in lines if line.startswith("pip install")] == [
        "pip install . && nas search --space mbconv --latency-target 66ms",
        "pip install -e '.[test]' && pytest",
    ]
