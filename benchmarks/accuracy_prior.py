"""How well the accuracy model ranks networks that its fit has not seen, overall and at equal cost.

    python benchmarks/accuracy_prior.py [--shared ../shared] [--least-noise]

Prints, beside counting parameters and MACs on the same networks:

1. Each source alone: a tenth of its networks at a time, or a family of published networks, is left out.
2. The same with all sources in the fit.
3. Fits on one source, and on the others, tested on a source of which they have seen nothing.
4. Published networks of families left out (all other sources and families are in the fit): Spearman's rho on all rows,
   and on the distinct networks at width 1 and their own resolution.
5. The chance that one published network is better than another, of a different family and within 30 % of its MACs, with
   both families left out: how often that came true.
6. Networks a second: features, and predictions once features are known.

Equal cost is within tenths of the networks in order of MACs; for 106 published networks these are ten or eleven each.
``--least-noise`` instead repeats 2 and 4 for several bounds of the noise (`nas.accuracy.calibrate.LEAST_NOISE`).
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from nas.accuracy import calibrate as calibration
from nas.accuracy.calibrate import calibrate, fit_only
from nas.accuracy.features import features
from nas.accuracy.linear import LEAST_NOISE
from nas.accuracy.prior import PriorModel, bundled
from nas.accuracy.ranking import equal_cost_tau, tau
from nas.accuracy.sources import Source, read_source
from nas.arch.cost import cost_of
from nas.arch.space_yaml import load_space
from nas.references.table import reference, reference_names
from nas.system.machine import host

TABLES = ("data/imagenet-mbconv/imagenet_mbconv_dev.csv", "data/ofa-mbv3/ofa_mbv3_dev.csv")
FIGURES = "figures/reference_figures.csv"
SMALL_MACS = 700e6
BOUNDS = (LEAST_NOISE, 0.05, 0.1, 0.2)
TIMED = 3000
CLOSE = 0.3  # relative difference of MACs

Floats = NDArray[np.float64]


def costs(source: Source) -> dict[str, Floats]:
    counted = [cost_of(arch) for arch in source.archs]
    return {
        "parameters": np.array([float(cost.params) for cost in counted]),
        "MACs": np.array([float(cost.macs) for cost in counted]),
    }


def line(title: str, scores: Floats, source: Source, more: str = "") -> None:
    overall = tau(scores, source.accuracies)
    equal = equal_cost_tau(scores, source.accuracies, costs(source)["MACs"])
    rho = spearmanr(scores, source.accuracies).statistic
    print(f"  {title:32} {overall:7.3f} {equal:11.3f} {rho:9.3f}{more}")


def heading(source: Source) -> None:
    title = f"{source.name}, {len(source.archs):,} networks"
    print(f"\n{title:34} {'tau':>7} {'equal cost':>11} {'Spearman':>9}")


def rivals(source: Source) -> None:
    heading(source)
    for name, values in costs(source).items():
        line(name, values, source)


def part(source: Source, rows: NDArray[np.bool_]) -> Source:
    at = np.flatnonzero(rows)
    archs, families = (tuple(values[i] for i in at) for values in (source.archs, source.families))
    return replace(source, archs=archs, families=families, accuracies=source.accuracies[rows])


def folds(source: Source) -> list[NDArray[np.bool_]]:
    """As `calibrate` leaves networks out."""
    return calibration._Table.of(source).folds()


def unseen(sources: Sequence[Source], at: int) -> Floats:
    """Logits of each network of one source, by fits that have seen neither it nor others of its family or fold."""
    source = sources[at]
    logits = np.zeros(len(source.archs))
    for rows in folds(source):
        seen = [part(one, ~rows) if i == at else one for i, one in enumerate(sources)]
        logits[rows] = fit_only(seen, level=source.name).logits(features(part(source, rows).archs))
    return logits


def stated(model: PriorModel) -> dict[str, str]:
    """What a model says of its error on each source."""
    return {
        facts.name: f"   error {100 * facts.held_out.rmse:.2f} points, 90 % interval: {facts.held_out.coverage:.1%}"
        for facts in model.sources
    }


def families_left_out(figures: Source, logits: Floats) -> None:
    """Spearman's rho of predictions and of log MACs, on all rows and on one row a network."""
    own = {reference(name) for name in reference_names()}
    native = np.array([arch in own for arch in figures.archs])
    macs = costs(figures)["MACs"]
    groups = {
        "all widths and resolutions": np.ones(len(native), bool),
        "distinct, width 1, own resolution": native,
        "the same, under 700 M MACs": native & (macs < SMALL_MACS),
    }
    print(f"\npublished, families left out{'':8} networks   model  log MACs  log params")
    for title, rows in groups.items():
        ranked = [
            spearmanr(scores[rows], figures.accuracies[rows]).statistic
            for scores in (logits, macs, costs(figures)["parameters"])
        ]
        print(f"  {title:34} {rows.sum():8} {ranked[0]:7.3f} {ranked[1]:9.3f} {ranked[2]:11.3f}")


def chances(sources: Sequence[Source], spreads: PriorModel) -> None:
    """Chances of published networks being better than others, against what was published."""
    figures = sources[-1]
    families, macs = np.array(figures.families), costs(figures)["MACs"]
    rows = []
    for one, other in itertools.combinations(sorted(set(families.tolist())), 2):
        seen = part(figures, (families != one) & (families != other))
        model = replace(fit_only([*sources[:-1], seen], level=figures.name), noise_sd=spreads.noise_sd)
        for i, j in itertools.product(np.flatnonzero(families == one), np.flatnonzero(families == other)):
            if abs(np.log(macs[i] / macs[j])) < np.log(1 + CLOSE):
                chance = model.better(figures.archs[i], figures.archs[j])
                came_true = figures.accuracies[i] > figures.accuracies[j]
                rows.append((chance, came_true) if chance >= 0.5 else (1 - chance, not came_true))
    stated, true = np.array(rows, dtype=float).T
    print(f"\nchance of being better, {len(rows)} pairs of two families left out: stated, came true (pairs)")
    for low in (0.5, 0.6, 0.7, 0.8, 0.9):
        inside = (stated >= low) & (stated < low + 0.1 + (low == 0.9))
        print(
            f"  {low:.0%} to {low + 0.1:.0%}: {stated[inside].mean():.2f}, {true[inside].mean():.2f} ({inside.sum()})"
        )


def rate() -> None:
    space = load_space("efficientnet")
    archs = [space.sample(seed) for seed in range(TIMED)]
    model = bundled()
    start = time.perf_counter()
    values = features(archs)
    made = time.perf_counter() - start
    times = []
    for _ in range(5):
        start = time.perf_counter()
        model.of_features(values)
        times.append(time.perf_counter() - start)
    print(f"\nnetworks a second: features {TIMED / made:,.0f}, predictions {TIMED / np.median(times):,.0f}")


def least_noise(sources: Sequence[Source]) -> None:
    print("\nleast noise: equal-cost tau of unseen networks; Spearman and error of published families left out")
    for bound in BOUNDS:
        calibration.LEAST_NOISE = bound
        logits = [unseen(sources, at) for at in range(3)]
        equal = [
            equal_cost_tau(scores, source.accuracies, costs(source)["MACs"])
            for scores, source in zip(logits, sources, strict=True)
        ]
        published = sources[2].accuracies
        rmse = 100 * float(np.sqrt(np.mean((1 / (1 + np.exp(-logits[2])) - published) ** 2)))
        rho = spearmanr(logits[2], published).statistic
        named = ", ".join(f"{source.name} {value:.3f}" for source, value in zip(sources, equal, strict=True))
        print(f"  {bound:5g}: {named}; {rho:.3f}, {rmse:.1f} points", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=Path("../shared"), help="folder of the data sets")
    parser.add_argument("--least-noise", action="store_true", help="compare bounds of the noise instead")
    options = parser.parse_args()
    sources = [read_source(options.shared / name) for name in (*TABLES, FIGURES)]
    print(f"{host()}; networks that the fit has not seen", flush=True)
    if options.least_noise:
        least_noise(sources)
        return
    model = calibrate(sources)
    for at, source in enumerate(sources):
        rivals(source)
        line("fitted on the rest of it", unseen([source], 0), source, stated(calibrate([source]))[source.name])
        logits = unseen(sources, at)
        line("and on the other sources", logits, source, stated(model)[source.name])
        others = [other for other in sources if other is not source]
        for seen in [[other] for other in others] + [others]:
            title = f"fitted on {seen[0].name} only" if len(seen) == 1 else "fitted on both others"
            line(title, fit_only(seen).logits(features(source.archs)), source)
        print(end="", flush=True)
    families_left_out(sources[2], logits)
    chances(sources, model)
    rate()


if __name__ == "__main__":
    main()
