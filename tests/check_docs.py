"""Checks of the documents: links, files, commands and options exist, dependencies have lines, results are small."""

from __future__ import annotations

import re
import sys
import tomllib
from functools import cache
from pathlib import Path
from typing import Any, cast

ROOT = Path(__file__).parents[1]
MAX_RESULT_BYTES = 600_000
FOLDERS = ("nas", "tests", "docs", "benchmarks", "examples", "search_spaces")


def documents() -> list[Path]:
    folders = [ROOT / name for name in (".github", "docs", "examples", "results")]
    return [*ROOT.glob("*.md"), *(path for folder in folders for path in folder.glob("**/*.md"))]


def anchors(text: str) -> set[str]:
    """The anchors GitHub gives to headings: lower case, hyphens for spaces, other signs left out."""
    headings = re.findall(r"(?m)^#+ (.+)$", re.sub(r"(?s)```.*?```", "", text))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def broken_links(path: Path) -> list[str]:
    links = re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8"))
    broken = []
    for link in (link for link in links if not re.match(r"[a-z]+:", link)):
        name, _, anchor = link.partition("#")
        target = path.parent / name if name else path
        if not target.exists() or (anchor and anchor not in anchors(target.read_text(encoding="utf-8"))):
            broken.append(f"link to {link}")
    return broken


def absent_files(path: Path) -> list[str]:
    """Files and folders of this repository that inline code names by their path, and that are not there.

    In a row of a table that starts with a room (``| `nas/cli/` | ...``), names of files are those of that room."""
    absent = []
    for line in path.read_text(encoding="utf-8").splitlines():
        room = re.match(r"\| `(nas/\w+/)` \|", line)
        for name in re.findall(r"`([\w./-]+)`", line):
            inside = room is not None and re.search(r"\.py$|/$", name) and not name.startswith(("nas/", "tests/"))
            if inside or re.match(rf"(?:{'|'.join(FOLDERS)})/", name):
                place = ROOT / (room[1] if room is not None and inside else "") / name
                absent += [] if place.exists() else [f"file {name}"]
    return absent


def undocumented_dependencies() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = (ROOT / "docs" / "dependencies.md").read_text().splitlines()
    wanted = [re.split(r"[<>=!~; ]", item)[0] for item in project["dependencies"]]
    missing = [name for name in wanted if not any(line.startswith(f"| {name} |") for line in lines)]
    missing += [
        extra for extra in project["optional-dependencies"] if not any(f"| {extra} |" in line for line in lines)
    ]
    return [f"docs/dependencies.md: no line for {name}" for name in missing]


def unknown_commands(path: Path) -> list[str]:
    """Commands and options in shell blocks and inline code that do not exist."""
    text = path.read_text(encoding="utf-8").replace("\\\n", " ")
    used = re.findall(r"(?m)(?:^\s*(?:\$ )?(?:pip install \S+ && )?|`)nas ([a-z][a-z-]*)([^`\n]*)", text)
    known = options()
    unknown = [f"nas {name}" for name, _ in used if name not in known]
    for name, rest in used:
        given = re.findall(r"(?<!\S)--[a-z][a-z0-9-]*", rest)
        unknown += [f"nas {name} {option}" for option in given if option not in known.get(name, given)]
    return unknown


def commands() -> dict[str, list[Any]]:
    """The commands by their first word, as typer runs them: a group and its members under the name of the group."""
    from typer.main import get_command

    from nas.cli.main import app

    def members(command: Any) -> list[Any]:
        return [command, *(found for member in getattr(command, "commands", {}).values() for found in members(member))]

    return {name: members(command) for name, command in cast(Any, get_command(app)).commands.items()}


@cache
def options() -> dict[str, set[str]]:
    """The options of each command; a group has those of all its members."""
    return {
        name: {"--help"} | {option for command in found for parameter in command.params for option in parameter.opts}
        for name, found in commands().items()
    }


def placeholders(text: str) -> list[str]:
    """Placeholders for text still to come: lines of nothing but capitals with an underscore."""
    return re.findall(r"(?m)^[ \t]*((?=[A-Z_]*_)(?=[A-Z_]*[A-Z])[A-Z_]+)[ \t]*$", text)


def large_results() -> list[str]:
    """Files of published runs in git that are too large; ignored ones do not count."""
    import subprocess

    listed = subprocess.run(["git", "ls-files", "results"], cwd=ROOT, capture_output=True, text=True, check=False)
    sizes = {name: (ROOT / name).stat().st_size for name in listed.stdout.split() if (ROOT / name).exists()}
    return [
        f"{name}: {size} bytes, more than {MAX_RESULT_BYTES}" for name, size in sizes.items() if size > MAX_RESULT_BYTES
    ]


def main() -> int:
    faults = undocumented_dependencies() + large_results()
    for path in documents():
        found = broken_links(path) + unknown_commands(path) + absent_files(path)
        found += [f"placeholder {line}" for line in placeholders(path.read_text("utf-8"))]
        faults += [f"{path.relative_to(ROOT)}: {fault}" for fault in found]
    print("\n".join(faults) if faults else f"{len(documents())} documents checked")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
