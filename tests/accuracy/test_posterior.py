"""The posterior: it learns what trainings tell, ignores a model that is of no use, and knows how sure it is."""

from __future__ import annotations

import numpy as np
import pytest

import nas
from nas.accuracy.posterior import Effects, Posterior, Training
from nas.accuracy.prior import bundled
from nas.accuracy.ranking import tau
from nas.accuracy.record import INTERVAL
from nas.arch.arch import Arch
from nas.arch.space_yaml import load_space
from nas.system.errors import InputError

SPACE = load_space("efficientnet")
ARCHS = [SPACE.sample(seed) for seed in range(260)]
EFFECTS = np.random.default_rng(1).normal(size=len(SPACE.feature_names))


def truth(arch: Arch) -> float:
    """A sum of effects of genes, between about 0.5 and 0.7."""
    return 0.6 + 0.004 * float(SPACE.features(arch) @ EFFECTS)


def posterior(
    count: int, noise: float = 0.0, prior: bool = False, sampling_sd: float = 0.0, seed: int = 0
) -> Posterior:
    rng = np.random.default_rng(seed)
    seen = [Training(arch, truth(arch) + noise * rng.normal()) for arch in ARCHS[:count]]
    return Posterior(Effects(SPACE, bundled() if prior else None), seen, "toy", sampling_sd=sampling_sd)


@pytest.mark.parametrize("prior", [False, True])
def test_effects_of_genes_are_learned_whatever_the_other_model_says(prior: bool) -> None:
    """Unseen networks are ranked rightly although the bundled model knows nothing of this truth."""
    unseen = ARCHS[150:]
    means, _ = posterior(150, prior=prior).many(unseen)
    true = [truth(arch) for arch in unseen]
    assert tau(means, true) > 0.9
    assert abs(tau(bundled().many(unseen)[0], true)) < 0.5, "the bundled model is of little use here"


def test_the_other_model_counts_where_the_trainings_agree_with_it() -> None:
    """With few noisy trainings of networks that the bundled model ranks rightly, it improves the ranking."""
    expected = dict(zip(ARCHS, bundled().logits(_features(ARCHS)), strict=True))
    rng = np.random.default_rng(0)
    seen = [Training(arch, 0.6 + 0.1 * expected[arch] + 0.01 * rng.normal()) for arch in ARCHS[:25]]
    unseen = ARCHS[100:]
    with_model, without = (Posterior(Effects(SPACE, one), seen, "toy").many(unseen)[0] for one in (bundled(), None))
    true = [expected[arch] for arch in unseen]
    assert tau(with_model, true) > 0.9 > tau(without, true)


def _features(archs: list[Arch]) -> np.ndarray:
    from nas.accuracy.features import features

    return features(archs)


@pytest.mark.parametrize("noise", [0.003, 0.01])
def test_intervals_hold_the_truth_as_often_as_they_say(noise: float) -> None:
    """Over replays, 90 % intervals of unseen networks hold 85 to 95 % of the noiseless truth."""
    true = np.array([truth(arch) for arch in ARCHS[60:]])
    shares = []
    for seed in range(12):
        means, sds = posterior(60, noise, sampling_sd=noise, seed=seed).many(ARCHS[60:])
        shares.append(np.mean(np.abs(true - means) <= INTERVAL * sds))
    assert 0.8 <= np.mean(shares) <= 0.99


def test_losses_of_trainings_are_used_and_turned_into_accuracies() -> None:
    """Where accuracies are noisy and losses are not, estimates follow the losses, in the unit of accuracies."""
    rng = np.random.default_rng(0)
    seen = [Training(arch, truth(arch) + 0.02 * rng.normal(), 2 - truth(arch)) for arch in ARCHS[:100]]
    means, _ = Posterior(Effects(SPACE, None), seen, "toy").many(ARCHS[150:])
    true = np.array([truth(arch) for arch in ARCHS[150:]])
    assert tau(means, true) > 0.9
    assert abs(float(np.mean(means - true))) < 0.01


def test_lengths_have_their_own_level_and_noise() -> None:
    """Short trainings, lower by far and noisy, help to rank and do not drag the level down."""
    rng = np.random.default_rng(0)
    short = [Training(arch, truth(arch) - 0.3 + 0.005 * rng.normal(), length=1) for arch in ARCHS[:120]]
    long = [Training(arch, truth(arch), length=4) for arch in ARCHS[120:140]]
    true = np.array([truth(arch) for arch in ARCHS[150:]])
    both = Posterior(Effects(SPACE, None), [*short, *long], "toy").many(ARCHS[150:])[0]
    alone = Posterior(Effects(SPACE, None), long, "toy").many(ARCHS[150:])[0]
    assert abs(float(np.mean(both - true))) < 0.02
    assert tau(both, true) > tau(alone, true)


def test_a_network_outside_the_space_is_judged_by_its_own_training() -> None:
    """A reference that does much better than its size tells keeps that; one that was not trained is less certain."""
    large, small = nas.reference("mobilenet_v3_large"), nas.reference("mobilenet_v3_small")
    seen = [Training(arch, truth(arch)) for arch in ARCHS[:80]]
    model = Posterior(Effects(SPACE, None), [*seen, Training(large, 0.8)], "toy")
    trained, untrained = model(large), model(small)
    assert trained.mean == pytest.approx(0.8, abs=0.02)
    assert untrained.sd > 2 * trained.sd
    assert model.better(large, ARCHS[0]) > 0.95
    assert model.better(large, ARCHS[0]) + model.better(ARCHS[0], large) == pytest.approx(1)


def test_draws_vary_as_the_estimates_do() -> None:
    """The spread of draws of one network's score is the standard deviation of its sum of effects."""
    model, rng = posterior(40, 0.01), np.random.default_rng(0)
    draws = np.array([model.scores(ARCHS[100:105], model.draw(rng)) for _ in range(2000)])
    means, sds = model.many(ARCHS[100:105])
    assert draws.mean(0) == pytest.approx(means, abs=0.002)
    assert np.all(draws.std(0) < sds)
    assert np.all(draws.std(0) > 0)


def test_few_trainings_give_their_mean_and_none_gives_nothing() -> None:
    model = Posterior(Effects(SPACE, None), [Training(ARCHS[0], 0.5), Training(ARCHS[1], 0.7)], "toy")
    assert model(ARCHS[5]).mean == pytest.approx(0.6, abs=0.02)
    assert model(ARCHS[5]).sd > 0.02
    with pytest.raises(InputError):
        Posterior(Effects(SPACE, None), [], "toy")


def test_equal_scores_are_no_fault() -> None:
    model = Posterior(Effects(SPACE, None), [Training(arch, 0.5, 1.0) for arch in ARCHS[:20]], "toy")
    assert model(ARCHS[30]).mean == pytest.approx(0.5)


def test_networks_trained_with_several_seeds_are_told_apart() -> None:
    """Repeats show what networks are beyond the sum of their effects; the estimates of others hardly change."""
    rng = np.random.default_rng(0)
    own = dict(zip(ARCHS, 0.02 * rng.normal(size=len(ARCHS)), strict=True))

    def trained(arch: Arch) -> Training:
        return Training(arch, truth(arch) + own[arch] + 0.01 * rng.normal())

    once, some = [trained(arch) for arch in ARCHS[:120]], ARCHS[:12]
    before = Posterior(Effects(SPACE, None), once, "toy")
    after = Posterior(Effects(SPACE, None), [*once, *(trained(arch) for arch in some for _ in range(4))], "toy")
    true = np.array([truth(arch) + own[arch] for arch in some])
    (means, sds), (means_before, sds_before) = after.many(some), before.many(some)
    assert np.sqrt(np.mean((means - true) ** 2)) < 0.5 * np.sqrt(np.mean((means_before - true) ** 2))
    assert np.all(sds < 0.5 * sds_before)
    assert np.mean(np.abs(means - true) <= INTERVAL * sds) >= 0.8
    worst, *_, best = sorted(some, key=lambda arch: truth(arch) + own[arch])
    assert after.better(best, worst) > 0.95
    assert after.better(best, worst) + after.better(worst, best) == pytest.approx(1)
    assert after.many(ARCHS[150:])[0] == pytest.approx(before.many(ARCHS[150:])[0], abs=0.01)


def test_chance_is_that_of_the_largest_length() -> None:
    """Repeats of shorter trainings, which are nearly all chance, take nothing from what repeats at the full length
    show."""
    rng = np.random.default_rng(0)
    own = dict(zip(ARCHS, 0.02 * rng.normal(size=len(ARCHS)), strict=True))
    long = [Training(arch, truth(arch) + own[arch] + 0.001 * rng.normal(), length=2) for arch in [*ARCHS[:60]] * 2]
    short = [Training(arch, 0.3 + 0.1 * rng.normal(), length=1) for arch in [*ARCHS[60:160]] * 3]
    means, _ = Posterior(Effects(SPACE, None), [*long, *short], "toy").many(ARCHS[:60])
    true = np.array([truth(arch) + own[arch] for arch in ARCHS[:60]])
    assert np.sqrt(np.mean((means - true) ** 2)) < 0.004


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_another_task_counts_for_what_it_is_worth(sign: float) -> None:
    """With few trainings, a posterior of a related task improves the ranking; of an inverted one does not spoil it."""
    rng = np.random.default_rng(0)
    other = Posterior(Effects(None, None), [Training(arch, 0.5 + sign * truth(arch)) for arch in ARCHS[:120]], "other")
    seen = [Training(arch, truth(arch) + 0.01 * rng.normal()) for arch in ARCHS[120:145]]
    true = [truth(arch) for arch in ARCHS[150:]]
    with_it, without = (
        tau(Posterior(Effects(SPACE, None, others), seen, "toy").many(ARCHS[150:])[0], true) for others in ([other], [])
    )
    assert with_it > without + 0.1
