"""The guidelines of ShuffleNetV2 and the variants of a convolution: the paper's numbers, and cases worked by hand."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.arch.analysis.breakdown import stem
from nas.arch.analysis.conv_variants import Convolution, variants
from nas.arch.analysis.guidelines import (
    MAX_ELEMENTWISE,
    MAX_FRAGMENTS,
    MAX_GROUPED,
    MAX_UNEQUAL,
    Finding,
    findings,
    grouped_excess,
    least_access,
    pointwise_access,
    row_findings,
    unequal_excess,
)
from nas.arch.arch import Arch
from nas.arch.block import Block, PlacedBlock
from nas.arch.cost import Cost, row_cost
from nas.arch.layers import Layer, layers_of
from nas.references.external import parts, total
from nas.references.table import reference, reference_names
from nas.system.errors import InputError
from tests.strategies import archs

sides = st.integers(1, 512)


def of(guideline: str, found: list[Finding]) -> list[Finding]:
    return [one for one in found if one.guideline == guideline]


@pytest.mark.parametrize("side", [56, 28, 14])
def test_access_grows_with_the_ratio_of_widths_as_in_table_1(side: int) -> None:
    """Widths 1:1, 1:2, 1:6, 1:12 of equal MACs (within 6 %, as the paper's): excess grows, from none."""
    pairs = [(128, 128), (90, 180), (52, 312), (36, 432)]
    assert max(a * b for a, b in pairs) / min(a * b for a, b in pairs) < 1.06
    excess = [unequal_excess(*pair, side * side) for pair in pairs]
    assert excess[0] == pytest.approx(0, abs=1e-12)
    assert excess == sorted(excess)
    if side == 56:  # large maps: (1 + r) / (2 sqrt r) - 1, but for the weights
        for ratio, one in zip((1, 2, 6, 12), excess, strict=True):
            assert one == pytest.approx((1 + ratio) / (2 * math.sqrt(ratio)) - 1, abs=0.03)


@given(st.integers(1, 2048), st.integers(1, 2048), st.integers(1, 10**5))
def test_the_bound_holds_and_equal_widths_reach_it(inputs: int, outputs: int, pixels: int) -> None:
    """Equation 2, for all widths and sizes."""
    bound = least_access(pixels * inputs * outputs, pixels)
    assert pointwise_access(inputs, outputs, pixels) >= bound * (1 - 1e-12)
    assert pointwise_access(inputs, inputs, pixels) == pytest.approx(least_access(pixels * inputs**2, pixels))


def test_unequal_widths_by_hand() -> None:
    """10x10, 4 to 16: access 100 * 20 + 64 = 2064; equal widths of 6400 MACs are 8: 100 * 16 + 64 = 1664."""
    assert unequal_excess(4, 16, 100) == pytest.approx(2064 / 1664 - 1)
    wide = row_findings(PlacedBlock(Block("conv", 16, 1), 4, 10), 7)
    assert wide == [Finding("G1", 7, "1x1 of 4 to 16 at 10x10", pytest.approx(2064 / 1664 - 1))]
    assert str(wide[0]) == "G1 +24%"
    assert row_findings(PlacedBlock(Block("conv", 8, 1), 4, 10)) == []  # 1:2 is below the threshold


def test_groups_by_hand() -> None:
    """10x10, 8 to 8 in 4 groups: 100 * 16 + 16; as many MACs ungrouped are 8 to 2: 100 * 10 + 16."""
    layer = next(layers_of(PlacedBlock(Block("conv", 8, 1, groups=4), 8, 10)))
    assert grouped_excess(layer) == pytest.approx((1600 + 16) / (1000 + 16) - 1)
    found = row_findings(PlacedBlock(Block("conv", 8, 1, groups=4), 8, 10))
    assert [(one.guideline, one.text) for one in found] == [("G2", "1x1 of 8 to 8 at 10x10 in 4 groups")]


@given(st.sampled_from([8, 16, 64, 240]), sides)
def test_access_grows_with_the_groups_at_equal_macs(inputs: int, side: int) -> None:
    """Equation 3, the experiment of table 2: at the same input and MACs, more groups (and outputs) move more."""
    excess = []
    for groups in (1, 2, 4, 8):
        row = Block("conv", 64 * groups, 1, groups=groups)
        layer = next(layers_of(PlacedBlock(row, inputs, side)))
        assert layer.macs == 64 * inputs * side**2
        excess.append(grouped_excess(layer))
    assert excess[0] == 0
    assert excess == sorted(excess)
    assert excess[3] > excess[0]


def test_depthwise_convolutions_are_not_flagged_as_groups() -> None:
    assert of("G2", findings(reference("mobilenet_v1"))) == []
    assert of("G2", findings(reference("shufflenet_v1_g1"))) == []
    assert of("G2", findings(reference("shufflenet_v1_g8"))) != []


def test_fragments_by_hand() -> None:
    """An inverted residual has three; SE adds a pooling and two 1x1; the strided unit of ShuffleNetV2 has five."""
    plain, gated = Block("mbconv", 16, 3, 1, 4), Block("mbconv", 16, 3, 1, 4, 0.25)
    assert of("G3", row_findings(PlacedBlock(plain, 16, 14))) == []
    assert [one.excess for one in of("G3", row_findings(PlacedBlock(gated, 16, 14)))] == [6 - MAX_FRAGMENTS]
    assert [str(one) for one in of("G3", row_findings(PlacedBlock(Block("shuffle_v2", 32, 3, 2), 16, 14)))] == ["G3 +2"]


def test_element_wise_share_by_hand() -> None:
    """10x10, 8 channels, expansion 1, residual: depthwise 1600 + 72 + 16, 1x1 1600 + 64 + 16, add 2400: 42 %."""
    row = Block("mbconv", 8, 3, 1, 1)
    found = of("G4", row_findings(PlacedBlock(row, 8, 10)))
    assert [one.excess for one in found] == [pytest.approx(2400 / (1688 + 1680 + 2400))]
    assert row_cost(PlacedBlock(row, 8, 10)).memory_bytes == 4 * (1688 + 1680 + 2400)
    assert str(found[0]) == "G4 42%"
    assert of("G4", row_findings(PlacedBlock(Block("mbconv", 16, 3, 1, 1), 8, 10))) == []  # no shortcut


def test_families_break_the_guidelines_the_paper_says() -> None:
    """ShuffleNetV1 breaks G2, inverted bottlenecks G1; units of ShuffleNetV2 keep G1, as MobileNetV1 all."""
    broken = {name: {one.guideline for one in findings(reference(name))} for name in reference_names()}
    assert "G2" in broken["shufflenet_v1_g3"]
    assert "G1" in broken["mobilenet_v2"]
    units = [at for at, row in enumerate(reference("shufflenet_v2").rows) if row.op == "shuffle_v2"]
    assert not [one for one in findings(reference("shufflenet_v2")) if one.row in units and one.guideline == "G1"]
    assert broken["mobilenet_v1"] == set()


def test_groups_are_flagged_on_a_large_map_and_not_where_weights_dominate() -> None:
    """Two groups of 64 to 64 at 56x56: +33 %; of 960 to 960 at 7x7: (94,080 + 460,800) / (70,560 + 460,800), +4 %."""
    large = Arch((Block("conv", 64, 3), Block("conv", 64, 1, groups=2), Block("pool")), 56)
    small = Arch((Block("conv", 960, 3), Block("conv", 960, 1, groups=2), Block("pool")), 8)
    assert [(one.row, one.excess) for one in of("G2", findings(large))] == [(1, pytest.approx(1 / 3, abs=0.01))]
    assert of("G2", findings(small)) == []


def test_mobilenet_v2_widens_unequally_but_for_its_smallest_maps() -> None:
    """The rows docs/cost.md names."""
    assert {one.row for one in of("G1", findings(reference("mobilenet_v2")))} == set(range(2, 15))


def excesses(placed: PlacedBlock) -> dict[str, list[float]]:
    """Excesses by guideline, computed from the layers alone: all that could be flagged, flagged or not."""
    found: dict[str, list[float]] = {"G1": [], "G2": [], "G3": [], "G4": []}
    layers = list(layers_of(placed))
    moving = [layer for layer in layers if layer.kind in ("add", "scale", "concat", "shuffle")]
    for layer in layers:
        pixels = layer.out_size**2
        weights, written = layer.macs // pixels, layer.out_channels * pixels
        if layer.kind == "pointwise":
            bound = 2 * math.sqrt(pixels * layer.macs) + layer.macs / pixels
            access = pixels * (layer.in_channels + layer.out_channels) + weights
            found["G1"].append(access / bound - 1)
        if layer.groups > 1 and layer.kind != "depthwise":
            ungrouped = layer.elements - written + written / layer.groups + weights
            found["G2"].append((layer.elements + weights) / ungrouped - 1)
    many = sum(2 if layer.kind == "se" else 1 for layer in layers if layer not in moving and layer.kind != "linear")
    found["G3"].append(many - MAX_FRAGMENTS)
    total_moved = sum(layer.params + layer.elements for layer in layers)
    found["G4"].append(sum(layer.elements for layer in moving) / total_moved)
    return found


def check_flags(arch: Arch) -> None:
    limits = {"G1": MAX_UNEQUAL, "G2": MAX_GROUPED, "G3": 0, "G4": MAX_ELEMENTWISE}
    found = findings(arch)
    for at, placed in enumerate(arch.places()):
        for guideline, values in excesses(placed).items():
            flagged = [one.excess for one in found if (one.row, one.guideline) == (at, guideline)]
            assert flagged == pytest.approx([value for value in values if value > limits[guideline]])
    assert {one.row for one in found} <= set(range(len(arch.rows)))
    assert {one.guideline for one in found} <= set(limits)


@given(archs)
def test_a_row_is_flagged_exactly_beyond_its_own_threshold(arch: Arch) -> None:
    """In both directions, for each guideline and its limit."""
    check_flags(arch)


def test_references_are_flagged_exactly_beyond_their_thresholds() -> None:
    """Each of the four guidelines is broken by some rows and kept by others."""
    for name in reference_names():
        check_flags(reference(name))
    assert {one.guideline for name in reference_names() for one in findings(reference(name))} == {
        "G1",
        "G2",
        "G3",
        "G4",
    }


@given(archs, st.sampled_from(["block", "layer"]))
def test_parts_add_up_to_the_whole(arch: Arch, by: str) -> None:
    """Parameters, MACs and bytes, exactly."""
    costs = [line.cost for line in parts(arch, by, 10)]
    assert total(arch, 10) == Cost(
        sum(part.params for part in costs), sum(part.macs for part in costs), sum(part.memory_bytes for part in costs)
    )


def test_the_textbook_convolution() -> None:
    """12x12x3, 5x5, 256 channels, no padding: 1,228,800; 4,800 + 49,152 = 53,952; a column and a row for each pair."""
    found = {variant.name: variant for variant in variants(Convolution(12, 12, 3, 5, 256, padding=0))}
    assert [macs for _, macs in found["standard"].steps] == [1_228_800]
    assert [macs for _, macs in found["depthwise separable"].steps] == [4_800, 49_152]
    assert found["depthwise separable"].cost.macs == 53_952
    assert [macs for _, macs in found["spatially separable"].steps] == [5 * 768 * 8 * 12, 5 * 768 * 64]
    assert found["depthwise separable"].cost.params == 25 * 3 + 3 * 256
    assert found["depthwise separable"].cost.memory_bytes == 4 * (432 + 75 + 192 + 192 + 768 + 16384)


@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 3, 5]), st.integers(5, 40), st.sampled_from([1, 2]))
def test_variants_are_the_operators_of_the_rows(inputs: int, outputs: int, kernel: int, side: int, stride: int) -> None:
    """With the padding that rows have, three of them count what conv, dwsep and spatial_sep count."""
    found = {variant.name: variant for variant in variants(Convolution(side, side, inputs, kernel, outputs, stride))}
    for name, op in (
        ("standard", "conv"),
        ("depthwise separable", "dwsep"),
        ("spatially separable, full", "spatial_sep"),
    ):
        layers = list(layers_of(PlacedBlock(Block(op, outputs, kernel, stride), inputs, side)))
        assert [macs for _, macs in found[name].steps] == [layer.macs for layer in layers]


def test_spatially_separable_counts_what_pytorch_traces() -> None:
    """A column for each pair, then a row for each pair, summed over the inputs: as grouped convolutions."""
    import torch

    from nas.network.trace import trace

    columns = torch.nn.Conv2d(3, 12, (5, 1), groups=3, bias=False)
    rows = torch.nn.Conv2d(12, 4, (1, 5), bias=False, groups=4)
    network = torch.nn.Sequential(columns, rows)
    variant = variants(Convolution(12, 12, 3, 5, 4, padding=0))[2]
    traced = trace(network, 12)
    assert (traced.macs, 4 * traced.elements) == (variant.cost.macs, variant.cost.memory_bytes)


@pytest.mark.parametrize(
    "text",
    ["12x12:5:256", "12x12x3:5", "0x12x3:5:8", "12x12x3:0:8", "99999x12x3:3:8", "12x12x3:200:8", "١x1x1:1:1", ""],
)
def test_a_broken_convolution_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="got"):
        Convolution.parse(text)


def test_a_window_that_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match=r"5x5 .*padding"):
        Convolution.parse("4x12x3:5:8", padding=0)


def test_the_stem_is_the_first_convolution_with_a_window() -> None:
    conv = stem(reference("mobilenet_v2"))
    assert conv == Convolution(224, 224, 3, 3, 32, 2)
    assert variants(conv)[0].cost.macs == next(layers_of(next(reference("mobilenet_v2").places()))).macs
    assert stem(Arch((Block("conv", 8, 1), Block("pool")), 32)) is None


@pytest.mark.parametrize(("channels", "ratio"), [(64, 0.25), (96, 0.5), (240, 0.25)])
def test_squeeze_and_excitation_has_two_c_squared_r_weights(channels: int, ratio: float) -> None:
    """2 C^2 r without its biases, where C r needs no rounding; as many MACs."""
    placed = PlacedBlock(Block("mbconv", channels, 3, 1, 1, ratio), channels, 14)
    gate: Layer = next(layer for layer in layers_of(placed) if layer.kind == "se")
    squeezed = int(channels * ratio) if channels * ratio % 8 == 0 else placed.squeezed
    assert gate.macs == 2 * channels * squeezed
    assert gate.params - (squeezed + channels) == 2 * channels * squeezed
    if channels * ratio % 8 == 0:
        assert gate.macs == 2 * channels**2 * ratio
