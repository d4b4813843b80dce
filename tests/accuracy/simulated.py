"""Simulated tables of accuracies: effects that all sources share, levels of their own, and known noise."""

import numpy as np

from nas.accuracy.features import NAMES, features, is_product
from nas.accuracy.sources import Source
from nas.arch.arch import Arch
from nas.arch.space_yaml import load_space

_TYPICAL = features([load_space("efficientnet").sample(seed) for seed in range(200)])
CENTRE, SPREAD = _TYPICAL.mean(0), np.where(_TYPICAL.std(0) > 1e-9, _TYPICAL.std(0), np.inf)
_PLAIN = np.array([not is_product(name) for name in NAMES])


def effects(seed: int = 0, size: float = 0.05) -> np.ndarray:
    """An effect of each feature that is no product, per unit of `SPREAD`."""
    return np.random.default_rng(seed).normal(size=len(NAMES)) * size * _PLAIN


def source(
    name: str = "a",
    count: int = 150,
    seed: int = 0,
    true: np.ndarray | None = None,
    level: float = 1.0,
    noise: float = 0.05,
    families: tuple[str, ...] = ("",),
    family_sd: float = 0.0,
    space: str = "efficientnet",
    task: str = "flowers",
) -> Source:
    """Random networks of a space; the logit of the accuracy is the level, a sum of effects, an offset of the family and
    noise."""
    rng = np.random.default_rng(seed)
    archs: tuple[Arch, ...] = tuple(load_space(space).sample(rng) for _ in range(count))
    offsets = family_sd * rng.normal(size=len(families))
    at = np.arange(count) % len(families)
    z = (features(archs) - CENTRE) / SPREAD
    logits = level + z @ (effects() if true is None else true) + offsets[at] + noise * rng.normal(size=count)
    shares = 1 / (1 + np.exp(-logits))
    return Source(name, archs, shares, tuple(families[i] for i in at), task, "CC0", f"simulated {name}")
