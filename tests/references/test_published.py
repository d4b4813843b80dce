"""Published figures: differences have explanations, explanations have differences; bad files are refused by line."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.arch.cost import cost_of
from nas.references.external import library_cost, library_network
from nas.references.published import TOLERANCE, UNKNOWN, Figure, left_out, published, published_libraries
from nas.references.table import reference, reference_names
from nas.system.errors import InputError

TINY = """\
name: tiny
resolution: 32
stem: {op: conv, kernel: 3, channels: 8, stride: 2, act: relu}
stages:
  - {op: mbconv, channels: 16, stride: 2, kernel: 3, expand: 3, act: relu}
published:
"""


@given(st.integers(1, 10**6), st.integers(0, 4))
def test_numbers_that_round_to_the_printed_digits_agree(units: int, decimals: int) -> None:
    """A figure agrees with every number that rounds to it, and with none a unit of its last digit away."""
    text = f"{units / 10**decimals:.{decimals}f}"
    figure = Figure.of(text)
    assert figure is not None
    unit = 10.0**-decimals
    for share in (-0.49, -0.2, 0.0, 0.2, 0.49):
        assert figure.difference(figure.value + share * unit) == 0
    assert figure.difference(figure.value + unit) > 0 > figure.difference(figure.value - unit)


@pytest.mark.parametrize(
    ("text", "value", "slack", "shown"),
    [
        ("4.2e+3", 4200, 50, "4200"),
        ("2e+2", 200, 50, "200"),
        ("7.0E2", 700, 5, "700"),
        ("+5e-1", 0.5, 0.05, "0.5"),
        ("3.45e1", 34.5, 0.05, "34.5"),
    ],
)
def test_an_exponent_shows_how_a_figure_was_rounded(text: str, value: float, slack: float, shown: str) -> None:
    figure = Figure.of(text)
    assert figure is not None
    assert figure.value == value
    assert figure.slack == pytest.approx(slack)
    assert figure.text == shown


def test_numbers_of_an_entry_may_have_exponents(tmp_path: Path) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(
        TINY + "  - {width: 5e-1, resolution: 3.2e1, params_m: 1E+0, top1: {paper: 7e1}, source: s,\n"
        "     latency: [{device: Pixel 1, ms: 66e-1, source: s}]}\n"
    )
    (entry,) = published(str(path))
    assert (entry.width, entry.resolution, entry.top1, entry.latency[0].ms) == (0.5, 32, {"paper": 70.0}, 6.6)
    assert entry.params_m is not None
    assert entry.params_m.value == 1


@pytest.mark.parametrize("text", ["", "-1", "1.2.3", "1e99", "nan", "0x10", "1_000", "9" * 30])
def test_other_texts_are_not_figures(text: str) -> None:
    assert Figure.of(text) is None


@pytest.mark.parametrize("name", reference_names())
def test_every_difference_is_explained_and_every_explanation_has_one(name: str) -> None:
    """For each published size: figures that differ by `TOLERANCE` beyond their printed digits need an explanation."""
    entries = published(name)
    assert entries, "nothing is published for it"
    for entry in entries:
        cost = cost_of(reference(name, entry.width, entry.resolution))
        differences = entry.differences(cost.params, cost.macs)
        where = (name, entry.width, entry.resolution, entry.source)
        assert bool(differences) == bool(entry.differs), where
        assert all(abs(each.published.difference(each.counted)) > TOLERANCE for each in differences)


def test_known_and_unknown_causes_are_counted() -> None:
    """Every difference has an explanation, or the words that the cause is unknown."""
    explanations: list[str] = []
    unknown = []
    for name in reference_names():
        for entry in published(name):
            cost = cost_of(reference(name, entry.width, entry.resolution))
            for one in entry.differences(cost.params, cost.macs):
                assert one.explanation is not None
                if one.unknown:
                    assert UNKNOWN in one.explanation
                    unknown.append(one)
                else:
                    assert len(one.explanation) > 20
                    assert UNKNOWN not in one.explanation.lower()
                    explanations.append(one.explanation)
    assert (len(explanations), len(unknown)) == (46, 48)
    assert len(set(explanations)) > 15


@pytest.mark.parametrize("name", ["torchvision:squeezenet1_1", "torchvision:alexnet", "torchvision:googlenet"])
def test_library_networks_too(name: str) -> None:
    cost = library_cost(library_network(name))
    for entry in published(name):
        assert bool(entry.differences(cost.params, cost.macs)) == bool(entry.differs), entry.source


@pytest.mark.slow
@pytest.mark.parametrize("name", published_libraries())
def test_all_library_networks_too(name: str) -> None:
    test_library_networks_too(name)


def test_every_latency_has_its_source() -> None:
    """MobileNetV3-Large on the Pixel 1 takes 66 ms in the early paper and 51 ms in the final one."""
    pairs = {(p.ms, p.source) for e in published("mobilenet_v3_large") for p in e.latency if p.device == "Pixel 1"}
    assert (66.0, "arXiv 1905.02244, early versions, table 3") in pairs
    assert (51.0, "arXiv 1905.02244, final version, table 3") in pairs
    for name in (*reference_names(), *published_libraries()):
        for entry in published(name):
            assert entry.source
            assert all(len(phone.source) > 3 for phone in entry.latency)


def test_figures_are_those_of_the_sources() -> None:
    """A few of each kind, read from the sources by hand."""
    (first, *_) = (e for e in published("mobilenet_v1") if (e.width, e.resolution) == (0.75, 192))
    assert first.params_m is not None
    assert first.macs_m is not None
    assert (first.params_m.value, first.macs_m.value, first.top1) == (2.59, 233, {"slim": 67.2})
    top1: dict[str, float] = {}
    for entry in published("mobilenet_v3_large"):
        if (entry.width or 1, entry.resolution or 224) == (1, 224):
            top1 |= entry.top1
    assert top1["paper"] == 75.2
    assert (top1["torchvision V1"], top1["torchvision V2"]) == (74.042, 75.274)


def test_fbnet_a_and_b_are_listed_as_left_out() -> None:
    assert {"FBNet-A", "FBNet-B"} <= set(left_out())
    assert "50,304" in left_out()["FBNet-B"]


@pytest.mark.parametrize(
    ("section", "line", "says"),
    [
        ("  - {params_m: 3.4}", 7, "source"),
        ("  - {params_m: many, source: s}", 7, "params_m"),
        ("  - {macs_m: .inf, source: s}", 7, "macs_m"),
        ("  - {macs_m: [1, 2], source: s}", 7, "macs_m"),
        ("  - {width: 99, source: s}", 7, "width must be a number from 0.05 to 16, got 99"),
        ("  - {resolution: 100000, source: s}", 7, "got 100000"),
        ("  - {source: s}", 7, "params_m, macs_m, top1 or latency"),
        ("  - {width: 1, resolution: 32, top1: {}, source: s}", 7, "params_m, macs_m, top1 or latency"),
        ("  - {source: s, params_m: 3}\n  - {flops: 3, source: s}", 8, "'flops'; known: width"),
        ("  - {source: s, top1: {paper: 101}}", 7, "from 0 to 100, got 101"),
        ("  - {source: s, top1: {paper: 70, paper: 71}}", 7, "'paper'"),
        ("  - {source: s, top1: 70}", 7, "top1"),
        ("  - source: s\n    latency: [{device: Pixel 1, ms: 66}]", 8, "source"),
        ("  - {source: s, latency: [{device: Pixel 1, ms: 0, source: s}]}", 7, "got 0"),
        ('  - {source: "a\\nb"}', 7, "source"),
        ("  {source: s}", 7, "published"),
    ],
)
def test_a_broken_entry_is_refused_with_its_line(tmp_path: Path, section: str, line: int, says: str) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY + section + "\n")
    with pytest.raises(InputError) as caught:
        published(str(path))
    assert str(caught.value).startswith(f"{path}:{line}: "), caught.value
    assert says in str(caught.value)
    assert os.linesep not in str(caught.value)


def test_a_file_without_published_figures_has_none(tmp_path: Path) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY.replace("published:\n", ""))
    assert published(str(path)) == ()
    path.write_text(TINY + "  []\n")
    assert published(str(path)) == ()


def test_networks_without_published_figures() -> None:
    assert published("timm:nobody_knows_it") == ()
    with pytest.raises(InputError, match="mobilenet_v9"):
        published("mobilenet_v9")
