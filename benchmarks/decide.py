"""What a search recommends, by the true accuracy of it: the figure that counts.

    python benchmarks/decide.py --cache FOLDER [--data ARCHIVE_OR_FOLDER] [--workers 2] [--quick]

NAS-Bench-Macro: all 6,561 networks were fully trained on CIFAR-10 by its authors. Here a pool of them is scored on
CIFAR-10 as a search scores candidates (shared weights, then a second for each network); once, and kept in the cache.
Each replay is a search that may spend what 20 minutes on 2 cores pay for, shared training included: random networks of
the pool under the cap to begin with, then whichever is best in a draw from the posterior. It recommends the network of
the whole space under the cap with the highest posterior mean. Rivals see the same scores.

Then the coverage of 90 % intervals: of scores that were not seen, of the true accuracy after its scale is fitted to the
scores', and in replays that observe true accuracies with noise added. An interrupted run continues from the cache.
"""

from __future__ import annotations

import argparse
import multiprocessing
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from proxy_rank import Found, call, images_in, one_thread, scored, shared_training
from tables import MACRO_FILE, macro_space, nas_bench_macro

from nas.accuracy.posterior import Effects, Posterior, Training
from nas.accuracy.ranking import tau
from nas.accuracy.record import INTERVAL
from nas.accuracy.sources import read_source
from nas.arch.arch import Arch
from nas.arch.cost import cost_of
from nas.arch.space import Space
from nas.arch.space_yaml import load_space
from nas.system.machine import here
from nas.training.config import ProxyConfig

CAPS = (60, 45)  # million MACs
BAND = 0.08  # networks of nearly equal cost: at most so much below the cap
START = 10  # random networks before the posterior chooses
BUDGET_S = 2 * 20 * 60.0
Floats = NDArray[np.float64]


def pool_of(macs: Floats, size: int) -> NDArray[np.int64]:
    """Networks to score: half of them anywhere under the larger cap, the others near either cap."""
    rng = np.random.default_rng(11)
    chosen = set(rng.choice(np.flatnonzero(macs <= max(CAPS)), size // 2, replace=False).tolist())
    for cap in CAPS:
        near = np.flatnonzero((macs <= cap) & (macs > 0.75 * cap))
        chosen |= set(rng.choice(near, size // 4, replace=False).tolist())
    return np.array(sorted(chosen))


class Replay:
    """One search over scores that are known already."""

    def __init__(self, archs: Sequence[Arch], scores: Mapping[int, Found], effects: Effects, spent_s: float) -> None:
        self._archs, self._scores, self._effects, self._spent_s = archs, scores, effects, spent_s

    def run(self, under: NDArray[np.int64], seed: int, budget_s: float) -> tuple[list[int], Posterior]:
        """Score networks of the pool until the budget is spent; returns them and the final posterior."""
        rng = np.random.default_rng(seed)
        free = [int(at) for at in rng.permutation([at for at in under if at in self._scores])]
        taken: list[int] = []
        left_s = budget_s - self._spent_s
        values = self._effects.of([self._archs[at] for at in free])
        row = {at: index for index, at in enumerate(free)}
        while free and left_s > 0:
            if len(taken) < START:
                at = free[0]
            else:
                model = self.posterior(taken)
                draw = model.scores_of_effects(values[[row[at] for at in free]], model.draw(rng))
                at = free[int(np.argmax(draw))]
            free.remove(at)
            taken.append(at)
            left_s -= self._scores[at]["cpu_s"]
        return taken, self.posterior(taken)

    def posterior(self, taken: Sequence[int]) -> Posterior:
        seen = [Training(self._archs[at], self._scores[at]["accuracy"], self._scores[at]["loss"]) for at in taken]
        return Posterior(self._effects, seen, "CIFAR-10")


def share_within(means: Floats, sds: Floats, truth: Floats) -> float:
    return float(np.mean(np.abs(truth - means) <= INTERVAL * sds))


def decide(
    archs: Sequence[Arch],
    truth: Floats,
    macs: Floats,
    pools: Sequence[tuple[float, Mapping[int, Found]]],
    options: argparse.Namespace,
) -> None:
    effects = Effects(macro_space(), None)
    everything = effects.of(archs)
    points = 100 * truth
    for cap in CAPS:
        under = np.flatnonzero(macs <= cap)
        equal = under[macs[under] > (1 - BAND) * cap]
        best = points[under].max()
        found: dict[str, list[int]] = {"posterior": [], "best proxy accuracy": [], "lowest proxy loss": []}
        scored_nets, taus, coverage, true_coverage = [], [], [], []
        for seed in range(options.seeds):
            spent_s, scores = pools[seed % len(pools)]
            taken, model = Replay(archs, scores, effects, spent_s).run(under, seed, options.budget)
            means, sds = model.of_effects(everything)
            found["posterior"].append(int(under[np.argmax(means[under])]))
            found["best proxy accuracy"].append(max(taken, key=lambda at: scores[at]["accuracy"]))
            found["lowest proxy loss"].append(min(taken, key=lambda at: scores[at]["loss"]))
            scored_nets.append(len(taken))
            taus.append(tau(means[equal], truth[equal]))
            unseen = np.array([at for at in under if at in scores and at not in taken], dtype=int)
            if len(unseen):
                coverage.append(
                    share_within(means[unseen], sds[unseen], np.array([scores[at]["accuracy"] for at in unseen]))
                )
            rest = np.setdiff1d(under, taken)
            slope, offset = np.polyfit(truth[rest], means[rest], 1)
            true_coverage.append(share_within(means[rest], sds[rest], offset + slope * truth[rest]))
        rng = np.random.default_rng(0)
        found["largest"] = [int(under[np.argmax(macs[under])])]
        found["random at equal cost"] = rng.choice(equal, 2000).tolist()
        count = f"{np.mean(scored_nets):.0f} scored a replay"
        print(f"cap {cap} M MACs: optimum {best:.2f} of {len(under):,} networks; {count}")
        print(f"  {'recommended by':24} {'accuracy':>8} {'regret':>7} {'worst':>6} {'percentile':>10}")
        for name, chosen in found.items():
            regret = best - points[chosen]
            below = np.mean([(points[under] <= points[at]).mean() for at in chosen])
            print(
                f"  {name:24} {points[chosen].mean():8.2f} {regret.mean():7.2f} {regret.max():6.2f} {100 * below:10.1f}"
            )
        line = f"  posterior: tau among {len(equal)} networks of equal cost {np.mean(taus):.2f}"
        if coverage:
            line += f"; 90 % intervals hold {100 * np.mean(coverage):.0f} % of unseen scores"
        print(f"{line}; {100 * np.mean(true_coverage):.0f} % of true accuracies, fitted to the scale\n")


def covered(name: str, space: Space, archs: Sequence[Arch], truth: Floats, macs: Floats) -> None:
    """Replays that observe true accuracies with noise: tau at equal cost, and coverage of the truth."""
    effects = Effects(space, None)
    values = effects.of(archs)
    middle = np.flatnonzero(np.abs(macs / np.median(macs) - 1) <= BAND)
    print(
        f"{name}: true accuracies observed with noise; tau at equal cost / share of 90 % intervals that hold the truth"
    )
    for noise in (0.0, 0.005, 0.01):
        cells = []
        for count in (20, 40, 80, 150):
            taus, shares = [], []
            for seed in range(20):
                rng = np.random.default_rng(seed)
                seen = rng.choice(len(archs), count, replace=False)
                rest = rng.choice(np.setdiff1d(np.arange(len(archs)), seen), 100, replace=False)
                noisy = [Training(archs[at], truth[at] + noise * rng.normal()) for at in seen]
                means, sds = Posterior(effects, noisy, name, sampling_sd=noise).of_effects(values)
                at = np.setdiff1d(middle, seen)
                taus.append(tau(means[at], truth[at]))
                shares.append(share_within(means[rest], sds[rest], truth[rest]))
            cells.append(f"{count}: {np.mean(taus):.2f} / {100 * np.mean(shares):.0f} %")
        print(f"  noise {100 * noise:.1f} points  " + "   ".join(cells))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True, help="folder for results, kept between runs")
    parser.add_argument("--folder", type=Path, default=Path("../shared/data"), help="the published tables")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/cifar10/cifar10_train.tar.xz"))
    parser.add_argument("--pool", type=int, default=600, help="networks to score")
    parser.add_argument("--shared-steps", type=int, default=16000)
    parser.add_argument("--shared-seeds", type=int, default=2, help="shared trainings; replays take turns")
    parser.add_argument("--seeds", type=int, default=20, help="replays")
    parser.add_argument("--budget", type=float, default=BUDGET_S, help="CPU seconds of a replay")
    parser.add_argument("--workers", type=int, default=2, help="processes of one thread each")
    parser.add_argument("--coverage-only", action="store_true", help="only the replays with noise, without trainings")
    parser.add_argument("--quick", action="store_true", help="few networks and steps, to see that it works")
    options = parser.parse_args()
    if options.quick:
        options.pool, options.shared_steps, options.shared_seeds, options.seeds = 24, 20, 1, 2
    source = nas_bench_macro(options.folder / MACRO_FILE)[1]
    macs = np.array([cost_of(arch, 10).macs / 1e6 for arch in source.archs])
    print(f"{here()}\n")
    if not options.coverage_only:
        options.cache.mkdir(parents=True, exist_ok=True)
        data = images_in(options.data, options.cache)
        base = options.cache / source.name
        config = ProxyConfig(full_resolution=32, shared_steps=options.shared_steps)
        chosen = pool_of(macs, options.pool)
        pools: list[tuple[float, Mapping[int, Found]]] = []
        with ProcessPoolExecutor(options.workers, multiprocessing.get_context("spawn"), one_thread) as pool:
            files = [base / f"shared-{options.shared_steps}-{seed}.safetensors" for seed in range(options.shared_seeds)]
            one = replace(config)
            trainings = [partial(shared_training, file, data, one, macro_space(), at) for at, file in enumerate(files)]
            for at, spent in enumerate(list(pool.map(call, trainings))):
                to = base / f"scores-{options.shared_steps}-{at}-0"
                jobs = [partial(scored, to, data, one, files[at], source.archs[index]) for index in chosen]
                pools.append((spent["cpu_s"], dict(zip(chosen.tolist(), pool.map(call, jobs), strict=True))))
        seconds = ", ".join(f"{spent:.0f}" for spent, _ in pools)
        each = np.mean([score["cpu_s"] for _, scores in pools for score in scores.values()])
        print(f"shared training of {options.shared_steps:,} steps: {seconds} CPU s; each network {each:.1f} CPU s\n")
        decide(source.archs, source.accuracies, macs, pools, options)
    covered("NAS-Bench-Macro", macro_space(), source.archs, source.accuracies, macs)
    imagenet = read_source(options.folder / "imagenet-mbconv" / "imagenet_mbconv_dev.csv")
    space = load_space("efficientnet")
    archs = [replace(arch, **space.arch_options) for arch in imagenet.archs]
    costs = np.array([cost_of(arch).macs for arch in archs], dtype=float)
    covered("imagenet-mbconv", space, archs, imagenet.accuracies, costs)


if __name__ == "__main__":
    main()
