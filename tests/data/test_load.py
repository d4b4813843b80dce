"""`load_data`: the generated set, the cache, pickling, and wrong names."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nas.data import generated
from nas.data import torchvision_sets as torchvision_data
from nas.data.dataset import READER, ImageData, content_key
from nas.data.load import load_data
from nas.system.errors import InputError, NasError


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(generated, "TRAIN_IMAGES", 240)
    monkeypatch.setattr(generated, "VAL_IMAGES", 60)
    return tmp_path / "cache"


def same(a: ImageData, b: ImageData) -> bool:
    arrays = ("train_images", "train_labels", "val_images", "val_labels")
    return (
        a.key == b.key and a.classes == b.classes and all(np.array_equal(getattr(a, n), getattr(b, n)) for n in arrays)
    )


def test_pickle_is_a_path_and_in_memory_is_by_value(cache: Path) -> None:
    """A pickle for this machine is short and reopens; one for other machines holds the images and needs no cache."""
    data = load_data(None, 16)
    text = pickle.dumps(data)
    assert len(text) < 2000
    assert same(pickle.loads(text), data)
    apart = pickle.dumps(data.in_memory())
    assert len(apart) > data.train_images.nbytes
    for path in sorted(cache.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    assert same(pickle.loads(apart), data)


def test_second_load_is_the_cache_and_a_damaged_one_is_made_again(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole entry is not drawn again; a broken entry is replaced, not trusted."""
    first = load_data(None, 16).in_memory()
    with monkeypatch.context() as patch:
        patch.setattr(generated, "generate", lambda *_, **__: pytest.fail("drawn twice"))
        assert same(load_data(None, 16), first)
    (labels,) = cache.rglob("train_labels.npy")
    np.save(labels, np.zeros(3))
    assert same(load_data(None, 16), first)
    (about,) = cache.rglob("about.json")
    about.write_text("{")
    assert same(load_data(None, 16), first)
    assert len(list((cache / "data").iterdir())) == 1


def test_entries_of_an_earlier_reader_are_made_again_under_the_same_key(cache: Path) -> None:
    """Runs made with an earlier version resume: the key of the generated set, once called "embedded", is kept."""
    first = load_data(None, 16).in_memory()
    (about,) = cache.rglob("about.json")
    about.write_text(about.read_text().replace(f'"reader": {READER}, "name": "generated"', '"name": "embedded"'))
    again = load_data(None, 16)
    assert same(again, first)
    assert again.name == first.name == "generated"
    assert first.key == content_key("embedded", str(generated.VERSION), "16")


def test_unknown_name_lists_the_known_and_mentions_folders(cache: Path) -> None:
    """A wrong name is a one-line InputError that lists what may be given."""
    with pytest.raises(InputError, match="cifar10") as caught:
        load_data("cifar11", 16)
    assert "folder" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("size", [0, 7, 100_000, 24.0, True])
def test_size_is_bounded(cache: Path, size: Any) -> None:
    """No size asks for absurd memory."""
    with pytest.raises(InputError, match=rf"8 to 256.*{size}"):
        load_data(None, size)


def test_failed_download_is_one_clear_line(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without network a named set is a NasError that says what to do, not a traceback of urllib."""

    class Offline:
        def __init__(self, root: str, download: bool, **_: object) -> None:
            raise RuntimeError("not found" if not download else "<urlopen error\nno route>")

    monkeypatch.setattr(torchvision_data, "torchvision_datasets", lambda: type("module", (), {"CIFAR10": Offline}))
    with pytest.raises(NasError, match="folder of images") as caught:
        load_data("cifar10", 16)
    assert "\n" not in str(caught.value)


def test_named_set_becomes_arrays(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Images of a torchvision set keep their labels and split; greyscale becomes RGB; the limit is kept and noted."""
    from PIL import Image

    class Fake:
        classes = ("a", "b")

        def __init__(self, root: str, download: bool, train: bool) -> None:
            self.train = train

        def __len__(self) -> int:
            return 40 if self.train else 10

        def __getitem__(self, at: int) -> tuple[Image.Image, int]:
            return Image.new("L", (28, 28), 100 * (at % 2)), at % 2

    monkeypatch.setattr(torchvision_data, "torchvision_datasets", lambda: type("module", (), {"MNIST": Fake}))
    data = load_data("mnist", 16, limit=30)
    assert data.train_images.shape == (30, 16, 16, 3)
    assert data.val_images.shape == (10, 16, 16, 3)
    assert np.array_equal(data.train_images[:, 0, 0, 0], 100 * data.train_labels)
    (note,) = data.notes
    assert "30 of 40 training" in note


def test_torchvision_data_sets_can_be_imported() -> None:
    """torchvision works with a CPU-only PyTorch, and has every set that is offered."""
    assert torchvision_data.torchvision_datasets().CIFAR10.__name__ == "CIFAR10"
    for kind, *_ in torchvision_data.SETS.values():
        assert hasattr(torchvision_data.torchvision_datasets(), kind)
