"""Weights are matched by structure, whatever their names; all are loaded or none, and the first misfit is named."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from safetensors.torch import save_file
from torch import nn

from nas.arch.arch import Arch
from nas.network.build import build
from nas.network.weights import load_weights
from nas.references.pretrained import TIMM, TORCHVISION, read_state
from nas.references.table import reference
from nas.system.errors import InputError
from tests.network.twins import State, copied, equal, twin
from tests.strategies import archs

pytestmark = pytest.mark.torch

FAMILIES = [
    *[("torchvision", name) for name in ("mobilenet_v2", "mobilenet_v3_small", "mnasnet_b1@width=0.5")],
    *[("torchvision", name) for name in ("efficientnet_b0", "efficientnet_v2_s", "shufflenet_v2@width=0.5")],
    *[("timm", name) for name in ("mobilenet_v1", "mobilenet_v2", "mobilenet_v3_small", "mnasnet_a1", "mnasnet_b1")],
    *[("timm", name) for name in ("fbnet_c", "mobilenet_v4_conv_small", "mobilenet_v4_conv_medium", "efficientnet_b0")],
]


def through_safetensors(state: State, folder: Path) -> State:
    save_file(state, folder / "x.safetensors")
    return read_state(folder / "x.safetensors")


VARIANTS: dict[str, Callable[[State, Path], State]] = {
    "sorted by name": lambda state, _: dict(sorted(state.items())),
    "of a safetensors file": through_safetensors,
    "behind a prefix": lambda state, _: {f"module.net.{name}": tensor for name, tensor in state.items()},
    "without counters": lambda state, _: {n: tensor for n, tensor in state.items() if "num_batches" not in n},
    "of averaged weights": lambda state, _: {"n_averaged": torch.tensor(3), **state},
}


@pytest.mark.parametrize(("library", "name"), FAMILIES)
def test_every_form_of_a_state_dict_gives_the_same_weights(library: str, name: str, tmp_path: Path) -> None:
    table = TORCHVISION if library == "torchvision" else TIMM
    state = copied(twin(library, table[name].model))
    ours = build(reference(name))
    expected = copied(load_weights(ours, state))
    for variant, write in VARIANTS.items():
        nn.init.zeros_(ours.classifier[1].weight)
        load_weights(ours, write(state, tmp_path))
        assert equal(copied(ours), expected), variant


@settings(max_examples=15, deadline=None)
@given(archs)
def test_any_arch_takes_its_own_weights_under_any_prefix_and_by_its_own_names_in_any_order(arch: Arch) -> None:
    state = copied(build(arch, 3, seed=1))
    for given_state in ({f"model.{k}": v for k, v in state.items()}, dict(sorted(state.items())), state):
        assert equal(copied(load_weights(build(arch, 3, seed=2), given_state)), state)


def test_half_precision_and_linear_for_pointwise() -> None:
    state = copied(build(reference("mobilenet_v3_small"), 4, seed=1))
    changed = {name: value.half() if value.is_floating_point() else value for name, value in state.items()}
    changed["classifier.1.weight"] = changed["classifier.1.weight"][:, :, None, None]
    changed["features.1.layers.2.0.weight"] = changed["features.1.layers.2.0.weight"].flatten(1)
    ours = copied(load_weights(build(reference("mobilenet_v3_small"), 4), changed))
    assert all(torch.allclose(ours[name], state[name], atol=1e-2) for name in state)
    assert ours["classifier.1.weight"].dtype == torch.float32


def _state(name: str = "mobilenet_v2", classes: int = 1000) -> State:
    """As another library would name it: the order is all that is left."""
    return {f"net.{key}": value for key, value in build(reference(name), classes, seed=1).state_dict().items()}


def _without(*names: str) -> State:
    return {name: value for name, value in _state().items() if name not in names}


BN = ("weight", "bias", "running_mean", "running_var")
MISFITS: dict[str, tuple[Callable[[], Any], str]] = {
    "another width": (
        lambda: _state("mobilenet_v2@width=0.75"),
        r"our features.0.0.weight \(32, 3, 3, 3\) of row 0 .* their net.features.0.0.weight \(24, 3, 3, 3\)",
    ),
    "other classes": (lambda: _state(classes=7), "num_classes=7"),
    "a tensor missing": (
        lambda: _without("net.features.2.layers.1.1.running_mean"),
        r"our features.2.layers.1.1.running_mean \(96,\) of row 2 .* their net.features.2.layers.1.1.weight \(96,\)",
    ),
    "a layer missing": (
        lambda: _without(*(f"net.features.2.layers.1.1.{leaf}" for leaf in BN)),
        r"our features.2.layers.1.1.weight \(96,\) of row 2 .* their net.features.2.layers.2.0.weight \(24, 96, 1, 1\)",
    ),
    "the last layer missing": (
        lambda: _without("net.classifier.1.weight", "net.classifier.1.bias"),
        r"our classifier.1.weight \(1000, 1280\)",
    ),
    "one layer more": (
        lambda: _state() | {"net.classifier.2.weight": torch.zeros(3, 1000)},
        r"their net.classifier.2.weight \(3, 1000\)",
    ),
    "one tensor more": (
        lambda: _state() | {"net.features.0.0.bias": torch.zeros(32)},
        "net.features.0.0.bias",
    ),
    "whole numbers": (
        lambda: _state() | {"net.features.0.0.weight": torch.zeros(32, 3, 3, 3, dtype=torch.int8)},
        "net.features.0.0.weight of torch.int8",
    ),
    "sparse": (
        lambda: _state() | {"net.classifier.1.weight": torch.zeros(1000, 1280).to_sparse()},
        "net.classifier.1.weight",
    ),
    "no tensor": (lambda: _state() | {"net.epoch": 3}, "got 'net.epoch': int"),
    "not a dict": (lambda: [torch.zeros(1)], "list"),
    "empty": (lambda: {}, r"our features.0.0.weight \(32, 3, 3, 3\) of row 0"),
    "deep": (lambda: {".".join("a" * 2000): torch.zeros(1)}, "32"),
    "many siblings": (
        lambda: {f"a{at}.weight": torch.zeros(at + 1, 2) for at in range(200)},
        "128",
    ),
}


@pytest.mark.parametrize("case", MISFITS)
def test_a_misfit_is_named_and_nothing_is_changed(case: str) -> None:
    make, says = MISFITS[case]
    ours = build(reference("mobilenet_v2"))
    before = copied(ours)
    with pytest.raises(InputError, match=says) as caught:
        load_weights(ours, make())
    assert "\n" not in str(caught.value)
    assert equal(copied(ours), before)


def test_the_work_of_ordering_is_bounded() -> None:
    """Branches that begin alike; only the end of the last is wrong, so every order fits until there."""
    ours = nn.Sequential(*[nn.Linear(2, 2, bias=False) for _ in range(39)], nn.Linear(3, 2, bias=False))
    state = {f"b{at}.{inner}.weight": torch.zeros(2, 2) for at in range(20) for inner in range(2)}
    with pytest.raises(InputError, match=r"our 39.weight \(2, 3\) .*100000"):
        load_weights(ours, state)
