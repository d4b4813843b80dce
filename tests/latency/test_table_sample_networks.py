"""The networks that a table is fitted to."""

from pathlib import Path

import numpy as np
import pytest

from nas.arch.arch import Arch
from nas.arch.cost import cost_of
from nas.arch.space_yaml import load_space, names, space_path
from nas.engine.options import REFERENCES
from nas.latency.table.columns import Columns
from nas.latency.table.sample_networks import HELD_OUT, LARGE_NETS, PLAIN_NETS, draw_sets, informative, strange
from nas.latency.table.timing import FEWEST
from nas.references.table import reference
from tests.latency.tables import made_up


def test_networks_to_fit_to_are_informative() -> None:
    """They determine the columns better than equally many random ones of the pool, and so does their first half."""
    space = load_space("mbconv")
    rng = np.random.default_rng(0)
    pool = [strange(space.sample(rng), rng) for _ in range(120)]
    matrix = Columns.seen_in(pool).of_networks(pool)
    rows = matrix / matrix.max(axis=0)
    rows /= rows.sum(axis=1, keepdims=True)

    def known(archs: list[Arch]) -> float:
        ours = rows[[pool.index(arch) for arch in archs]]
        return float(np.linalg.slogdet(ours.T @ ours + 1e-3 * np.eye(rows.shape[1]))[1])

    chosen = informative(pool, 40)
    drawn = [[pool[at] for at in rng.permutation(120)[:40]] for _ in range(20)]
    assert len({arch.key for arch in chosen}) == 40
    assert known(chosen) > max(map(known, drawn))
    assert known(chosen[:20]) > max(known(nets[:20]) for nets in drawn)
    assert len(informative(pool[:5], 40)) == 5


def test_a_few_networks_without_expansions_are_fitted_to() -> None:
    """A space of inverted residuals has nothing like MobileNetV1, which the table should predict too: networks of its
    kind are among those to fit to, spread out, but not held out."""
    held_out, fitted = draw_sets(load_space("mbconv"), 0)
    ops = [{row.op for row in arch.rows} for arch in fitted]
    plain = [at for at, one in enumerate(ops) if "dwsep" in one]
    assert len(plain) == PLAIN_NETS
    assert max(np.diff([*plain, len(fitted)])) <= len(fitted) / 3
    assert not any("mbconv" in ops[at] for at in plain)
    assert all("dwsep" not in {row.op for row in arch.rows} for arch in held_out)


@pytest.mark.parametrize(
    ("name", "inside"),
    [
        ("shufflenet", ["shufflenet_v1_g1", "shufflenet_v1_g8", "shufflenet_v2@width=2.0"]),
        ("mobilenet_v4", ["mobilenet_v4_conv_small", "mobilenet_v4_conv_medium", "efficientnet_v2_s"]),
    ],
)
def test_a_table_predicts_published_networks(name: str, inside: list[str]) -> None:
    """It knows every operator of the default references and those of its family, even from the few networks that a
    slow machine has time for."""
    fitted = draw_sets(load_space(name), 0)[1][:FEWEST]
    columns, coefficients = made_up(fitted)
    assert (columns.of_networks([reference(one) for one in (*inside, *REFERENCES)]) @ coefficients > 0).all()


@pytest.mark.parametrize("space", [*names(), space_path("nas_bench_macro", "tabular")])
def test_large_maps_are_fitted_to(space: str | Path) -> None:
    """A few networks have larger images than any of the space, but not much more work than the others, whether the
    images of the space are large or small."""
    found = load_space(space)
    for seed in range(4):
        _, fitted = draw_sets(found, seed)
        beyond = [arch for arch in fitted if arch.resolution > 1.25 * max(found.resolution)]
        assert len(beyond) == LARGE_NETS
        others = max(cost_of(arch).macs for arch in fitted if arch not in beyond)
        assert all(cost_of(arch).macs < 8 * others and arch.rows[-1].op == "pool" for arch in beyond)


def test_held_out_networks_are_of_the_space_and_never_fitted_to() -> None:
    """There are at least 12, none of them twice or among those that the table is fitted to."""
    space = load_space("mbconv")
    held_out, fitted = draw_sets(space, 3)
    assert len(held_out) == HELD_OUT >= 12
    keys = [arch.key for arch in held_out + fitted]
    assert len(set(keys)) == len(keys)
    assert all(space.decode(space.encode(arch)) == arch for arch in held_out)
