"""What is in the files: pixel scales of a set, copies, broken and huge files."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nas.data import folder
from nas.data.load import load_data
from nas.data.scale import scale_of
from nas.system.errors import InputError
from tests.data.test_layouts import fill, split


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAS_CACHE", str(tmp_path / "cache"))


def grey_set(root: Path, suffix: str, kind: type, tops: list[float]) -> Path:
    """Two classes of uniform images: in one all of half the first value, in the other those given, by turns."""
    for name, values in (("half", [tops[0] / 2] * 20), ("full", [tops[at % len(tops)] for at in range(20)])):
        (root / name).mkdir(parents=True)
        for at, value in enumerate(values):
            Image.fromarray(np.full((16, 17 + at), value, kind)).save(root / name / f"{at:02}{suffix}")
    return root


@pytest.mark.parametrize(
    ("suffix", "kind", "tops", "note", "white", "half", "clipped"),
    [
        (".tif", np.float32, [1.0, 1.02], "floating-point images are scaled by 1", 255, 128, True),
        (".tif", np.int32, [255, 256], "32-bit images are scaled by 255", 255, 127, True),
        (".png", np.uint16, [4095, 4000], "16-bit images are scaled by 4095", 249, 127, False),
        (".png", np.uint16, [65535, 257], "16-bit images are scaled by 65535", 1, 127, False),
        (".tif", np.float32, [1.0, -1.0], "floating-point images are scaled from -1 to 1", 0, 191, False),
        (".tif", np.float32, [200.0, 250.0], "floating-point images are scaled by 255", 200, 100, False),
        (".tif", np.int16, [3000, -1000], "32-bit images are scaled from -1000 to 3000", 0, 159, False),
    ],
)
def test_one_scale_for_a_set(
    tmp_path: Path, suffix: str, kind: type, tops: list[float], note: str, white: int, half: int, clipped: bool
) -> None:
    """Row 5: decided once over all files and printed; no image is scaled by its own maximum, and files with values
    outside the scale are named."""
    data = load_data(grey_set(tmp_path / "set", suffix, kind, tops), 8)
    images = np.concatenate([data.train_images, data.val_images])
    labels = np.concatenate([data.train_labels, data.val_labels])
    assert note in data.notes
    assert np.abs(images[labels == 1].astype(int) - half).max() <= 1
    assert {int(image[0, 0, 0]) for image in images[labels == 0]} >= {white}
    assert any("10 of 40 files: full/01.tif" in note for note in data.notes) == clipped


def test_the_scale_is_in_the_key_only_where_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs on 8-bit images made by earlier versions resume; those with a scale are read again."""
    plain = split(tmp_path, "plain") / "plain"
    deep = grey_set(tmp_path / "deep", ".png", np.uint16, [65535])
    before = [load_data(root, 8).key for root in (plain, deep)]
    monkeypatch.setattr(folder, "SCALE_VERSION", "later")
    after = [load_data(root, 8).key for root in (plain, deep)]
    assert [a == b for a, b in zip(before, after, strict=True)] == [True, False]


def test_the_key_of_8_bit_images_never_changes(tmp_path: Path) -> None:
    """The key that version 0.1 gave this folder."""
    for label in ("a", "b"):
        (tmp_path / "set" / label).mkdir(parents=True)
        for at in range(10):
            header = f"P6 4 4 255\n{label}{at:02}".encode()
            (tmp_path / "set" / label / f"{at}.ppm").write_bytes(header.ljust(60, b"."))
    assert load_data(tmp_path / "set", 8).key == "c63b739232f284f5"


@pytest.mark.parametrize(
    ("low", "high", "scale"),
    [(0, 3, "by 3"), (0, 100, "by 255"), (0, 70_000, "by 131071"), (0, 0, "by 1"), (-5, -2, "from -5 to -2")],
)
def test_scales_of_unusual_ranges(low: float, high: float, scale: str) -> None:
    """Few levels are labels; a range is never empty."""
    assert str(scale_of("32-bit", low, high)) == scale


def test_a_single_bright_file_is_named(tmp_path: Path) -> None:
    """One file of 16 bits among 40 of 12 makes the others dark: that is said."""
    root = grey_set(tmp_path / "set", ".png", np.uint16, [4095])
    Image.fromarray(np.full((16, 16), 65535, np.uint16)).save(root / "full" / "odd.png")
    assert any("1 of 41" in note and "full/odd.png" in note for note in load_data(root, 8).notes)


def same_image(one: np.ndarray, others: np.ndarray) -> bool:
    return any(np.array_equal(one, other) for other in others)


@pytest.mark.parametrize("given", [False, True])
def test_copies_are_on_one_side(tmp_path: Path, given: bool) -> None:
    """Row 7: no held-out image was trained on, whether we divide the folder or it comes divided; that is noted."""
    root = split(tmp_path / "set", *(("train", "val") if given else (".",)))
    for path in sorted(root.rglob("*.png")):
        if given:
            if "train" in path.parts and path.stem < "005":
                shutil.copy(path, root / "val" / path.parent.name / f"copy of {path.name}")
        else:
            shutil.copy(path, path.with_name(f"{path.stem} (1).png"))
    data = load_data(root, 8)
    assert not any(same_image(image, data.train_images) for image in data.val_images)
    assert data.counts == (20, 20)
    assert np.bincount(data.val_labels).min() >= (10 if given else 4)
    assert any(("10 held-out" if given else "had copies") in note for note in data.notes)


def test_only_copies_is_too_few(tmp_path: Path) -> None:
    """A class of one image many times has nothing to hold out: an error that says why."""
    root = split(tmp_path, "set") / "set"
    for path in (root / "cat").iterdir():
        shutil.copy(root / "cat" / "000.png", path) if path.stem != "000" else None
    with pytest.raises(InputError, match=r"'cat'.* copies"):
        load_data(root, 8)


def test_an_image_with_two_labels_is_left_out(tmp_path: Path) -> None:
    """Row 7: its files are named, and neither is used."""
    root = split(tmp_path, "set") / "set"
    fill(root / "dog", 12)
    fill(root / "cat", 12)
    shutil.copy(root / "cat" / "003.png", root / "dog" / "x.png")
    data = load_data(root, 8)
    assert data.counts == (11, 12)
    assert any("cat/003.png; dog/x.png" in note for note in data.notes)


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def test_one_truncated_file_in_a_small_folder_is_left_out(tmp_path: Path) -> None:
    """Row 15: wherever it falls, the search goes on, and the file is named; every class keeps two held-out images."""
    for at in range(12):
        root = split(tmp_path / f"set{at}", ".")
        fill(root / "cat", 12)
        fill(root / "dog", 12)
        truncated(root / "cat" / f"{at:03}.png")
        data = load_data(root, 8)
        assert data.counts == (11, 12)
        assert np.bincount(data.val_labels).min() == 2
        assert any(f"1 of 24 files cannot be read: cat/{at:03}.png" in note for note in data.notes)


@pytest.mark.parametrize(("count", "bad", "match"), [(60, 13, r"13 of 120"), (10, 1, "'cat'.* 9 ")])
def test_too_many_unreadable_files_are_an_error(tmp_path: Path, count: int, bad: int, match: str) -> None:
    """More than 10 files and 10 % of all, or too few left in a class; one line that names some."""
    for label in ("cat", "dog"):
        fill(tmp_path / "set" / label, count)
    for at in range(bad):
        (tmp_path / "set" / "cat" / f"{at:03}.png").write_bytes(f"not an image\n{at}".encode())
    with pytest.raises(InputError, match=match) as caught:
        load_data(tmp_path / "set", 8)
    assert "cat/000.png" in str(caught.value)
    assert "\n" not in str(caught.value)


def huge_jpeg(path: Path) -> None:
    Image.new("RGB", (12_000, 9_000), (200, 100, 50)).save(path, quality=50)


def test_a_photograph_of_108_megapixels_is_read_at_reduced_size(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    """Row 15: it is not left out, and Pillow's warning does not reach the terminal."""
    root = split(tmp_path, "set") / "set"
    huge_jpeg(root / "cat" / "huge.jpg")
    data = load_data(root, 8)
    assert data.counts == (11, 10)
    assert not recwarn.list
    both = np.concatenate([data.train_images, data.val_images])
    assert any(np.abs(image.astype(int) - (200, 100, 50)).max() < 6 for image in both)
