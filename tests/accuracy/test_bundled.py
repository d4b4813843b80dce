"""The model that comes with the package: it orders well-known networks, and is what calibration gives."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from nas.accuracy.calibrate import calibrate
from nas.accuracy.features import features
from nas.accuracy.prior import bundled
from nas.accuracy.sources import read_source
from nas.arch.space_yaml import load_space
from nas.references.published import published
from nas.references.table import reference, reference_names

SHARED = Path(__file__).parents[3] / "shared"
TABLES = [
    SHARED / name
    for name in (
        "data/imagenet-mbconv/imagenet_mbconv_dev.csv",
        "data/ofa-mbv3/ofa_mbv3_dev.csv",
        "figures/reference_figures.csv",
    )
]


def test_it_orders_well_known_networks() -> None:
    names = ("efficientnet_b0", "mobilenet_v3_large", "mobilenet_v2", "mobilenet_v3_small")
    means = bundled().many([reference(name) for name in names])[0]
    assert all(better > worse for better, worse in pairwise(means.tolist()))


@pytest.mark.parametrize("name", [name for name in reference_names() if not name.startswith("shufflenet")])
def test_published_figures_are_within_two_sd(name: str) -> None:
    """Of the paper, or the first publisher; ShuffleNets are of other operators and were left out of the fit."""
    model, arch = bundled(), reference(name)
    own = [entry.top1 for entry in published(name) if reference(name, entry.width, entry.resolution) == arch]
    figure = next(top1.get("paper", next(iter(top1.values()))) for top1 in own if top1)
    accuracy = model(arch)
    assert abs(100 * accuracy.mean - figure) < 2 * 100 * accuracy.sd


def test_its_sources_have_a_licence_and_figures() -> None:
    model = bundled()
    assert (model.name, model.task, model.level) == ("imagenet", "ImageNet", "published")
    assert [source.name for source in model.sources] == ["imagenet-mbconv", "ofa-mbv3", "published"]
    for source in model.sources:
        assert source.licence
        assert source.origin
        assert 0.8 <= source.held_out.coverage <= 0.97
    mbconv = model.sources[0].held_out
    assert mbconv.tau >= 0.85
    assert mbconv.equal_cost_tau >= 0.80


def test_the_default_space_is_inside_its_domain() -> None:
    """But for 7×7 kernels in all blocks of two slots, all choices of the default space occur in its data."""
    model, space = bundled(), load_space("mbconv")
    outside = {name for seed in range(200) for name in model.outside(space.sample(seed))}
    assert outside <= {"1.k7", "4b.k7"}


@pytest.mark.slow
def test_it_is_what_calibration_gives() -> None:
    if not all(path.is_file() for path in TABLES):
        pytest.skip(f"the tables are not under {SHARED}")
    again, model = calibrate([read_source(path) for path in TABLES], "imagenet"), bundled()
    archs = [reference(name) for name in reference_names()]
    assert np.abs(again.logits(features(archs)) - model.logits(features(archs))).max() < 0.02
    assert again.many(archs)[1] == pytest.approx(model.many(archs)[1], rel=0.05)
    for one, other in zip(again.sources, model.sources, strict=True):
        assert (one.name, one.licence, one.held_out.networks) == (other.name, other.licence, other.held_out.networks)
        assert one.held_out.equal_cost_tau == pytest.approx(other.held_out.equal_cost_tau, abs=0.02)
