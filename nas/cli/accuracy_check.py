"""The command `nas accuracy check`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from nas.cli.accuracy import accuracy
from nas.cli.app import Json, Runtime, Space, Threads, Token, show, watcher_for
from nas.system.text import table

if TYPE_CHECKING:
    from nas.accuracy.check import Check, Length, Ranking
    from nas.api.accuracy_check import CheckedImages


@accuracy.command()
def check(
    data: Annotated[
        str,
        typer.Option(
            help="Images: a folder with one subfolder per class, or a name such as cifar10.", show_default=False
        ),
    ],
    space: Space = "mbconv",
    latency_target: Annotated[
        str | None,
        typer.Option(
            help="Compare networks predicted at most 8 % below this latency: 66ms, 66, 0.066s or 66000us.  "
            "[default: networks of the space's median MACs]"
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="Target device: host, pixel1, table:PATH or http://HOST:PORT.")] = "host",
    token: Token = None,
    networks: Annotated[int, typer.Option(help="Number of networks to compare, at least 8.")] = 24,
    steps: Annotated[int, typer.Option(help="Length of the longest training, in batches.")] = 4000,
    seed: Annotated[int, typer.Option(help="Random seed.")] = 0,
    accelerator: Annotated[str, typer.Option(help="Accelerator that trains: auto, cpu, cuda or mps.")] = "auto",
    runtime: Runtime = "onnxruntime",
    threads: Threads = 1,
    as_json: Json = False,
) -> None:
    """Find out what the trainings of a search are worth on your images, before you spend hours on one.

    Trains shared weights at four lengths, the longest twice, and compares how they rank networks of equal cost. Says
    how long to train and with which budget; nas search takes over that length for the same space and images. If it is
    interrupted, the same command continues.

    \b
    Example:
      nas accuracy check --data photos/ --latency-target 8ms
    """
    from nas.api.accuracy_check import check_accuracy

    with watcher_for(as_json) as watch:
        found = check_accuracy(
            space,
            data,
            latency_target=latency_target,
            device=device,
            token=token,
            networks=networks,
            steps=steps,
            seed=seed,
            accelerator=accelerator,
            runtime=runtime,
            threads=threads,
            watch=watch,
        )
    show(found.to_dict(), _text(found), as_json)


def _text(found: CheckedImages) -> str:
    from nas.system.units import clock

    figures = found.figures
    without = f", without {found.failed} that could not be scored" if found.failed else ""
    head = [
        f"{found.data}",
        f"{figures.networks} networks of {found.space} at {found.band}{without}",
        f"their accuracies differ by {100 * figures.spread:.2f} points (standard deviation); "
        f"from seed to seed one changes by {100 * figures.noise:.2f}",
    ]
    lengths = [
        (f"{length.steps:,}", clock(length.seconds), _tau(length.ranking), _note(length, figures))
        for length in figures.lengths
    ]
    untrained = [(name, _tau(ranking), _chance(ranking)) for name, ranking in figures.untrained.items()]
    return "\n\n".join(
        [
            "\n".join(head),
            table(("steps", "time here", "tau with the longest", ""), lengths, left=(3,)),
            table(("without training", "tau with the longest", "by chance"), untrained),
            _advice(found),
        ]
    )


def _tau(ranking: Ranking) -> str:
    return f"{ranking.tau:.2f} ± {ranking.error:.2f}".replace("-", "−")


def _chance(ranking: Ranking) -> str:
    return "< 0.01" if ranking.chance < 0.01 else f"{ranking.chance:.2f}"


def _note(length: Length, figures: Check) -> str:
    return "the ceiling: two seeds of this length" if length is figures.lengths[-1] else ""


def _advice(found: CheckedImages) -> str:
    from nas.accuracy.check import ENOUGH
    from nas.system.units import clock
    from nas.training.config import ProxyConfig

    figures, best = found.figures, found.figures.recommended
    longest = figures.lengths[-1].steps
    if best is None:
        return (
            f"these images cannot tell such networks apart: two trainings of {longest:,} steps agree no better\n"
            f"than by chance (tau {_tau(figures.ceiling)}). Use more images or --steps {2 * longest}, or search with\n"
            "--accuracy imagenet, without training"
        )
    minutes = -int(-best.budget_s // 60)
    why = f"the shortest length that reaches {ENOUGH:.0%} of the ceiling"
    if best.steps == longest:
        why = f"no shorter length reaches {ENOUGH:.0%} of the ceiling;\n--steps {2 * longest} shows whether more helps"
    taken = f"nas search takes them over for these images; give it --budget {minutes}m or more"
    if best.steps == longest and longest < ProxyConfig().shared_steps:
        taken = f"until a longer check says otherwise, nas search keeps its own {ProxyConfig().shared_steps:,} steps"
    return f"recommended: {best.steps:,} steps, {clock(best.seconds)} here ({why})\n{taken}"
