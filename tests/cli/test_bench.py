"""The command `nas bench samplers`: what it prints and writes, and mistakes in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nas.cli.main import main

MBCONV = str(Path(__file__).parents[1] / "data" / "tables" / "imagenet_mbconv.csv")
SHORT = ("--samplers", "random,aging-evolution", "--seeds", "2", "--evaluations", "12", "--workers", "1")


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(["bench", "samplers", *arguments])
    printed = capsys.readouterr()
    return int(ended.value.code or 0), printed.out, printed.err


def test_prints_and_writes(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A row for each sampler, the gain with noise, and three files."""
    code, out, _ = run(capsys, MBCONV, *SHORT, "--cap", "500M", "--noise", "0.5", "--out", str(tmp_path / "b"))
    assert code == 0
    assert "at most 500 M MACs" in out
    assert sum(line.startswith("aging-evolution") for line in out.splitlines()) == 4
    assert {path.name for path in (tmp_path / "b").iterdir()} == {"replays", "curves.csv", "levels.csv", "samplers.png"}


def test_json(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """One object, with the figures of each table."""
    code, out, _ = run(capsys, MBCONV, *SHORT, "--out", str(tmp_path), "--json")
    (one,) = json.loads(out)["tables"]
    assert code == 0
    assert set(one["after"]["random"]) == {"10", "12"}
    assert set(one["levels"]["random"]) == {"optimum", "0.02", "1%"}


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("nowhere.csv",), 2, "nowhere.csv"),
        ((MBCONV, "--samplers", "bayes"), 2, "bayes"),
        ((MBCONV, "--cap", "1M"), 3, "M MACs"),
        ((MBCONV, "--cap", "fast"), 2, "fast"),
        ((MBCONV, "--noise", "2.5"), 2, "2.5"),
        ((MBCONV, "--objective", "speed"), 2, "speed"),
        ((), 2, "--help"),
    ],
)
def test_mistakes(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: tuple[str, ...], code: int, said: str
) -> None:
    """The exit code, and one line on stderr."""
    found, _, err = run(capsys, *arguments, "--out", str(tmp_path / "b"))
    assert found == code
    assert said in err
    assert len(err.strip().splitlines()) == 1
