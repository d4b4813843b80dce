"""Samplers on tables of known accuracies: the figures 1 to 4 of docs/search.md.

    python benchmarks/samplers.py [--shared ../shared] [--seeds 50] [--workers 2] [--parts 1,2,3,4] [--quick]
                                  [--fresh auto] [--out results/bench-samplers]

1. NAS-Bench-Macro, for accuracy alone without a cap, and under 60 M and 45 M MACs: mean best, evaluations to levels.
2. ImageNet networks, for accuracy alone: a pool of 1,000 with published accuracies, of which auto judges all, while the
   proposals of the other samplers are replaced by the nearest network that is left; and the whole space, where a model
   fitted on one half of the networks is searched and one fitted on the other half judges: evaluations to the accuracy
   of the top 1 %.
3. Hypervolume of accuracy and MACs of both tables, after 60 evaluations of auto and 200 of TPE and NSGA-II.
4. With the noise of a short training, equal-cost tau 0.5 and 0.6 with the truth: the true accuracy of the network that
   the posterior chooses against that with the best observed score.

Every finished search is kept in ``--out`` and not repeated: an interrupted run goes on, and ``--fresh auto`` repeats
the searches of a sampler whose code has changed. ``--gp SEEDS`` adds Optuna's Gaussian process to part 1 without a cap,
at 50 evaluations; it takes minutes a search.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nas.api.bench import bench_samplers, write_comparisons
from nas.cli.progress import watcher
from nas.reports.samplers.data import Comparison, bootstrapped
from nas.reports.samplers.text import comparison_text
from nas.system.machine import here

MACRO = "data/nas-bench-macro/nas-bench-macro_cifar10.json"
MBCONV = "data/imagenet-mbconv/imagenet_mbconv_dev.csv"
ALL = ("auto", "random", "tpe", "nsga2", "aging-evolution")
RIVALS = ("tpe", "nsga2")
LEVELS = ("optimum", "0.02", "0.1%", "1%")
TAUS = (0.5, 0.6)
SHORT, LONG = 60, 200  # evaluations


@dataclass(frozen=True)
class Part:
    """Searches of one table: names of samplers, and how many evaluations each gets."""

    table: str
    samplers: Sequence[str]
    evaluations: int = 100
    cap: str | None = None
    noise: float | None = None
    objective: str = "pareto"
    seeds: int | None = None


PARTS = {
    1: [
        Part(MACRO, ALL, objective="accuracy"),
        Part(MACRO, ALL, cap="60M"),
        Part(MACRO, ALL, cap="45M"),
    ],
    2: [
        part
        for table in (MBCONV, f"model:{MBCONV}")
        for part in (
            Part(table, ("auto",), SHORT, objective="accuracy"),
            Part(table, ("random", *RIVALS, "aging-evolution"), LONG, objective="accuracy"),
        )
    ],
    3: [part for table in (MACRO, MBCONV) for part in (Part(table, ("auto",), SHORT), Part(table, RIVALS, LONG))],
    4: [Part(MACRO, ("auto", "random", "tpe"), SHORT, noise=tau, objective="accuracy") for tau in TAUS],
}


def run(part: Part, options: argparse.Namespace, folder: Path) -> Comparison:
    halves, _, path = part.table.rpartition(":")
    spec = f"{halves}:{options.shared / path}" if halves else str(options.shared / path)
    began = time.perf_counter()
    with watcher() as watch:
        found = bench_samplers(
            [spec],
            samplers=part.samplers,
            seeds=part.seeds or options.seeds,
            evaluations=part.evaluations,
            cap=part.cap,
            noise=part.noise,
            objective=part.objective,  # type: ignore[arg-type]
            levels=LEVELS,
            workers=options.workers,
            out=folder,
            fresh=[name for name in options.fresh.split(",") if name in part.samplers],
            watch=watch,
        )[0]
    took = time.perf_counter() - began
    print(f"\n{comparison_text(found)}\n\n{part.objective}; {took:.0f} s", flush=True)
    return found


def hypervolumes(found: Sequence[Comparison]) -> None:
    """Figure 3: `auto` after `SHORT` evaluations against rivals after all of theirs, with a 90 % interval."""
    for own, others in zip(found[::2], found[1::2], strict=True):
        auto = own.hypervolume["auto"][:, -1]
        for name in RIVALS:
            rival = others.hypervolume[name][:, -1]
            low, high = bootstrapped(auto - rival)
            difference = f"{(auto - rival).mean():+.4f} [{low:+.4f}, {high:+.4f}]"
            print(f"  {own.name}: auto after {own.evaluations}, {name} after {others.evaluations} evaluations:")
            print(f"    {auto.mean():.4f}, {rival.mean():.4f}, difference {difference}", flush=True)


def top_share(found: Sequence[Comparison]) -> None:
    """Figure 2: evaluations to the top 1 %."""
    for own, others in zip(found[::2], found[1::2], strict=True):
        medians = {name: one.needed(name, "1%").median for one in (own, others) for name in one.best}
        shown = {name: "not reached" if median is None else f"{median:g}" for name, median in medians.items()}
        text = ", ".join(f"{name} {median}" for name, median in shown.items())
        print(f"  {own.name}: median evaluations to the top 1 %: {text}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=Path("../shared"), help="folder of the data sets")
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--parts", default="1,2,3,4")
    parser.add_argument("--quick", action="store_true", help="4 seeds")
    parser.add_argument("--gp", type=int, default=0, metavar="SEEDS")
    parser.add_argument("--fresh", default="", help="samplers to search with again, separated by commas")
    parser.add_argument("--out", type=Path, default=Path("results/bench-samplers"))
    options = parser.parse_args()
    options.seeds = 4 if options.quick else options.seeds
    print(f"{here()}; {options.seeds} seeds, {options.workers} processes of one thread", flush=True)
    began = time.perf_counter()
    for number in map(int, options.parts.split(",")):
        parts = list(PARTS[number])
        if number == 1 and options.gp:
            parts.append(Part(MACRO, ("gp",), 50, objective="accuracy", seeds=options.gp))
        print(f"\n== {number} ==")
        folder = options.out / f"part-{number}"
        found = [run(part, options, options.out) for part in parts]
        write_comparisons(found, folder)
        if number == 2:
            top_share(found)
        if number == 3:
            hypervolumes(found)
    print(f"\nin all {time.perf_counter() - began:.0f} s; plots and CSV in {options.out}/part-N")


if __name__ == "__main__":
    main()
