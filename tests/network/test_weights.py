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
from nas.network.weights import classes_of, load_weights
from nas.references.pretrained import TIMM, TORCHVISION, read_state
from nas.references.table import reference
from nas.system.errors import InputError
from tests.network.twins import State, copied, equal, make_up, twin
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


SMALL = reference("mobilenet_v3_small", width=0.5, resolution=64)  # squeeze and excite of two rows have equal shapes
PREFIXES = [
    *("", "module.", "_orig_mod.", "model.", "ema.", "backbone.", "net.student.", "module._orig_mod."),
    *("_orig_mod.module.", "model.module.", "ema_model.module.", "_forward_module.model._orig_mod."),
]


def _ours() -> nn.Module:
    """Squeeze and excite are drawn from N(0, 1), so that swapping them shows in the logits."""
    network, generator = make_up(build(SMALL, 7, seed=1)), torch.Generator().manual_seed(1)
    for name, tensor in network.state_dict().items():
        if "squeeze" in name or "excite" in name:
            tensor.copy_(torch.randn(tensor.shape, generator=generator))
    return network.eval()


def _logits(network: nn.Module) -> torch.Tensor:
    with torch.inference_mode():
        images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(2))
        logits: torch.Tensor = network.eval()(images)
        return logits


def _written(state: State, kind: str, folder: Path) -> State:
    """What a file of the state dict gives back."""
    save: dict[str, Callable[[State, Path], object]] = {".pt": torch.save, ".safetensors": save_file}
    save[kind](state, folder / f"x{kind}")
    return read_state(folder / f"x{kind}")


@pytest.mark.parametrize("kind", [".pt", ".safetensors"])
@pytest.mark.parametrize("prefix", PREFIXES)
def test_our_own_weights_compute_the_same_after_every_prefix_and_file(prefix: str, kind: str, tmp_path: Path) -> None:
    """The names say which tensor is which, whatever their order in the file."""
    network = _ours()
    state = {f"{prefix}{name}": tensor for name, tensor in network.state_dict().items()}
    loaded = load_weights(build(SMALL, 7), _written(state, kind, tmp_path))
    assert torch.equal(_logits(loaded), _logits(network))


def _renamed(*words: tuple[str, str]) -> State:
    state = copied(_ours())
    for ours, theirs in words:
        state = {name.replace(ours, theirs): tensor for name, tensor in state.items()}
    return state


@pytest.mark.parametrize("kind", [".pt", ".safetensors"])
@pytest.mark.parametrize(
    ("squeeze", "excite"), [("conv_reduce", "conv_expand"), ("fc1", "fc2"), ("_se_reduce", "_se_expand")]
)
def test_words_and_numbers_in_names_decide_what_a_sorted_file_cannot(
    squeeze: str, excite: str, kind: str, tmp_path: Path
) -> None:
    """timm's, torchvision's and another library's names of squeeze and excite, in blocks named as theirs."""
    state = _renamed(("squeeze", squeeze), ("excite", excite), ("layers", "block"))
    loaded = load_weights(build(SMALL, 7), _written(state, kind, tmp_path))
    assert equal(copied(loaded), copied(_ours()))


def test_two_orders_that_fit_are_refused_if_the_file_is_sorted_and_names_say_nothing(tmp_path: Path) -> None:
    state = _renamed(("squeeze", "one"), ("excite", "another"), ("layers", "block"))
    loaded = load_weights(build(SMALL, 7), _written(state, ".pt", tmp_path))
    assert equal(copied(loaded), copied(_ours()))
    ours = build(SMALL, 7)
    before = copied(ours)
    with pytest.raises(InputError, match=r"block.1.another.weight.*block.1.one.weight.*torch.save") as caught:
        load_weights(ours, _written(state, ".safetensors", tmp_path))
    assert "\n" not in str(caught.value)
    assert equal(copied(ours), before)


LATER = [pytest.param(*family, marks=pytest.mark.slow) for family in FAMILIES[1::2]]


@pytest.mark.parametrize(("library", "name"), [*FAMILIES[::2], *LATER])
def test_a_sorted_file_of_a_library_computes_what_its_network_does(library: str, name: str, tmp_path: Path) -> None:
    entry = (TORCHVISION if library == "torchvision" else TIMM)[name]
    theirs, arch = twin(library, entry.model), entry.as_trained(reference(name))
    loaded = load_weights(build(arch), through_safetensors(theirs.state_dict(), tmp_path))
    assert torch.allclose(_logits(loaded), _logits(theirs), atol=1e-3)


LEFTOVERS: dict[str, Callable[[State], State]] = {
    "of a profiler": lambda state: (
        state
        | {f"{name.rpartition('.')[0]}.total_{what}": torch.zeros(1) for name in state for what in ("ops", "params")}
        | {"total_ops": torch.zeros(1, dtype=torch.float64), "total_params": torch.zeros(1, dtype=torch.float64)}
    ),
    "of averaging": lambda state: {f"module.{name}": t for name, t in state.items()} | {"n_averaged": torch.tensor(9)},
    "no batch counters": lambda state: {name: t for name, t in state.items() if "num_batches" not in name},
    "of a loss": lambda state: {f"model.{name}": t for name, t in state.items()} | {"criterion.weight": torch.ones(7)},
    "of a module": lambda state: state | {"_extra_state": {"scale": 1}, "features._extra_state": torch.tensor(3)},
    "a copy": lambda state: (
        {f"model.{name}": t for name, t in state.items()}
        | {name.replace("features", "backbone"): t for name, t in state.items() if name.startswith("features")}
    ),
    "wrapped parts": lambda state: {
        name.replace("features.", "features._orig_mod.").replace(".layers.", "._checkpoint_wrapped_module.layers."): t
        for name, t in state.items()
    },
}


@pytest.mark.parametrize("case", LEFTOVERS)
def test_what_is_no_part_of_a_network_is_ignored(case: str) -> None:
    state = LEFTOVERS[case](copied(_ours()))
    for given_state in (state, dict(sorted(state.items()))):
        assert torch.equal(_logits(load_weights(build(SMALL, 7), given_state)), _logits(_ours()))
        assert classes_of(build(SMALL, 1), given_state) == 7


NOT_FINITE = [("nan", 2), ("inf", 1), ("-inf", 3)]


@pytest.mark.parametrize(("value", "tensors"), NOT_FINITE)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_weights_that_are_not_finite_are_refused_with_the_first_and_how_many(
    value: str, tensors: int, dtype: torch.dtype
) -> None:
    names = ("features.2.layers.0.0.weight", "features.3.layers.0.0.weight", "classifier.1.bias")[:tensors]
    state = {name: t.to(dtype) if t.is_floating_point() else t for name, t in copied(_ours()).items()}
    for name in names:
        state[name].view(-1)[:4] = float(value)
    ours = build(SMALL, 7)
    before = copied(ours)
    with pytest.raises(InputError, match=rf"{tensors} tensor.*features.2.layers.0.0.weight \(4 of \d+ values\)"):
        load_weights(ours, state)
    assert equal(copied(ours), before)


def _with_head(head: nn.Module) -> State:
    """Weights with another classifier."""
    state = {f"net.{name}": tensor for name, tensor in copied(_ours()).items() if not name.startswith("classifier")}
    return state | {f"net.head.{name}": tensor for name, tensor in copied(head).items()}


@pytest.mark.parametrize(
    ("state", "says"),
    [
        (lambda: _with_head(nn.Linear(1024, 9)), "num_classes=9"),
        (lambda: _with_head(nn.Linear(1024, 9, bias=False)), r"our classifier.1.weight .* their net.head.weight"),
        (
            lambda: _with_head(nn.Sequential(nn.Linear(1024, 9), nn.ReLU(), nn.Linear(9, 7))),
            r"our classifier.1.weight .* their net.head.0.weight",
        ),
        (
            lambda: copied(_ours()) | {"classifier.1.weight": torch.ones(9, 8), "classifier.1.bias": torch.ones(9)},
            r"\(7, 1024\) meets their classifier.1.weight \(9, 8\)",
        ),
        (lambda: copied(_ours()) | {"aux.weight": torch.ones(9, 1024)}, r"their aux.weight \(9, 1024\)"),
        (
            lambda: {
                f"{side}.{name}": tensor + (side == "teacher")
                for side in ("student", "teacher")
                for name, tensor in copied(_ours()).items()
            },
            "'student' and 'teacher'",
        ),
        (lambda: copied(_ours()) | {"features.0.1.running_var": -torch.ones(8)}, "features.0.1.running_var"),
    ],
)
def test_the_hint_about_classes_is_given_only_if_the_classifier_differs(state: Callable[[], State], says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        load_weights(build(SMALL, 7), state())
    assert ("num_classes" in says) == ("num_classes" in str(caught.value))


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
