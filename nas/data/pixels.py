"""How pixels are scaled for a network: the mean that is subtracted and the standard deviation that divides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas.data.augment import MEAN, STD, to_input
from nas.system.errors import InputError, known


@dataclass(frozen=True, slots=True)
class Normalisation:
    """``(pixel - mean) / std`` for red, green and blue, with pixels from 0 to 1.

    >>> print(normalisation("half"))
    pixels from 0 to 1, mean 0.5, std 0.5
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __str__(self) -> str:
        return f"pixels from 0 to 1, mean {_text(self.mean)}, std {_text(self.std)}"

    def __call__(self, images: NDArray[np.uint8], resolution: int) -> NDArray[np.float32]:
        """uint8 (B, S, S, 3) to float32 (B, 3, resolution, resolution)."""
        x = to_input(np.array(images), resolution).contiguous().numpy()
        if self == NORMALISATIONS["nas"]:
            return x
        mean, std = (np.array(values, np.float32).reshape(3, 1, 1) for values in (self.mean, self.std))
        return (x * np.float32(STD) + np.float32(MEAN) - mean) / std


def _text(values: tuple[float, float, float]) -> str:
    return f"{values[0]:g}" if len(set(values)) == 1 else "({:g}, {:g}, {:g})".format(*values)


NORMALISATIONS: Mapping[str, Normalisation] = {
    "imagenet": Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),  # torchvision, timm, most checkpoints
    "half": Normalisation((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),  # timm's MobileNetV1
    "nas": Normalisation((MEAN, MEAN, MEAN), (STD, STD, STD)),  # the short training of a search
    "none": Normalisation((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}


def normalisation(name: str) -> Normalisation:
    """The normalisation called `name`.

    Raises:
        InputError: unknown name; the message lists the known ones.
    """
    if name not in NORMALISATIONS:
        raise InputError(f"no normalisation is called {name!r:.60}; {known(NORMALISATIONS)}")
    return NORMALISATIONS[name]
