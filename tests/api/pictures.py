"""A tiny folder of photographs."""

from pathlib import Path

import numpy as np
from PIL import Image


def two_classes(folder: Path, noise: int, apart: int) -> Path:
    """Two classes of twelve pictures of random pixels below `noise`; those of one are brighter by `apart`."""
    rng = np.random.default_rng(0)
    for label, brighter in (("a", 0), ("b", apart)):
        (folder / label).mkdir()
        for at in range(12):
            pixels = rng.integers(0, noise, (24, 24, 3)) + brighter
            Image.fromarray(pixels.astype(np.uint8)).save(folder / label / f"{at}.png")
    return folder
