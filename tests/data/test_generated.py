"""The generated images: the same bytes for the same arguments, balanced classes, no image twice."""

from __future__ import annotations

import numpy as np

from nas.data import generated


def test_same_arguments_same_bytes() -> None:
    """Two calls agree to the byte; another seed does not."""
    images, labels = generated.generate(600, 16, seed=3)
    again, labels_again = generated.generate(600, 16, seed=3)
    other, _ = generated.generate(600, 16, seed=4)
    assert images.tobytes() == again.tobytes()
    assert labels.tobytes() == labels_again.tobytes()
    assert images.tobytes() != other.tobytes()


def test_classes_are_balanced_and_images_distinct() -> None:
    """At least ten classes, each with its share, and no image twice."""
    images, labels = generated.generate(600, 16, seed=0)
    assert images.shape == (600, 16, 16, 3)
    assert images.dtype == np.uint8
    assert len(generated.CLASSES) >= 10
    counts = np.bincount(labels, minlength=len(generated.CLASSES))
    assert counts.max() - counts.min() <= 1
    assert len({image.tobytes() for image in images}) == 600


def test_mean_colour_alone_does_not_tell_the_class() -> None:
    """Colour is a weak cue: the nearest class mean of the mean colour is right for less than a quarter of images."""
    images, labels = generated.generate(2400, 16, seed=0)
    colour = images.mean((1, 2))
    half = len(labels) // 2
    means = np.stack([colour[:half][labels[:half] == c].mean(0) for c in range(len(generated.CLASSES))])
    guess = np.linalg.norm(colour[half:, None] - means, axis=2).argmin(1)
    assert (guess == labels[half:]).mean() < 0.25
