"""The weights that the networks of a search share: how long they are trained, and their training before the search."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nas.accuracy.check import SHARE
from nas.api.check_cache import recommended_steps
from nas.arch.arch import Arch
from nas.arch.space import Space
from nas.engine.options import SearchOptions
from nas.engine.progress import Watcher
from nas.references.table import reference
from nas.system.errors import InputError
from nas.system.units import clock
from nas.training.config import ProxyConfig

if TYPE_CHECKING:
    from nas.data.dataset import ImageData
    from nas.training.accelerator import Accelerator
    from nas.training.shared import SharedWeights
    from nas.training.shared_training import Draw

FEWEST_STEPS = 200
_REFERENCES = 0.1  # share of the steps that train one


def proxy_of(options: SearchOptions, space: Space, kept: Mapping[str, object] | None) -> ProxyConfig:
    """How candidates are scored, before it is known how fast this machine trains.

    Args:
        options: of the search.
        space: the searched space.
        kept: what a resumed run has kept: it continues as it began.

    Raises:
        InputError: what was kept cannot be read.
    """
    if kept is not None:
        try:
            return ProxyConfig.from_dict(kept)
        except InputError as error:
            raise InputError(f"proxy in run.json: {error}; restore it from a copy, or start a new run") from None
    config = ProxyConfig(full_resolution=max(space.resolution))
    if options.steps is not None:
        config = replace(config, steps=options.steps, shared_steps=0)
    return config if options.shared_steps is None else replace(config, shared_steps=options.shared_steps)


def within_budget(
    config: ProxyConfig, options: SearchOptions, space: Space, data: ImageData, watch: Watcher
) -> ProxyConfig:
    """The same with as many shared steps as `nas accuracy check` recommended for the images, if it did, and as the
    budget allows. Generated images are not worth any; a number that was given is not changed."""
    if options.shared_steps is not None or not config.shared_steps:
        return config
    if data.generated:
        return replace(config, shared_steps=0)
    if (steps := recommended_steps(space, data, config)) is not None:
        watch.say(f"shared weights: {steps:,} steps, as nas accuracy check recommends for these images")
        config = replace(config, shared_steps=steps)
    if options.budget_s is None:
        return config
    from nas.training.shared_training import seconds_per_step

    watch.say("timing the training of shared weights ...")
    seconds = seconds_per_step(data, config, draw_of(space, options), options.seed, _accelerator(options))
    steps = int(SHARE * options.budget_s / seconds)
    steps = min(config.shared_steps, max(FEWEST_STEPS, steps))
    cut = f", cut from {config.shared_steps:,} to fit the budget" if steps < config.shared_steps else ""
    watch.say(f"shared weights: {steps:,} steps{cut}, about {clock(steps * seconds)}")
    return replace(config, shared_steps=steps)


def shared_weights(
    config: ProxyConfig, options: SearchOptions, space: Space, data: ImageData, path: Path | None, watch: Watcher
) -> SharedWeights:
    """The trained weights: from the run folder as far as they are there, and trained for the rest.

    Args:
        config: how they are trained.
        options: of the search.
        space: the searched space.
        data: images to train on.
        path: file of the run folder; None keeps them in memory.
        watch: sees the progress.

    Raises:
        InputError: the file is damaged, or its weights are for something else.
        DivergedError: too many steps were not finite.
    """
    from nas.training.shared import SharedWeights
    from nas.training.shared_file import read_shared, write_shared
    from nas.training.shared_training import train

    made_for = _made_for(config, options, space, data)
    shared = SharedWeights(options.seed, config.shared_steps)
    if path is not None and path.exists():
        shared = read_shared(path, made_for)
    if shared.step < shared.steps:
        save = None if path is None else partial(write_shared, path, made_for=made_for)
        train(shared, data, config, draw_of(space, options), _accelerator(options), save, watch.step)
        note = f"; {shared.skipped} steps were not finite and changed nothing" if shared.skipped else ""
        watch.say(f"shared weights: trained in {clock(shared.seconds)}, training loss {shared.loss:.3f}{note}")
    return shared


def draw_of(space: Space, options: SearchOptions) -> Draw:
    """Draws a network of the space, and sometimes a reference, so that those inherit trained weights as well."""
    references = [reference(name) for name in options.reference_names]
    return partial(_drawn, space, references)


def _drawn(space: Space, references: Sequence[Arch], rng: np.random.Generator) -> Arch:
    if references and rng.random() < _REFERENCES:
        return references[int(rng.integers(len(references)))]
    return space.sample(rng)


def _made_for(config: ProxyConfig, options: SearchOptions, space: Space, data: ImageData) -> dict[str, str]:
    settings = json.dumps([config.to_dict(), sorted(options.reference_names)], sort_keys=True)
    return {
        "space": space.key,
        "set of images": data.key,
        "seed": str(options.seed),
        "configuration": hashlib.blake2b(settings.encode(), digest_size=8).hexdigest(),
    }


def _accelerator(options: SearchOptions) -> Accelerator:
    """The device that candidates train on, if this process has it: on a cluster, it may be elsewhere."""
    from nas.training.accelerator import CPU, Accelerator, choose

    try:
        return Accelerator.here(choose(options.accelerator))
    except InputError:
        return CPU
