"""`load_data`: a folder of images, a downloadable set or the generated one, as one `ImageData`."""

from __future__ import annotations

from pathlib import Path

from nas.data import folder, generated, torchvision_sets
from nas.data.dataset import MAX_IMAGES, ImageData, cached, content_key
from nas.system.errors import InputError
from nas.system.progress import Step

MIN_SIZE, MAX_SIZE = 8, 256


def load_data(spec: str | Path | None, size: int, progress: Step | None = None, limit: int = MAX_IMAGES) -> ImageData:
    """Read, decode, resize and cache a data set.

    Args:
        spec: None for the embedded set; a folder with one subfolder per class, or ``train/`` and ``val/`` of those;
        or the
            name of a downloadable set. A folder that has the name of one is written ``./cifar10``.
        size: side of the square images kept, pixels.
        progress: told (done, total, text) while images are decoded.
        limit: images read at most; of more, an even share of every class is taken, always the same.

    Raises:
        InputError: no such folder or name; too few classes or images; more than 1 % unreadable files.
        NasError: a download failed.
    """
    if not MIN_SIZE <= size <= MAX_SIZE:
        raise InputError(f"the size of proxy images must be from {MIN_SIZE} to {MAX_SIZE} pixels, got {size!r}")
    if spec is None:
        return _embedded(size, progress)
    if isinstance(spec, str) and spec in torchvision_sets.SETS:
        return torchvision_sets.load(spec, size, progress, limit)
    path = Path(spec).expanduser()
    if path.is_dir():
        return folder.load(path, size, progress, limit)
    raise InputError(
        f"data is neither a folder nor a known set, got {str(spec)!r}; "
        f"give a folder of images, one subfolder per class, or a name; known: {', '.join(torchvision_sets.SETS)}"
    )


def _embedded(size: int, progress: Step | None) -> ImageData:
    def make() -> ImageData:
        if progress:
            progress(0, 1, "drawing the embedded images")
        train = generated.generate(generated.TRAIN_IMAGES, size, seed=1)
        val = generated.generate(generated.VAL_IMAGES, size, seed=2)
        if progress:
            progress(1, 1, "drawing the embedded images")
        notes = ("generated images: they rank networks only roughly",)
        return ImageData("embedded", generated.CLASSES, *train, *val, key, notes, generated=True)

    key = content_key("embedded", str(generated.VERSION), str(size))
    return cached(key, make)
