"""A latency table is built, cached, read again, and predicts."""

import json
import os
from dataclasses import replace
from pathlib import Path
from time import time

import numpy as np
import pytest

from nas.arch.arch import Arch
from nas.arch.space_yaml import load_space, parse_space
from nas.engine.options import REFERENCES
from nas.latency.held_out import HeldOut
from nas.latency.table import build as room
from nas.latency.table import sample_networks
from nas.latency.table.build import build_table, cached_table
from nas.latency.table.cache import Checkpoint, drop_stale
from nas.latency.table.columns import Columns
from nas.latency.table.residuals import Residuals
from nas.latency.table.sample_networks import LARGE_NETS, PLAIN_NETS, strange
from nas.latency.table.table import LatencyTable
from nas.references.table import reference
from nas.system.errors import InputError
from tests.latency.tables import ONE, SMALL, made_up


@pytest.fixture(scope="module")
def table() -> LatencyTable:
    """A table of mbconv on a made-up device, without any timing."""
    space = load_space("mbconv")
    rng = np.random.default_rng(0)
    archs = [strange(space.sample(rng), rng) for _ in range(30)] + [space.sample(rng) for _ in range(10)]
    columns, coefficients = made_up(archs)
    return LatencyTable(
        device="a made-up device",
        runtime="onnxruntime",
        threads=1,
        space_key=space.key,
        versions={"onnxruntime": "1.0"},
        groups=columns.groups,
        columns=columns.names,
        coefficients=tuple(coefficients.tolist()),
        error=HeldOut((1.0, 2.1, 2.9), (1.0, 2.0, 3.0)),
        fitted=40,
        residuals={"expand": Residuals(((16, 64, 56, "relu"),), (0.0,))},
    )


def test_predictions_are_sums_of_columns(table: LatencyTable) -> None:
    """Without residuals, the quick sum over rows is the product of columns and coefficients; equal rows cost the same,
    whichever objects they are."""
    archs = [load_space("mbconv").sample(seed) for seed in range(40)] + [reference(name) for name in REFERENCES]
    slowly = Columns(table.groups, table.columns).of_networks(archs) @ np.array(table.coefficients)
    np.testing.assert_allclose(table.many(archs), slowly, rtol=1e-12)
    copies = [Arch.from_json(arch.to_json()) for arch in archs]
    assert copies[0].rows[1] is not archs[0].rows[1]
    assert table.many(copies).tolist() == table.many(archs).tolist()


def test_many_equals_one_by_one(table: LatencyTable) -> None:
    """The predictions are the same floats, in order, whether computed together, alone, or again."""
    space = load_space("mbconv")
    archs = [space.sample(seed) for seed in range(50)] + [reference(name) for name in REFERENCES]
    together = table.many(archs)
    assert together.shape == (54,)
    assert together.dtype == np.float64
    assert [table(arch).ms for arch in archs] == together.tolist()
    assert table.many(archs[::-1]).tolist() == together[::-1].tolist()
    assert table.many([]).shape == (0,)


def test_a_table_survives_its_file(table: LatencyTable, tmp_path: Path) -> None:
    """Its content and its predictions are equal after a round trip."""
    table.save(tmp_path / "t.json")
    again = LatencyTable.load(tmp_path / "t.json")
    assert again == table
    archs = [load_space("mbconv").sample(seed) for seed in range(20)]
    assert again.many(archs).tolist() == table.many(archs).tolist()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("schema", 99), ("device", ""), ("device", 5), ("threads", 0), ("threads", True), ("coefficients", [1.0]),
        ("coefficients", "many"), ("coefficients", [float("nan")]), ("coefficients", [-1.0]), ("columns", []),
        ("columns", ["a", "a"]), ("groups", [1]), ("groups", [" "]), ("groups", ["depthwise x 1"]),
        ("coefficients", [10**400]), ("device", "x" * 300), ("runtime", ""), ("source", "x" * 500),
        ("stepped", ["macs"]),
        ("stepped", []), ("error", None), ("versions", []), ("fitted", -1),
        ("residuals", 5), ("residuals", {"se": {}}), ("schema", 1),
        ("residuals", {"se": {"points": [[1, 1, 1, "relu"]], "weights": []}}),
        ("residuals", {"se": {"points": [[1, 1, "relu"]], "weights": [1.0]}}),
        ("residuals", {"se": {"points": [[1, 1, 1, "relu"]], "weights": [float("nan")]}}),
        ("error", {"predicted_ms": [1.0], "measured_ms": []}), ("error", {"predicted_ms": [0], "measured_ms": [1]}),
    ],
)  # fmt: skip
def test_a_broken_table_is_an_error(table: LatencyTable, tmp_path: Path, field: str, value: object) -> None:
    """The error names the file, whichever field is broken."""
    path = tmp_path / "t.json"
    table.save(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))
    with pytest.raises(InputError, match=r"t\.json"):
        LatencyTable.load(path)


def test_a_table_of_an_earlier_version_names_the_command_that_replaces_it(table: LatencyTable, tmp_path: Path) -> None:
    """The meaning of its coefficients has changed since. Of a later version nothing is known, so there is no advice."""
    path = tmp_path / "t.json"
    for schema, fix in ((2, True), (99, False)):
        table.save(path)
        path.write_text(json.dumps(json.loads(path.read_text()) | {"schema": schema}))
        with pytest.raises(InputError, match=f"got {schema}") as caught:
            LatencyTable.load(path)
        assert ("nas profile" in str(caught.value)) == fix


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '{"schema": 1}', "[" * 100_000])
def test_a_file_that_is_no_table_is_an_error(tmp_path: Path, text: str) -> None:
    """Broken JSON, other JSON, or deep nesting."""
    path = tmp_path / "t.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"t\.json"):
        LatencyTable.load(path)
    with pytest.raises(InputError, match="absent"):
        LatencyTable.load(tmp_path / "absent.json")


@pytest.mark.parametrize(("text", "nets"), [(SMALL, 4), pytest.param(ONE, 1, marks=pytest.mark.slow)])
def test_tables_of_small_spaces_are_measured(
    text: str, nets: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Any space gets a real table with held-out networks; the second time the same table comes from the cache."""
    monkeypatch.setenv("NAS_CACHE", str(tmp_path))
    monkeypatch.setattr(sample_networks, "HELD_OUT", 4)
    monkeypatch.setattr(sample_networks, "FITTED", (6, 6))
    monkeypatch.setattr(room, "BUDGET_S", 1.0)
    space = parse_space(text, "test")
    seen: list[tuple[int, int, str]] = []
    first = cached_table(space, progress=lambda *step: seen.append(step))
    assert seen
    assert all(0 <= done <= total for done, total, _ in seen)
    assert first.error.nets == nets
    assert first.error.mape < 0.5
    assert first.space_key == space.key
    archs = [space.sample(seed) for seed in range(10)] + [reference(name) for name in REFERENCES]
    assert (first.many(archs) > 0).all()
    seen.clear()
    assert cached_table(space, progress=lambda *step: seen.append(step)) == first
    assert not seen
    monkeypatch.setattr(room, "BUDGET_S", 0.5)
    assert cached_table(space, refresh=True, progress=lambda *step: seen.append(step)) != first
    assert seen
    (file,) = (tmp_path / "latency").iterdir()
    file.write_text("damaged")
    assert cached_table(space).space_key == space.key
    assert LatencyTable.load(file).space_key == space.key


def test_a_table_of_many_parts_survives_its_file(table: LatencyTable, tmp_path: Path) -> None:
    """A deep space with many widths has 10,000 timed parts of a kind."""
    points = tuple((32, 16 + at, 7, "relu") for at in range(10_000))
    many = replace(table, residuals={"expand": Residuals(points, (0.001,) * len(points))})
    many.save(tmp_path / "many.json")
    assert LatencyTable.load(tmp_path / "many.json") == many


def test_a_table_is_built_without_a_writable_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Only the next start takes a minute longer."""
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("NAS_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr(room, "BUDGET_S", 1.0)
    monkeypatch.setattr(sample_networks, "FITTED", (4, 4))
    monkeypatch.setattr(sample_networks, "HELD_OUT", 2)
    assert cached_table(parse_space(SMALL, "test")).fitted == 4 + PLAIN_NETS + LARGE_NETS


def test_an_interrupted_table_resumes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Profiles and timings from before Ctrl-C are not repeated; another or damaged file in their place does no harm."""
    monkeypatch.setenv("NAS_CACHE", str(tmp_path))
    monkeypatch.setattr(room, "BUDGET_S", 2.0)
    monkeypatch.setattr(sample_networks, "FITTED", (6, 6))
    monkeypatch.setattr(sample_networks, "HELD_OUT", 3)
    space = parse_space(SMALL, "test")

    def stop_at(text: str, moment: int) -> None:
        def progress(done: int, total: int, shown: str) -> None:
            if text in shown and done == moment:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            cached_table(space, progress=progress)

    stop_at("profiling", 3 + 3)
    (part,) = (tmp_path / "latency").iterdir()
    first = json.loads(part.read_text())
    assert len(first["profiles"]) == 3
    stop_at("in turn", 2)
    second = json.loads(part.read_text())
    assert len(second["rounds"]) == 2
    assert {key: second["profiles"][key] for key in first["profiles"]} == first["profiles"]
    seen: list[tuple[int, str]] = []
    cached_table(space, progress=lambda done, total, text: seen.append((done, text)))
    assert min(done for done, text in seen if "in turn" in text) == 2
    assert not part.exists()
    timed = {visit[0] for visit in second["rounds"][0]}
    monkeypatch.setattr(room, "MODEL", -1)  # another table
    stop_at("in turn", 1)
    (part,) = (tmp_path / "latency").glob("*.part.json")
    strange = json.loads(part.read_text())
    strange["rounds"] = [[["another network", *visit[1:]] for visit in one] for one in strange["rounds"]]
    part.write_text(json.dumps(strange))
    assert cached_table(space).fitted == len(timed) - 3
    for text in (
        "{",
        "[]",
        '{"profiles": {"a": [[1]]}, "rounds": [[["x", null, 1.0, 1.0]]]}',
        '{"profiles": {}, "rounds": 5}',
    ):
        part.write_text(text)
        assert Checkpoint(part).rounds == []
        assert Checkpoint(part).profile("a") is None
    part.write_text('{"profiles": {"a": [[0.0, 1], [0.0, 2]], "b": [[0.0, 1], [0.5, 2]]}, "rounds": []}')
    assert [Checkpoint(part).profile(key) for key in "ab"] == [None, [(0.0, 1), (0.5, 2)]]


def test_a_refresh_drops_stale_timings(tmp_path: Path) -> None:
    """The timings of an interrupted call are used for an hour."""
    drop_stale(None)
    drop_stale(tmp_path / "absent")
    for age_s, used in ((60, True), (7200, False)):
        (tmp_path / "part").write_text("{}")
        os.utime(tmp_path / "part", (time() - age_s, time() - age_s))
        drop_stale(tmp_path / "part")
        assert (tmp_path / "part").exists() == used


@pytest.mark.slow
def test_the_table_of_mbconv_ranks_held_out_networks() -> None:
    """Measured on a machine that may be busy: the rank correlation is at least 0.95, and references are within 25 %."""
    from nas.latency.measure import measure

    table = build_table(load_space("mbconv"))
    assert table.error.spearman is not None
    assert table.error.spearman >= 0.95
    for name in REFERENCES:
        assert table(reference(name)).ms == pytest.approx(measure(reference(name)).ms, rel=0.25)
