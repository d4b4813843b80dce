"""References: names, multipliers, and which of their cells mbconv contains."""

import json
import math
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from nas.arch.arch import Arch
from nas.arch.block import Block
from nas.arch.cost import cost_of
from nas.arch.space import Space
from nas.arch.space_yaml import load_space, parse_space
from nas.references.table import reference, reference_names
from nas.system.errors import InputError


def test_multipliers_in_text_and_as_arguments_agree() -> None:
    assert reference("mobilenet_v2@width=0.75,resolution=192") == reference("mobilenet_v2", 0.75, 192)
    assert reference("mobilenet_v2", resolution=192).resolution == 192


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("mobilenet_v9", "'mobilenet_v9'; did you mean mobilenet_v2"),
        ("mobilenet_v2@depth=2", "'depth'; known: width, resolution"),
        ("mobilenet_v2@width=wide", "'width=wide'"),
        ("mobilenet_v2@width=99", "width must be a number from 0.05 to 16, got 99"),
        ("mobilenet_v2@width=nan", "got nan"),
        ("mobilenet_v2@resolution=1.5", "'resolution=1.5'"),
        ("mobilenet_v2@width=1,width=2", "width"),
        ("mobilenet_v2@resolution=0", "resolution must be a whole number from 8 to 2048, got 0"),
        ("mobilenet_v2@resolution=inf", "'resolution=inf'"),
    ],
)
def test_bad_names_are_refused_with_the_value(name: str, says: str) -> None:
    with pytest.raises(InputError) as caught:
        reference(name)
    assert says in str(caught.value)


@pytest.mark.parametrize("name", reference_names())
def test_a_reference_is_its_own_json(name: str) -> None:
    assert Arch.from_json(reference(name).to_json()) == reference(name)


# Rows per stage of mbconv for each reference; then the cells it does not contain, (cell, theirs, nearest), and why.
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
    """The member of mbconv with `arch`'s depths and, cell by cell, the closest option."""
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
    """docs/spaces.md shows this list."""
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


@pytest.mark.processes
def test_a_network_is_added_by_one_file_and_no_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file that docs/add-a-reference.md shows: counted, scaled, listed beside what was published, exported."""
    page = (Path(__file__).parents[2] / "docs" / "add-a-reference.md").read_text()
    text = re.search(r"```yaml\n(# my_net\.yaml\n.*?)```", page, re.DOTALL)
    assert text
    (tmp_path / "my_net.yaml").write_text(text[1])
    monkeypatch.chdir(tmp_path)
    arch = reference("my_net.yaml")
    assert (len(arch.rows), arch.resolution) == (12, 192)
    assert cost_of(reference("my_net.yaml@width=0.5,resolution=160")).macs < cost_of(arch).macs / 3

    def nas(*words: str) -> str:
        done = subprocess.run([sys.executable, "-m", "nas", *words], capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return done.stdout

    counted = json.loads(nas("count", "my_net.yaml", "--json"))
    assert str(cost_of(arch).params) in json.dumps(counted)
    listed = nas("references", "--select", "my_net.yaml", "--device", "none", "--json")
    assert "our report, table 2" in listed
    assert "exported" not in nas("export", "my_net.yaml", "--format", "python", "--out", "shipped")
    assert (tmp_path / "shipped" / "model.py").exists()


BASED = "name: wider\nbase: efficientnet_b0\n"


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("name: wider\nbase: resnet\n", 2, "'resnet'"),
        ("name: wider\nbase: efficientnet_b3\n", 2, "efficientnet_b3"),
        (BASED + "depth: 99\n", 3, "depth must be a number from 0.1 to 16, got 99"),
        (BASED + "depth: [1, 2]\n", 3, "depth"),
        (BASED + "rounding: up\n", 3, "known: divisible, floor, floor_8"),
        (BASED + "stem: {op: conv, channels: {0.5: 8}}\n", 3, "width 1.0"),
        (BASED + "stem: {op: conv, channels: {1.0: 8, wide: 9}}\n", 3, "'wide'"),
        (BASED + "stem: {op: conv, channels: {1.0: 8, 2.0: -9}}\n", 3, "got -9"),
        (BASED + "stages:\n  - {op: conv, kernel: 0, channels: 8}\n", 4, "kernel must be at least 1, got 0"),
        (BASED + "stages:\n  - {op: uib, kernel: 0, channels: 8, stride: 2}\n", 4, "kernel_start"),
        (BASED + "stages:\n  - {op: shuffle_v2, kernel: 3, channels: 9}\n", 4, "even, for its two halves, got 9"),
    ],
)
def test_mistakes_in_scaling_name_file_and_line(text: str, line: int, says: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        reference(str(path))
    assert str(caught.value).startswith(f"{path}:{line}: ")
    assert says in str(caught.value)


def test_compound_scaling_is_width_depth_and_resolution_of_one_table() -> None:
    """EfficientNet-B7: 2.0 times as wide, each repeat times 3.1 rounded up, stem and head not deepened."""
    small, large = reference("efficientnet_b0"), reference("efficientnet_b7")
    widths, wider = ([row.channels for row in arch.rows if row.op == "mbconv"] for arch in (small, large))
    assert len(wider) == sum(math.ceil(3.1 * repeat) for repeat in (1, 2, 2, 3, 3, 4, 1))
    assert sorted(set(wider)) == [2 * channels for channels in sorted(set(widths))]
    assert (large.resolution, large.dropout, large.stochastic_depth) == (600, 0.5, 0.2)


def test_depth_keeps_options_apart() -> None:
    """Repeats that become equal are one option."""
    text = "name: a\nresolution: 32\ndepth: 0.5\nstages:\n  - {op: conv, repeat: [1, 2, 3], channels: 8, act: relu}\n"
    assert [gene.options for gene in parse_space(text, "a").genes] == [(1, 2)]


@pytest.mark.parametrize(
    ("before", "size"),
    [("repeat: 1, channels: 24", 2), ("repeat: [0, 1], channels: 24", 2), ("channels: 24, scale: never", 1)],
)
def test_a_block_that_changes_width_is_never_skipped(before: str, size: int) -> None:
    """A stage may skip its first block only if the stage before is never empty and, at any width, as wide."""
    rows = f"  - {{op: conv, act: relu, {before}}}\n  - {{op: [conv, skip], kernel: 3, channels: 24, act: relu}}\n"
    text = f"name: a\nresolution: 32\nwidth: 0.5\nstem: {{op: conv, channels: 8, act: relu}}\nstages:\n{rows}"
    assert parse_space(text, "a").size == size


def test_each_family_rounds_by_its_own_rule() -> None:
    """Stem at a width that tells the rules apart."""
    assert reference("mobilenet_v1", width=0.2).rows[0].channels == 8  # 6.4: rounded down, at least 8
    assert reference("mobilenet_v1", width=0.6).rows[0].channels == 19  # 19.2: rounded down
    assert reference("mobilenet_v2", width=0.6).rows[0].channels == 24  # 19.2: 16 would lose more than 10 %
    assert reference("shufflenet_v1_g3", width=0.25).rows[0].channels == 6
    assert reference("shufflenet_v2", width=1.5).rows[2].channels == 176  # stated, not 174
