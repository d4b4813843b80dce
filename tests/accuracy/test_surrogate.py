"""The surrogate of exact scores: it recalls what was scored, and ranks the rest."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from nas.accuracy.posterior import Effects
from nas.accuracy.ranking import tau
from nas.accuracy.surrogate import MOST, Surrogate
from nas.arch.arch import Arch
from nas.arch.codes import Coder
from nas.arch.space_yaml import load_space
from nas.arch.uniform import Uniform
from nas.system.errors import InputError
from tests.engine.search_toys import SPACE as TOY

SPACE = load_space("mbconv")
ARCHS = list(Uniform(SPACE).batch(700, np.random.default_rng(0)))


def truth(arch: Arch) -> float:
    """Effects of genes, and an interaction of neighbours."""
    rows = [row for row in arch.rows if row.op == "mbconv"]
    alone = sum(0.5 * (row.kernel == 5) + (row.se > 0) + 0.3 * row.expand for row in rows)
    pairs = sum(one.kernel == other.kernel for one, other in pairwise(rows))
    return (alone + pairs) / len(rows)


SCORES = np.array([truth(arch) for arch in ARCHS])


def model_of(count: int, noise: float = 0.0) -> Surrogate:
    noisy = SCORES[:count] + noise * np.random.default_rng(1).normal(size=count)
    return Surrogate(Effects(SPACE, None, pooled=True), ARCHS[:count], noisy, "toy")


def test_exact_scores_are_recalled_and_others_ranked() -> None:
    model = model_of(200)
    means, sds = model.many(ARCHS[:300])
    assert np.abs(means[:200] - SCORES[:200]).max() < 0.1 * SCORES.std()
    assert tau(means[200:], SCORES[200:300]) > 0.5
    assert sds[200:].min() > sds[:200].max()


def test_intervals_hold_what_they_say() -> None:
    """Nine of ten truths are in the 90 % interval, give or take."""
    means, sds = model_of(200).many(ARCHS[200:])
    inside = np.mean(np.abs(SCORES[200:] - means) <= 1.645 * sds)
    assert 0.8 < inside < 0.98


def test_noise_is_found_out() -> None:
    """Where networks that differ in little were scored, noise is told from what is a network's own."""
    bases = [TOY.sample(seed) for seed in range(6)]
    archs = list(dict.fromkeys(arch for base in bases for arch in (base, *TOY.neighbours(base))))
    exact = np.array([truth(arch) for arch in archs])
    noise = 0.5 * exact.std()
    errors = []
    for seed in range(5):
        noisy = exact + noise * np.random.default_rng(seed).normal(size=len(archs))
        means, _ = Surrogate(Effects(TOY, None), archs, noisy, "toy").many(archs)
        errors.append(np.std(means - exact))
    assert np.mean(errors) < 0.8 * noise


def test_genes_as_numbers_give_the_same_estimates() -> None:
    coder = Coder(SPACE)
    batch = coder.batch(coder.encoded(ARCHS[200:230]))
    model = model_of(100)
    for one, other in zip(model.many(batch), model.many(ARCHS[200:230]), strict=True):
        assert np.allclose(one, other)


def test_many_scores_are_thinned_but_the_best_kept() -> None:
    model = model_of(MOST + 200)
    best = np.argsort(-SCORES[: MOST + 200])[:20]
    means, _ = model.many([ARCHS[at] for at in best])
    assert np.abs(means - SCORES[best]).max() < 0.2 * SCORES.std()


def test_the_better_of_two_is_likely_to_be_better() -> None:
    model = model_of(200)
    order = np.argsort(SCORES[:200])
    worst, best = ARCHS[order[0]], ARCHS[order[-1]]
    assert model.better(best, worst) > 0.99
    assert model.better(best, worst) + model.better(worst, best) == pytest.approx(1)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_scores_are_enough(count: int) -> None:
    means, sds = model_of(count).many(ARCHS[:10])
    assert np.isfinite(means).all()
    assert (sds > 0).all()


def test_no_scores() -> None:
    with pytest.raises(InputError):
        Surrogate(Effects(SPACE, None, pooled=True), [], [], "toy")
