"""The generated data set: images drawn by arithmetic, which need no download and no licence.

A class is a pair of a shape and a texture. Each image shows one such figure at a random place, size, rotation and
colour, on a textured ground among clutter of other shapes and textures, partly covered, unevenly lit and noisy. Colour
depends on the class only weakly. Recognising the shape needs context, the texture needs resolution, and separating the
figure from the clutter needs both. The set ranks networks only roughly and says nothing about photographs.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.system.machine import usable_cores

VERSION = 1
SHAPES = ("disc", "triangle", "star", "cross")
TEXTURES = ("stripes", "dots", "rings")
CLASSES = tuple(f"{shape}-{texture}" for shape in SHAPES for texture in TEXTURES)
TRAIN_IMAGES = 10_000
VAL_IMAGES = 2_000

Floats = NDArray[np.float32]
_CHUNK = 500
_CLUTTER = 2


def generate(count: int, size: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Draw images; equal arguments give equal images.

    Args:
        count: number of images.
        size: their side in pixels.
        seed: random seed.

    Returns:
        Images, uint8 (count, size, size, 3), and labels, int64 (count,), which are indices into `CLASSES`.

    >>> images, labels = generate(24, 16, seed=0)
    >>> images.shape, np.bincount(labels).tolist() == [2] * len(CLASSES)
    ((24, 16, 16, 3), True)
    """
    labels = np.arange(count, dtype=np.int64) % len(CLASSES)
    np.random.Generator(np.random.PCG64(seed)).shuffle(labels)
    images = np.empty((count, size, size, 3), np.uint8)

    def draw(start: int) -> None:
        part = slice(start, start + _CHUNK)
        images[part] = _draw(labels[part], size, np.random.Generator(np.random.PCG64([seed, start])))

    with ThreadPoolExecutor(usable_cores()) as threads:  # each chunk has its own random stream: any order will do
        list(threads.map(draw, range(0, count, _CHUNK)))
    return images, labels


class _Canvas:
    """Pixel coordinates from -1 to 1 and the random numbers of one chunk of images."""

    def __init__(self, count: int, size: int, rng: np.random.Generator) -> None:
        self.count, self.size, self.rng = count, size, rng
        axis = ((np.arange(size) + 0.5) * (2 / size) - 1).astype(np.float32)
        self.x, self.y = axis[None, None, :], axis[None, :, None]
        self.pixel = 2 / size

    def uniform(self, low: float, high: float, *shape: int) -> Floats:
        """One random number per image, shaped to broadcast over its pixels."""
        drawn = self.rng.random((self.count, *(shape or (1, 1))), dtype=np.float32)
        return drawn * np.float32(high - low) + np.float32(low)

    def turned(self, cx: Floats, cy: Floats, angle: Floats) -> tuple[Floats, Floats]:
        """Coordinates of every pixel in a frame with another centre and rotation."""
        dx, dy = self.x - cx, self.y - cy
        cos, sin = np.cos(angle), np.sin(angle)
        return cos * dx + sin * dy, cos * dy - sin * dx


def _draw(labels: NDArray[np.int64], size: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    canvas = _Canvas(len(labels), size, rng)
    shape, texture = np.divmod(labels, len(TEXTURES))
    image = _ground(canvas)
    for _ in range(_CLUTTER):  # never the image's own class, but often its shape or its texture
        other = rng.integers(len(CLASSES), size=len(labels))
        s, t = np.divmod(np.where(other == labels, (other + 1) % len(CLASSES), other), len(TEXTURES))
        image = _figure(canvas, image, s, t, canvas.uniform(0.15, 0.3), 1.1, canvas.uniform(0, 1))
    hue = canvas.uniform(0, 1) * 0.25 + (labels / len(CLASSES)).astype(np.float32)[:, None, None]
    image = _figure(canvas, image, shape, texture, canvas.uniform(0.55, 0.95), 0.3, hue)
    image = _cover(canvas, image)
    light = 1 + canvas.uniform(-0.35, 0.35) * canvas.x + canvas.uniform(-0.35, 0.35) * canvas.y
    image = (image - 0.5) * canvas.uniform(0.5, 1.1, 1, 1, 1) + canvas.uniform(0.35, 0.65, 1, 1, 1)
    image = image * light[..., None]
    image += canvas.uniform(0.02, 0.08, 1, 1, 1) * (rng.random(image.shape, dtype=np.float32) - 0.5) * 2
    return np.clip(image * 255, 0, 255).astype(np.uint8)


def _ground(canvas: _Canvas) -> Floats:
    image = np.broadcast_to(
        _colour(canvas.uniform(0, 1))[:, None, None, :], (canvas.count, canvas.size, canvas.size, 3)
    ).copy()
    for _ in range(3):
        u, _v = canvas.turned(canvas.uniform(-1, 1), canvas.uniform(-1, 1), canvas.uniform(0, 2 * np.pi))
        wave = np.sin(u * canvas.uniform(1, 9) + canvas.uniform(0, 6.3))
        image += 0.12 * wave[..., None] * canvas.uniform(-1, 1, 1, 1, 3)
    return image


def _figure(
    canvas: _Canvas,
    image: Floats,
    shape: NDArray[np.int64],
    texture: NDArray[np.int64],
    radius: Floats,
    spread: float,
    hue: Floats,
) -> Floats:
    """Paint one figure per image over `image`: a textured shape with soft edges."""
    cx, cy = canvas.uniform(-spread, spread), canvas.uniform(-spread, spread)
    u, v = canvas.turned(cx, cy, canvas.uniform(0, 2 * np.pi))
    squeeze = canvas.uniform(0.75, 1.3)
    inside = _select(shape, _SHAPES, u / (radius * squeeze), v * squeeze / radius)
    mask = np.clip(inside * radius / canvas.pixel + 0.5, 0, 1)
    u, v = canvas.turned(cx, cy, canvas.uniform(0, 2 * np.pi))
    period = canvas.uniform(0.3, 0.5)
    pattern = _select(texture, _TEXTURES, u / period, v / period)
    pattern = np.asarray(0.5 + 0.5 * np.tanh(3 * pattern), np.float32)
    first = _colour(hue, 0.72, 0.25)  # light on dark, so that a texture shows in grey, too
    second = _colour(hue + canvas.uniform(0.15, 0.85), 0.25, 0.2)
    paint = first[:, None, None] * pattern[..., None] + second[:, None, None] * (1 - pattern[..., None])
    return np.asarray(image + mask[..., None] * (paint - image))


def _cover(canvas: _Canvas, image: Floats) -> Floats:
    """Bars of one colour across some of the images."""
    u, v = canvas.turned(canvas.uniform(-0.8, 0.8), canvas.uniform(-0.8, 0.8), canvas.uniform(0, np.pi))
    bar = (np.abs(u) < canvas.uniform(0.03, 0.16)) & (v > canvas.uniform(-1, 1)) & (canvas.uniform(0, 1) < 0.5)
    return np.where(bar[..., None], _colour(canvas.uniform(0, 1))[:, None, None], image)


def _colour(hue: Floats, light: float = 0.5, range_: float = 0.15) -> Floats:
    """One colour per image: hues (n, 1, 1), a full turn being 1, to RGB (n, 3)."""
    turns = 2 * np.pi * (hue.reshape(-1, 1) + np.array([0, 1 / 3, 2 / 3], np.float32))
    return np.asarray(light + range_ * np.cos(turns), np.float32)


Field = Callable[[Floats, Floats], NDArray[np.floating[Any]]]


def _select(which: NDArray[np.int64], fields: tuple[Field, ...], u: Floats, v: Floats) -> Floats:
    values = np.empty_like(u)
    for at, function in enumerate(fields):
        mask = which == at
        values[mask] = function(u[mask], v[mask])
    return values


def _polygon(u: Floats, v: Floats, corners: int, points: float) -> Floats:
    """Signed distance to a regular polygon, positive inside; `points` > 0 draws its corners out to a star."""
    radius, step = np.hypot(u, v), 2 * np.pi / corners
    turn = np.abs(np.mod(np.arctan2(v, u), step) - step / 2)
    edge = np.cos(step / 2) / np.cos(turn) if points == 0 else 1 - points * (1 - 2 * turn / step)
    return np.asarray(edge - radius, np.float32)


# Positive inside, radius about 1, similar areas.
_SHAPES: tuple[Field, ...] = (
    lambda u, v: 0.85 - np.hypot(u, v),
    lambda u, v: _polygon(u, v, 3, 0) * np.float32(1.2),
    lambda u, v: _polygon(u, v, 5, 0.55),
    lambda u, v: np.minimum(1 - np.maximum(np.abs(u), np.abs(v)), 0.36 - np.minimum(np.abs(u), np.abs(v))),
)

# From -1 to 1 with a period of about 1.
_TEXTURES: tuple[Field, ...] = (
    lambda u, v: np.sin(2 * np.pi * u),
    lambda u, v: np.cos(2 * np.pi * u) + np.cos(2 * np.pi * v) - np.float32(0.8),
    lambda u, v: np.sin(2 * np.pi * np.hypot(u, v)),
)
