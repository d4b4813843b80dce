"""Reads the images that int8 is fitted to and evaluated on, scaled as the network expects them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nas.artifacts.quantize import Int8Images
from nas.data import generated
from nas.data.load import MAX_SIZE, MIN_SIZE, load_data
from nas.data.pixels import normalisation
from nas.system.errors import InputError
from nas.system.progress import Step, no_step

RANGE_IMAGES, HELD_OUT = 256, 1000  # at most


def int8_images(data: str | Path | None, resolution: int, scaling: str, progress: Step = no_step) -> Int8Images:
    """Training images that set the ranges of activations, and held-out images for the accuracy.

    Args:
        data: folder or data set, as `nas.data.load.load_data` takes it; None for generated images.
        resolution: side of the network's input in pixels. Images are read at that size, but at no more than 256 pixels,
            and enlarged if need be.
        scaling: name of the normalisation (`nas.data.pixels.NORMALISATIONS`).
        progress: called as (done, total, text) while images are decoded.

    Raises:
        InputError: no such data or normalisation, or too few images.
        NasError: a download failed.
    """
    how = normalisation(scaling)
    size = min(max(resolution, MIN_SIZE), MAX_SIZE)
    note = None
    class_names: tuple[str, ...] = ()
    if data is None:
        name, classes = "generated images", len(generated.CLASSES)
        train, _ = generated.generate(RANGE_IMAGES, size, seed=1)
        held_out, labels = generated.generate(HELD_OUT, size, seed=2)
        note = "on photographs int8 may lose more than on generated images; give --data"
    else:
        loaded = load_data(data, size, progress, limit=HELD_OUT)
        name, classes, class_names = loaded.name, len(loaded.classes), loaded.classes
        spread = np.linspace(0, len(loaded.train_images), min(RANGE_IMAGES, len(loaded.train_images)), endpoint=False)
        # Images are sorted by class; their ranges are averaged over groups, which should mix the classes.
        mixed = np.random.Generator(np.random.PCG64(0)).permutation(spread.astype(np.int64))
        train, held_out, labels = loaded.train_images[mixed], loaded.val_images, loaded.val_labels
    return Int8Images(
        name,
        classes,
        train,
        held_out,
        labels,
        to_input=lambda images: how(images, resolution),
        normalisation=str(how),
        note=note,
        class_names=class_names,
    )


def no_images(what: str) -> InputError:
    """The error of int8 without images.

    Args:
        what: why there are none, e.g. ``the run trained on none``.
    """
    return InputError(
        f"int8 needs images to set the ranges of activations, and {what}; give --data FOLDER or the name of a data set"
    )
