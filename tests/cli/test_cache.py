"""`nas cache` as people and programs use it."""

import json
import os
import time
from pathlib import Path

import pytest

from nas.cli.main import main

HASH = "0123456789abcdef"


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as caught:
        main(["cache", *arguments])
    out, err = capsys.readouterr()
    return int(caught.value.code or 0), out, err


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An old table and new images."""
    monkeypatch.setenv("NAS_CACHE", str(tmp_path))
    table, images = tmp_path / "latency" / f"{'0' * 24}.json", tmp_path / "data" / HASH / "train.npy"
    for path, size in ((table, 2_000), (images, 3_000_000)):
        path.parent.mkdir(parents=True)
        path.write_bytes(b"x" * size)
    os.utime(table, (time.time() - 40 * 86400,) * 2)
    return tmp_path


def test_the_list_has_kinds_with_entries_sizes_and_dates(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys)
    assert code == 0
    head, images, table = out.splitlines()
    assert str(root) in head
    assert "2 entries" in head
    assert images.split()[:4] == ["data", "1", "3", "MB"]
    assert table.split()[:4] == ["latency", "1", "2", "kB"]
    facts = json.loads(run(capsys, "--json")[1])
    assert (facts["folder"], facts["entries"], facts["bytes"]) == (str(root), 2, 3_002_000)
    assert facts["kinds"]["latency"]["oldest"] == facts["kinds"]["latency"]["newest"] < facts["kinds"]["data"]["oldest"]


def test_clearing_by_age_removes_what_the_list_by_age_shows(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = json.loads(run(capsys, "--older-than", "30d", "--json")[1])
    assert list(shown["kinds"]) == ["latency"]
    code, out, _ = run(capsys, "--clear", "--older-than", "30d", "--json")
    assert code == 0
    assert json.loads(out) == shown
    assert [path.name for path in root.rglob("*") if path.is_file()] == ["train.npy"]


def test_clearing_by_kind_prints_what_was_freed(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--clear", "data")
    assert code == 0
    assert "3 MB in 1 entry" in out
    assert json.loads(run(capsys, "--json")[1])["entries"] == 1
    assert run(capsys, "--clear")[0] == 0
    assert json.loads(run(capsys, "--json")[1])["entries"] == 0


def test_an_entry_that_cannot_be_removed_is_named_and_the_others_go(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    unlink = Path.unlink

    def refuse(path: Path, missing_ok: bool = False) -> None:
        if path.suffix == ".json":
            raise PermissionError(13, "Permission denied")
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", refuse)
    code, out, err = run(capsys, "--clear")
    assert code == 1
    assert "1 entry" in out
    assert f"{'0' * 24}.json: Permission denied" in err
    assert not (root / "data" / HASH).exists()


@pytest.mark.parametrize(
    ("arguments", "named"), [(["photos"], ("'photos'", "weights")), (["--older-than", "long"], ("'long'", "10m"))]
)
def test_bad_input_removes_nothing(
    arguments: list[str], named: tuple[str, ...], root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = run(capsys, "--clear", *arguments)
    assert code == 2
    assert all(part in err for part in named)
    assert len([path for path in root.rglob("*") if path.is_file()]) == 2
