"""The images that int8 is fitted to and judged on: a user's own, scaled as the network expects them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nas.artifacts.quantize import Images
from nas.data import generated
from nas.data.load import MAX_SIZE, MIN_SIZE, load_data
from nas.data.pixels import normalisation
from nas.system.errors import InputError
from nas.system.progress import Step

FOR_RANGES, HELD_OUT = 256, 1000  # images at most


def int8_images(data: str | Path | None, resolution: int, scaled: str, progress: Step | None = None) -> Images:
    """Training images for the ranges, held-out ones for the accuracy.

    Args:
        data: as `nas.data.load.load_data` takes it; None are generated images, whose accuracy says little.
        resolution: of the network. Images are read at that size, at 256 pixels at most, then enlarged.
        scaled: name of the normalisation (`nas.data.pixels.NORMALISATIONS`).
        progress: told (done, total, text) while images are decoded.

    Raises:
        InputError: no such data or normalisation, or too few images.
        NasError: a download failed.
    """
    how = normalisation(scaled)
    size = min(max(resolution, MIN_SIZE), MAX_SIZE)
    note = None
    if data is None:
        name, classes = "generated images", len(generated.CLASSES)
        train, _ = generated.generate(FOR_RANGES, size, seed=1)
        held_out, labels = generated.generate(HELD_OUT, size, seed=2)
        note = "they are generated: what int8 costs on real images may be more; give --data"
    else:
        found = load_data(data, size, progress, limit=HELD_OUT)
        name, classes = found.name, len(found.classes)
        spread = np.linspace(0, len(found.train_images), min(FOR_RANGES, len(found.train_images)), endpoint=False)
        mixed = np.random.Generator(np.random.PCG64(0)).permutation(spread.astype(np.int64))  # they lie by class
        train, held_out, labels = found.train_images[mixed], found.val_images, found.val_labels
    return Images(name, classes, train, held_out, labels, lambda images: how(images, resolution), str(how), note)


def no_images(what: str) -> InputError:
    """The refusal to quantise without images."""
    return InputError(
        f"int8 reads the ranges of activations off images, and {what}; give --data FOLDER or a data set's name"
    )
