"""The comparison of samplers: curves, levels, gains, CSV and plot."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from nas.arch.codes import Coder
from nas.engine.replay import Replay
from nas.engine.run.pareto import hypervolume
from nas.engine.tables import MacsModel, Table
from nas.reports.samplers.csv_files import curves_csv, levels_csv
from nas.reports.samplers.data import LEVELS, Band, Comparison, hypervolumes, level_of
from nas.reports.samplers.plot import samplers_png, spread
from nas.reports.samplers.text import comparison_text
from nas.system.errors import InputError
from tests.engine.search_toys import TINY

_CODER = Coder(TINY)
ARCHS = tuple(dict.fromkeys(_CODER.batch(_CODER.random(500, np.random.default_rng(0)))))
SCORES = np.linspace(0.5, 0.61, len(ARCHS))
COSTS = np.random.default_rng(1).permutation(len(ARCHS)) + 1.0
TABLE = Table("toy", TINY, ARCHS, SCORES, COSTS, MacsModel())


def replayed(order: list[int], observed: list[float] | None = None, chosen: int = 0) -> Replay:
    """A search that evaluated the networks of these indices."""
    seen = SCORES[order] if observed is None else np.array(observed)
    return Replay(tuple(ARCHS[at].key for at in order), seen, SCORES[order], COSTS[order], chosen)


def test_hypervolume_grows_to_one() -> None:
    """It is the area of the package's own hypervolume, relative to all networks."""
    order = np.random.default_rng(2).permutation(len(ARCHS))
    found = hypervolumes(SCORES[order], COSTS[order], (SCORES, COSTS))
    assert (np.diff(found) >= 0).all()
    assert found[-1] == pytest.approx(1)
    low, high = SCORES.min(), COSTS.max()
    areas = [hypervolume(list(SCORES[some] - low), list(COSTS[some]), high) for some in (order[:4], order)]
    assert areas[0] is not None
    assert areas[1] is not None
    assert found[3] == pytest.approx(areas[0] / areas[1])


@pytest.mark.parametrize("costs", [COSTS, np.ones(len(ARCHS))], ids=["one-network", "equal-costs"])
def test_nothing_to_dominate(costs: NDArray[np.float64]) -> None:
    """A cap that one network meets, or only equal costs, leave no area to share, but figures all the same."""
    table = replace(TABLE, costs=costs)
    at = int(costs.argmin())
    found = Comparison.of(table, {"one": [replayed([at])]}, cap=1)
    assert found.networks == (costs == 1).sum()
    assert found.hypervolume["one"].tolist() == [[1]]
    assert samplers_png([found]).startswith(b"\x89PNG")


def test_bands_are_printed_in_one_style() -> None:
    """Mean [low, high], of accuracies, hypervolumes and gains, also of negative ones."""
    replay = replayed([3, 8, 1], observed=[0.5, 0.9, 0.6], chosen=2)
    text = comparison_text(Comparison.of(TABLE, {"one": [replay]}, tau=0.5))
    bands = re.findall(r"([+−]?[\d.]+) \[([+−]?[\d.]+), ([+−]?[\d.]+)\]", text)
    assert len(bands) == 3
    assert all(mean == low == high for mean, low, high in bands)  # one seed
    assert bands[-1][0].startswith("−")


def test_best_is_the_true_accuracy_of_the_best_score() -> None:
    """A lucky score hides better networks, and what the posterior chose instead is a gain."""
    replay = replayed([3, 1, 8], observed=[0.5, 0.9, 0.6], chosen=2)
    found = Comparison.of(TABLE, {"one": [replay, replay]}, tau=0.5)
    assert found.best["one"][0].tolist() == SCORES[[3, 1, 1]].tolist()
    gain = found.gains["one"]
    assert gain.mean == pytest.approx(SCORES[8] - SCORES[1])
    assert gain.low == pytest.approx(gain.mean)


def test_evaluations_to_a_level() -> None:
    """Seeds that never reach it count as more than all; half of them leave no median."""
    best = len(ARCHS) - 1
    runs = [replayed([0, best, 1]), replayed([best, 0, 1]), replayed([0, 1, 2])]
    needed = Comparison.of(TABLE, {"one": runs}).needed("one", "optimum")
    assert (needed.median, needed.reached) == (2, pytest.approx(2 / 3))
    never = Comparison.of(TABLE, {"one": runs[1:] + runs[2:]}).needed("one", "optimum")
    assert never.median is None


def test_shorter_replays_keep_their_last_value() -> None:
    """All networks within the cap were evaluated."""
    found = Comparison.of(TABLE, {"one": [replayed([0, 1]), replayed([0, 1, 2, 3])]})
    assert found.best["one"][0].tolist() == SCORES[[0, 1, 1, 1]].tolist()


@pytest.mark.parametrize("text", ["best", "-1", "0%", "101%", "1e3", ""])
def test_unknown_levels(text: str) -> None:
    with pytest.raises(InputError, match="optimum"):
        level_of(text, SCORES)


def test_levels_of_scores_that_are_no_shares() -> None:
    """A distance is in the unit of the scores."""
    assert level_of("0.5", 100 * SCORES, percent=False) == pytest.approx(60.5)


def test_csv_reads_back() -> None:
    """One row for each sampler and evaluation, and for each sampler and level."""
    found = Comparison.of(TABLE, {"a": [replayed([0, 1])], "b": [replayed([2, 3])]}, cap=None)
    rows = list(csv.DictReader(io.StringIO(curves_csv([found]))))
    assert [(row["sampler"], row["evaluations"]) for row in rows] == [("a", "1"), ("a", "2"), ("b", "1"), ("b", "2")]
    assert float(rows[1]["best_mean"]) == pytest.approx(SCORES[1])
    assert len(list(csv.DictReader(io.StringIO(levels_csv([found, found]))))) == 2 * 2 * len(LEVELS)


def test_a_band_holds_its_mean() -> None:
    band = Band.of(np.arange(101.0))
    assert (band.low, band.mean, band.high) == (5, 50, 95)


def test_labels_do_not_overlap() -> None:
    """They keep their order."""
    heights = {str(at): value for at, value in enumerate([1.0, 1.01, 1.02, 3.0, 0.9, 1.0])}
    found = spread(heights, 0.5)
    assert (np.diff(list(found.values())) <= -0.5 + 1e-9).all()
    assert [heights[name] for name in found] == sorted(heights.values(), reverse=True)


def test_plot_of_one_seed_and_of_equal_curves() -> None:
    """There is a picture even if nothing can be told apart."""
    found = Comparison.of(TABLE, {"auto": [replayed([0])], "own": [replayed([0])]})
    assert samplers_png([found, found]).startswith(b"\x89PNG")
