"""Networks of others have exactly the parameters and MACs that others counted: references at every published
width and resolution, specialised Once-for-all networks, and NAS-Bench-Macro (tests/data/tables/README.md)."""

import csv
import re
from itertools import product
from pathlib import Path

import pytest

from benchmarks.tables import macro_network, macro_space
from nas.arch.cost import cost_of
from nas.arch.space_yaml import parse_space
from nas.network.count import count
from nas.references.table import reference

TABLES = Path(__file__).parents[1] / "data" / "tables"


def table(name: str) -> list[dict[str, str]]:
    """The rows of a published table."""
    with (TABLES / f"{name}.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


# Exact published counts: torchvision's num_params, timm and osmr/imgclsmob, tensorflow/tpu.
PARAMETERS = {
    "mobilenet_v1": 4_231_976,
    "mobilenet_v1@width=0.75": 2_585_560,
    "mobilenet_v1@width=0.5": 1_331_592,
    "mobilenet_v1@width=0.25": 470_072,
    "mobilenet_v2": 3_504_872,
    "mobilenet_v3_large": 5_483_032,
    "mobilenet_v3_small": 2_542_856,
    "mobilenet_v3_large_minimalistic": 3_924_288,
    "mobilenet_v3_small_minimalistic": 2_044_736,
    "mobilenet_v4_conv_small": 3_774_024,
    "mobilenet_v4_conv_medium": 9_715_512,
    "mnasnet_a1": 3_887_038,
    "mnasnet_b1": 4_383_312,
    "mnasnet_b1@width=0.5": 2_218_512,
    "mnasnet_b1@width=0.75": 3_170_208,
    "mnasnet_b1@width=1.3": 6_282_256,
    "mnasnet_small": 2_030_264,
    "efficientnet_b0": 5_288_548,
    "efficientnet_b1": 7_794_184,
    "efficientnet_b2": 9_109_994,
    "efficientnet_b3": 12_233_232,
    "efficientnet_b4": 19_341_616,
    "efficientnet_b5": 30_389_784,
    "efficientnet_b6": 43_040_704,
    "efficientnet_b7": 66_347_960,
    "efficientnet_v2_s": 21_458_488,
    "proxylessnas_mobile": 4_080_512,
    "proxylessnas_mobile@width=1.4": 6_857_568,
    "proxylessnas_cpu": 4_361_648,
    "proxylessnas_gpu": 7_119_848,
    "fbnet_c": 5_572_200,
    "shufflenet_v1_g1": 1_531_936,
    "shufflenet_v1_g2": 1_733_848,
    "shufflenet_v1_g3": 1_865_728,
    "shufflenet_v1_g4": 1_968_344,
    "shufflenet_v1_g8": 2_434_768,
    "shufflenet_v1_g1@width=0.75": 975_214,
    "shufflenet_v1_g3@width=0.75": 1_238_266,
    "shufflenet_v1_g1@width=0.5": 534_484,
    "shufflenet_v1_g3@width=0.5": 718_324,
    "shufflenet_v1_g1@width=0.25": 209_746,
    "shufflenet_v1_g3@width=0.25": 305_902,
    "shufflenet_v2@width=0.5": 1_366_792,
    "shufflenet_v2": 2_278_604,
    "shufflenet_v2@width=1.5": 3_503_624,
    "shufflenet_v2@width=2": 7_393_996,
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_references_have_exactly_the_published_parameters(name: str) -> None:
    """The closed form; `test_built_references_...` counts the built networks."""
    assert cost_of(reference(name)).params == PARAMETERS[name]


@pytest.mark.torch
@pytest.mark.parametrize("name", [name for name in PARAMETERS if "@" not in name and not re.search(r"_b[3-7]$", name)])
def test_built_references_have_exactly_the_published_parameters(name: str) -> None:
    """Built and traced at a small size, on which parameters do not depend; MACs equal the closed form."""
    arch = reference(name, resolution=64)
    built = count(arch, trace=True)
    assert (built.params, built.macs) == (PARAMETERS[name], cost_of(arch).macs)


# Networks whose published count differs from ours, and why.
INDIVISIBLE = "a quarter of these widths does not divide into the groups; the bottleneck is rounded up to a multiple"
NO_BIAS = "counted without the bias of the classifier"
EXCEPTIONS = {
    **{f"shufflenet_v1_g{groups}@width=0.5,resolution=224": INDIVISIBLE for groups in (2, 4, 8)},
    **{f"shufflenet_v1_g{groups}@width=0.25,resolution=224": INDIVISIBLE for groups in (2, 4, 8)},
    **{f"shufflenet_v1_g3@width={width},resolution=224": NO_BIAS for width in ("1.5", "2")},
    "shufflenet_v1_g8@width=2,resolution=224": NO_BIAS,
}


@pytest.mark.parametrize("row", table("published_sizes"), ids=lambda row: row["network"])
def test_every_published_size_has_the_counted_figures(row: dict[str, str]) -> None:
    """Parameters exactly, MACs within half a percent, but for the exceptions."""
    cost, exception = cost_of(reference(row["network"])), EXCEPTIONS.get(row["network"])
    macs_off = abs(cost.macs / 1e6 / float(row["macs_m"]) - 1)
    if exception == INDIVISIBLE:
        assert 0.005 < macs_off < 0.1
        return
    assert macs_off < 0.005
    if row["params"]:
        without_bias = 1000 if exception == NO_BIAS else 0
        assert cost.params - without_bias == int(row["params"])


def test_exceptions_are_published_sizes() -> None:
    assert set(EXCEPTIONS) <= {row["network"] for row in table("published_sizes")}


def as_space(net: dict[str, str]) -> str:
    """A specialised network in the grammar of spaces, one row a block."""
    rows, inputs = [], int(net["stem"])
    for block in net["blocks"].split():
        kernel, expanded, channels, stride, gated, act = block.split("/")
        rows.append(
            f"  - {{op: mbconv, channels: {channels}, stride: {stride}, kernel: {kernel}, "
            f"expand: {int(expanded) / inputs}, se: {0.25 if gated == '1' else 0}, act: {act}}}"
        )
        inputs = int(channels)
    head = [f"  - {{op: conv, channels: {net['final_expand'] or net['feature_mix']}, act: {net['stem_act']}}}"]
    head.append("  - {op: pool}")
    if net["final_expand"]:  # MobileNetV3's last stage, here without bias
        head.append(f"  - {{op: linear, channels: {net['feature_mix']}, act: h_swish, bias: false}}")
    stem = f"stem: {{op: conv, kernel: 3, channels: {net['stem']}, stride: 2, act: {net['stem_act']}}}"
    return "\n".join([f"name: one\nresolution: {net['resolution']}", stem, "stages:", *rows, "head:", *head])


SPECIALISED = pytest.mark.parametrize("net", table("specialised_networks"), ids=lambda net: net["network"])


@SPECIALISED
def test_specialised_networks_have_the_counted_figures(net: dict[str, str]) -> None:
    """19 networks that Once-for-all found for phones, GPUs and CPUs."""
    cost = cost_of(parse_space(as_space(net), "net").sample(0))
    assert (cost.params, cost.macs) == (int(net["params"]), int(net["macs"]))


@SPECIALISED
@pytest.mark.slow
@pytest.mark.torch
def test_specialised_networks_are_built_with_the_counted_figures(net: dict[str, str]) -> None:
    cost = count(parse_space(as_space(net), "net").sample(0), trace=True)
    assert (cost.params, cost.macs) == (int(net["params"]), int(net["macs"]))


def test_networks_of_nas_bench_macro_have_the_published_figures() -> None:
    """By closed form."""
    for row in table("nas_bench_macro"):
        cost = cost_of(macro_network(row["code"]), 10)
        assert (cost.params, cost.macs) == (int(row["params"]), int(row["macs"])), row["code"]


def test_codes_of_nas_bench_macro_are_3969_networks() -> None:
    """Of 6,561 codes: an identity before or after another block is the same network."""
    found = {macro_network("".join(code)).key for code in product("012", repeat=8)}
    assert len(found) == macro_space().size == 3969


@pytest.mark.torch
@pytest.mark.parametrize("every", [20, pytest.param(1, marks=pytest.mark.slow)])
def test_networks_of_nas_bench_macro_are_built_with_the_published_figures(every: int) -> None:
    """Built and traced: one in twenty, and all with `pytest -m slow`."""
    for row in table("nas_bench_macro")[::every]:
        cost = count(macro_network(row["code"]), 10, trace=True)
        assert (cost.params, cost.macs) == (int(row["params"]), int(row["macs"])), row["code"]
