"""The check of the documents finds what it looks for."""

import pytest

from tests.check_docs import documents, placeholders


@pytest.mark.parametrize(("text", "found"), [("a\nFIGURES_HERE\nb", ["FIGURES_HERE"]), ("  TO_DO  ", ["TO_DO"])])
def test_a_line_that_is_only_a_placeholder_is_found(text: str, found: list[str]) -> None:
    assert placeholders(text) == found


@pytest.mark.parametrize("text", ["see MAX_ROWS here", "README", "___", "---", "| A_B |", "a_b"])
def test_other_lines_are_none(text: str) -> None:
    assert placeholders(text) == []


def test_the_reports_of_published_runs_are_checked() -> None:
    assert any(path.match("results/*/report.md") for path in documents())
