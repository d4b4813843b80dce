"""One scale for all images of a set whose files do not say which value is white."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas.data.images import KINDS, Unscaled
from nas.data.names import some

TOLERANCE = 0.05  # resampling and noise overshoot a scale by this much at most; what exceeds the scale is clipped
INTEGER_TOPS = (255, *(2**bits - 1 for bits in range(9, 33)))
FLOAT_TOPS = (1, 255, 1023, 4095, 16383, 65535)
FEWEST_LEVELS = 16  # integers up to this are labels or masks rather than 8-bit brightness
RARE = 0.1  # share of files


@dataclass(frozen=True, slots=True)
class Scale:
    """The values that become black and white.

    >>> print(scale_of("16-bit", 0, 4000), scale_of("floating-point", -0.97, 1), sep="; ")
    by 4095; from -1 to 1
    """

    low: float
    high: float

    def __str__(self) -> str:
        return f"from {self.low:.10g} to {self.high:.10g}" if self.low else f"by {self.high:.10g}"

    def __call__(self, values: NDArray[np.float32]) -> NDArray[np.uint8]:
        share = (values.astype(np.float64) - self.low) / (self.high - self.low)
        return np.asarray((share.clip(0, 1) * 255).round().astype(np.uint8))


def scale_of(kind: str, low: float, high: float) -> Scale:
    """The scale of a set of images.

    Args:
        kind: kind of pixels, a value of `nas.data.images.KINDS`.
        low: smallest value of all images.
        high: largest value of all images.
    """
    fits = 1 + TOLERANCE
    if low < -TOLERANCE * max(high, 0):  # signed: -1 to 1, or the range of the set, such as Hounsfield units
        if kind == KINDS["F"] and low >= -fits and 0 < high <= fits:
            return Scale(-1, 1)
        return Scale(low, high if high > low else low + 1)
    if kind == KINDS["F"]:
        tops = [top for top in FLOAT_TOPS if top / 2 < high <= top * fits]
        if high <= 1 and high > 1 / FEWEST_LEVELS:
            tops = [1]
    else:
        tops = [top for top in INTEGER_TOPS if high <= top * fits] if high >= FEWEST_LEVELS else []
    return Scale(0, tops[0] if tops else high if high > 0 else 1)


def scaled(images: Mapping[int, Unscaled], names: Sequence[str]) -> tuple[dict[int, NDArray[np.uint8]], list[str]]:
    """Scale the images of a set, all of one kind by one scale.

    Args:
        images: images by their position in the set.
        names: names of all files of the set.

    Returns:
        uint8 (S, S, 3) by position, and notes that name the scale and the files that do not fit it.
    """
    done: dict[int, NDArray[np.uint8]] = {}
    notes: list[str] = []
    for kind in KINDS.values():
        group = {at: image for at, image in images.items() if image.kind == kind}
        if not group:
            continue
        lows, highs = ([getattr(image, end) for image in group.values()] for end in ("low", "high"))
        scale = scale_of(kind, min(lows), max(highs))
        done |= {at: np.repeat(scale(image.values)[:, :, None], 3, axis=2) for at, image in group.items()}
        notes.append(f"{kind} images are scaled {scale}")
        outside = [names[at] for at, image in group.items() if image.low < scale.low or image.high > scale.high]
        if outside:
            notes.append(
                f"values outside this scale are clipped in {len(outside)} of {len(group)} files: {some(outside)}"
            )
        usual = scale_of(kind, min(lows), float(np.quantile(highs, 1 - RARE, method="lower")))
        if 2 * usual.high < scale.high:
            above = [names[at] for at, image in group.items() if image.high > usual.high]
            notes.append(
                f"{len(above)} of {len(group)} {kind} files exceed {usual.high:.10g}, and the others are dark for it: "
                f"{some(above)}"
            )
    return done, notes
