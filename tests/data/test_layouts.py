"""Folders as people have them: names of splits, classes like splits, empty classes, odd names."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nas.data import images as files
from nas.data.load import load_data
from nas.system.errors import InputError

rng = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAS_CACHE", str(tmp_path / "cache"))


def picture() -> Image.Image:
    """An image like no other."""
    return Image.fromarray(rng.integers(0, 255, (12, 12, 3), np.uint8))


def fill(folder: Path, count: int = 10, suffix: str = ".png") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for at in range(count):
        picture().save(folder / f"{at:03}{suffix}")
    return folder


def split(root: Path, *names: str, classes: tuple[str, ...] = ("cat", "dog")) -> Path:
    for name in names:
        for label in classes:
            fill(root / name / label)
    return root


@pytest.mark.parametrize(
    ("folders", "held_out"),
    [
        (("Training", "Testing"), "Testing/"),
        (("training_set", "test_set"), "test_set/"),
        (("TRAIN", "VAL"), "VAL/"),
        (("trn", "dev"), "dev/"),
        (("train", "valid", "test"), "valid/"),
        (("Train Data", "Test-Data"), "Test-Data/"),
    ],
)
def test_splits_by_their_common_names(tmp_path: Path, folders: tuple[str, ...], held_out: str) -> None:
    """Row 3: the classes are those in the splits; val is preferred to test; what is used and what not is noted."""
    data = load_data(split(tmp_path / "set", *folders), 8)
    assert data.classes == ("cat", "dog")
    assert (len(data.train_labels), len(data.val_labels)) == (20, 20)
    (note,) = (note for note in data.notes if held_out in note)
    assert f"{folders[0]}/" in note
    assert any("not used: test" in note for note in data.notes) == (len(folders) == 3)


@pytest.mark.parametrize("names", [("fold1", "fold2"), ("seg_train/seg_train", "seg_test/seg_test", "seg_pred/x")])
def test_classes_that_are_splits_are_refused(tmp_path: Path, names: tuple[str, ...]) -> None:
    """Row 3: folders that hold the same folders are splits of unknown names; the error says what to rename them to."""
    with pytest.raises(InputError, match=r"cat, dog.* train and val"):
        load_data(split(tmp_path / "set", *names), 8)


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("name", ["train", "Test"])
def test_a_class_called_like_a_split_is_a_class(tmp_path: Path, name: str, nested: bool) -> None:
    """Row 4: a split has subfolders with images; a train on rails has images, and perhaps a few in a folder."""
    for label in ("bus", "car", name):
        fill(tmp_path / "vehicles" / label)
    if nested:
        fill(tmp_path / "vehicles" / name / "more", 2)
    assert sorted(load_data(tmp_path / "vehicles", 8).classes) == sorted(("bus", "car", name))


def test_held_out_images_without_labels_are_not_used(tmp_path: Path) -> None:
    """test/ with images but no classes, or with one folder of all images, is no held-out split."""
    root = split(tmp_path / "set", "train")
    fill(root / "test")
    fill(root / "val" / "images")
    data = load_data(root, 8)
    assert (len(data.train_labels), len(data.val_labels)) == (16, 4)
    assert any("not used: test, val" in note for note in data.notes)


def test_a_folder_in_a_folder_is_pointed_to(tmp_path: Path) -> None:
    """An archive unpacked into a folder of its own name: the error gives the folder that is meant."""
    split(tmp_path / "pets", "pets")
    with pytest.raises(InputError, match="pets/pets"):
        load_data(tmp_path / "pets", 8)


def test_an_empty_class_is_named(tmp_path: Path) -> None:
    """Row 6: it gets no label, which is said; so are other folders and files that are not images."""
    root = split(tmp_path, "set", classes=("a", "c")) / "set"
    (root / "b").mkdir()
    (root / "labels").mkdir()
    (root / "labels" / "a.txt").touch()
    (root / "a" / "notes.csv").touch()
    picture().save(root / "loose.png")
    data = load_data(root, 8)
    assert data.classes == ("a", "c")
    assert data.counts == (10, 10)
    told = "\n".join(data.notes)
    assert "b, labels (only .txt (1))" in told
    assert ".csv (1)" in told
    assert "1 images beside" in told


@pytest.fixture
def no_heif(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if pillow-heif were not installed."""
    for remembered in (files.suffixes, files.formats):
        remembered.cache_clear()
    monkeypatch.setattr("nas.data.images.has_heif", lambda: False)
    monkeypatch.setattr("nas.data.layout.has_heif", lambda: False)
    yield
    monkeypatch.undo()
    for remembered in (files.suffixes, files.formats):
        remembered.cache_clear()


def heic(folder: Path, count: int) -> None:
    from pillow_heif import from_pillow

    folder.mkdir(parents=True, exist_ok=True)
    for at in range(count):
        from_pillow(Image.new("RGB", (64, 64), (200, at, 10))).save(folder / f"x{at}.HEIC")


def test_photographs_of_phones_are_read(tmp_path: Path) -> None:
    """Row 6: HEIC through pillow-heif."""
    heic(tmp_path / "set" / "a", 10)
    fill(tmp_path / "set" / "b")
    data = load_data(tmp_path / "set", 8)
    assert data.counts == (10, 10)
    assert np.abs(data.train_images[data.train_labels == 0][:, :, :, 0].astype(int) - 200).max() < 10


@pytest.mark.parametrize(("missing", "others", "refused"), [(10, 0, True), (18, 12, True), (3, 40, False)])
@pytest.mark.usefixtures("no_heif")
def test_photographs_of_phones_need_a_package(tmp_path: Path, missing: int, others: int, refused: bool) -> None:
    """Row 6: without pillow-heif neither a class nor a part of it vanishes; the pip command is given."""
    heic(tmp_path / "set" / "a", missing)
    fill(tmp_path / "set" / "a", others)
    fill(tmp_path / "set" / "b")
    if refused:
        with pytest.raises(InputError, match=rf"heic \({missing}\).*pip install 'mbconv-nas\[heif\]'"):
            load_data(tmp_path / "set", 8)
        return
    data = load_data(tmp_path / "set", 8)
    assert any("3 of 53" in note and "pip install" in note for note in data.notes)


@pytest.mark.usefixtures("no_heif")
def test_a_photograph_with_the_wrong_suffix_is_explained(tmp_path: Path) -> None:
    """HEIC named .jpg, a git-lfs pointer and a web page each say what they are."""
    fill(tmp_path / "set" / "a")
    fill(tmp_path / "set" / "b")
    heic(tmp_path / "set" / "a", 1)
    (tmp_path / "set" / "a" / "x0.HEIC").rename(tmp_path / "set" / "a" / "0.jpg")
    for name, data in {"1": b"version https://git-lfs.github.com/spec/v1", "2": b"<!DOCTYPE html>"}.items():
        (tmp_path / "set" / "a" / f"{name}.jpg").write_bytes(data)
    (note,) = (note for note in load_data(tmp_path / "set", 8).notes if "3 of 23" in note)
    assert "pip install 'mbconv-nas[heif]'" in note
    assert "git lfs pull" in note
    assert "a web page" in note


@pytest.mark.parametrize("where", ["file", "class", "root"])
def test_names_that_are_not_utf8(tmp_path: Path, where: str) -> None:
    """Row 9: they are read, and what is kept of them can be written as JSON and printed."""
    root = tmp_path / (os.fsdecode(b"caf\xe9") if where == "root" else "set")
    fill(root / "a")
    fill(root / (os.fsdecode(b"b\xe9") if where == "class" else "b"))
    name = os.fsdecode(b"caf\xe9.jpg") if where == "file" else "x.jpg"
    (root / "a" / name).write_bytes(b"not an image")
    data = load_data(root, 8)
    assert data.counts == (10, 10)
    assert json.loads(json.dumps(data.classes)) == ["a", "b\udce9" if where == "class" else "b"]
    for text in (str(data), *data.notes):
        text.encode()
    assert load_data(root, 8).key == data.key


def test_the_name_is_of_the_folder_that_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row 8: a copy and a link have the key of the original, and names of their own."""
    first = load_data(split(tmp_path, "photos") / "photos", 8)
    (tmp_path / "photos").rename(tmp_path / "photos_v2")
    (tmp_path / "link").symlink_to("photos_v2")
    monkeypatch.chdir(tmp_path)
    for given in ("photos_v2", "photos_v2/", "link"):
        again = load_data(given, 8)
        assert (again.name, again.key) == (given.strip("/"), first.key)
    monkeypatch.chdir(tmp_path / "photos_v2")
    assert load_data(".", 8).name == "photos_v2"


def odd_places(root: Path) -> None:
    (root / "a" / "loop").symlink_to(root)  # a loop
    (root / "self").symlink_to("self")
    for name in ("A.PNG", "a.png"):  # differ in case only
        picture().save(root / "a" / name)
    fill(root / "a" / "deep" / "deeper", 2)


def odd_files(root: Path) -> None:
    picture().save(root / "a" / "jpeg.png", format="JPEG")  # the wrong suffix
    Image.new("RGB", (1, 1), (1, 2, 3)).save(root / "a" / "dot.png")
    frames = [Image.new("P", (9, 9), at) for at in range(3)]
    frames[0].save(root / "a" / "moving.gif", save_all=True, append_images=frames[1:])
    palette = picture().quantize(8)
    palette.save(root / "a" / "transparent.png", transparency=bytes(range(8)))


@pytest.mark.parametrize(("odd", "count"), [(odd_places, 14), (odd_files, 14)])
def test_odd_files_are_read(
    tmp_path: Path, odd: object, count: int, recwarn: pytest.WarningsRecorder, capfd: pytest.CaptureFixture[str]
) -> None:
    """Loops of links, names that differ in case, folders in a class, wrong suffixes, single pixels, animations and
    transparent palettes: all images count, and nothing reaches the terminal."""
    root = split(tmp_path, "set", classes=("a", "b")) / "set"
    odd(root)  # type: ignore[operator]
    assert load_data(root, 8).counts == (count, 10)
    assert not recwarn.list
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["line\nbreak", "\N{CAT FACE}", " space ", "%s{}", "-x", "con'\"quote"])
def test_odd_class_names(tmp_path: Path, name: str) -> None:
    """Every name of a folder is a name of a class, and printed on one line."""
    root = split(tmp_path, "set", classes=("a", name)) / "set"
    data = load_data(root, 8)
    assert set(data.classes) == {"a", name}
    assert "\n" not in str(data)


def test_a_folder_that_cannot_be_listed_is_an_input_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a folder without the right to read it, one line; folders inside are named."""
    root = split(tmp_path, "set") / "set"
    fill(root / "cat" / "locked", 2)
    listed = os.scandir
    locked: list[str] = [str(root / "cat" / "locked")]

    def scandir(path: str | Path) -> object:
        if str(path) in locked:
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert any("locked" in note for note in load_data(root, 8).notes)
    monkeypatch.setattr(Path, "iterdir", lambda self: scandir(locked[0]))
    with contextlib.suppress(PermissionError), pytest.raises(InputError, match="Permission denied"):
        load_data(root, 8)
