"""The cache is listed and cleared by kind and age, and nothing else is touched."""

import ast
import os
import re
import time
from pathlib import Path

import pytest

from nas.data.torchvision_sets import SETS
from nas.latency.table.cache import cached_path
from nas.system.cache import KINDS, LEFTOVER_S, Entry, entries, remove
from nas.system.errors import InputError
from nas.system.files import cache_folder, cache_root

DAY_S = 86400.0
HASH = "0123456789abcdef"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NAS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def file(path: Path, size: int = 10, age_s: float = 0.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    return aged(path, age_s)


def aged(path: Path, age_s: float) -> Path:
    os.utime(path, (time.time() - age_s,) * 2)
    return path


def names(found: list[Entry]) -> list[str]:
    return [f"{entry.kind}/{entry.path.name}" for entry in found]


def test_every_kind_that_the_code_caches_is_known() -> None:
    """The argument of each call of `cache_folder` is a literal, and the name of a kind."""
    used = set()
    for path in (Path(__file__).parents[2] / "nas").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", None) == "cache_folder":
                assert isinstance(node.args[0], ast.Constant), path
                used.add(node.args[0].value)
    assert used == {kind.name for kind in KINDS}


def test_the_patterns_match_what_the_code_writes(root: Path) -> None:
    patterns = {kind.name: kind.pattern for kind in KINDS}
    assert all(re.fullmatch(patterns["downloads"], name) for name in SETS)
    for name in ("0" * 24, f"agent-{'0' * 24}"):
        table = cached_path(name)
        assert table is not None
        assert re.fullmatch(patterns["latency"], table.name)
        assert re.fullmatch(patterns["latency"], table.with_suffix(".0.part.json").name)


def test_an_entry_is_a_file_or_a_folder_with_all_it_holds(root: Path) -> None:
    file(root / "anchor" / f"{HASH}.json", 7)
    file(root / "data" / HASH / "about.json", 20)
    file(root / "data" / HASH / "train.npy", 300)
    found = entries()
    assert names(found) == [f"anchor/{HASH}.json", f"data/{HASH}"]
    assert [entry.size for entry in found] == [7, 320]


def test_kind_and_age_choose_entries(root: Path) -> None:
    """A folder is as young as the youngest file in it."""
    file(root / "weights" / HASH[:12] / "a.pth", age_s=40 * DAY_S)
    aged(root / "weights" / HASH[:12], 40 * DAY_S)
    file(root / "downloads" / "cifar10" / "old", age_s=40 * DAY_S)
    file(root / "downloads" / "cifar10" / "new")
    aged(root / "downloads" / "cifar10", 40 * DAY_S)
    assert names(entries()) == ["downloads/cifar10", f"weights/{HASH[:12]}"]
    assert names(entries(["downloads"])) == ["downloads/cifar10"]
    assert names(entries(older_than_s=30 * DAY_S)) == [f"weights/{HASH[:12]}"]
    with pytest.raises(InputError, match=r"'photos'.*weights"):
        entries(["photos"])


def test_files_that_are_not_ours_are_neither_listed_nor_removed(root: Path) -> None:
    """NAS_CACHE may point to a folder that people use for other things, too."""
    mine = [
        *(file(root / "data" / "holiday" / "photo.jpg"), file(root / "downloads" / "thesis.pdf")),
        *(file(root / "notes.txt"), file(root / "other" / HASH / "x"), file(root / "latency" / "notes.json")),
    ]
    file(root / "data" / HASH / "about.json")
    for entry in entries():
        remove(entry)
    assert not (root / "data" / HASH).exists()
    assert all(path.is_file() for path in mine)


def test_links_are_not_followed(root: Path, tmp_path: Path) -> None:
    """Neither a kind, nor an entry, nor what is inside an entry."""
    outside = file(tmp_path / "outside" / f"{HASH}.json")
    root.mkdir()
    (root / "anchor").symlink_to(tmp_path / "outside")
    (root / "data").mkdir()
    (root / "data" / HASH).symlink_to(tmp_path / "outside")
    file(root / "weights" / HASH[:12] / "a.pth", 10)
    (root / "weights" / HASH[:12] / "link").symlink_to(tmp_path / "outside")
    found = entries()
    assert [(name, entry.size) for name, entry in zip(names(found), found, strict=True)] == [
        (f"weights/{HASH[:12]}", 10)
    ]
    remove(found[0])
    remove(Entry("data", root / "data" / HASH, 0, 0.0))  # became a link after it was listed
    assert list((root / "weights").iterdir()) == []
    assert outside.is_file()


def test_what_is_being_written_is_left_alone_and_what_was_never_finished_is_not(root: Path) -> None:
    writing = file(root / "latency" / f".{'0' * 24}.json.ab12_x")
    abandoned = file(root / "data" / f".{HASH}.ab12_x" / "train.npy", age_s=LEFTOVER_S + 60)
    aged(abandoned.parent, LEFTOVER_S + 60)
    found = entries()
    assert [entry.path for entry in found] == [abandoned.parent]
    remove(found[0])
    assert writing.is_file()
    assert not abandoned.parent.exists()


def test_an_entry_that_another_process_removed_is_no_error(root: Path) -> None:
    path = file(root / "anchor" / f"{HASH}.json")
    (entry,) = entries()
    path.unlink()
    remove(entry)
    remove(Entry("data", root / "data" / HASH, 0, 0.0))


def test_an_open_file_outlives_its_entry(root: Path) -> None:
    path = file(root / "data" / HASH / "train.npy", 5)
    with path.open("rb") as reader:
        remove(entries()[0])
        assert reader.read() == b"xxxxx"
    assert not path.exists()


def test_the_cache_folder_is_that_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAS_CACHE", str(tmp_path / "own"))
    assert cache_root() == tmp_path / "own"
    assert entries() == []
    assert not cache_root().exists(), "looking does not create it"
    assert cache_folder("data") == tmp_path / "own" / "data"
    monkeypatch.delenv("NAS_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_root() == tmp_path / "xdg" / "nas"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_root() == Path.home() / ".cache" / "nas"
