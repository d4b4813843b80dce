"""References: names, multipliers, and how far mbconv contains them."""

from dataclasses import fields

import pytest

from nas.arch import Arch
from nas.errors import InputError
from nas.references import reference, reference_names
from nas.row import Block
from nas.space import Space
from nas.space_file import load_space


def test_multipliers_in_text_and_as_arguments_agree() -> None:
    assert reference("mobilenet_v2@width=0.75,resolution=192") == reference("mobilenet_v2", 0.75, 192)
    assert reference("mobilenet_v2", resolution=192).resolution == 192


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("mobilenet_v9", "no reference is called 'mobilenet_v9'; did you mean mobilenet_v2"),
        ("mobilenet_v2@depth=2", "no multiplier 'depth'; known: width, resolution"),
        ("mobilenet_v2@width=wide", "a multiplier reads width=0.75"),
        ("mobilenet_v2@width=99", "width must be a number"),
        ("mobilenet_v2@width=nan", "width must be a number"),
        ("mobilenet_v2@resolution=1.5", "a multiplier reads"),
        ("mobilenet_v2@resolution=0", "resolution must be a whole number"),
        ("mobilenet_v2@resolution=inf", "a multiplier reads"),
    ],
)
def test_bad_names_are_told(name: str, says: str) -> None:
    with pytest.raises(InputError) as caught:
        reference(name)
    assert says in str(caught.value)


@pytest.mark.parametrize("name", reference_names())
def test_a_reference_is_its_own_json(name: str) -> None:
    assert Arch.from_json(reference(name).to_json()) == reference(name)


# Rows per stage of mbconv for each reference, then what cannot be said in the space: (cell, theirs, nearest) and why.
STAGES = {
    "mobilenet_v2": [1, 2, 3, 4, 3, 3, 1],
    "mobilenet_v3_large": [1, 2, 3, 4, 2, 3, 0],
    "efficientnet_b0": [1, 2, 2, 3, 3, 4, 1],
}
REASONS = {
    "mobilenet_v2": {
        ("act", "relu6", "relu"): "relu6 is relu cut off at 6, for 8-bit arithmetic; one gene less without it",
        ("head", "conv1 r6 >1280", "conv1 hs >960"): "the head is MobileNetV3's, 1280 channels after the pool",
        ("head", None, "fc hs >1280"): "the head is MobileNetV3's, 1280 channels after the pool",
        ("bn_eps", 1e-5, 1e-3): "batch norm is MobileNetV3's",
        ("bn_momentum", 0.1, 0.01): "batch norm is MobileNetV3's",
    },
    "mobilenet_v3_large": {
        ("expand", 2.5, 3): "200 channels, found by NetAdapt after the block search",
        ("expand", 2.3, 3): "184 channels, found by NetAdapt after the block search",
    },
    "efficientnet_b0": {
        ("se_base", "input", "expanded"): "SE is a quarter of the block input there, of the expanded width here",
        ("se_gate", "sigmoid", "hard_sigmoid"): "the gate of MobileNetV3 is cheaper on phones",
        ("head", "conv1 sw >1280", "conv1 hs >960"): "the head is MobileNetV3's, 1280 channels after the pool",
        ("head", None, "fc hs >1280"): "the head is MobileNetV3's, 1280 channels after the pool",
        ("bn_eps", 1e-5, 1e-3): "batch norm is MobileNetV3's",
        ("bn_momentum", 0.1, 0.01): "batch norm is MobileNetV3's",
    },
}


def nearest(space: Space, arch: Arch, repeats: list[int]) -> Arch:
    """The member of mbconv with `arch`'s depths and, cell by cell, the closest option there is."""
    options = {gene.name: gene.options for gene in space.genes}
    genes: dict[str, object] = {"resolution": arch.resolution, "width": 1.0}
    body = list(arch.rows[: 1 + sum(repeats)])

    def put(name: str, value: object) -> None:
        if name in options:
            same = [o for o in options[name] if o == value]
            near = [o for o in options[name] if not isinstance(o, str)]
            wanted = {"relu6": "relu"}.get(str(value), value)
            genes[name] = (
                same or [o for o in options[name] if o == wanted] or sorted(near, key=lambda o: abs(o - value))
            )[0]

    stem = body.pop(0)
    put("stem.channels", stem.channels)
    put("stem.act", stem.act)
    for at, repeat in enumerate(repeats, start=1):
        put(f"s{at}.repeat", repeat)
        for block in range(1, repeat + 1):
            row = body.pop(0)
            put(f"s{at}.channels", row.channels)
            prefix = f"s{at}.b{block}" if f"s{at}.b{block}.kernel" in options else f"s{at}"
            for cell in ("kernel", "expand", "se", "act"):
                put(f"{prefix}.{cell}", getattr(row, cell))
    return space.decode(genes)


@pytest.mark.parametrize("name", STAGES)
def test_mbconv_contains_the_reference_but_for_the_listed_cells(name: str) -> None:
    """docs/spaces.md shows this list to people."""
    theirs, ours = reference(name), nearest(load_space("mbconv"), reference(name), STAGES[name])
    body = 1 + sum(STAGES[name])
    differ: set[tuple[object, ...]] = set()
    for one, other in zip(theirs.rows[:body], ours.rows[:body], strict=True):
        for cell in fields(Block):
            if getattr(one, cell.name) != getattr(other, cell.name):
                differ.add((cell.name, getattr(one, cell.name), getattr(other, cell.name)))
    heads = [[str(row) for row in arch.rows[body:]] for arch in (theirs, ours)]
    differ |= {("head", a, b) for a, b in zip(heads[0] + [None] * (3 - len(heads[0])), heads[1], strict=True) if a != b}
    for option in ("bn_eps", "bn_momentum", "dropout", "resolution"):
        if getattr(theirs, option) != getattr(ours, option):
            differ.add((option, getattr(theirs, option), getattr(ours, option)))
    assert differ == set(REASONS[name])
