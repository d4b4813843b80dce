"""`load_data`: a folder of images, a downloadable set or the generated set, as `ImageData`."""

from __future__ import annotations

from pathlib import Path

from nas.data import folder, generated, torchvision_sets
from nas.data.dataset import MAX_IMAGES, ImageData, cached, content_key
from nas.system.errors import InputError, known
from nas.system.progress import Step, no_step
from nas.system.validate import whole_number

MIN_SIZE, MAX_SIZE = 8, 256


def load_data(spec: str | Path | None, size: int, progress: Step = no_step, limit: int = MAX_IMAGES) -> ImageData:
    """Read, decode, resize and cache a data set.

    Args:
        spec: a folder with one subfolder per class, or with ``train/`` and ``val/`` folders of such subfolders, or
            other common names of splits (``test/`` is used if there is no ``val/``); the name of a downloadable set; or
            None for the generated set. Write ``./cifar10`` for a folder called like a downloadable set.
        size: side in pixels to which the images are resized.
        progress: called as (done, total, text) while images are decoded.
        limit: largest number of images to read. From a larger set an even share of every class is used, always the
            same images.

    Raises:
        InputError: no such folder or data set; too few classes or images; more than 10 files and 10 % of all cannot be
            read.
        NasError: a download failed.

    >>> import os, tempfile
    >>> from unittest.mock import patch
    >>> from PIL import Image
    >>> with tempfile.TemporaryDirectory() as root, patch.dict(os.environ, NAS_CACHE=f"{root}/cache"):
    ...     for name in ("cat", "dog"):
    ...         os.makedirs(f"{root}/pets/{name}")
    ...         for at in range(10):
    ...             colour = (10 * at, 0, 9 * (name == "cat"))
    ...             Image.new("RGB", (20, 16), colour).save(f"{root}/pets/{name}/{at}.png")
    ...     print(load_data(f"{root}/pets", 8))
    pets (2 classes, 16 training and 4 held-out images, 8 px)
    """
    whole_number("size of the images in pixels", size, MIN_SIZE, MAX_SIZE)
    if spec is None:
        return _generated(size, progress)
    if isinstance(spec, str) and spec in torchvision_sets.SETS:
        return torchvision_sets.load(spec, size, progress, limit)
    path = Path(spec).expanduser()
    if path.is_dir():
        return folder.load(path, size, progress, limit)
    raise InputError(
        f"data must be a folder of images, one subfolder per class, or a data set, got {str(spec)!r:.200}; "
        f"{known(torchvision_sets.SETS)}"
    )


def _generated(size: int, progress: Step) -> ImageData:
    def make() -> ImageData:
        progress(0, 1, "generating images")
        train = generated.generate(generated.TRAIN_IMAGES, size, seed=1)
        val = generated.generate(generated.VAL_IMAGES, size, seed=2)
        progress(1, 1, "generating images")
        notes = ("generated images: they rank networks only roughly",)
        return ImageData("generated", generated.CLASSES, *train, *val, key, notes, generated=True)

    key = content_key("embedded", str(generated.VERSION), str(size))  # its earlier name, so that old runs can resume
    return cached(key, make)
