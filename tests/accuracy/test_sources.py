"""Tables of accuracies: networks have the counts that the tables state, and mistakes are named with file and line."""

import csv
import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nas.accuracy import sources
from nas.accuracy.sources import Source, read_source
from nas.arch.arch import Arch
from nas.arch.cost import cost_of
from nas.arch.space_yaml import load_space
from nas.references.table import reference
from nas.system.errors import InputError

TABLES = Path(__file__).parents[1] / "data" / "tables"
SHARED = Path(__file__).parents[3] / "shared"
MBCONV = SHARED / "data" / "imagenet-mbconv" / "imagenet_mbconv_dev.csv"
OFA = SHARED / "data" / "ofa-mbv3" / "ofa_mbv3_dev.csv"
FIGURES = SHARED / "figures" / "reference_figures.csv"


def lines(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def available(path: Path) -> Path:
    if not path.is_file():
        pytest.skip(f"{path} is not on this machine")
    return path


def theirs(arch: Arch) -> int:
    """MACs as Accel-NASBench counts: also four operations an element of batch norm, pooling, and the biases of SE."""
    macs = cost_of(arch).macs
    for place in arch.places():
        read, written = place.in_size**2, place.out_size**2
        if place.row.op == "pool":
            macs += place.in_channels * read
            continue
        macs += 4 * place.out_channels * written
        if place.row.op == "mbconv":
            macs += 4 * place.expanded * (written + (read if place.row.expand > 1 else 0))
            macs += place.expanded * written + place.squeezed + place.expanded if place.squeezed else 0
    return macs


@pytest.mark.parametrize("path", [TABLES / "imagenet_mbconv.csv", MBCONV], ids=["sample", "shared"])
def test_networks_of_imagenet_mbconv_have_the_published_counts(path: Path) -> None:
    table = lines(available(path))
    source = read_source(path)
    assert (source.name, source.task, source.licence) == ("imagenet-mbconv", "ImageNet", "Apache-2.0")
    assert len(source.archs) == len(source.families) == len(table)
    for arch, share, line in zip(source.archs, source.accuracies, table, strict=True):
        assert abs(cost_of(arch).params - 1e6 * float(line["params"])) < 4.5  # the table rounds to six digits
        assert theirs(arch) / 1e6 == pytest.approx(float(line["macs"]), abs=0.002)
        assert 100 * share == pytest.approx(float(line["val_top1"]))


@pytest.mark.parametrize("path", [TABLES / "imagenet_mbconv.csv", MBCONV], ids=["sample", "shared"])
def test_networks_of_imagenet_mbconv_are_in_the_efficientnet_space(path: Path) -> None:
    """But for dropout and stochastic depth, which the table does not state."""
    space = load_space("efficientnet")
    for arch in read_source(available(path)).archs:
        inside = replace(arch, **space.arch_options)
        assert space.decode(space.encode(inside)) == inside


@pytest.mark.parametrize("path", [TABLES / "ofa_mbv3.csv", OFA], ids=["sample", "shared"])
def test_networks_of_ofa_mbv3_have_exactly_the_published_counts(path: Path) -> None:
    table = lines(available(path))
    source = read_source(path)
    assert (source.name, source.task, source.licence) == ("ofa-mbv3", "ImageNet", "Apache-2.0")
    for arch, share, line in zip(source.archs, source.accuracies, table, strict=True):
        cost = cost_of(arch)
        assert (cost.params, cost.macs) == (int(line["params"]), int(line["macs"]))
        assert 100 * share == pytest.approx(float(line["top1"]))


def published_table(rows: list[tuple[str, ...]]) -> str:
    """Published figures in the format of the shared ones: ten widths of three networks, then `rows`."""
    header = ("network", "variant", "input", "top1_paper", "top1_released_ckpt", "top1_torchvision", "top1_timm")
    text = io.StringIO()
    widths = [
        (name, f"{0.3 + at / 10:.1f}", "224", str(60 + at), "", "", "")
        for name in ("mobilenet_v1", "mobilenet_v2", "mobilenet_v3_small")
        for at in range(10)
    ]
    csv.writer(text).writerows([header, *widths, *rows])
    return text.getvalue()


def test_published_rows_are_references_with_their_family(tmp_path: Path) -> None:
    """The figure is the paper's, else the authors', torchvision's first, timm's first."""
    path = tmp_path / "figures.csv"
    rows = [
        ("mobilenet_v2", "1.0", "192", "", "70.7", "71.9", "72.0"),
        ("mobilenet_v3_large", "minimalistic_1.0", "224", "72.3", "70", "", ""),
        ("mnasnet_b1", "0.5", "224", "", "", "67.734 (V1) / 68.1 (V2)", "66"),
        ("mnasnet_small", "1.0", "224", "", "", "", "66.204 (a) / 67 (b)"),
        ("efficientnet", "b1", "240", "79.1", "", "", ""),
        ("proxylessnas", "mobile_14 (1.4x)", "224", "76.7", "", "", ""),
    ]
    path.write_text(published_table(rows))
    source = read_source(path)
    assert (source.name, source.task) == ("published", "ImageNet")
    assert source.archs[30:] == (
        reference("mobilenet_v2", resolution=192),
        reference("mobilenet_v3_large_minimalistic"),
        reference("mnasnet_b1@width=0.5"),
        reference("mnasnet_small"),
        reference("efficientnet_b1"),
        reference("proxylessnas_mobile@width=1.4"),
    )
    families = ("mobilenet_v2", "mobilenet_v3", "mnasnet", "mnasnet", "efficientnet", "proxylessnas")
    assert source.families[30:] == families
    assert set(source.families[20:30]) == {"mobilenet_v3"}
    assert source.accuracies[30:] == pytest.approx([0.707, 0.723, 0.67734, 0.66204, 0.791, 0.767])


@pytest.mark.parametrize(
    "row",
    [
        ("mobilenet_v2", "0.5", "224", "99", "", "", ""),  # a second time
        ("mobilenet_v2", "1.4", "224", "", "", "", ""),  # no figure
        ("mnasnet_a2", "1.0", "224", "75.6", "", "", ""),  # no reference
        ("proxylessnas", "mobile G", "224", "71.8", "", "", ""),
        ("shufflenet_v2", "1.0", "224", "69.4", "", "", ""),  # other operators
        ("resnet", "50", "224", "77.15", "", "", ""),
    ],
    ids=lambda row: row[0],
)
def test_published_rows_of_other_networks_are_skipped(tmp_path: Path, row: tuple[str, ...]) -> None:
    path = tmp_path / "figures.csv"
    path.write_text(published_table([row]))
    assert len(read_source(path).archs) == 30


def test_published_figures_have_the_published_counts() -> None:
    """Where the table states exact parameters; each network is there once."""
    exact = {int(line["params_exact"]) for line in lines(available(FIGURES)) if line["params_exact"]}
    source = read_source(FIGURES)
    assert len(set(source.archs)) == len(source.archs) > 100
    counted = [cost_of(arch).params for arch in source.archs]
    assert np.mean([params in exact for params in counted]) > 0.6
    top1 = dict(zip(source.archs, source.accuracies, strict=True))
    assert top1[reference("mobilenet_v3_large")] == pytest.approx(0.752)
    assert top1[reference("mobilenet_v2", resolution=96)] == pytest.approx(0.603)


def own_table(cells: Callable[[int], str] = lambda at: f"{50 + at}", count: int = 30) -> str:
    rows = [f'"mobilenet_v2@width=0.5,resolution={96 + 8 * at}",{cells(at)}' for at in range(count)]
    return "\n".join(["arch,accuracy", *rows]) + "\n"


def read(folder: Path, content: str | bytes, name: str = "mine.csv") -> Source:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_source(path, task="flowers")


def test_own_tables_hold_json_names_and_files(tmp_path: Path) -> None:
    """A byte-order mark, other columns, blank lines and a second accuracy of one network are accepted."""
    (tmp_path / "net.json").write_text(reference("mnasnet_a1").to_json())
    text = io.StringIO()
    names = [("mnasnet_b1", "b"), (reference("fbnet_c").to_json(), ""), ("net.json", "b"), ("mnasnet_b1", "b")]
    names += [(f"mobilenet_v1@resolution={96 + 8 * at}", "a") for at in range(28)]
    csv.writer(text).writerows([("Arch", "note", "Accuracy ", "family"), ()])
    csv.writer(text).writerows((name, "?", f"{60 + at}", family) for at, (name, family) in enumerate(names))
    source = read(tmp_path, b"\xef\xbb\xbf" + text.getvalue().encode())
    assert (source.name, source.task, source.licence) == ("mine", "flowers", "")
    assert source.archs[:4] == tuple(map(reference, ("mnasnet_b1", "fbnet_c", "mnasnet_a1", "mnasnet_b1")))
    assert source.families[:5] == ("b", "", "b", "b", "a")
    assert source.accuracies[:2] == pytest.approx([0.6, 0.61])


@pytest.mark.parametrize("unit", [1, 100])
def test_fractions_and_percent_are_read_as_shares(tmp_path: Path, unit: int) -> None:
    """An accuracy of 0 is in either unit."""
    shares = [(at > 0) * (0.3 + at / 50) for at in range(30)]
    source = read(tmp_path, own_table(lambda at: f"{unit * shares[at]}"))
    assert source.accuracies == pytest.approx(shares)


BROKEN = '"{""schema"": 1, ""resolution"": 32, ""rows"": [{""op"": ""convv""}]}",70'
TRIALS = "key,proxy_accuracy,latency_ms,state\nab,0.4,3,COMPLETE\n"


@pytest.mark.parametrize(
    ("content", "line", "says"),
    [
        ("", None, "empty"),
        ("\n \n", None, "empty"),
        ("net,top\n" + own_table(), None, "arch and accuracy, got net, top"),
        (TRIALS, None, "proxy accuracies"),
        (own_table(count=29), None, "29 different networks; at least 30"),
        ("arch,accuracy\n", None, "0 different networks"),
        (own_table(lambda at: "71.5"), None, "71.5"),
        (own_table(lambda at: "0.6" if at == 7 else f"{50 + at}"), 9, "line 2 is in percent"),
        (own_table(lambda at: "100.5" if at == 7 else f"{50 + at}"), 9, "'100.5'"),
        (own_table(lambda at: "-1" if at == 7 else f"{50 + at}"), 9, "'-1'"),
        (own_table(lambda at: "nan" if at == 7 else f"{50 + at}"), 9, "'nan'"),
        (own_table(lambda at: "" if at == 7 else f"{50 + at}"), 9, "''"),
        (own_table(lambda at: "71,5" if at == 7 else f"{50 + at}"), 9, "quote"),
        (own_table() + BROKEN, 32, "'convv'"),
        (own_table() + '"{""schema"": 1",70', 32, "broken JSON"),
        (own_table() + "mobilenet_v9,70", 32, "'mobilenet_v9'"),
        (own_table() + ",70", 32, "missing"),
        (own_table() + "net.json,70", 32, "net.json"),
        ("arch,accuracy,arch\n", 1, "'arch' twice"),
        (own_table() + f'"{"x" * 200_000}",1\n', 32, "CSV is broken"),
        ("arch,accuracy\nnettö,70\n".encode("latin-1"), None, "UTF-8"),
    ],
)
def test_mistakes_name_file_line_and_value(tmp_path: Path, content: str | bytes, line: int | None, says: str) -> None:
    with pytest.raises(InputError) as caught:
        read(tmp_path, content)
    text = str(caught.value)
    assert says in text
    assert str(tmp_path / "mine.csv") + (f":{line}: " if line else "") in text
    assert "\n" not in text
    assert len(text) < 300 + len(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "column", "value"),
    [
        ("imagenet_mbconv", "block3_k", "4"),
        ("imagenet_mbconv", "block0_se", "2"),
        ("imagenet_mbconv", "block6_l", "3.5"),
        ("imagenet_mbconv", "val_top1", "high"),
        ("ofa_mbv3", "ks0", "4"),
        ("ofa_mbv3", "d4", "5"),
        ("ofa_mbv3", "e0", "six"),
        ("ofa_mbv3", "top1", "175"),
    ],
)
def test_broken_cells_of_known_tables_are_named(tmp_path: Path, name: str, column: str, value: str) -> None:
    table = lines(TABLES / f"{name}.csv")
    table[4][column] = value
    text = io.StringIO()
    writer = csv.DictWriter(text, table[0])
    writer.writeheader()
    writer.writerows(table)
    with pytest.raises(InputError, match=rf"mine\.csv:6: .*{value}"):
        read(tmp_path, text.getvalue())


def test_large_and_absent_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"absent\.csv"):
        read_source(tmp_path / "absent.csv")
    with pytest.raises(InputError, match="cannot read"):
        read_source(tmp_path)
    monkeypatch.setattr(sources, "MAX_ROWS", 30)
    with pytest.raises(InputError, match=r"mine\.csv:32: .*30"):
        read(tmp_path, own_table(count=31))
    with pytest.raises(InputError, match=r"20 MB; shorten .*mine\.csv"):
        read(tmp_path, "ä".encode() * (sources.MAX_BYTES // 2 + 1))
