"""Decodes one image file of any size, mode and format that Pillow reads."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from nas.system.extras import pip_command
from nas.system.text import one_line

MAX_PIXELS = 80_000_000  # decoded; a JPEG file may hold more, since it is decoded at reduced size
MAX_JPEG_PIXELS = 500_000_000
# Formats whose Pillow plug-in starts another program or needs one to be registered.
_REFUSED = frozenset({"EPS", "WMF", "BUFR", "GRIB", "HDF5", "MPEG", "FITS"})
HEIF = "HEIF"  # pillow-heif's name of its format
HEIF_SUFFIXES = frozenset({".heic", ".heics", ".heif", ".heifs", ".hif", ".avif"})
KINDS = {"I;16": "16-bit", "I": "32-bit", "F": "floating-point"}  # modes without a scale of their own


@dataclass(frozen=True, eq=False)
class Unscaled:
    """An image whose mode does not say which value is white; `nas.data.scale` decides that for a whole set.

    Args:
        kind: kind of its pixels, a value of `KINDS`.
        values: float32 (S, S), grey.
        low: smallest value of the file.
        high: largest value of the file.
    """

    kind: str
    values: NDArray[np.float32]
    low: float
    high: float


def has_heif() -> bool:
    """Whether pillow-heif is installed, which reads the photographs of iPhones."""
    return find_spec("pillow_heif") is not None


@cache
def suffixes() -> frozenset[str]:
    """The suffixes of the image formats that can be read, in lower case."""
    known = formats()  # registers them
    return frozenset(end for end, kind in Image.registered_extensions().items() if kind in known)


@cache
def formats() -> tuple[str, ...]:
    """The names of the formats that can be read, in the order in which they are tried."""
    Image.init()
    if has_heif():
        from pillow_heif import register_heif_opener

        register_heif_opener()
    kinds = [kind for kind in Image.OPEN if kind not in _REFUSED and (kind != HEIF or has_heif())]
    return tuple(sorted(kinds, key=lambda kind: kind not in ("JPEG", "PNG")))


@contextmanager
def quiet_pillow() -> Iterator[None]:
    """Keep Pillow's warnings about large and odd files off the terminal, and use our bounds in place of its own."""
    bound = Image.MAX_IMAGE_PIXELS
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        Image.MAX_IMAGE_PIXELS = None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = bound


def needs_scale(data: bytes) -> bool:
    """Whether the pixels of a file have no scale of their own: 16 or 32 bits, or floating-point numbers."""
    if data[:3] == b"\xff\xd8\xff" or data[:4] in (b"GIF8", b"RIFF") or data[:2] == b"BM":
        return False  # always 8 bits; opening every file would double the time of a second reading
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return data[24:26] == b"\x10\x00"  # 16 bits, grey
    try:
        with Image.open(io.BytesIO(data), formats=formats()) as image:
            return image.mode.startswith(("I", "F"))
    except Exception:  # Pillow's plug-ins raise anything on broken files
        return False


def decode(data: bytes, size: int) -> NDArray[np.uint8] | Unscaled:
    """Decode an image file, turn it upright, and resize its middle square.

    Args:
        data: content of the file.
        size: side of the result in pixels.

    Returns:
        uint8 (size, size, 3), RGB; or the values as they are, if their scale is unknown.

    Raises:
        ValueError, OSError, and whatever a plug-in of Pillow raises: broken, truncated, or too many pixels.
    """
    with Image.open(io.BytesIO(data), formats=formats()) as image:
        width, height = image.size
        image.draft("RGB", (2 * size, 2 * size))  # JPEG decodes at a half, quarter or eighth where that suffices
        reduced_width, reduced_height = image.size
        if reduced_width * reduced_height > MAX_PIXELS or width * height > MAX_JPEG_PIXELS:
            raise ValueError(f"{width} x {height} is more than {MAX_PIXELS:,} pixels; reduce it")
        upright = ImageOps.exif_transpose(image)
        return _unscaled(upright, size) if upright.mode.startswith(("I", "F")) else as_square(upright, size)


def fault(error: Exception, data: bytes) -> str:
    """Why a file cannot be read, in a few words, with what to do where that is known."""
    if not data:
        return "empty file"
    if data[4:8] == b"ftyp" and not has_heif():
        return f"HEIC or AVIF; {pip_command('heif')}"
    if data.startswith(b"version https://git-lfs"):
        return "a git-lfs pointer; run `git lfs pull`"
    if data[:100].lstrip().lower().startswith((b"<!doctype html", b"<html")):
        return "a web page"
    return "not an image" if isinstance(error, UnidentifiedImageError) else one_line(error, 80)


def _square(image: Image.Image, size: int) -> Image.Image:
    side, (width, height) = min(image.size), image.size
    left, top = (width - side) / 2, (height - side) / 2
    if image.size == (size, size):
        return image
    box = (left, top, left + side, top + side)
    return image.resize((size, size), Image.Resampling.BILINEAR, box, reducing_gap=2.0)


def _unscaled(image: Image.Image, size: int) -> Unscaled:
    values = np.asarray(image, np.float32)
    if not np.isfinite(values).all():
        raise ValueError("some pixels are not finite numbers")
    small = np.asarray(_square(Image.fromarray(values), size), np.float32)
    kind = KINDS["I;16" if image.mode.startswith("I;16") else image.mode[0]]
    return Unscaled(kind, small, float(values.min()), float(values.max()))


def as_square(image: Image.Image, size: int) -> NDArray[np.uint8]:
    """The middle square of an image of 8 bits per channel, resized; uint8 (size, size, 3), RGB."""
    return np.asarray(_square(as_rgb(image), size), np.uint8)


def as_rgb(image: Image.Image) -> Image.Image:
    """Convert any mode of 8 bits per channel to RGB; transparency shows mid-grey."""
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        layer = image.convert("RGBA")
        ground = Image.new("RGBA", layer.size, (128, 128, 128, 255))
        return Image.alpha_composite(ground, layer).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")
