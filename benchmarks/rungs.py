"""Successive halving on real trainings: what a search saves by rungs, and what it loses.

    python benchmarks/rungs.py --cache FOLDER [--data ARCHIVE_OR_FOLDER] [--nets 40] [--steps 400] [--replays 40]

Trains random networks of NAS-Bench-Macro on CIFAR-10 to full length, once, and records their scores at each rung; an
interrupted run continues from the cache. Printed is how well each rung ranks. Then searches that see the same networks
in random order, with two workers, are replayed on the recorded scores. The first networks of each order play the
references, which are not counted. Printed are the share of images that halving trains the others on, the
hypervolume (accuracy above that of the worst network, against MACs) of what it trains to the end, relative to training
all to the end, and how many images trainings of full length need for as much. Also printed is how often the most
accurate network of all was stopped, and the share of the true front that was.
"""

from __future__ import annotations

import argparse
import heapq
import json
import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from proxy_rank import Found, call, images_in, images_of, one_thread, timed
from tables import MACRO_FILE, macro_space, nas_bench_macro

from nas.accuracy.prior import bundled
from nas.accuracy.ranking import tau
from nas.arch.arch import Arch
from nas.arch.cost import cost_of
from nas.engine.fidelity import FULL, KEEP, Halving, default_rungs
from nas.engine.judge import Judge
from nas.engine.run.pareto import front_mask, hypervolume
from nas.engine.run.record import Candidate, Rung
from nas.latency.record import Latency
from nas.system.files import write_atomic
from nas.system.machine import here
from nas.training.config import ProxyConfig
from nas.training.proxy import train_proxy

RUNGS = (25, 50, 100, 200)
EQUAL = 0.08  # networks whose MACs differ by less are of equal cost
WORKERS, REFERENCES = 2, 4  # of a search
ORDERS = 400  # of networks trained to the end, for the mean hypervolume of some of them


def curve(folder: Path, data: str | None, config: ProxyConfig, arch: Arch) -> Found:
    """Scores of one network at each length, recorded once."""
    path = folder / f"{arch.key}.json"
    if not path.exists():
        parts = folder / "checkpoints"
        parts.mkdir(parents=True, exist_ok=True)
        images = images_of(data, config.resolution)

        def run() -> Found:
            found: Found = {}
            for stop in config.lengths:
                score = train_proxy(arch, images, config, 0, stop=stop, checkpoints=parts)
                found |= {f"accuracy {stop}": score.accuracy, f"loss {stop}": score.loss}
            return found

        write_atomic(path, json.dumps(timed(run)))
    read: Found = json.loads(path.read_text())
    return read


@dataclass(frozen=True)
class Pool:
    """Networks with their scores at each length, and their MACs in millions."""

    archs: Sequence[Arch]
    curves: Sequence[Found]
    lengths: Sequence[int]

    @cached_property
    def macs(self) -> NDArray[np.float64]:
        return np.array([cost_of(arch, 10).macs / 1e6 for arch in self.archs])

    def scores(self, what: str, length: int) -> NDArray[np.float64]:
        return np.array([one[f"{what} {length}"] for one in self.curves])

    def candidate(self, at: int, lengths: Sequence[int], name: str | None = None) -> Candidate:
        """A network that was trained to some lengths; a reference, if it has a name."""
        found, arch = self.curves[at], self.archs[at]
        rungs = tuple(Rung(length, found[f"accuracy {length}"], found[f"loss {length}"]) for length in lengths)
        return Candidate(
            arch,
            "COMPLETE" if lengths[-1] == self.lengths[-1] else "STOPPED",
            Latency(self.macs[at], None, None, "MACs", None, None, 1, "predicted"),
            *(1, 1, 1),
            name=name,
            proxy_accuracy=rungs[-1].accuracy,
            proxy_loss=rungs[-1].loss,
            rungs=rungs,
        )

    def hypervolume(self, some: Sequence[int], of: Sequence[int]) -> float:
        """Of some networks at full length, relative to that of more of them."""
        accuracies, macs = self.scores("accuracy", self.lengths[-1]), self.macs
        above = accuracies - accuracies.min()
        parts = [hypervolume(above[at].tolist(), macs[at].tolist(), macs.max()) for at in (list(some), list(of))]
        return (parts[0] or 0.0) / (parts[1] or 1.0)


def replayed(pool: Pool, order: Sequence[int], lengths: Sequence[int], keep: float) -> list[list[int]]:
    """The lengths to which each network of `order` is trained; a step takes time in proportion to the MACs. The first
    ones are references."""
    judge = Judge(macro_space(), bundled(), trained=True)
    halving = Halving(lengths, judge, keep=keep)
    references = [pool.candidate(at, lengths, "reference") for at in order[:REFERENCES]]
    judge.learn(references)
    halving.learn(references)
    left, running, reached = list(order[REFERENCES:]), list[tuple[float, int]](), [list[int]() for _ in pool.archs]
    macs, now = pool.macs, 0.0

    def start(at: int) -> None:
        before = reached[at][-1] if reached[at] else 0
        reached[at].append(lengths[len(reached[at])])
        heapq.heappush(running, (now + (reached[at][-1] - before) * macs[at], at))

    while left or running:
        while left and len(running) < WORKERS:
            start(left.pop(0))
        now, at = heapq.heappop(running)
        candidate = pool.candidate(at, reached[at])
        if reached[at][-1] == lengths[-1]:
            judge.learn([candidate])
            halving.learn([candidate])
        elif halving.goes_on(candidate):
            start(at)
    return reached


def ranks(pool: Pool, truth: NDArray[np.float64]) -> None:
    """How well each length ranks, over all networks and among those of equal cost."""
    macs, last = pool.macs, -pool.scores("loss", pool.lengths[-1])
    near = np.abs(np.log(macs[:, None] / macs[None])) < EQUAL
    pairs = np.argwhere(np.triu(near, 1)).T
    print(f"{'steps':>6} {'tau with the last':>18} {'at equal cost':>14} {'tau with published':>19} {'with MACs':>10}")
    for length in pool.lengths:
        scores = -pool.scores("loss", length)
        gains = [scores[pairs[0]] - scores[pairs[1]], last[pairs[0]] - last[pairs[1]]]
        equal = float(np.mean(np.sign(gains[0] * gains[1])))
        print(
            f"{length:6} {tau(scores, last):18.2f} {equal:14.2f} {tau(scores, truth):19.2f} {tau(scores, macs):10.2f}"
        )
    print(f"{len(pairs[0])} pairs of equal cost\n")


def by_curves(pool: Pool, rung: int, draws: int = 12) -> None:
    """How well the estimates of networks that were trained to a rung rank, by how many whole curves there are."""
    last, size = -pool.scores("loss", pool.lengths[-1]), len(pool.archs)
    for curves in (4, 8, 16):
        found = []
        for seed in range(draws):
            order = np.random.default_rng(seed).permutation(size).tolist()
            judge = Judge(macro_space(), bundled(), trained=True)
            judge.learn([pool.candidate(at, (rung, pool.lengths[-1])) for at in order[:curves]])
            stopped = [pool.candidate(at, (rung,)) for at in order[curves:]]
            judge.learn(stopped)
            means = [one.estimate.mean for one in judge.estimated(stopped) if one.estimate is not None]
            found.append(tau(means, last[order[curves:]]))
        print(f"estimates at {rung} steps by {curves} curves: tau with the last {np.mean(found):.2f}")
    print()


def replays(pool: Pool, count: int, variants: Sequence[tuple[Sequence[int], float]]) -> None:
    size, full = len(pool.archs) - REFERENCES, pool.lengths[-1]
    orders = [np.random.default_rng(seed).permutation(len(pool.archs)).tolist() for seed in range(max(count, ORDERS))]
    others = [order[REFERENCES:] for order in orders]
    volumes = [
        np.mean([pool.hypervolume(other[:some], other) for other in others[:ORDERS]]) for some in range(1, size + 1)
    ]
    print(f"{size} networks and {REFERENCES} references; the first {FULL} are trained to the end; {count} replays")
    print(f"{'rungs':14} {'kept':>5} {'images':>7} {'hypervolume':>12} {'as much by':>11} {'best':>8} {'front':>8}")
    print(f"{'':14} {'':5} {'':7} {'':12} {'full length':>11} {'stopped':>8} {'stopped':>8}")
    for lengths, keep in variants:
        rows = []
        for order, other in zip(orders[:count], others, strict=False):
            reached = replayed(pool, order, lengths, keep)
            done = [at for at in other if reached[at][-1] == full]
            share = sum(reached[at][-1] for at in other) / (size * full)
            accuracies, macs = pool.scores("accuracy", full)[other], pool.macs[other]
            front = np.array(other)[front_mask(accuracies.tolist(), macs.tolist())]
            lost, best = float(np.mean(~np.isin(front, done))), other[int(accuracies.argmax())]
            rows.append((share, pool.hypervolume(done, other), float(best not in done), lost))
        table = np.array(rows)
        share, volume, stopped, lost = table.mean(axis=0)
        needed = float(np.interp(volume, volumes, np.arange(1, size + 1) / size))
        saved = f"{share:7.2f} {volume:12.3f} {needed:11.2f}"
        print(f"{','.join(map(str, lengths[:-1])):14} {keep:5.2f} {saved} {stopped:8.2f} {lost:8.2f}")
        seeds = ", ".join(f"{one:.2f} -> {two:.3f}" for one, two, *_ in rows[:3])
        error = table[:, 1].std() / len(rows) ** 0.5
        print(f"{'':14} first three: images -> hypervolume {seeds}; standard error {error:.3f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True, help="folder for results, kept between runs")
    parser.add_argument("--folder", type=Path, default=Path("../shared/data"), help="the published tables")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/cifar10/cifar10_train.tar.xz"))
    parser.add_argument("--nets", type=int, default=40)
    parser.add_argument("--steps", type=int, default=400, help="of the whole training")
    parser.add_argument("--replays", type=int, default=40)
    parser.add_argument("--workers", type=int, default=1, help="processes of one thread each")
    options = parser.parse_args()
    options.cache.mkdir(parents=True, exist_ok=True)
    data = images_in(options.data, options.cache)
    space = macro_space()
    rungs = tuple(rung for rung in RUNGS if rung < options.steps)
    config = ProxyConfig(full_resolution=max(space.resolution), steps=options.steps, rungs=rungs, shared_steps=0)
    archs = list({arch.key: arch for arch in map(space.sample, range(2 * options.nets))}.values())[: options.nets]
    folder = options.cache / f"curves-{options.steps}"
    with ProcessPoolExecutor(options.workers, multiprocessing.get_context("spawn"), one_thread) as processes:
        curves = list(processes.map(call, [partial(curve, folder, data, config, arch) for arch in archs]))
    print(f"{here()}; {sum(one['cpu_s'] for one in curves):.0f} CPU seconds for {len(archs)} trainings\n")
    pool = Pool(archs, curves, config.lengths)
    source = nas_bench_macro(options.folder / MACRO_FILE)[1]
    published = dict(zip((arch.key for arch in source.archs), source.accuracies, strict=True))
    ranks(pool, np.array([published[arch.key] for arch in archs]))
    by_curves(pool, default_rungs(options.steps)[-1])
    default = (*default_rungs(options.steps), options.steps)
    more = [(100, options.steps), (50, 200, options.steps)]
    variants = [(default, KEEP), (default, 1 / 3), (default, 0.25), *((lengths, KEEP) for lengths in more)]
    replays(pool, options.replays, [one for one in variants if max(one[0][:-1], default=0) < options.steps])


if __name__ == "__main__":
    main()
