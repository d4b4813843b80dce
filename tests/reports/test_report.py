"""The report of a run, drawn from a record alone."""

from __future__ import annotations

import gzip
import json
from base64 import b64decode, b64encode
from dataclasses import fields, replace
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from nas.arch.arch import Arch
from nas.arch.block import CELLS, OPS, Block
from nas.arch.cost import cost_of
from nas.arch.space import Space
from nas.arch.space_yaml import load_space
from nas.engine.options import SearchOptions
from nas.engine.run.info import DataInfo, DeviceInfo, RunInfo
from nas.engine.run.record import Candidate, Record
from nas.latency.margin import SafetyMargin
from nas.latency.record import Latency
from nas.references.table import reference
from nas.reports.run.block_diagram import cells, shares_by_depth, thinned
from nas.reports.run.block_drawing import cell_label, diagrams_drawing
from nas.reports.run.claims import findings, limitations
from nas.reports.run.data import LISTED, report_data
from nas.reports.run.figures import history_figures, pareto_figure
from nas.reports.run.markdown import markdown_page
from nas.reports.run.page import report_page
from nas.reports.run.similarity import similarity
from nas.reports.run.tables import counts_of, entries_of, network_table
from nas.reports.run.write import write_report
from nas.reports.shapes import Rect, Text
from nas.reports.svg import svg

REFERENCES = ("mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small", "efficientnet_b0")
DEVICE = "Intel(R) Xeon(R) Processor @ 2.60GHz, 2 cores"


def latency(ms: float, source: Any = "predicted", warning: str | None = None) -> Latency:
    measured = source == "measured"
    return Latency(
        ms, 0.02 * ms if measured else None, 60 if measured else None, DEVICE, "onnxruntime", 1, 1, source, warning
    )


def candidate(arch: Arch, rng: np.random.Generator, **changes: Any) -> Candidate:
    """A network with a lifelike latency (proportional to MACs) and proxy accuracy (saturating in MACs)."""
    cost = cost_of(arch)
    true_ms = 0.9 + cost.macs / 45e6 * rng.normal(1, 0.06)
    accuracy = 0.30 + 0.42 * (1 - np.exp(-cost.macs / 120e6)) + rng.normal(0, 0.02)
    values: dict[str, Any] = {
        "arch": arch, "state": "COMPLETE", "predicted": latency(true_ms * rng.normal(1, 0.03)), "params": cost.params,
        "macs": cost.macs, "memory_bytes": cost.memory_bytes, "proxy_accuracy": round(float(accuracy), 4),
        "proxy_loss": 1.2, "seconds": 7.5,
    }  # fmt: skip
    return Candidate(**values | changes)


def run_info(space: Space, target_ms: float | None) -> RunInfo:
    return RunInfo(
        options=SearchOptions(target_ms=target_ms, trials=120, budget_s=600.0, sampler="tpe"),
        space=space,
        name="lifelike",
        versions={"nas": "0.1.0"},
        spent_s=598.0,
        device=DeviceInfo(DEVICE, runtime="onnxruntime", threads=1),
        data=DataInfo("cifar10", "abc", tuple("abcdefghij"), 8000, 2000),
        proxy={"width": 0.35, "resolution": 40, "steps": 400},
        table_error={"mape": 0.031, "worst": 0.092, "spearman": 0.987, "nets": 12},
        feasibility={"fastest_ms": 1.6, "slowest_ms": 31.0, "share": 0.41, "binds": True, "target_ms": target_ms},
    )


def with_info(record: Record, **changes: Any) -> Record:
    """The record with other facts in its run.json; those of the options by their own names."""
    given = {field.name for field in fields(SearchOptions)} - {"data"}
    options = replace(record.info.options, **{name: changes.pop(name) for name in given & changes.keys()})
    return replace(record, info=replace(record.info, options=options, **changes))


def lifelike(count: int = 120, target_ms: float | None = 6.0, seed: int = 3) -> Record:
    """A finished run on mbconv with too-slow and failed candidates, whose front and references were measured."""
    rng = np.random.default_rng(seed)
    space = load_space("mbconv")
    found = []
    for at in range(count):
        arch = space.sample(rng)
        one = candidate(arch, rng, genes=space.encode(arch))
        if target_ms is not None and one.predicted.ms > target_ms:
            one = replace(one, state="TOO_SLOW", proxy_accuracy=None, proxy_loss=None, seconds=0.0)
        elif at % 23 == 7:
            one = replace(
                one, state="FAILED", proxy_accuracy=None, proxy_loss=None, reason="the loss left all bounds at step 40"
            )
        found.append(one)
    fixed = [candidate(reference(name), rng, name=name) for name in REFERENCES]
    record = Record(run_info(space, target_ms), found, fixed)
    again = {c.key: latency(c.predicted.ms * rng.normal(1.0, 0.03), "measured") for c in (*record.front, *fixed)}
    noisy = record.front[0].key
    again[noisy] = replace(again[noisy], warning="noisy machine: the median is known to ±3.1% only, not ±1%")
    return record.with_measured(again)


class Page(HTMLParser):
    """What a browser would make of a page: elements with their attributes, scripts, and the text outside them."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.styles: list[str] = []
        self._text: list[str] = []
        self._inside = ""
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._inside = tag

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            packed = self.elements[-1][1].get("type") in ("application/gzip", "application/json+gzip")
            self.scripts.append(gzip.decompress(b64decode(data)).decode() if packed else data)
        elif self._inside == "style":
            self.styles.append(data)
        else:
            self._text.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self._text).split())


@pytest.fixture(scope="module")
def record() -> Record:
    return lifelike()


@pytest.fixture(scope="module")
def written(record: Record, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_report(record, tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def page(written: dict[str, Path]) -> Page:
    return Page(written["report.html"].read_text(encoding="utf-8"))


def test_of_a_long_front_a_part_is_listed() -> None:
    """The best and the fastest, those that references are compared with, and others; the rest is counted."""
    record = without_measurements(lifelike(150, target_ms=None))
    rising = [replace(c, proxy_accuracy=c.predicted.ms / 100) if c.proxy_accuracy else c for c in record.candidates]
    record = replace(record, candidates=rising)
    data, front = report_data(record), record.front
    assert len(front) > 2 * LISTED
    listed = {row.key for row in data.networks.rows if row.kind in ("best", "front")}
    rivals = {entry.rival.key for entry in data.entries if entry.rival is not None}
    assert {front[0].key, front[-1].key} | rivals <= listed
    assert LISTED <= len(listed) <= LISTED + len(record.references)
    assert str(len(front) - len(listed)) in data.table_notes[0]
    assert len(record.pareto) == len(front)


def without_measurements(record: Record) -> Record:
    bare = [[replace(c, measured=None) for c in part] for part in (record.candidates, record.references)]
    return replace(record, candidates=bare[0], references=bare[1])


def test_every_front_network_and_reference_is_in_every_file(
    record: Record, written: dict[str, Path], page: Page
) -> None:
    """Nothing of the front or the references is left out of page, Markdown, tables, or saved networks."""
    text = written["report.md"].read_text(encoding="utf-8")
    saved = pd.read_csv(written["pareto.csv"], dtype={"key": str})
    assert list(saved.key) == [c.key for c in record.front]
    assert len(pd.read_csv(written["trials.csv"])) == len(record.candidates)
    idents = {attrs.get("id") for _, attrs in page.elements}
    for one in (*record.front, *record.references):
        assert f"net-{one.key}" in idents
        assert one.key in text
        assert Arch.from_json(written[f"arch/{one.key}.json"].read_text()) == one.arch
    for name in ("MobileNetV2", "MobileNetV3-Large", "MobileNetV3-Small", "EfficientNet-B0"):
        assert name in page.text
        assert name in text
    for name in ("pareto.png", "architectures.png"):
        assert f"]({name})" in text
        assert written[name].read_bytes().startswith(b"\x89PNG")


def test_predicted_and_measured_stand_side_by_side(record: Record) -> None:
    """The table holds both latencies and their relative error for a measured network."""
    table = network_table(record, entries_of(record))
    one = next(c for c in record.references if c.name == "mobilenet_v2")
    row = dict(zip(table.header, next(r.cells for r in table.rows if r.key == one.key), strict=True))
    assert one.measured is not None
    assert float(row["Measured, ms"]) == pytest.approx(one.measured.ms, rel=5e-3)
    assert float(row["Predicted, ms"]) == pytest.approx(one.predicted.ms, rel=5e-3)
    error = float(row["Prediction error"].replace("−", "-").removesuffix(" %"))
    assert error == pytest.approx(100 * (one.predicted.ms / one.measured.ms - 1), abs=0.06)


def test_measured_latency_judges_the_target(record: Record) -> None:
    """A network predicted within the target and measured above it leaves the front and is named as missed."""
    best = record.front[-1]
    later = record.with_measured({best.key: latency(6.6, "measured")})
    data = report_data(later)
    assert best.predicted.ms < 6.0
    assert [e.candidate.key for e in data.entries if e.kind == "missed"] == [best.key]
    assert best.key not in {mark.key for mark in data.view.front}
    assert any("1 of " in s and "6 ms" in s and best.key in s for s in data.headline.sentences)
    row = next(r for r in data.networks.rows if r.key == best.key)
    assert row.cells[data.networks.header.index("Target")] == "missed"


def test_the_page_loads_nothing(written: dict[str, Path], page: Page) -> None:
    """No element refers outside the file, plotly is there once, and the policy forbids anything else."""
    for _, attrs in page.elements:
        for name in ("src", "href", "srcset", "action", "data"):
            assert (attrs.get(name) or "#").startswith(("#", "data:image/png;base64,"))
    assert sum("plotly.js v" in script for script in page.scripts) == 1
    policy = policy_of(page)
    assert policy["default-src"] == ["'none'"]
    assert not any("http" in source for sources in policy.values() for source in sources)


def policy_of(page: Page) -> dict[str, list[str]]:
    text = next(attrs["content"] for tag, attrs in page.elements if tag == "meta" and "http-equiv" in attrs)
    return {name: sources for name, *sources in (rule.split() for rule in (text or "").split(";"))}


def test_only_the_scripts_and_styles_of_the_page_may_run(record: Record, page: Page) -> None:
    """The policy has the hash of every embedded script and style, no other script's, and no 'unsafe-' source."""

    def source(text: str) -> str:
        return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"

    policy = policy_of(page)
    programs = [script for script in page.scripts if not script.startswith("{")]  # the others are JSON, never run
    types = [attrs.get("type") for tag, attrs in page.elements if tag == "script"]
    assert len(programs) == types.count(None) + types.count("application/gzip") == 3
    assert len(page.scripts) == len(types) == 6
    assert set(types) == {None, "application/json+gzip", "application/gzip"}
    assert policy["script-src"] == [source(program) for program in programs]
    assert policy["style-src"][0] == source(page.styles[0])
    assert len(page.styles) == 1
    assert not any("unsafe-" in one for sources in policy.values() for one in sources)
    assert not any("style" in attrs or name.startswith("on") for _, attrs in page.elements for name in attrs)


def test_names_from_outside_are_escaped(record: Record, tmp_path: Path) -> None:
    """A name with markup in it is shown as it is and never becomes an element, in HTML, SVG, figures or Markdown."""
    evil = "</script><script>alert(1)</script><img src=x onerror=alert(2)>|a|`$b$"
    bad = replace(
        with_info(
            record,
            name=evil,
            data=DataInfo(evil, "abc", (evil,), 900, 100, notes=(evil,)),
            device=DeviceInfo(evil),
            proxy={evil: 1},
            versions={"nas": evil},
            sampler=evil,
            space=replace(record.space, name=evil),
        ),
        references=[
            replace(c, name=evil, predicted=replace(c.predicted, device=evil), measured=None)
            for c in record.references[:1]
        ],
        candidates=[replace(c, reason=evil if c.state == "FAILED" else None) for c in record.candidates],
    )
    files = write_report(bad, tmp_path)
    page = Page(files["report.html"].read_text(encoding="utf-8"))
    assert evil in page.text
    assert not [1 for tag, attrs in page.elements if tag == "img" and attrs.get("src") == "x"]
    assert not [1 for _, attrs in page.elements for name in attrs if name.startswith("on")]
    assert not any("alert(1)" in script and "Plotly" in script for script in page.scripts)
    figures = [json.loads(script) for script in page.scripts if script.startswith("{")]
    shown = [note["text"] for figure in figures for note in figure["layout"].get("annotations", [])]
    assert any("alert(1)" in text for text in shown)
    assert not any("<img" in text or "<script" in text for text in shown)
    text = files["report.md"].read_text(encoding="utf-8")
    assert "<script" not in text
    assert "<img" not in text
    lines = [line for line in text.splitlines() if "alert" in line and line.startswith("|")]
    assert lines
    assert all("\\|a\\|" in line for line in lines)


def test_figures_are_valid_plotly(record: Record) -> None:
    """Every property of the figures is one plotly knows."""
    data = report_data(record)
    figures = [pareto_figure(data.view), *(figure for _, figure in history_figures(data.history, data.score))]
    assert len(figures) == 3
    for figure in figures:
        go.Figure(figure)
        assert json.loads(json.dumps(figure, allow_nan=False)) == figure


def test_every_candidate_is_in_the_plot_once(record: Record) -> None:
    """Candidates, front, missed, too slow and those named as left out make up all candidates but the failed."""
    for seed in range(3):
        data = report_data(lifelike(seed=seed))
        view = data.view
        keys = [mark.key for part in (view.candidates, view.front, view.missed, view.too_slow) for mark in part]
        left_out = [int(note.split()[0]) for note in view.notes if "too-slow" in note]
        assert len(set(keys)) == len(keys)
        assert len(keys) + sum(left_out) == data.counts.complete + data.counts.too_slow
        ys = [mark.y for mark in (*view.candidates, *view.front, *view.references)]
        xs = [mark.x for mark in (*view.candidates, *view.front, *view.references)]
        assert view.x_range[0] <= min(xs) <= max(xs) <= view.x_range[1]
        assert view.y_range[0] <= min(ys) <= max(ys) <= view.y_range[1]


def test_a_far_target_does_not_squeeze_the_plot(record: Record) -> None:
    """A target far beyond all networks becomes a note; a near one is drawn."""
    far = report_data(with_info(record, target_ms=66.0)).view
    assert far.target_ms is None
    assert far.x_range[1] < 20
    assert any("66 ms" in note for note in far.notes)
    assert report_data(record).view.target_ms == 6.0


def test_best_score_and_hypervolume_never_fall(record: Record) -> None:
    """The history of the search never falls and ends at the hypervolume of the record, by predicted latency."""
    steps = report_data(without_measurements(record)).history
    assert len(steps) == len(record.candidates)
    for values in ([s.best for s in steps], [s.hypervolume for s in steps]):
        known = [value for value in values if value is not None]
        assert known == sorted(known)
    assert steps[-1].hypervolume == pytest.approx(without_measurements(record).hypervolume())


def test_what_limits_the_run_is_said(record: Record) -> None:
    """Each fact that limits the run has its sentence, with its numbers."""
    images = DataInfo("embedded", "abc", tuple("abcdefghij"), 4000, 5000, True, ("cut",))
    proxy = {"width": 0.25, "resolution": 32, "val_images": 1000}
    noisy = {record.front[-1].key: latency(5.5, "measured", "noisy machine: known to ±3.1% only")}
    data = report_data(with_info(record.with_measured(noisy), data=images, proxy=proxy))
    limits, shown = " ".join(data.limitations), " ".join(data.findings)
    for fact in ("embedded (10 classes", "generated", "cut", "0.25 of the channels", "32 px"):
        assert fact in limits
    # 1000 of 5000 held-out images are scored: sqrt(0.67 * 0.33 / 1000) = 1.5 points, times 2 sqrt(2) = 4.2 points
    for fact in ("1,000 held-out images", "1.5 points", "4.2 points", "seed 0", "1.3 × 10⁴⁰", "±3.1%", DEVICE):
        assert fact in limits
    for fact in ("12 held-out networks", "3.1 %", "9.2 %", "0.987", "41 %"):
        assert fact in shown
    noisy_row = next(row for row in data.networks.rows if row.kind == "best")
    assert noisy_row.cells[data.networks.header.index("Measured, ms")] == "5.50*"


def test_measurements_that_ended_at_their_bound_are_a_limitation(record: Record) -> None:
    """The report then says that the front has measured networks only."""
    bounded, whole = (with_info(record, measured_only=flag) for flag in (True, False))
    texts = [limitations(run, entries_of(run), counts_of(run)) for run in (bounded, whole)]
    assert any("measured" in text for text in set(texts[0]) - set(texts[1]))


@pytest.mark.parametrize(("facts", "binding"), [({}, "31.0 ms"), ({"binding_ms": 34.1}, "34.1 ms")])
def test_a_target_that_excludes_nothing_is_named(facts: dict[str, float], binding: str, record: Record) -> None:
    """The report then names the target that would exclude a network: the slowest one's, with the safety margin."""
    feasibility = {**(record.info.feasibility or {}), "binds": False, "share": 1.0, **facts}
    found = report_data(with_info(record, feasibility=feasibility, target_ms=66.0)).findings
    assert any("not bind" in claim and "66 ms" in claim and binding in claim for claim in found)


@pytest.mark.parametrize(
    ("guard", "limit_ms", "words"),
    [(0.05, 6.0 / 1.05, ("margin", "5.71 ms", "5.0 %")), (0.05, 6.0, ("margin", "5.0 %", "off")), (0.0, 6.0, ())],
)
def test_a_correction_is_reported_whatever_the_margin(
    guard: float, limit_ms: float, words: tuple[str, ...], record: Record
) -> None:
    """Predictions times 1.031 are reported with a safety margin, with one that was dropped, and without one."""
    margin = SafetyMargin(guard, 1.031, "near", ((5.0, 5.155),) * 8)

    def text(margin: SafetyMargin) -> str:
        run = with_info(record, margin=margin, admitted_ms=limit_ms, feasibility=None)
        return " ".join(findings(run, entries_of(run)))

    assert "8 networks" in text(margin)
    assert "1.031" in text(margin)
    assert ("margin" in text(margin)) == bool(words)
    assert all(word in text(margin) for word in words)
    assert "corrected" not in text(SafetyMargin(guard, source="held-out"))


@pytest.mark.parametrize("case", ["empty", "failed", "too_slow", "unmeasured", "one", "one_reference", "bare_info"])
def test_a_run_that_ended_early_is_reported(case: str, record: Record, tmp_path: Path) -> None:
    """Whatever is missing, all files are written, and the page says in words that nothing can be recommended."""
    nothing = {"proxy_accuracy": None, "proxy_loss": None, "measured": None}
    some, none = record.candidates[:9], [replace(c, **nothing) for c in record.candidates[:9]]
    runs: dict[str, Record] = {
        "empty": replace(with_info(record, feasibility=None, table_error=None), candidates=[], references=[]),
        "failed": replace(record, candidates=[replace(c, state="FAILED", reason="out of memory") for c in none]),
        "too_slow": replace(with_info(record, target_ms=0.1), candidates=[replace(c, state="TOO_SLOW") for c in none]),
        "unmeasured": without_measurements(record),
        "one": replace(record, candidates=record.front[:1], references=[]),
        "one_reference": replace(record, candidates=some, references=[replace(record.references[0], **nothing)]),
        "bare_info": Record(RunInfo(SearchOptions(), record.space, "", proxy={}), some, record.references),
    }
    run = runs[case]
    files = write_report(run, tmp_path)
    page = Page(files["report.html"].read_text(encoding="utf-8"))
    assert {"report.html", "report.md", "pareto.png", "pareto.csv", "trials.csv"} <= set(files)
    assert all(path.stat().st_size for path in files.values())
    assert (report_data(run).headline.figures == ()) == (run.best is None)
    assert "None" not in page.text
    assert "nan" not in page.text.lower().split()
    assert not any("proxy accuracy 0" in line for line in page.text.splitlines())


def test_a_custom_score_is_no_percentage(record: Record) -> None:
    """With a custom evaluation (any real score) nothing is called accuracy, and no hypervolume is claimed."""
    scored = [
        replace(c, proxy_accuracy=None if c.proxy_accuracy is None else 100 * c.proxy_accuracy - 60, measured=None)
        for c in record.candidates
    ]
    bare = with_info(record, proxy=None, data=None, feasibility=None, table_error=None, target_ms=None)
    run = replace(bare, candidates=scored, references=[])
    data = report_data(run)
    text = Page(report_page(data, b"")).text + markdown_page(data)
    assert "accuracy" not in text.lower()
    assert "Score" in text
    assert f"Score {data.score.text(run.front[-1].proxy_accuracy)}" in data.headline.title
    assert [name for name, _ in history_figures(data.history, data.score)] == ["best"]


def test_block_diagrams_are_the_rows(record: Record) -> None:
    """A diagram has every row but the pool, in order, each in its own place on common columns."""
    drawn = report_data(record).sheet
    by_key = {c.key: c for c in (*record.candidates, *record.references)}
    slots = dict(drawn.columns)
    for diagram in drawn.diagrams:
        rows = [row for row in by_key[diagram.key].arch.rows if row.op != "pool"]
        assert [(c.row, c.channels) for c in diagram.cells] == [(r, r.channels) for r in rows]
        assert len({(c.group, c.slot) for c in diagram.cells}) == len(diagram.cells)
        assert all(c.slot < slots[c.group] for c in diagram.cells)
    assert [group for group, _ in drawn.columns] == ["stem", "1/2", "1/4", "1/8", "1/16", "1/32", "head"]
    assert len(thinned(drawn, 10).diagrams) == 10
    assert {s.kind for s in thinned(drawn, 10).diagrams} == {"best", "front", "reference"}


def test_shares_by_depth_of_mobilenet_v3_large() -> None:
    """By hand from table 1 of arXiv 1905.02244: 15 blocks, so five a third."""
    kernel, se, h_swish, swish, *others = shares_by_depth(reference("mobilenet_v3_large"))
    assert kernel == pytest.approx((2 / 5, 1 / 5, 3 / 5))  # 3 3 3 5 5 | 5 3 3 3 3 | 3 3 5 5 5
    assert se == pytest.approx((2 / 5, 1 / 5, 5 / 5))  # - - - SE SE | SE - - - - | SE SE SE SE SE
    assert h_swish == pytest.approx((0, 4 / 5, 5 / 5))  # RE x5 | RE HS x4 | HS x5
    assert swish == (0, 0, 0)
    assert others == [(0, 0, 0)] * 3


def test_similarity() -> None:
    """A network equals itself, similarity is symmetric, and one changed choice in four leaves three quarters."""
    v2, v3, b0 = (reference(name) for name in ("mobilenet_v2", "mobilenet_v3_large", "efficientnet_b0"))
    assert similarity(v3, v3) == 1
    assert similarity(v2, v3) == similarity(v3, v2)
    changed = replace(b0, rows=tuple(replace(r, act="relu") if r.op == "mbconv" else r for r in b0.rows))
    assert similarity(b0, changed) == pytest.approx(3 / 4)
    one, other = (Arch((Block("uib", 8, 3, kernel_start=k, expand=2, act="relu"), Block("pool")), 32) for k in (3, 5))
    assert similarity(one, other) == pytest.approx(3 / 4)  # of two kernels, expansion and activation
    shuffled = Arch((Block("shuffle_v1", 8, 3, groups=2, act="relu"), Block("pool")), 32)
    assert similarity(one, shuffled) == similarity(shuffled, one) == pytest.approx(2 / 6)  # kernel and activation


def test_plain_convolutions_only() -> None:
    """A network without MBConv blocks has shares and a place for every row."""
    rows = (Block("conv", 16, 3, 2, act="relu"), Block("conv", 32, 5, 1, act="relu"), Block("pool"))
    arch = Arch(rows, 32)
    assert [(c.group, c.slot) for c in cells(arch)] == [("1/2", 0), ("1/2", 1)]
    assert shares_by_depth(arch)[0] == (0, 1, None)


EVERY_OP = (
    Block("conv", 24, 3, 2, act="relu"),
    Block("max_pool", kernel=3, stride=2),
    Block("dwsep", 32, 3, act="relu", depth_multiplier=2),
    Block("spatial_sep", 32, 5, act="relu6"),
    Block("mbconv", 32, 7, expand=6, se=0.25, act="swish"),
    Block("fused_mbconv", 48, 3, 2, expand=4, act="gelu"),
    Block("uib", 64, 5, 2, expand=4, kernel_start=3, act="relu"),
    Block("uib", 64, 0, expand=4, act="relu", norm="group"),
    Block("shuffle_v1", 96, 3, 2, groups=3, groups_in=1, act="relu"),
    Block("shuffle_v2", 96, 7, act="h_swish"),
    Block("conv", 128, act="relu"),
    Block("pool"),
    Block("linear", 256, act="relu", norm="batch"),
)


def test_block_diagrams_of_every_op(record: Record) -> None:
    """Every block is drawn, described by its own choices and no others, and explained in words."""
    arch = Arch(EVERY_OP, 224)
    assert {row.op for row in arch.rows} == set(OPS)
    drawn = cells(arch)
    assert [c.group for c in drawn] == (
        ["stem"] * 2 + ["1/4"] * 3 + ["1/8", "1/16", "1/16", "1/32", "1/32"] + ["head"] * 2
    )
    assert drawn[1].channels == 24  # pooling keeps the width
    tips = [str(c) for c in drawn]
    assert tips[2] == "depthwise separable 3×3, depth multiplier 2, ReLU, 32 channels"
    assert tips[6] == "universal inverted bottleneck 3×3 then 5×5, expansion 4, ReLU, stride 2, 64 channels"
    assert tips[7] == "universal inverted bottleneck without depthwise, expansion 4, ReLU, group norm, 64 channels"
    assert tips[8] == "ShuffleNetV1 unit 3×3, 3 groups (the first 1×1: 1), ReLU, stride 2, 96 channels"
    assert all(("expansion" in tip) == ("expand" in CELLS[c.row.op]) for c, tip in zip(drawn, tips, strict=True))
    assert [cell_label(c) for c in drawn if c.is_block] == ["ds", "sp", "×6", "f×4", "×4", "×4", "v1 g3", "v2"]
    one = candidate(arch, np.random.default_rng(0))
    data = report_data(replace(record, candidates=[replace(one, predicted=latency(5.0))], references=[]))
    shapes = diagrams_drawing(data.sheet).shapes
    assert {"3·5", "–", "max", "GELU"} <= {shape.text for shape in shapes if isinstance(shape, Text)}
    page = Page(report_page(data, b"")).text
    for words in ("ShuffleNetV2 unit", "v1 g3", "two depthwise", "uib3.5", "ge GELU"):
        assert words in page


def test_the_svg_has_every_cell_of_the_drawing(record: Record) -> None:
    """The SVG is well-formed XML with every cell of the drawing, and no cell lies outside."""
    drawing = diagrams_drawing(report_data(record).sheet)
    root = ElementTree.fromstring(svg(drawing))
    drawn = [shape for shape in drawing.shapes if isinstance(shape, Rect)]
    assert sum(element.tag.endswith("rect") for element in root.iter()) == len(drawn)
    for shape in drawn:
        assert shape.x >= 0
        assert shape.x + shape.width <= drawing.width + 1e-6
        assert shape.y >= 0
        assert shape.y + shape.height <= drawing.height + 1e-6


def test_a_second_report_replaces_the_first(tmp_path: Path) -> None:
    """Writing again leaves the new content and no temporary file."""
    record = lifelike(30)
    write_report(without_measurements(record), tmp_path)
    files = write_report(record, tmp_path)
    assert not list(tmp_path.glob("**/.*"))
    assert " ms measured" in files["report.md"].read_text(encoding="utf-8")
