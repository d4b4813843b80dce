"""The checks of the documents find what they look for."""

from pathlib import Path

import pytest

from tests.check_docs import absent_files, broken_links, documents, placeholders, unknown_commands


@pytest.mark.parametrize(("text", "found"), [("a\nFIGURES_HERE\nb", ["FIGURES_HERE"]), ("  TO_DO  ", ["TO_DO"])])
def test_a_line_that_is_only_a_placeholder_is_found(text: str, found: list[str]) -> None:
    assert placeholders(text) == found


@pytest.mark.parametrize("text", ["see MAX_ROWS here", "README", "___", "---", "| A_B |", "a_b"])
def test_other_lines_are_no_placeholders(text: str) -> None:
    assert placeholders(text) == []


def test_the_reports_of_published_runs_are_checked() -> None:
    assert any(path.match("results/*/report.md") for path in documents())


def test_links_to_absent_files_and_headings_are_found(tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text("# Set-up, with `nas`\n```sh\n# set-up\n```\n")
    page = tmp_path / "page.md"
    page.write_text("[a](other.md) [b](other.md#set-up-with-nas) [c](#here) [d](https://example.org/#x)\n## Here\n")
    assert broken_links(page) == []
    page.write_text("[a](absent.md) [b](other.md#set-up) [c](#there)\n")
    assert broken_links(page) == [f"link to {link}" for link in ("absent.md", "other.md#set-up", "#there")]


def test_files_that_do_not_exist_are_found(tmp_path: Path) -> None:
    """By their path, or by their name in a room's row of a table."""
    page = tmp_path / "page.md"
    page.write_text(
        "`nas/cli/main.py` `docs/` `results/RUN` `tests/engine/`\n| `nas/engine/` | `loop.py`, `run/` | `main.py` |\n"
    )
    assert absent_files(page) == ["file main.py"]
    page.write_text("`nas/cli/verbs.py`, `docs/absent.md`\n| `nas/cli/` | `main.py` | `tests/cli/test_cli.py` |\n")
    assert absent_files(page) == ["file nas/cli/verbs.py", "file docs/absent.md"]


def test_commands_and_options_that_do_not_exist_are_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("nas search \\\n  --trials 3\n`nas devices calibrate a.csv --out b.json`, `nas profile --help`\n")
    assert unknown_commands(page) == []
    page.write_text("nas serach\n    nas search \\\n  --trails 3\nas `nas resume RUN --guard 5%` does\n")
    assert unknown_commands(page) == ["nas serach", "nas search --trails", "nas resume --guard"]
