"""Spaces: exact size, bijection of genes and networks, and the grammar's error texts."""

import re
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from nas.arch.arch import Arch
from nas.arch.genes import Gene, Scalar, every
from nas.arch.space import Space
from nas.arch.space_yaml import load_space, names, parse_space
from nas.system.errors import InputError
from tests.strategies import space_texts

seeds = st.integers(0, 2**32 - 1)


def toy(text: str) -> Space:
    try:
        return parse_space(text, "toy.yaml")
    except InputError:  # a drawn row may use a cell no op of it has
        assume(False)
        raise


shipped = cache(load_space)


def all_archs(space: Space, limit: int = 4000) -> list[Arch]:
    """Every network by brute force, spellings not merged."""
    found = []
    for _, _, arch in every(space.realise):
        found.append(arch)
        if len(found) > limit:
            assume(False)
    return found


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(space_texts)
def test_size_equals_the_number_of_distinct_networks_found_by_brute_force(text: str) -> None:
    space = toy(text)
    assert space.size == len(set(all_archs(space)))


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(space_texts, seeds)
def test_encode_and_decode_are_inverse_and_canonical(text: str, seed: int) -> None:
    space = toy(text)
    drawn = space.sample_genes(seed)
    arch = space.decode(drawn)
    genes = space.encode(arch)
    assert space.decode(genes) == arch
    assert space.encode(space.decode(genes)) == genes


@pytest.mark.parametrize("name", names())
@settings(max_examples=50, deadline=None)
@given(seed=seeds)
def test_shipped_spaces_encode_what_they_sample(name: str, seed: int) -> None:
    space = shipped(name)
    arch = space.sample(seed)
    assert space.decode(space.encode(arch)) == arch
    assert Arch.from_json(arch.to_json()) == arch


@settings(max_examples=30, deadline=None)
@given(seeds, seeds)
def test_inactive_genes_never_change_the_network(seed: int, noise: int) -> None:
    space = shipped("mbconv")
    genes = space.sample_genes(seed)
    rng = np.random.default_rng(noise)
    inactive = {gene.name: gene.options[rng.integers(len(gene.options))] for gene in space.genes}
    assert space.decode(inactive | genes) == space.decode(genes)
    assert space.decode(inactive | genes).key == space.decode(genes).key


def test_mbconv_size_by_closed_form() -> None:
    space = shipped("mbconv")
    rows = 3 * 4 * 2 * 3
    stages = [
        rows,
        sum(rows**n for n in (1, 2, 3)),
        2 * sum(rows**n for n in (1, 2, 3)),
        2 * sum(rows**n for n in (2, 3, 4)),
        2 * sum(rows**n for n in (2, 3, 4)),
        2 * sum(rows**n for n in (2, 3, 4)),
        1 + rows,
    ]
    expected = 3 * 3 * 2 * 3  # resolution, width, stem channels, stem activation
    for stage in stages:
        expected *= stage
    # At expand 1 the depthwise width is the input width: still two different rows, so nothing collapses.
    assert space.size == expected


def test_shufflenet_size_by_closed_form() -> None:
    """A unit is V2 (kernel, act) or V1 (also groups, and in the first stage those of its first 1x1, which without
    groups are the same). Widths 0.5 and 0.75 share the networks of 88, 176 and 352 channels, nothing else."""
    v2 = 3 * 2
    first, later = v2 + v2 * (1 + 3 * 2), v2 + v2 * 4
    units = sum(first**n for n in (2, 3, 4)) * sum(later**n for n in (4, 6, 8)) * sum(later**n for n in (2, 3, 4))
    assert load_space("shufflenet").size == 3 * 2 * units * (3 * 4**3 - 1)


def test_mobilenet_v4_size_by_closed_form() -> None:
    """By stage: expansions, kernels and joint choices that remain where the map is halved, times activations."""
    acts, early, late = 2, 2, 4  # of expansions
    s1 = 2 * acts * (1 + early + 2 * early)
    others = acts * (1 + late + 3 * 3 * late)
    opening = acts * (1 + late + 3 * 2 * late)
    s2 = 3 * opening * (1 + others + others**2)
    uib, halving = acts * 9 * late, acts * 6 * late
    s3 = 3 * halving * sum(uib ** (n - 1) for n in (4, 6, 8))
    s4 = 3 * halving * sum(uib ** (n - 1) for n in (4, 6, 8, 11))
    assert load_space("mobilenet_v4").size == 4 * 3 * s1 * 2 * s2 * 2 * s3 * s4


def test_efficientnet_size_by_closed_form() -> None:
    """Kernel, expansion and SE are chosen once a stage; every depth gives other rows."""
    choices = 2 * 3 * 2
    assert load_space("efficientnet").size == (3 * choices) ** 6 * (4 * choices)


def test_efficientnet_b0_is_in_its_space_with_all_its_options() -> None:
    from nas.references.table import reference

    space = load_space("efficientnet")
    b0 = reference("efficientnet_b0")
    genes = space.encode(b0)
    assert space.decode(genes) == b0
    assert len(genes) == len(space.genes) == 4 * 7
    assert [genes[f"s{stage}.repeat"] for stage in range(1, 8)] == [1, 2, 2, 3, 3, 4, 1]
    assert {genes[f"s{stage}.se"] for stage in range(1, 8)} == {0.25}


@pytest.mark.parametrize(
    ("name", "reason"),
    [("mnasnet_a1", "row 0"), ("mnasnet_b1", "row 0"), ("efficientnet_b1", "resolution 240")],
)
def test_other_networks_are_not_in_the_efficientnet_space(name: str, reason: str) -> None:
    """The MnasNets are excluded from their stem on, by its ReLU."""
    from nas.references.table import reference

    space = load_space("efficientnet")
    with pytest.raises(InputError, match=reason):
        space.encode(replace(reference(name), dropout=0.2, stochastic_depth=0.2, bn_eps=1e-5, bn_momentum=0.1))


@pytest.mark.parametrize("name", ["shufflenet", "mobilenet_v4"])
def test_size_of_a_cut_down_space_is_brute_force(name: str) -> None:
    """The shipped text with few repeats and two options a cell: all its networks are listed."""
    text = re.sub(r"repeat: \[[1-9][^]]*\]", "repeat: [1]", load_space(name).text)
    text = re.sub(r"(resolution|width|act|expand): \[([^],]+),[^]]*\]", r"\1: \2", text)
    text = re.sub(r"channels: \[([^],]+),[^]]*\]", r"channels: \1", text)
    text = re.sub(r"(kernel|groups): \[([^],]+, [^],]+),[^]]*\]", r"\1: [\2]", text)
    space = parse_space(text, name)
    archs = all_archs(space, 60_000)
    assert 100 < space.size == len(set(archs))


@pytest.mark.parametrize(
    ("name", "inside"),
    [
        ("shufflenet", ["shufflenet_v1_g3", *(f"shufflenet_v2@width={width}" for width in (0.5, 1.0, 1.5))]),
        ("mobilenet_v4", ["mobilenet_v4_conv_small", "mobilenet_v4_conv_medium"]),
    ],
)
def test_published_networks_are_inside(name: str, inside: list[str]) -> None:
    """Row by row; Conv-M but for dropout and stochastic depth."""
    from nas.references.table import reference

    space = load_space(name)
    for one in map(reference, inside):
        arch = replace(one, dropout=space.arch_options.get("dropout", 0.0), stochastic_depth=0.0)
        assert arch == one or one.stochastic_depth
        assert space.decode(space.encode(arch)) == arch


@settings(max_examples=15, deadline=None)
@given(seeds)
def test_neighbours_are_distinct_members_one_gene_away(seed: int) -> None:
    space = shipped("mbconv")
    arch = space.sample(seed)
    genes = space.encode(arch)
    neighbours = space.neighbours(arch)
    assert len(set(neighbours)) == len(neighbours)
    assert arch not in neighbours
    for other in neighbours[:: len(neighbours) // 10 + 1]:
        changed = space.encode(other)
        differing = [name for name in genes.keys() & changed.keys() if genes[name] != changed[name]]
        assert len(differing) == 1


@settings(max_examples=20, deadline=None)
@given(seeds, seeds)
def test_features_tell_networks_apart(seed: int, other: int) -> None:
    space = shipped("mbconv")
    one, two = space.sample(seed), space.sample(other)
    assert np.array_equal(space.features(one), space.features(two)) == (one == two)
    assert space.features(one).shape == (len(space.feature_names),)
    assert space.features(one).sum() == len(space.encode(one))


def test_sampling_reaches_every_option() -> None:
    space = shipped("mbconv")
    rng = np.random.default_rng(0)
    seen: dict[str, set[Scalar]] = {}
    for _ in range(400):
        for name, value in space.sample_genes(rng).items():
            seen.setdefault(name, set()).add(value)
    assert all(seen[gene.name] == set(gene.options) for gene in space.genes)


GOOD = "name: a\nresolution: 32\nstages:\n  - {op: mbconv, channels: 16, kernel: [3, 5]}\n"


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("name: [", 1, "YAML"),
        (GOOD.replace("kernel", "kernle"), 4, "'kernle'; known: op, channels"),
        (GOOD.replace("[3, 5]", "[3, 4]"), 4, "kernel must be odd, got 4"),
        (GOOD.replace("[3, 5]", "[3, 3]"), 4, "kernel lists 3"),
        (GOOD.replace("mbconv", "mbcnov"), 4, "'mbcnov'; known: conv, dwsep"),
        (GOOD.replace("channels: 16", "channels: -16"), 4, "from 1 to 16384, got -16"),
        (GOOD.replace("channels: 16, ", ""), 4, "channels"),
        (GOOD.replace("resolution: 32", "resolution: huge"), 2, "'huge'"),
        (GOOD.replace("resolution: 32\n", ""), 1, "resolution"),
        (GOOD + "deep: 3\n", 5, "'deep'; known: name, base, resolution"),
        (GOOD + "name: b\n", 5, "name"),
        (GOOD.replace("op: mbconv", "op: conv, expand: 3"), 4, "'expand'; known: act, channels"),
        (GOOD.replace("op: mbconv", "op: mbconv, repeat: 0"), 4, "repeat"),
        (GOOD.replace("op: mbconv", "op: mbconv, repeat: [400]"), 4, "from 0 to 64, got 400"),
        (GOOD.replace("op: mbconv", "op: mbconv, shared: [expand]"), 4, "'expand'; known: op, channels, kernel"),
        (GOOD.replace("op: mbconv", "op: mbconv, choice: [skip, skip]"), 4, "'skip'"),
        (GOOD.replace("op: mbconv", "op: mbconv, act: silu"), 4, "known: none, relu, relu6, h_swish, swish"),
        ("- 1\n", 1, "mapping"),
    ],
)
def test_mistakes_name_file_line_rule_and_value(text: str, line: int, says: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        load_space(path)
    assert says in str(caught.value)
    assert str(caught.value).startswith(f"{path}:{line}: ")
    assert "\n" not in str(caught.value)


@given(st.floats(1e-12, 1), st.sampled_from(["{!r}", "{:e}", "{:E}", "{:+.3e}", "{:.0e}"]))
def test_any_writing_of_a_number_is_a_number(value: float, form: str) -> None:
    """``1e-05`` and ``+1E-5``, too, which YAML 1.1 takes for text."""
    text = form.format(value)
    assert parse_space(GOOD + f"bn_eps: {text}\n", "a").arch_options["bn_eps"] == float(text)


def test_exponents_are_read_in_every_cell_that_holds_a_number() -> None:
    row = "{op: mbconv, repeat: [1e0, 2e0], channels: {1: 1.6e1, 5e-1: 8e0}, kernel: [3e0, 5], expand: 6E0, se: +.25}"
    plain = "{op: mbconv, repeat: [1, 2], channels: {1: 16, 0.5: 8}, kernel: [3, 5], expand: 6, se: 0.25}"
    one, other = (
        parse_space(f"name: a\nresolution: {side}\nwidth: [{width}, 1.0]\nstages:\n  - {text}\n", "a")
        for side, width, text in (("3.2e1", "5e-1", row), ("32", "0.5", plain))
    )
    assert one.key == other.key
    assert all(one.sample(seed) == other.sample(seed) for seed in range(8))


def test_a_comment_after_a_number_is_none_of_it() -> None:
    assert parse_space(GOOD + "bn_eps: 1e-05 # the paper's\n", "a").arch_options["bn_eps"] == 1e-5


@pytest.mark.parametrize("text", ["'1e-05'", "1e", "e-05", "1e-05x", "1e-0.5", "1 e-05", "-e5", "1e999"])
def test_quoted_and_other_texts_are_no_numbers(text: str) -> None:
    with pytest.raises(InputError, match=r"^a:5: bn_eps must be a number"):
        parse_space(GOOD + f"bn_eps: {text}\n", "a")


def test_very_long_digits_are_refused_at_once_and_cut_in_the_error() -> None:
    with pytest.raises(InputError, match=r"^a:5: bn_eps ") as caught:
        parse_space(GOOD + f"bn_eps: {'9' * 200_000}\n", "a")
    assert len(str(caught.value)) < 120


def test_text_that_looks_like_a_number_is_text_where_text_is_expected() -> None:
    assert parse_space(GOOD.replace("name: a", "name: 1e5"), "a").name == "1e5"


@pytest.mark.parametrize("name", ["dropout", "bn_eps", "bn_momentum", "stochastic_depth"])
def test_what_is_no_gene_takes_no_list(name: str) -> None:
    with pytest.raises(InputError, match=f"a:5: {name} .* a list"):
        parse_space(GOOD + f"{name}: [0.1, 0.2]\n", "a")


def test_unknown_space_names_the_known() -> None:
    with pytest.raises(InputError, match=r"'mbcnov'; known: .*mbconv"):
        load_space("mbcnov")


def test_an_alias_bomb_is_refused() -> None:
    bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n"
    for before, after in zip("abcdefg", "bcdefgh", strict=True):
        bomb += f"{after}: &{after} [" + ",".join([f"*{before}"] * 9) + "]\n"
    with pytest.raises(InputError, match="20000"):
        parse_space(bomb, "bomb.yaml")


def test_wrong_genes_are_refused() -> None:
    space = shipped("mbconv")
    genes = space.sample_genes(0)
    with pytest.raises(InputError, match="'colour'"):
        space.decode(genes | {"colour": 1})
    with pytest.raises(InputError, match=r"'resolution' .*17.*\[160, 192, 224\]"):
        space.decode(genes | {"resolution": 17})
    with pytest.raises(InputError, match="'width'"):
        space.decode({name: value for name, value in genes.items() if name != "width"})


def test_a_network_outside_the_space_is_not_encoded() -> None:
    from nas.references.table import reference

    with pytest.raises(InputError, match="batch norm"):
        load_space("mbconv").encode(reference("mobilenet_v2"))


def test_the_first_row_outside_the_space_is_named() -> None:
    space = load_space("mbconv")
    arch = space.sample(0)
    other = (*arch.rows[:2], replace(arch.rows[2], act="gelu"), *arch.rows[3:])
    with pytest.raises(InputError, match=re.escape(f"row 2 ({other[2]})")):
        space.encode(replace(arch, rows=other))


def test_the_hash_of_a_space_is_of_its_meaning() -> None:
    text = load_space("mbconv").text
    assert parse_space(text + "\n# a comment\n", "x").key == load_space("mbconv").key
    assert parse_space(text.replace("[0.5, 0.75, 1.0]", "[0.5, 1.0]"), "x").key != load_space("mbconv").key


def test_every_runs_each_way_once() -> None:
    """A conditional procedure: the second gene is met only when the first is 1."""

    def procedure(choose: object) -> tuple[Scalar, ...]:
        first = choose(Gene("a", (0, 1)))  # type: ignore[operator]
        return (first, choose(Gene("b", (5, 6, 7)))) if first else (first,)  # type: ignore[operator]

    assert [outcome for _, _, outcome in every(procedure)] == [(0,), (1, 5), (1, 6), (1, 7)]


def test_a_network_is_in_its_space_alone() -> None:
    arch = shipped("mbconv").sample(0)
    assert arch in shipped("mbconv")
    assert arch not in shipped("efficientnet")
