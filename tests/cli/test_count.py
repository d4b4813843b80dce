"""``nas count`` as people and programs use it."""

import csv
import json
from pathlib import Path

import pytest

from nas.arch.cost import cost_of
from nas.cli.main import main
from nas.engine.run.store import Store
from nas.references.table import reference


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as caught:
        main(list(arguments))
    out, err = capsys.readouterr()
    return int(caught.value.code or 0), out, err


def test_every_kind_of_name_is_counted(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A reference with multipliers, its file, its JSON and torchvision's twin, in one table and as JSON."""
    source = Path(__file__).parents[2] / "search_spaces" / "reference" / "mobilenet_v2.yaml"
    (tmp_path / "mine.yaml").write_text(source.read_text())
    (tmp_path / "arch.json").write_text(reference("mobilenet_v2").to_json())
    names = [
        "mobilenet_v2@width=1.0",
        str(tmp_path / "mine.yaml"),
        str(tmp_path / "arch.json"),
        "torchvision:mobilenet_v2",
    ]
    code, out, _ = run(capsys, "count", *names, "--json")
    assert code == 0
    found = json.loads(out)
    assert list(found) == names
    assert {(one["params"], one["macs"], one["memory_bytes"]) for one in found.values()} == {
        (3_504_872, 300_774_272, cost_of(reference("mobilenet_v2")).memory_bytes)
    }
    code, out, _ = run(capsys, "count", *names)
    assert code == 0
    assert out.count("3,504,872") == 4
    assert "300.77" in out


def test_by_block_shows_rows_flags_their_legend_and_the_stem(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "count", "mobilenet_v2", "--by", "block")
    assert code == 0
    lines = out.splitlines()
    rows = reference("mobilenet_v2").rows
    assert all(str(row) in lines[2 + at] for at, row in enumerate(rows))
    assert "G1 +43%" in out
    assert "G1  1x1 convolution of unequal widths" in out
    assert "G2  " not in out
    assert "3x3, 3 to 32 channels, 224x224 to 112x112" in out
    assert "depthwise separable" in out


def test_by_layer_and_csv(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The file's rows add up to the network; the classes are the ones given."""
    path = tmp_path / "cost.csv"
    code, _, _ = run(capsys, "count", "mobilenet_v3_small", "--by", "layer", "--classes", "7", "--csv", str(path))
    assert code == 0
    with path.open() as file:
        rows = list(csv.DictReader(file))
    cost = cost_of(reference("mobilenet_v3_small"), 7)
    for name in ("params", "macs", "memory_bytes"):
        assert sum(int(row[name]) for row in rows) == getattr(cost, name)
    assert {"depthwise 5x5", "se", "add", "classifier"} <= {row["name"] for row in rows}


def test_the_resolution_can_be_given(capsys: pytest.CaptureFixture[str]) -> None:
    names = ("mobilenet_v2", "torchvision:squeezenet1_1")
    found = json.loads(run(capsys, "count", *names, "--resolution", "96", "--json")[1])
    assert {one["resolution"] for one in found.values()} == {96}
    assert found["mobilenet_v2"]["macs"] == cost_of(reference("mobilenet_v2@resolution=96")).macs


def test_a_library_network_is_broken_down_by_its_children(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "count", "torchvision:squeezenet1_1", "--by", "block", "--resolution", "64")
    assert code == 0
    assert "features.3" in out
    assert "Fire" in out
    assert "1,235,496" in out


def test_the_worked_example(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "count", "--conv", "12x12x3:5:256", "--padding", "0")
    assert code == 0
    assert "1,228,800" in out
    assert "4,800 + 49,152 = 53,952" in out
    ways = json.loads(run(capsys, "count", "--conv", "12x12x3:5:256", "--padding", "0", "--json")[1])["ways"]
    assert [way["macs"] for way in ways][:2] == [1_228_800, 53_952]


def test_the_steps_in_the_csv_are_plain_text(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "ways.csv"
    code, _, _ = run(capsys, "count", "--conv", "12x12x3:5:256", "--padding", "0", "--csv", str(path))
    assert code == 0
    with path.open() as file:
        steps = {row["way"]: row["steps"] for row in csv.DictReader(file)}
    assert steps["depthwise separable"] == "5x5 on each of 3: 4800; 1x1, 3 to 256: 49152"


@pytest.mark.parametrize(
    ("arguments", "there"),
    [
        (("mobilenet_v2", "--by", "block"), True),
        (("mobilenet_v2", "--by", "layer"), False),
        (("torchvision:squeezenet1_1", "--by", "block", "--resolution", "64"), False),
    ],
)
def test_a_column_of_flags_only_where_there_can_be_flags(
    arguments: tuple[str, ...], there: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run(capsys, "count", *arguments)
    assert code == 0
    assert out.splitlines()[1].endswith("flags") == there


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((), ("--conv", "nas count mobilenet_v2")),
        (("mobilenet_v2", "--conv", "12x12x3:5:256"), ("--conv", "either")),
        (("--conv", "12x12"), ("'12x12'", "HEIGHTxWIDTHxCHANNELS:KERNEL:OUTPUTS")),
        (("mobilenet_v2", "--by", "row"), ("'row'", "known: block, layer")),
        (("mobilenet_v2", "--classes", "0"), ("--classes", "got 0")),
        (("mobilenet_v2", "--resolution", "5"), ("resolution", "5")),
        (("mobilenet_v2", "--resolution", "0"), ("resolution", "0")),
        (("torchvision:squeezenet1_1", "--resolution", "0"), ("resolution", "0")),
        (("mobilenet_v2", "--padding", "0"), ("--padding", "--conv", "got networks")),
        (("mobilenet_v2", "--stride", "1", "--padding", "1"), ("--padding, --stride", "--conv")),
        (("--conv", "12x12x3:5:256", "--by", "block"), ("--by", "got --conv")),
        (("--conv", "12x12x3:5:256", "--classes", "1000"), ("--classes", "got --conv")),
        (("--conv", "12x12x3:5:256", "--resolution", "32"), ("--resolution", "got --conv")),
        (("mobilenet_v2", "--csv", "absent/cost.csv"), ("absent/cost.csv",)),
        (("mobilenet_v9",), ("mobilenet_v2",)),
        (("torchvision:vgg61",), ("'vgg61'", "vgg16")),
        (("absent.json",), ("absent.json",)),
        (("model.onnx",), ("nas measure", ".onnx")),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(
    arguments: tuple[str, ...], named: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, "count", *arguments)
    assert code == 2
    assert out == ""
    assert err.count("\n") == 1
    assert all(part in err for part in named), err


def test_a_run_folder_is_its_best_network(capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path(__file__).parents[2] / "results" / "cifar10-mbconv"
    with Store.open(folder, read_only=True) as store:
        best = store.record().best
    assert best is not None
    code, out, _ = run(capsys, "count", str(folder), "--json")
    assert code == 0
    assert json.loads(out)[str(folder)]["macs"] == cost_of(best).macs


def test_a_library_network_is_not_exported(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "export", "torchvision:vgg16")
    assert code == 2
    assert "torchvision:vgg16" in err
