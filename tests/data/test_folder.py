"""Folders of images: any mode and format, broken files, layouts, and too few classes or images."""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nas.data import images as files
from nas.data.load import load_data
from nas.data.scale import scaled
from nas.system.errors import InputError

RED, BLUE = (250, 10, 10), (10, 10, 250)


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAS_CACHE", str(tmp_path / "cache"))


def write_classes(root: Path, count: int = 12, names: tuple[str, ...] = ("red", "blue"), first: int = 0) -> Path:
    for name in names:
        (root / name).mkdir(parents=True)
        for at in range(count):
            colour = RED if name == "red" else BLUE
            Image.new("RGB", (20 + at + first, 16), colour).save(root / name / f"{at:03}.png")
    return root


def test_flat_folder_is_split_with_the_right_labels(tmp_path: Path) -> None:
    """Every image goes to exactly one side, keeps its class, and a fifth of each class is held out."""
    data = load_data(write_classes(tmp_path / "set", 20), 8)
    assert data.classes == ("blue", "red")
    assert data.train_images.shape == (32, 8, 8, 3)
    assert data.val_images.shape == (8, 8, 8, 3)
    for images, labels in ((data.train_images, data.train_labels), (data.val_images, data.val_labels)):
        assert np.array_equal(images[:, 4, 4, 0] > 128, labels == 1)
        assert np.bincount(labels).min() == len(labels) // 2


def test_train_and_val_folders_are_used_as_given(tmp_path: Path) -> None:
    """Nothing is moved between train/ and val/."""
    write_classes(tmp_path / "set" / "train", 9)
    write_classes(tmp_path / "set" / "val", 3, first=50)
    data = load_data(tmp_path / "set", 8)
    assert (len(data.train_images), len(data.val_images)) == (18, 6)


def test_same_folder_same_key_and_any_byte_changes_it(tmp_path: Path) -> None:
    """The key follows content, not time or place."""
    root = write_classes(tmp_path / "set")
    first = load_data(root, 8)
    os.utime(root / "red" / "000.png", (1, 1))
    assert load_data(root, 8).key == first.key
    moved = root.rename(tmp_path / "elsewhere")
    assert load_data(moved, 8).key == first.key
    assert load_data(moved, 12).key != first.key
    Image.new("RGB", (16, 16), (0, 255, 0)).save(moved / "red" / "000.png")
    assert load_data(moved, 8).key != first.key


def modes() -> dict[str, Image.Image]:
    grey16 = Image.fromarray(np.full((16, 16), 200 * 257, np.uint16))
    palette = Image.new("RGB", (16, 16), (200, 200, 200)).quantize(4)
    return {
        "rgb.jpg": Image.new("RGB", (300, 160), (200, 200, 200)),
        "grey.png": Image.new("L", (16, 16), 200),
        "grey16.png": grey16,
        "int32.tif": Image.fromarray(np.full((16, 16), 200 * 257, np.int32)),
        "float.tif": Image.fromarray(np.full((16, 16), 200 / 255, np.float32)),
        "palette.gif": palette,
        "bilevel.png": Image.new("1", (16, 16), 1),
        "rgba.png": Image.new("RGBA", (16, 16), (200, 200, 200, 255)),
        "cmyk.jpg": Image.new("CMYK", (16, 16), (0, 0, 0, 55)),
        "ycc.webp": Image.new("RGB", (16, 16), (200, 200, 200)),
        "bitmap.bmp": Image.new("RGB", (3, 200), (200, 200, 200)),
    }


@pytest.mark.parametrize("name", modes())
def test_every_mode_comes_out_as_the_same_colour(tmp_path: Path, name: str) -> None:
    """Grey 200 of 255 is grey 200 in every mode and format, except that the bilevel image is white."""
    path = tmp_path / name
    modes()[name].save(path)
    image = files.decode(path.read_bytes(), 8)
    if isinstance(image, files.Unscaled):
        image = scaled({0: image}, [name])[0][0]
    assert image.shape == (8, 8, 3)
    assert np.abs(image.astype(int) - (255 if name == "bilevel.png" else 200)).max() <= 4


def test_orientation_of_the_camera_is_applied(tmp_path: Path) -> None:
    """A photo stored on its side is turned upright: the red half is on top."""
    stored = np.zeros((32, 32, 3), np.uint8)
    stored[:, :16] = RED  # red on the left; turning by 90 degrees clockwise brings it to the top
    image = Image.fromarray(stored)
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "a.png", exif=exif)
    upright = files.decode((tmp_path / "a.png").read_bytes(), 8)
    assert upright[1, :, 0].min() > 200
    assert upright[6, :, 0].max() < 50


def test_transparent_pixels_do_not_show_what_hides_under_them(tmp_path: Path) -> None:
    """Full transparency is mid-grey, whatever colour is stored below."""
    Image.new("RGBA", (16, 16), (255, 0, 0, 0)).save(tmp_path / "a.png")
    assert np.abs(files.decode((tmp_path / "a.png").read_bytes(), 8).astype(int) - 128).max() <= 1


@pytest.mark.parametrize("link", [False, True])
@pytest.mark.parametrize("kind", ["fifo", "socket"])
def test_only_regular_files_are_read(tmp_path: Path, kind: str, link: bool) -> None:
    """A FIFO would be waited for: like a socket, and like a link to either, it counts as unreadable and is named."""
    root = write_classes(tmp_path / "set", 50)
    path = root / "red" / "050.jpg"
    special = tmp_path / "special" if link else path
    if kind == "fifo":
        os.mkfifo(special)
    else:
        with socket.socket(socket.AF_UNIX) as bound, contextlib.chdir(special.parent):
            bound.bind(special.name)  # a short name: that of a socket holds about 100 bytes
    if link:
        path.symlink_to(special)
    data = load_data(root, 8)
    assert len(data.train_images) + len(data.val_images) == 100
    assert any("1 of 101" in note and "red/050.jpg" in note for note in data.notes)


def test_links_to_images_are_followed(tmp_path: Path) -> None:
    """A link to a regular file is that file; a link to nothing is unreadable."""
    root = write_classes(tmp_path / "set", 60)
    (root / "red" / "000.png").rename(tmp_path / "image.png")
    (root / "red" / "000.png").symlink_to(tmp_path / "image.png")
    assert not any("cannot be read" in note for note in load_data(root, 8).notes)
    (tmp_path / "image.png").unlink()
    assert any("red/000.png" in note for note in load_data(root, 8).notes)


def test_other_files_are_ignored(tmp_path: Path) -> None:
    """Hidden files and folders and other kinds of files are ignored; nested folders are read."""
    root = write_classes(tmp_path / "set")
    (root / "red" / ".hidden.png").write_bytes(b"x")
    (root / "red" / "notes.txt").write_text("x")
    (root / ".thumbs").mkdir()
    (root / "labels.csv").write_text("x")
    (root / "red" / "more").mkdir()
    Image.new("RGB", (16, 16), RED).save(root / "red" / "more" / "x.PNG")
    data = load_data(root, 8)
    assert len(data.train_images) + len(data.val_images) == 25


def test_too_many_pixels_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A decompression bomb is a broken file, found before it is unpacked."""
    monkeypatch.setattr(files, "MAX_PIXELS", 1000)
    Image.new("L", (100, 100)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match="pixels"):
        files.decode((tmp_path / "a.png").read_bytes(), 8)


def test_a_sliver_costs_no_memory(tmp_path: Path) -> None:
    """The middle square is cut before resizing: a 1-pixel-high image does not grow to gigabytes."""
    Image.new("RGB", (60_000, 1), RED).save(tmp_path / "a.png")
    assert files.decode((tmp_path / "a.png").read_bytes(), 32).shape == (32, 32, 3)


def test_limit_takes_an_even_share_and_says_so(tmp_path: Path) -> None:
    """From too many images the same even share is taken every time, before any is decoded."""
    root = write_classes(tmp_path / "set", 50)
    data = load_data(root, 8, limit=20)
    assert np.bincount(data.train_labels).tolist() == [10, 10]
    assert any("20 of 80" in note for note in data.notes)
    assert np.array_equal(load_data(root, 8, limit=20).train_images, data.train_images)


def test_progress_reaches_the_end(tmp_path: Path) -> None:
    """Progress counts up to its total."""
    seen: list[tuple[int, int, str]] = []
    load_data(write_classes(tmp_path / "set"), 8, progress=lambda *args: seen.append(args))
    assert seen[-1][:2] == (24, 24)
    assert {text for *_, text in seen} == {"reading images", "decoding images"}


def test_too_little_says_how_much_is_needed(tmp_path: Path) -> None:
    """No class, one class, too few images, few held-out images, a held-out class without training images."""
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty.* 0 .*\b2\b"):
        load_data(tmp_path / "empty", 8)
    with pytest.raises(InputError, match=r"one.* 1 .*\b2\b"):
        load_data(write_classes(tmp_path / "one", names=("red",)), 8)
    with pytest.raises(InputError, match=r"'blue'.* 4 .*\b10\b"):
        load_data(write_classes(tmp_path / "few", 4), 8)
    write_classes(tmp_path / "thin" / "train")
    write_classes(tmp_path / "thin" / "val", 1)
    with pytest.raises(InputError, match=r"'blue'.* 1 held-out.*\b2\b"):
        load_data(tmp_path / "thin", 8)
    write_classes(tmp_path / "odd" / "train")
    write_classes(tmp_path / "odd" / "val", names=("red", "green"))
    with pytest.raises(InputError, match="'green'"):
        load_data(tmp_path / "odd", 8)
    with pytest.raises(InputError, match="absent"):
        load_data(tmp_path / "absent", 8)


def test_formats_that_start_other_programs_are_not_opened() -> None:
    """EPS would run Ghostscript."""
    assert "EPS" not in files.formats()
    assert ".eps" not in files.suffixes()
    assert {".jpg", ".png", ".webp", ".bmp", ".tif"} <= files.suffixes()
