"""Kendall's tau between the proxy's scores and published accuracies of full trainings, among networks of equal cost.

    python benchmarks/proxy_rank.py --cache FOLDER [--data ARCHIVE_OR_FOLDER] [--workers 2] [--quick]
    python benchmarks/proxy_rank.py --cache FOLDER --data generated --truth imagenet-mbconv --shared-steps

The first command draws 40 networks of NAS-Bench-Macro with 52 to 60 million MACs, and 40 of Accel-NASBench's MBConv
networks with 270 to 330 million, twice each. The proxy is trained on CIFAR-10: each network from scratch, or by weights
that all networks of the space share, for two lengths; with these also by the posterior of the draw, and of the draw and
300 further networks. The truth is CIFAR-10 accuracy for the former and ImageNet accuracy for the latter. Printed are
seconds for all networks, with the shared training counted whole; tau for counting MACs and parameters; and, where the
truth was trained with several seeds, tau between two of them, which no proxy can exceed by much. The second command
shows what trainings on generated images are worth. An interrupted run continues from the cache. The long version takes
about an hour on two cores.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import tarfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tables import MACRO_FILE, macro_space, nas_bench_macro, nas_bench_macro_seeds

from nas.accuracy.posterior import Effects, Posterior, Training
from nas.accuracy.ranking import tau
from nas.accuracy.sources import read_source
from nas.arch.arch import Arch
from nas.arch.cost import cost_of
from nas.arch.space import Space
from nas.arch.space_yaml import load_space
from nas.data.dataset import ImageData
from nas.data.load import load_data
from nas.system.files import write_atomic
from nas.system.machine import here
from nas.training.config import ProxyConfig
from nas.training.proxy import train_proxy
from nas.training.shared import SharedWeights
from nas.training.shared_file import read_shared, write_shared
from nas.training.shared_training import train

DRAWS = (0, 1)
GENERATED = "generated"  # as the folder of the images
Found = dict[str, float]


@dataclass(frozen=True)
class Truth:
    """Networks of about equal cost with their published accuracies.

    Args:
        name: of the table.
        space: the shared weights are of.
        task: what the published accuracies are of.
        archs: networks with a cost in the band.
        accuracies: of full trainings, shape (n,).
        seeds: the same by seed, shape (n, seeds); None if only one is published.
        band: of MACs, in millions.
    """

    name: str
    space: Space
    task: str
    archs: Sequence[Arch]
    accuracies: NDArray[np.float64]
    seeds: NDArray[np.float64] | None
    band: tuple[int, int]

    def draw(self, seed: int, count: int) -> NDArray[np.int64]:
        """Indices of some of the networks."""
        return np.random.default_rng(seed).choice(len(self.archs), min(count, len(self.archs)), replace=False)


def further(truth: Truth, count: int) -> list[Arch]:
    """Random networks of the space, not above the band, that a search could score besides."""
    classes = 1000 if truth.seeds is None else 10
    drawn = (truth.space.sample(seed) for seed in itertools.count())
    cheap = (arch for arch in drawn if cost_of(arch, classes).macs <= 1e6 * truth.band[1])
    found: dict[str, Arch] = {}
    for arch in cheap:
        if len(found) == count:
            break
        found[arch.key] = arch
    return list(found.values())


def in_band(archs: Sequence[Arch], band: tuple[int, int], classes: int) -> NDArray[np.int64]:
    macs = np.array([cost_of(arch, classes).macs / 1e6 for arch in archs])
    return np.flatnonzero((macs >= band[0]) & (macs <= band[1]))


def truths(folder: Path) -> list[Truth]:
    macro, band = nas_bench_macro(folder / MACRO_FILE)[1], (52, 60)
    at = in_band(macro.archs, band, 10)
    seeds = nas_bench_macro_seeds(folder / MACRO_FILE)[at]
    archs = [macro.archs[index] for index in at]
    found = [Truth(macro.name, macro_space(), macro.task, archs, macro.accuracies[at], seeds, band)]
    source, band = read_source(folder / "imagenet-mbconv" / "imagenet_mbconv_dev.csv"), (270, 330)
    at = in_band(source.archs, band, 1000)
    archs = [source.archs[index] for index in at]
    space = load_space("efficientnet")
    return [*found, Truth(source.name, space, source.task, archs, source.accuracies[at], None, band)]


def images_in(data: Path, cache: Path) -> str | None:
    """The folder of the images; an archive is unpacked once. None is the generated set."""
    if str(data) == GENERATED:
        return None
    if data.is_dir():
        return str(data)
    target = cache / "images"
    if not target.exists():
        part = cache / "images.part"
        with tarfile.open(data) as archive:
            archive.extractall(part, filter="data")
        part.rename(target)
    return str(target)


@cache
def images_of(folder: str | None, side: int) -> ImageData:
    """Read once in each process: that takes seconds."""
    return load_data(folder, side)


def timed(work: Callable[[], Found]) -> Found:
    """The result with the seconds that this process used and that passed."""
    cpu, wall = time.process_time(), time.perf_counter()
    result = work()
    return result | {"cpu_s": time.process_time() - cpu, "wall_s": time.perf_counter() - wall}


def cached(path: Path, work: Callable[[], Found]) -> Found:
    if not path.exists():
        result = work()
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, json.dumps(result))
    read: Found = json.loads(path.read_text())
    return read


def one_thread() -> None:
    import torch

    torch.set_num_threads(1)


def scored(folder: Path, data: str | None, config: ProxyConfig, shared: Path | None, arch: Arch) -> Found:
    """Accuracy, loss and seconds of one network, from scratch or by shared weights."""

    def work() -> Found:
        weights = None if shared is None else read_shared(shared, {})
        images = images_of(data, config.resolution)

        def run() -> Found:
            score = train_proxy(arch, images, config, 0, shared=weights)
            return {"accuracy": score.accuracy, "loss": score.loss}

        return timed(run)

    return cached(folder / f"{arch.key}.json", work)


def shared_training(file: Path, data: str | None, config: ProxyConfig, space: Space, seed: int) -> Found:
    """Train shared weights, or finish their training; returns its seconds."""
    clock = file.with_suffix(".json")
    made_for = {"space": space.key, "configuration": json.dumps(config.to_dict(), sort_keys=True)}
    shared = read_shared(file, made_for) if file.exists() else SharedWeights(seed, config.shared_steps)
    before = json.loads(clock.read_text())["cpu_s"] if clock.exists() and shared.step else 0.0
    file.parent.mkdir(parents=True, exist_ok=True)
    images = images_of(data, config.resolution)
    began = time.process_time()

    def save(weights: SharedWeights) -> None:
        spent = {"cpu_s": before + time.process_time() - began, "wall_s": weights.seconds, "loss": weights.loss}
        write_atomic(clock, json.dumps(spent))
        write_shared(file, weights, made_for)

    if shared.step < shared.steps:
        train(shared, images, config, space.sample, save=save)
    read: Found = json.loads(clock.read_text())
    return read


def call(job: Callable[[], Found]) -> Found:
    return job()


def spent(each: Sequence[Found], training: Found | None) -> Found:
    """Seconds of some scores, with those of the shared training."""
    return {unit: sum(one[unit] for one in each) + (training or {}).get(unit, 0.0) for unit in ("cpu_s", "wall_s")}


def posterior_means(
    space: Space, seen: Sequence[Arch], scores: Mapping[str, Found], archs: Sequence[Arch]
) -> NDArray[np.float64]:
    """What the scores of `seen` together say about each of `archs`, as a search takes them."""
    options = space.arch_options  # dropout and the like are those of the space, so that its genes are found
    trainings = [Training(replace(a, **options), scores[a.key]["accuracy"], scores[a.key]["loss"]) for a in seen]
    model = Posterior(Effects(space, None), trainings, "CIFAR-10")
    return model.many([replace(arch, **options) for arch in archs])[0]


def table(
    truth: Truth,
    draw: NDArray[np.int64],
    others: Sequence[Arch],
    proxies: Mapping[str, tuple[Found | None, Mapping[str, Found]]],
) -> None:
    """Print one draw. Each proxy has the seconds of its shared training, if there was one, and its scores by key.
    Shared weights also have the posterior of the draw, and of the draw and `others`."""
    archs, true = [truth.archs[index] for index in draw], truth.accuracies[draw]
    print(f"{'proxy':28} {'CPU s':>8} {'wall s':>8} {'tau accuracy':>13} {'tau loss':>9}")
    for name, (training, scores) in proxies.items():
        each = [scores[arch.key] for arch in archs]
        total = spent(each, training)
        right_ones, wrong = [one["accuracy"] for one in each], [-one["loss"] for one in each]
        taus = f"{tau(right_ones, true):13.2f} {tau(wrong, true):9.2f}"
        print(f"{name:28} {total['cpu_s']:8.0f} {total['wall_s']:8.0f} {taus}")
        if training is not None:
            for more in (0, len(others)):
                seen = [*archs, *others[:more]]
                total = spent([scores[arch.key] for arch in seen], training)
                right_by = f"{tau(posterior_means(truth.space, seen, scores, archs), true):13.2f} {'':9}"
                print(
                    f"{f'  posterior of {len(seen)} such':28} {total['cpu_s']:8.0f} {total['wall_s']:8.0f} {right_by}"
                )
    costs = [cost_of(arch) for arch in archs]
    print(f"MACs {tau([cost.macs for cost in costs], true):.2f}, ", end="")
    print(f"parameters {tau([cost.params for cost in costs], true):.2f}", end="")
    if truth.seeds is not None:
        pairs = itertools.combinations(truth.seeds[draw].T, 2)
        print(f"; two seeds of the truth {np.mean([tau(*pair) for pair in pairs]):.2f}", end="")
    print("\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True, help="folder for results, kept between runs")
    parser.add_argument("--folder", type=Path, default=Path("../shared/data"), help="the published tables")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/cifar10/cifar10_train.tar.xz"))
    parser.add_argument("--nets", type=int, default=40, help="networks of a draw")
    parser.add_argument("--steps", type=int, default=140, help="of a training from scratch")
    parser.add_argument("--shared-steps", type=int, nargs="*", default=[4000, 16000])
    parser.add_argument("--more", type=int, default=300, help="further networks scored for the posterior")
    parser.add_argument("--truth", help="only this table: nas-bench-macro or imagenet-mbconv")
    parser.add_argument("--tune", type=int, default=0, help="steps of each network after its shared weights")
    parser.add_argument("--seed", type=int, default=0, help="of the shared training")
    parser.add_argument("--workers", type=int, default=2, help="processes of one thread each")
    parser.add_argument("--quick", action="store_true", help="few networks and steps, to see that it works")
    options = parser.parse_args()
    if options.quick:
        options.nets, options.steps, options.shared_steps, options.more = 6, 3, [10, 20], 4
    options.cache.mkdir(parents=True, exist_ok=True)
    data = images_in(options.data, options.cache)
    every = [truth for truth in truths(options.folder) if options.truth in (None, truth.name)]
    others = {truth.name: further(truth, options.more) for truth in every}
    print(f"{here()}; {options.workers} processes of one thread; {load_data(data, ProxyConfig().resolution)}\n")
    with ProcessPoolExecutor(options.workers, multiprocessing.get_context("spawn"), one_thread) as pool:
        jobs: dict[tuple[Any, ...], Callable[[], Found]] = {}
        later: dict[tuple[Any, ...], Callable[[], Found]] = {}
        for truth in every:
            base = options.cache / truth.name if data else options.cache / GENERATED / truth.name
            config = ProxyConfig(full_resolution=max(truth.space.resolution), steps=options.steps, tune=options.tune)
            drawn = {truth.archs[at].key: truth.archs[at] for seed in DRAWS for at in truth.draw(seed, options.nets)}
            for steps in sorted(options.shared_steps, reverse=True):
                one = replace(config, shared_steps=steps)
                file = base / f"shared-{steps}-{options.seed}.safetensors"
                jobs[truth.name, steps] = partial(shared_training, file, data, one, truth.space, options.seed)
                to = base / f"scores-{steps}-{options.seed}-{options.tune}"
                for key, arch in (drawn | {arch.key: arch for arch in others[truth.name]}).items():
                    later[truth.name, steps, key] = partial(scored, to, data, one, file, arch)
            scratch, to = replace(config, shared_steps=0), base / f"scratch-{options.steps}"
            for key, arch in drawn.items():
                jobs[truth.name, 0, key] = partial(scored, to, data, scratch, None, arch)
        done: dict[tuple[Any, ...], Found] = {}
        for stage in (jobs, later):
            done |= zip(stage, pool.map(call, stage.values()), strict=True)
    for truth in every:
        for seed in DRAWS:
            low, high = truth.band
            draw = truth.draw(seed, options.nets)
            print(f"{truth.name}, truth {truth.task}, draw {seed}: {len(draw)} networks of {low} to {high} M MACs")
            proxies: dict[str, tuple[Found | None, Mapping[str, Found]]] = {}
            for steps in [0, *options.shared_steps]:
                scores = {key[2]: value for key, value in done.items() if key[:2] == (truth.name, steps) and key[2:]}
                name = f"shared, {steps:,} steps" if steps else f"from scratch, {options.steps:,} steps"
                proxies[name] = done.get((truth.name, steps)), scores
            table(truth, draw, others[truth.name], proxies)


if __name__ == "__main__":
    main()
