"""The report of a run whose accuracies are estimates: numbers, chances to beat references, and what they rest on."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from nas.accuracy.prior import bundled
from nas.accuracy.words import listed
from nas.arch.space_yaml import load_space
from nas.engine.judge import Judge
from nas.engine.run.record import Record, Repeat, with_repeats
from nas.references.table import reference
from nas.reports.run.claims import limitations
from nas.reports.run.data import ReportData, report_data
from nas.reports.run.figures import pareto_figure
from nas.reports.run.headline import noise_of
from nas.reports.run.pareto_view import BAR_GAP
from nas.reports.run.plots import pareto_png
from nas.reports.run.summary import summary_facts, summary_text
from nas.reports.run.tables import counts_of, entries_of
from nas.reports.run.write import write_report
from tests.reports.test_report import Page, candidate, latency, lifelike, with_info

TASK = "cifar10, short training"


def judged(record: Record, trained: bool, task: str = TASK) -> Record:
    """The same run, judged by the bundled model alone or by its trainings as well."""
    judge = Judge(record.space, bundled(), trained, task)
    judge.learn([*record.references, *record.candidates])
    candidates, references = judge.estimated(record.candidates), judge.estimated(record.references)
    return replace(record, candidates=candidates, references=references, model=judge.model)


@cache
def by_trainings() -> Record:
    return judged(lifelike(40), trained=True)


@cache
def by_bundled() -> Record:
    """Nothing was trained."""
    run = judged(lifelike(40), trained=False)
    return with_info(run, accuracy="imagenet", data=None, proxy=None)


@cache
def for_nothing() -> Record:
    """Trained on generated images, which count for nothing."""
    run = judged(lifelike(40), trained=False)
    assert run.info.data is not None
    return with_info(run, data=replace(run.info.data, generated=True))


@cache
def data_of(make: Callable[[], Record]) -> ReportData:
    return report_data(make())


MODES = [by_trainings, by_bundled, for_nothing]


def text_of(sentences: object) -> str:
    return " ".join(sentences)  # type: ignore[arg-type]


def chances_in(data: ReportData) -> dict[str, str]:
    column = data.networks.header.index("Chance to beat")
    return {row.key: row.cells[column] for row in data.networks.rows}


@pytest.mark.parametrize("make", MODES)
def test_every_file_has_the_same_estimates(make: Callable[[], Record], tmp_path: Path) -> None:
    """CSV, JSON, table, page and Markdown agree; raw proxy accuracies are kept where networks were trained."""
    record = make()
    files = write_report(record, tmp_path)
    facts = json.loads(json.dumps(summary_facts(record, tmp_path)))
    rows = pd.read_csv(files["pareto.csv"], dtype={"key": str}).set_index("key")
    page = Page(files["report.html"].read_text(encoding="utf-8")).text.replace("\u00a0", " ")
    markdown = files["report.md"].read_text(encoding="utf-8")
    terminal = summary_text(record, tmp_path)
    assert [one["key"] for one in facts["front"]] == list(rows.index)
    for one, c in zip(facts["front"], record.front, strict=True):
        assert c.estimate is not None
        row = rows.loc[c.key]
        assert one["accuracy"] == pytest.approx(row.accuracy) == pytest.approx(c.estimate.mean)
        assert one["accuracy_sd"] == pytest.approx(row.accuracy_sd) == pytest.approx(c.estimate.sd)
        assert (one["task"], one["evidence"]) == (c.estimate.task, c.estimate.evidence)
        shown = f"{100 * c.estimate.mean:.1f} ± {100 * c.estimate.sd:.1f} %"
        assert all(shown in text for text in (page, markdown, terminal))
        raw = c.proxy_accuracy if record.info.trains else None
        assert one["proxy_accuracy"] == raw
        assert (pd.isna(row.proxy_accuracy) and raw is None) or row.proxy_accuracy == raw
    best = record.front[-1]
    assert facts["best"]["key"] == best.key
    assert f"± {100 * best.estimate.sd:.1f} % estimated" in data_of(make).headline.title  # type: ignore[union-attr]


@pytest.mark.parametrize("make", MODES)
def test_chances_are_those_of_the_model(make: Callable[[], Record], tmp_path: Path) -> None:
    """Each reference is compared with the most accurate network of the front that is not slower, by `model.better`."""
    record = make()
    assert record.model is not None
    data = data_of(make)
    sentences = text_of(data.headline.sentences)
    cells = chances_in(data)
    compared = 0
    for one, fixed in zip(summary_facts(record, tmp_path)["references"], record.references, strict=True):
        within = [c for c in record.front if c.latency_ms <= fixed.latency_ms]
        if not within:
            assert one["rival"] is None
            assert one["chance_of_beating"] is None
            assert cells[fixed.key] == "–"
            continue
        rival = max(within, key=lambda c: c.score or 0.0)
        chance = record.model.better(rival.arch, fixed.arch)
        assert one["rival"] == rival.key
        assert one["chance_of_beating"] == chance
        shown = "> 0.99" if chance > 0.99 else "< 0.01" if chance < 0.01 else f"{chance:.2f}"
        assert cells[fixed.key] == shown
        assert shown in sentences
        compared += 1
    assert compared >= 2


def test_without_an_estimate_there_are_no_chances(tmp_path: Path) -> None:
    """Observed scores are neither called estimates, nor do they get a standard deviation, a chance or an error bar."""
    record = lifelike(40)
    data = report_data(record)
    assert "Chance to beat" not in data.networks.header
    assert "Published" not in data.networks.header
    assert data.networks.header[1] == "Proxy accuracy"
    assert not any("±" in row.cells[1] for row in data.networks.rows)
    assert "stimated" not in text_of([*data.headline.sentences, *data.findings, *data.limitations])
    assert not any("error_y" in trace for trace in pareto_figure(data.view)["data"])
    facts = summary_facts(record, tmp_path)
    assert {one["chance_of_beating"] for one in facts["references"]} == {None}
    assert {one["evidence"] for one in facts["front"]} == {None}


@pytest.mark.parametrize("make", MODES)
def test_the_report_says_what_estimates_are_of_and_rest_on(make: Callable[[], Record]) -> None:
    record = make()
    assert record.model is not None
    data = data_of(make)
    assert record.model.evidence in text_of(data.headline.sentences)
    assert record.model.task in data.view.y_title
    assert data.view.y_title.endswith("%")
    assert data.score.name == ("estimated proxy accuracy" if make is by_trainings else "estimated accuracy")
    assert noise_of(record) is None  # of observed accuracies; the standard deviation says it


def test_trainings_that_count_for_nothing_are_a_limitation() -> None:
    data, other = data_of(for_nothing), data_of(by_trainings)
    assert "--data" in text_of(data.limitations)
    assert "docs/accuracy.md" in text_of(data.limitations)
    assert "count for nothing" not in text_of(other.limitations)
    bare = data_of(by_bundled)
    assert "No network was trained" in text_of(bare.limitations)
    assert "never trained" not in bare.view.label("too_slow")
    assert ("Too slow", str(bare.counts.too_slow)) in bare.search_facts


@pytest.mark.parametrize("make", MODES)
def test_raw_proxy_accuracies_are_in_the_hover_text(make: Callable[[], Record]) -> None:
    """Below the estimate, if networks were trained."""
    record = make()
    marks = {mark.key: mark for mark in data_of(make).view.front}
    for c in record.front:
        assert c.proxy_accuracy is not None
        raw = f"proxy accuracy {100 * c.proxy_accuracy:.1f} %"
        assert (raw in marks[c.key].hover) == record.info.trains


@pytest.mark.parametrize("make", MODES)
def test_error_bars_are_standard_deviations(make: Callable[[], Record]) -> None:
    """Of all references, and of networks of the front far enough apart, the best one among them; none is cut off."""
    record, view = make(), data_of(make).view
    figure = pareto_figure(view)
    go.Figure(figure)
    best, every = record.front[-1], {c.key: c for c in (*record.front, *record.references)}
    bars: dict[str, float] = {}
    for trace in figure["data"]:
        if "error_y" in trace:
            bars |= {k: sd for k, sd in zip(trace["customdata"], trace["error_y"]["array"], strict=True) if sd}
    assert bars.keys() >= {best.key, *(c.key for c in record.references)}
    for key, sd in bars.items():
        c = every[key]
        assert c.estimate is not None
        assert sd == pytest.approx(100 * c.estimate.sd)
        assert view.y_range[0] <= 100 * c.estimate.mean - sd
        assert view.y_range[1] >= 100 * c.estimate.mean + sd
    places = sorted(c.latency_ms for c in record.front if c.key in bars)
    assert all(gap >= BAR_GAP * (view.x_range[1] - view.x_range[0]) for gap in np.diff(places))
    assert pareto_png(view, "").startswith(b"\x89PNG")


def test_published_figures_stand_beside_estimates_for_imagenet_only() -> None:
    """The paper's top-1 of the size that was built."""
    record = by_bundled()
    small = candidate(reference("mobilenet_v2", 0.75), np.random.default_rng(0), name="mobilenet_v2@width=0.75")
    moved = candidate(reference("mobilenet_v2"), np.random.default_rng(0), name="of/a/file/that/is/gone.yaml")
    record = judged(replace(record, references=[*record.references, small, moved]), trained=False)
    published = {e.name: e.published for e in entries_of(record) if e.kind == "reference"}
    assert published["MobileNetV3-Large"] == 75.2
    assert published["MobileNetV2 width=0.75"] == 69.8
    assert published["of/a/file/that/is/gone.yaml"] is None
    data = report_data(record)
    cells = next(row.cells for row in data.networks.rows if row.cells[0] == "MobileNetV3-Large")
    assert cells[data.networks.header.index("Published")] == "75.2 %"
    assert "Published" not in data_of(by_trainings).networks.header


def test_a_best_network_outside_the_data_of_the_model_is_a_limitation() -> None:
    """In words; kernels of 7×7 are in no table of the first stage."""
    record = by_bundled()
    odd = next(c for c in record.candidates if c.score is not None and bundled().outside(c.arch))
    only = replace(record, candidates=[odd])
    words = listed(bundled().outside(odd.arch))
    assert words in text_of(report_data(only).limitations)
    inside = reference("efficientnet_b0")
    assert not bundled().outside(inside)
    known = replace(record, candidates=[replace(odd, arch=inside)])
    assert "outside the data" not in text_of(report_data(known).limitations)


def test_references_that_trainings_say_little_about_are_named() -> None:
    """Those that the space cannot express, if trainings decide."""
    text = text_of(data_of(by_trainings).limitations)
    foreign = next(sentence for sentence in text.split(". ") if "Not in the space" in sentence)
    assert "EfficientNet-B0" in foreign
    assert "Not in the space" not in text_of(data_of(by_bundled).limitations)


def test_a_reference_that_was_found_again_is_not_its_own_rival(tmp_path: Path) -> None:
    space = load_space("efficientnet")
    b0 = reference("efficientnet_b0")
    found = candidate(b0, np.random.default_rng(0), genes=space.encode(b0), predicted=latency(5.0))
    fixed = replace(found, genes={}, name="efficientnet_b0")
    run = with_info(replace(lifelike(3), candidates=[found], references=[fixed]), space=space, accuracy="imagenet")
    record = judged(run, trained=False)
    assert "EfficientNet-B0 is on the front." in report_data(record).headline.sentences
    facts = summary_facts(record, tmp_path)["references"][0]
    assert (facts["rival"], facts["chance_of_beating"]) == (b0.key, None)


def test_the_proxy_is_described_as_it_was() -> None:
    """Trained from scratch, with shared weights, or with these and more steps of its own."""
    proxy = {"width": 0.25, "resolution": 24, "steps": 140, "batch": 64, "shared_steps": 0, "tune": 0}

    def words(**changes: int) -> str:
        record = with_info(lifelike(12), proxy=proxy | changes)
        return text_of(limitations(record, entries_of(record), counts_of(record)))

    assert "140 steps of 64 images" in words()
    assert "share" not in words()
    assert "share, trained for 4,000 steps of 64 images" in words(shared_steps=4000)
    assert "140" not in words(shared_steps=4000)
    assert "20 more" in words(shared_steps=4000, tune=20)
    assert "docs/proxy.md" in words()


def test_repeated_trainings_are_listed_and_what_they_showed_is_said() -> None:
    """How often each network was trained is in the table and in the JSON facts, with an interval for each."""
    record = by_trainings()
    repeats = {
        one.key: [Repeat(1 + at, one.proxy_accuracy or 0.0, one.proxy_loss) for at in range(times)]
        for times, one in enumerate(record.front)
    }
    again = judged(replace(record, candidates=with_repeats(record.candidates, repeats)), trained=True)
    data = report_data(again)
    column = data.networks.header.index("Trainings")
    shown = {row.key: row.cells[column] for row in data.networks.rows}
    expected = {one.key: one.trainings for one in [*again.front, *again.references]}
    assert len(set(expected.values())) > 1
    assert {key: int(shown[key]) for key in expected} == expected
    total = sum(map(len, repeats.values()))
    assert f"{total} training" in text_of(data.findings)
    assert "Trainings" not in data_of(by_trainings).networks.header
    for facts in summary_facts(again, Path())["front"]:
        assert facts["trainings"] == expected[facts["key"]]
        assert facts["accuracy_interval"][0] < facts["accuracy"] < facts["accuracy_interval"][1]
