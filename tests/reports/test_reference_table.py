"""`nas references`: rows, notes, files, and errors."""

import json
import math
import re
from base64 import b64encode
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.api.reference_table import compare_references
from nas.arch.arch import Arch
from nas.arch.cost import cost_of
from nas.cli.main import main
from nas.latency.devices import LatencyModel
from nas.latency.record import Latency
from nas.references.published import published, published_libraries
from nas.references.table import reference_names
from nas.reports.references.page import LABELS, reference_page
from nas.reports.references.plot import BOTTOM, LEFT, RIGHT, TOP, place_labels, top1_drawing, top1_png
from nas.reports.references.table import DIFFER_UNKNOWN, ReferenceTable, top1_cells
from nas.system.errors import InputError

PNG = b"\x89PNG\r\n\x1a\n"
POLICY_AND_STYLE = (('Content-Security-Policy" content="', '"'), ("<style>", "</style>"))
EVIL = "<script>alert('x')</script>"
OWN = f"""\
name: own
resolution: 32
stem: {{op: conv, kernel: 3, channels: 8, stride: 2, act: relu}}
stages:
  - {{op: mbconv, channels: 16, stride: 2, kernel: 3, expand: 3, act: relu}}
published:
  - {{params_m: 9, macs_m: 7, top1: {{"{EVIL}": 50.0, paper: 60}}, source: "{EVIL}", differs: "{EVIL}",
     latency: [{{device: "{EVIL}", ms: 3, source: "{EVIL}"}}]}}
"""


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        main(["references", *arguments])
    out, err = capsys.readouterr()
    assert isinstance(stop.value.code, int)
    return stop.value.code, out, err


def by_macs(arch: Arch) -> float:
    """A device that costs nothing."""
    return cost_of(arch).macs / 4e7 + 0.5


@pytest.fixture(scope="module")
def table() -> ReferenceTable:
    return compare_references(device=by_macs)


def test_one_row_for_each_network_at_its_own_size(table: ReferenceTable) -> None:
    assert [row.name for row in table.rows] == reference_names()
    assert all(row.top1 for row in table.rows)


def test_the_text_fits_120_columns(table: ReferenceTable) -> None:
    text = str(table)
    assert max(map(len, text.splitlines())) <= 120
    assert all(name in text for name in table.left_out)
    assert "pred. ms" in text
    for row in table.rows:
        assert f"{row.name} " in text
        assert f"{row.params:,}" in text


def test_a_row_has_a_mark_exactly_where_figures_differ(table: ReferenceTable) -> None:
    """The marks of a row lead to the notes that explain its differences, and to no others."""
    numbers = [note.number for note in table.notes]
    assert numbers == list(range(1, len(numbers) + 1))
    for row in table.rows:
        assert bool(row.differences) == bool(table.marks[row.name])
        texts = {note.text for note in table.notes if note.number in table.marks[row.name]}
        assert texts == {one.explanation for one in row.differences}
    assert table.marks["mobilenet_v3_small_minimalistic"]
    assert not table.marks["mobilenet_v1"]


def test_unknown_causes_come_last_on_the_terminal_and_the_page(table: ReferenceTable) -> None:
    """Their notes come last, under a heading of their own."""
    kinds = [note.unknown for note in table.notes]
    assert kinds == sorted(kinds)
    assert set(kinds) == {False, True}
    first = kinds.index(True) + 1
    for text, mark in ((str(table), f"[{first}] "), (reference_page(table), f'id="note-{first}"')):
        before, after = text.split(DIFFER_UNKNOWN)
        assert "ause unknown" not in before
        assert mark in after
        assert "Why: cause unknown" not in after


def test_top1_prefers_paper_then_authors_then_libraries_then_others(table: ReferenceTable) -> None:
    """Terminal, file and plot share one order of sources."""
    rows = {row.name: row for row in table.rows}
    order = [("paper",), ("authors", "slim"), ("torchvision",), ("timm",)]
    for row in table.rows:
        ranks = [next((at for at, who in enumerate(order) if source.split()[0] in who), 4) for source in row.top1]
        assert ranks == sorted(ranks)
        assert row.plotted_top1 == next(iter(row.top1.items()))
    assert rows["efficientnet_v2_s"].plotted_top1 == ("authors", 83.9)
    assert rows["mobilenet_v3_small_minimalistic"].plotted_top1 == ("slim", 61.9)
    assert top1_cells(rows["mobilenet_v3_small_minimalistic"]) == ("61.9a", "–", "62.9")
    assert top1_cells(rows["proxylessnas_cpu"])[0] == "75.2o"
    assert top1_cells(rows["mobilenet_v3_large"])[1] == "74.0/75.3"


def test_the_page_explains_every_word_beside_a_top1(table: ReferenceTable) -> None:
    entries = [entry for name in (*reference_names(), *published_libraries()) for entry in published(name)]
    words = {word for entry in entries for source in entry.top1 for word in source.split(" ")}
    plain = {"paper", "torchvision", "timm", "of", "table", "3", "MobileNet", "MobileNetV3"}
    assert words - plain == set(LABELS)
    page = reference_page(table)
    for word in ("tf_", "aa", "ra4", "lamb", "ICML"):
        assert f"{word}: {LABELS[word]}" in page.replace("&#x27;", "'")


def test_all_sizes_show_every_published_entry_once() -> None:
    """No entry is lost and none is shown at a size it was not published for."""
    names = ["mobilenet_v1", "mobilenet_v3_small", "efficientnet_b2", "proxylessnas_mobile"]
    rows = compare_references(names, None, all_sizes=True).rows
    for name in names:
        shown = [entry for row in rows if row.name.partition("@")[0] == name for entry in row.published]
        assert sorted(map(str, shown)) == sorted(map(str, published(name)))
    assert len({row.name for row in rows}) == len(rows)
    (small,) = [row for row in rows if row.name == "mobilenet_v1@width=0.25,resolution=128"]
    assert (small.resolution, small.params) == (128, 470_072)


def test_select_takes_patterns_names_sizes_files_and_libraries(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(OWN)
    items = "shufflenet_v1_g[13],mobilenet_v2@width=0.75,resolution=192,own.yaml,torchvision:squeezenet1_1,mnasnet_a1"
    rows = compare_references(items, None).rows
    assert [row.name for row in rows] == [
        "shufflenet_v1_g1",
        "shufflenet_v1_g3",
        "mobilenet_v2@width=0.75,resolution=192",
        "own",
        "torchvision:squeezenet1_1",
        "mnasnet_a1",
    ]
    assert rows[2].top1 == {"slim": 68.7}
    assert rows[4].params == 1_235_496
    (own_size,) = compare_references("mobilenet_v2@width=1,resolution=224", None).rows
    assert own_size.name == "mobilenet_v2"  # its own width and resolution are not repeated
    assert len(compare_references("mobilenet_v2,mobilenet_v2,mobilenet_v[2]", None).rows) == 1


def test_csv_read_back_equals_json(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    select = ("--select", "mobilenet_v[13]*,mnasnet_small", "--device", "none", "--all")
    code, out, err = run(capsys, *select, "--json", "--csv", "t.csv")
    assert (code, err) == (0, "")
    listed = json.loads(out)["networks"]
    frame = pd.read_csv(tmp_path / "t.csv")
    assert len(frame) == len(listed) > 30
    for (_, line), one in zip(frame.iterrows(), listed, strict=True):
        for name, value in line.items():
            missing = isinstance(value, float) and math.isnan(value)
            assert one[str(name)] is None if missing else one[str(name)] == value, name
    assert {one["name"]: one["params_published_m"] for one in listed}["mobilenet_v1@width=0.75"] == 2.6


def test_measured_here_with_page_and_plot(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The real command on this machine: the table on stdout, progress on stderr, whole files."""
    code, out, err = run(
        capsys, "--select", "mobilenet_v3_small,torchvision:squeezenet1_1", "--html", "t.html", "--png", "t.png"
    )
    assert code == 0
    assert "ms here" in out
    assert "measured, " in out
    assert "timing mobilenet_v3_small" in err
    assert (tmp_path / "t.png").read_bytes().startswith(PNG)
    page = (tmp_path / "t.html").read_text()
    assert "Measured" in page
    assert "<svg" in page
    assert "MobileNetV3-Small" in page
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "").replace("http-equiv", "")


def test_the_page_escapes_what_a_file_says(tmp_path: Path) -> None:
    (tmp_path / "<b>own.yaml").write_text(OWN)
    table = compare_references("<b>own.yaml", lambda arch: 3.0)
    page = reference_page(table)
    assert "<script" not in page
    assert "<b>" not in page
    escaped = "&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt;"
    assert page.count(escaped) >= 5  # top-1, source, note, phone, source of the phone
    assert (top1_png(table) or b"").startswith(PNG)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--select", "mobilnet*"], ("mobilnet*", "mobilenet_v")),
        (["--select", ","], ("select", "','")),
        (["--select", "mobilenet_v9"], ("mobilenet_v9", "did you mean", "mobilenet_v2")),
        (["--select", "mobilenet_v2@depth=2"], ("'depth'", "width")),
        (["--select", "torchvision:vgg99"], ("torchvision", "vgg99")),
        (["--select", "absent.yaml"], ("absent.yaml",)),
        (["--device", "toaster"], ("toaster", "host")),
        (["--device", "table:absent.json"], ("absent.json",)),
        (["--device", "none", "--png", "t.png"], ("plot", "--device")),
        (["--device", "none", "--csv", "absent/t.csv"], ("--csv", "absent/t.csv")),
        (["--device", "none", "--csv", "."], ("--csv", "got .")),
        (["--device", "none", "--csv", "t", "--html", "t"], ("path", "t, t")),
        (["--threads", "0", "--select", "mobilenet_v2"], ("threads", "got 0")),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    arguments: list[str], named: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """The line names the option or value at fault, and what would be accepted where there is a choice."""
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert all(text in err for text in named), err
    assert err.count("\n") == 1


def test_a_broken_published_section_is_an_error_with_its_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "own.yaml").write_text(OWN.replace("ms: 3", "ms: -3"))
    code, _, err = run(capsys, "--select", "own.yaml", "--device", "none")
    assert code == 2
    assert "own.yaml:8" in err
    assert "-3" in err


def test_a_model_that_does_not_know_an_operator_leaves_its_latency_out() -> None:
    class OnlyMobile:
        device = "half a phone"
        table: Any = object()

        def __call__(self, arch: Arch) -> Latency:
            if any(row.op.startswith("shuffle") for row in arch.rows):
                raise InputError("the table has no shuffle")
            return Latency(4.0, None, None, self.device, None, None, 1, "predicted")

        def many(self, archs: Any) -> np.ndarray:
            return np.array([self(arch).ms for arch in archs])

        def measure(self, arch: Arch) -> Latency | None:
            return None

    model = OnlyMobile()
    assert isinstance(model, LatencyModel)
    table = compare_references("shufflenet_v2,mobilenet_v2", model)
    assert [row.latency and row.latency.ms for row in table.rows] == [None, 4.0]
    assert table.device is not None
    assert table.device.startswith("predicted, half a phone, batch 1")
    assert "1 network" in table.device
    assert "predicted" in reference_page(table)


def test_a_fault_of_the_callers_own_device_is_not_hidden() -> None:
    with pytest.raises(InputError, match=r"-1\.0"):
        compare_references("mobilenet_v2", lambda arch: -1.0)


def overlapping(boxes: list[tuple[float, float, float, float]]) -> Iterator[tuple[int, int]]:
    for one, (left, top, right, bottom) in enumerate(boxes):
        for other, box in enumerate(boxes[:one]):
            if left < box[2] and box[0] < right and top < box[3] and box[1] < bottom:
                yield one, other


def test_no_label_of_the_plot_lies_on_another(table: ReferenceTable) -> None:
    drawing = top1_drawing(table)
    assert drawing is not None
    names = {shape.text for shape in drawing.shapes if hasattr(shape, "text")}
    assert {"MobileNetV3-Large", "ShuffleNetV1 g=3", "EfficientNetV2-S", "MobileNetV4-Conv-S"} <= names


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.floats(LEFT, RIGHT), st.floats(TOP, BOTTOM)), min_size=1, max_size=24))
def test_labels_stay_in_the_frame_and_apart(places: list[tuple[float, float]]) -> None:
    """Two dozen points anywhere, even all in one place."""
    boxes = place_labels(places, [70.0] * len(places))
    for left, top, right, bottom in boxes:
        assert left >= LEFT
        assert right <= RIGHT + 0.1
        assert top >= TOP
        assert bottom <= BOTTOM
    assert not list(overlapping(boxes))


def test_left_out_networks_are_listed_with_the_whole_table_only() -> None:
    assert compare_references(None, None).left_out
    assert not compare_references("mobilenet_v2", None).left_out


def test_the_page_runs_no_script_and_allows_only_its_own_style(table: ReferenceTable) -> None:
    """Its policy forbids scripts, and has the hash of the one style element."""
    page = reference_page(table)
    policy, style = (re.search(rf"{start}(.*?){end}", page, re.S) for start, end in POLICY_AND_STYLE)
    assert policy
    assert style
    digest = b64encode(sha256(style[1].encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}';" in policy[1]
    assert "script-src 'none'" in policy[1]
    assert "unsafe-" not in policy[1]
    assert page.count("<style") == 1
    assert "<script" not in page
