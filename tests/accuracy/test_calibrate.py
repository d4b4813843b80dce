"""Calibration on simulated tables, where effects, levels and noise are known."""

from dataclasses import replace

import numpy as np
import pytest

from nas.accuracy import calibrate as calibration
from nas.accuracy.calibrate import calibrate, fit_only
from nas.accuracy.features import features
from nas.accuracy.ranking import equal_cost_tau
from nas.accuracy.record import INTERVAL
from nas.accuracy.sources import Source
from nas.arch.cost import cost_of
from nas.system.errors import InputError
from tests.accuracy.simulated import effects, source


def equal_cost(scores: np.ndarray, table: Source) -> float:
    return equal_cost_tau(scores, table.accuracies, [cost_of(arch).macs for arch in table.archs])


def test_effects_are_found_and_the_stated_error_is_that_on_new_networks() -> None:
    """Held-out figures of the table are those of a second table of the same kind."""
    model = calibrate([source(count=300)])
    new = source(count=300, seed=1)
    means, sds = model.many(new.archs)
    stated = model.sources[0].held_out
    assert stated.networks == 300
    assert stated.rmse == pytest.approx(float(np.sqrt(np.mean((means - new.accuracies) ** 2))), rel=0.25)
    assert stated.equal_cost_tau == pytest.approx(equal_cost(means, new), abs=0.1)
    assert stated.equal_cost_tau > 0.6
    within = np.abs(means - new.accuracies) <= INTERVAL * sds
    assert 0.84 <= within.mean() <= 0.95
    assert 0.84 <= stated.coverage <= 0.95


@pytest.mark.parametrize("noise", [0.03, 0.3])
def test_intervals_are_as_wide_as_the_noise(noise: float) -> None:
    model = calibrate([source(count=200, noise=noise)])
    new = source(count=200, seed=1, noise=noise)
    means, sds = model.many(new.archs)
    assert 0.82 <= (np.abs(means - new.accuracies) <= INTERVAL * sds).mean() <= 0.97
    assert model.noise_sd == pytest.approx(noise, rel=0.6)


def test_the_level_is_that_of_the_chosen_table() -> None:
    """Two recipes, the second one two tenths of the logit better."""
    tables = [source("short", level=0.8), source("long", seed=1, level=1.0)]
    archs = source(count=100, seed=2).archs
    short, long = (fit_only(tables, level=level) for level in ("short", "long"))
    assert (short.level, long.level) == ("short", "long")
    assert fit_only(tables).level == "short"
    gap = long.logits(features(archs)) - short.logits(features(archs))
    assert gap.mean() == pytest.approx(0.2, abs=0.08)
    assert fit_only([*tables, source("published", seed=3, count=40)]).level == "published"


def test_each_table_has_its_own_held_out_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "FOLDS", 3)
    exact, noisy = calibrate([source("exact", count=60, noise=0.02), source("noisy", 60, seed=1, noise=0.5)]).sources
    assert [(facts.name, facts.origin, facts.licence) for facts in (exact, noisy)] == [
        ("exact", "simulated exact", "CC0"),
        ("noisy", "simulated noisy", "CC0"),
    ]
    assert exact.held_out.rmse < 0.5 * noisy.held_out.rmse
    assert exact.held_out.tau > noisy.held_out.tau


def test_a_table_with_shared_effects_helps_one_with_few_networks() -> None:
    few = source("few", count=40)
    many = source("many", count=400, seed=1, level=0.5)
    new = source(count=300, seed=2)
    alone = equal_cost(fit_only([few], level="few").logits(features(new.archs)), new)
    both = equal_cost(fit_only([few, many], level="few").logits(features(new.archs)), new)
    assert both > alone + 0.1


def test_a_table_with_effects_of_its_own_does_not_spoil_another() -> None:
    """Effects of the second table are the opposite."""
    tables = [source("one", count=300), source("other", count=300, seed=1, true=-effects())]
    new = source(count=300, seed=2)
    alone = equal_cost(fit_only(tables[:1]).logits(features(new.archs)), new)
    both = equal_cost(fit_only(tables, level="one").logits(features(new.archs)), new)
    assert both > 0.75 * alone > 0.4


def test_what_families_have_in_common_is_measured_with_families_left_out() -> None:
    families = tuple("abcdefghijkl")
    model = calibrate([source(count=240, families=families, family_sd=0.3)])
    assert model.family_sd == pytest.approx(0.3, rel=0.6)
    assert 0.8 <= model.sources[0].held_out.coverage <= 1.0
    assert calibrate([source(count=240)]).family_sd == 0


def test_the_order_of_networks_moves_no_family_into_the_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fit that predicts a family has seen none of it."""
    families = ("a", "b", "c")
    seen: list[set[str]] = []
    plain = calibration._Fit.of

    def watched(tables: list[calibration._Table]) -> calibration._Fit:
        seen.append(set(tables[0].families[tables[0].mask].tolist()))
        return plain(tables)

    monkeypatch.setattr(calibration._Fit, "of", staticmethod(watched))
    calibrate([source(count=90, families=families)])
    assert seen == [{"b", "c"}, {"a", "c"}, {"a", "b"}, {"a", "b", "c"}]


def test_progress_ends_at_its_total() -> None:
    steps: list[tuple[int, int, str]] = []
    calibrate([source(count=60)], step=lambda *step: steps.append(step))
    done, totals, texts = zip(*steps, strict=True)
    assert list(done) == sorted(done)
    assert set(totals) == {done[-1]} == {calibration.FOLDS + 1}
    assert all(texts)


def test_calibration_is_repeatable() -> None:
    one, other = (calibrate([source(count=80)]).to_json() for _ in range(2))
    assert one == other


def test_accuracies_of_nought_and_one_have_a_place() -> None:
    table = source(count=60)
    shares = table.accuracies.copy()
    shares[:2] = 0.0, 1.0
    means, sds = calibrate([replace(table, accuracies=shares)]).many(table.archs)
    assert np.isfinite(means).all()
    assert np.isfinite(sds).all()
    assert ((means > 0) & (means < 1)).all()


@pytest.mark.parametrize(
    ("tables", "level", "says"),
    [
        ([], None, "none"),
        ([source(count=40), source(count=40, seed=1)], None, "each once; got a, a"),
        ([source(count=40), source("b", count=40, task="birds")], None, "birds, flowers; use --task"),
        ([source(count=40)], "b", "'b'; it must be one of a"),
    ],
)
def test_tables_that_do_not_go_together_are_named(tables: list[Source], level: str | None, says: str) -> None:
    for fit in (lambda: calibrate(tables, level=level), lambda: fit_only(tables, level=level)):
        with pytest.raises(InputError) as caught:
            fit()
        assert says in str(caught.value)
        assert "\n" not in str(caught.value)
