"""Weights that networks share: which slices they take, how they are trained, and that no interruption changes them."""

from __future__ import annotations

import copy
import json
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from nas.arch.arch import Arch
from nas.arch.block import BLOCK_OPS, NORMS, Block
from nas.arch.space_yaml import load_space, names
from nas.network.build import build
from nas.references.table import reference, reference_names
from nas.system.errors import InputError
from nas.training import shared_training
from nas.training.config import ProxyConfig
from nas.training.evaluate import ProxyEvaluator
from nas.training.loop import DivergedError, Order, zero_init_residual
from nas.training.proxy import train_proxy
from nas.training.shared import SharedWeights, inside, parameters_of
from nas.training.shared_file import read_shared, write_shared
from nas.training.shared_training import seconds_per_step, train
from nas.training.slots import places_of
from nas.training.small_maps import adapt
from tests.strategies import archs
from tests.training.fake_accelerator import META, FakeAccelerator
from tests.training.shared_child import CONFIG, MADE_FOR, SPACE, STEPS, draw, trained
from tests.training.test_proxy import made_of, stripes

pytestmark = pytest.mark.torch

SEEDS = st.integers(0, 10_000)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As in the process that is killed: sums depend on the number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> SharedWeights:
    """Weights of a training that nothing interrupted."""
    torch.set_num_threads(1)
    return trained(tmp_path_factory.mktemp("whole") / "shared.safetensors")


def network_of(arch: Arch, classes: int = 2) -> torch.nn.Module:
    return build(arch, classes, seed=0)


def small(name: str, seed: int) -> Arch:
    return ProxyConfig().candidate(load_space(name).sample(seed))


@settings(deadline=None, max_examples=25)
@given(name=st.sampled_from(names()), seed=SEEDS)
def test_places_of_one_network_are_different(name: str, seed: int) -> None:
    """No two parameters of a network share a slice, whatever the space."""
    arch = small(name, seed)
    assert len(set(places_of(arch))) == len(arch.rows)
    keys = [one.key for one in parameters_of(network_of(arch), arch)]
    assert len(set(keys)) == len(keys)


@settings(deadline=None, max_examples=60)
@given(arch=archs)
def test_places_of_any_network_are_different(arch: Arch) -> None:
    """The same for rows of every op in any order, and each parameter has its place."""
    network = network_of(arch)
    keys = [one.key for one in parameters_of(network, arch)]
    assert len(set(keys)) == len(keys) == len(list(network.parameters()))


@pytest.mark.parametrize("name", reference_names())
def test_places_of_references_are_different(name: str) -> None:
    """The same for every published network."""
    arch = ProxyConfig().candidate(reference(name))
    keys = [one.key for one in parameters_of(network_of(arch), arch)]
    assert len(set(keys)) == len(keys)


@settings(deadline=None, max_examples=25)
@given(first=SEEDS, second=SEEDS)
def test_a_network_takes_the_first_channels_and_the_centre_of_kernels(first: int, second: int) -> None:
    """For two networks in any order, each parameter is that slice of the shared tensor, which both of them fit."""
    shared = SharedWeights(0, 1)
    networks = []
    for seed in (first, second):
        arch = small("mbconv", seed)
        network = network_of(arch)
        shared.grow(parameters_of(network, arch))
        networks.append((arch, network))
    for arch, network in networks:
        shared.copy_into(network, arch)
        for one in parameters_of(network, arch):
            tensor = shared.tensor(one.key).numpy()
            expected = tensor[tuple(slice(size) for size in one.shape[:2])]
            if tensor.ndim == 4:
                up, left = ((tensor.shape[at] - one.shape[at]) // 2 for at in (2, 3))
                expected = expected[:, :, up : up + one.shape[2], left : left + one.shape[3]]
            assert np.array_equal(one.value.detach().numpy(), expected)


@settings(deadline=None, max_examples=25)
@given(first=SEEDS, second=SEEDS)
def test_growing_keeps_what_was_there(first: int, second: int) -> None:
    """A larger network leaves all old values, of every vector, in their slices; new moments are zero."""
    shared = SharedWeights(0, 1)
    arch, other = small("mbconv", first), small("mbconv", second)
    shared.grow(parameters_of(network_of(arch), arch))
    shared.vectors = [torch.arange(float(len(vector))) + number for number, vector in enumerate(shared.vectors)]
    before = copy.deepcopy(shared.shapes)
    old = {key: parts_of(shared, key) for key in before}
    shared.grow(parameters_of(network_of(other), other))
    for key, shape in shared.shapes.items():
        now = parts_of(shared, key)
        if key in before:
            where = inside(before[key], shape)
            assert all(torch.equal(new[where], was) for new, was in zip(now, old[key], strict=True))
            for vector in now[1:]:
                vector[where] = 0
        assert not any(vector.any() for vector in now[1:])


def parts_of(shared: SharedWeights, key: str) -> list[torch.Tensor]:
    """A tensor in each of the vectors."""
    start, shape = shared._starts[key], shared.shapes[key]
    return [vector[start : start + int(np.prod(shape))].clone().view(shape) for vector in shared.vectors]


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("op", BLOCK_OPS)
def test_initial_values_are_those_of_a_network(op: str, norm: str) -> None:
    """Constants as after building and `zero_init_residual`; elsewhere the same spread."""
    arch = replace(made_of(op, norm), stochastic_depth=0.0)
    network, theirs = network_of(arch), network_of(arch)
    zero_init_residual(theirs)
    SharedWeights(0, 1).copy_into(network, arch)
    for one, other in zip(network.parameters(), theirs.parameters(), strict=True):
        if len(other.unique()) == 1:
            assert torch.equal(one, other)
        else:
            assert not torch.equal(one, other)
            assert float(one.detach().std()) == pytest.approx(float(other.detach().std()), rel=0.5)


def test_initial_values_do_not_depend_on_the_order() -> None:
    """Two networks of one size, in either order, start with the same weights."""
    one, other = (replace(made_of(op, "batch"), stochastic_depth=0.0) for op in ("mbconv", "uib"))
    found = []
    for order in ((one, other), (other, one)):
        shared = SharedWeights(5, 1)
        for arch in order:
            shared.grow(parameters_of(network_of(arch), arch))
        found.append({key: shared.tensor(key) for key in shared.shapes})
    assert found[0].keys() == found[1].keys()
    assert all(torch.equal(found[0][key], found[1][key]) for key in found[0])


def test_blocks_with_and_without_squeeze_and_excitation_share_their_convolutions() -> None:
    """The layers are named by what they do, not by their number."""
    row = Block("mbconv", 16, 3, expand=3, act="relu")
    plain, gated = (
        Arch((Block("conv", 16, 3, stride=2), each, Block("pool")), 32) for each in (row, replace(row, se=0.25))
    )
    keys = [{one.key for one in parameters_of(network_of(arch), arch)} for arch in (plain, gated)]
    assert keys[0] < keys[1]
    assert all(" se." in key for key in keys[1] - keys[0])


def test_a_step_touches_only_the_slices_of_its_network() -> None:
    """Everything outside keeps its value, its moments and its number of updates; inside, all were updated once."""
    shared = SharedWeights(0, 3)
    sampled = [SPACE.sample(seed) for seed in (0, 1, 2)]
    for arch in sampled:
        candidate = CONFIG.candidate(arch)
        shared.grow(parameters_of(network_of(candidate), candidate))
    before = [vector.clone() for vector in shared.vectors]
    shared.steps = 1
    train(shared, stripes(), CONFIG, lambda rng: sampled[0])
    candidate = CONFIG.candidate(sampled[0])
    touched = torch.zeros_like(before[0], dtype=torch.bool)
    touched[shared.index(parameters_of(network_of(candidate), candidate))] = True
    assert 0 < touched.sum() < touched.numel()
    for now, then in zip(shared.vectors, before, strict=True):
        assert torch.equal(now[~touched], then[~touched])
    assert bool((shared.vectors[3][touched] == 1).all())
    assert float((shared.vectors[0] != before[0])[touched].float().mean()) > 0.5


def test_a_step_is_adamw() -> None:
    """With the gradient unclipped, a network that is trained alone gets the steps of torch.optim.AdamW. Biases before
    another norm are left out: their gradient is zero but for rounding."""
    config, arch, data = replace(CONFIG, clip=1e9), SPACE.sample(0), stripes()
    shared = SharedWeights(0, 4)
    candidate = config.candidate(arch)
    network = adapt(network_of(candidate)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    shared.copy_into(network, candidate)
    groups = [
        {"params": [p for p in network.parameters() if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in network.parameters() if p.ndim == 1], "weight_decay": 0.0},
    ]
    adamw = torch.optim.AdamW(groups, betas=(0.9, 0.99))
    order = Order(len(data.train_labels), config.batch, 0)
    images = shared_training.DeviceImages.of(data, torch.device("cpu"))
    for step in range(4):
        x, labels = images.augmented(order.batch(step), candidate.resolution, np.random.default_rng((0, step)))
        torch.nn.functional.cross_entropy(network(x), labels, label_smoothing=config.label_smoothing).backward()
        for group in adamw.param_groups:
            group["lr"] = shared_training._rate(step, 4, config.lr)
        adamw.step()
        adamw.zero_grad()
    train(shared, data, config, lambda rng: arch)
    for one in parameters_of(network, candidate):
        if one.value.ndim > 1:
            torch.testing.assert_close(shared.tensor(one.key), one.value.detach(), atol=1e-5, rtol=1e-3)


def test_training_lowers_the_loss_and_networks_inherit_it() -> None:
    """After two hundred steps the easy task is solved by networks that were never trained alone, and twice the same."""
    shared = SharedWeights(0, 200)
    config = replace(CONFIG, batch=16)
    first: list[float] = []
    train(shared, stripes(), config, draw, progress=lambda *_: first.append(shared.loss) if not first else None)
    assert shared.loss < 0.75 * first[0]
    before = [vector.clone() for vector in shared.vectors]
    scores = [train_proxy(SPACE.sample(seed), stripes(), config, 0, shared=shared) for seed in (7, 8, 9)]
    again = [train_proxy(SPACE.sample(seed), stripes(), config, 0, shared=shared) for seed in (7, 8, 9)]
    assert [replace(one, seconds=0) for one in scores] == [replace(one, seconds=0) for one in again]
    assert np.mean([one.accuracy for one in scores]) > 0.8
    assert scores[0].train_loss is None
    assert all(map(torch.equal, before, shared.vectors))


def test_tuning_trains_further(whole: SharedWeights) -> None:
    """Another few steps change the score, and are counted."""
    alone, tuned = (
        train_proxy(SPACE.sample(7), stripes(), replace(CONFIG, tune=tune), 0, shared=whole) for tune in (0, 5)
    )
    assert (alone.steps, tuned.steps) == (0, 5)
    assert tuned.train_loss is not None
    assert tuned.loss != alone.loss


def test_a_network_that_is_larger_than_any_before_is_scored(whole: SharedWeights) -> None:
    """The rest has initial values, the same each time, and the shared weights stay as they are."""
    shapes = dict(whole.shapes)
    large = reference("mobilenet_v3_small")
    scores = [train_proxy(large, stripes(), CONFIG, 0, shared=whole).loss for _ in range(2)]
    assert scores[0] == scores[1]
    assert whole.shapes == shapes


def test_an_evaluator_with_shared_weights_travels(whole: SharedWeights) -> None:
    """Pickled by value, it gives the same score and carries the weights alone, without the state of their training."""
    evaluator = ProxyEvaluator(stripes(), CONFIG, threads=1, shared=whole)
    sent = pickle.dumps(evaluator)
    moved = pickle.loads(sent)
    arch = SPACE.sample(1)
    assert moved(arch, 0).proxy_loss == evaluator(arch, 0).proxy_loss
    alone = ProxyEvaluator(stripes(), CONFIG, threads=1)
    assert len(sent) - len(pickle.dumps(alone)) < 1.5 * 4 * len(whole.vectors[0])
    assert moved(arch, 0).proxy_loss != alone(arch, 0).proxy_loss


def test_a_killed_training_ends_with_the_same_weights(whole: SharedWeights, tmp_path: Path) -> None:
    """SIGKILL three times; what the file says is continued, and the end is equal bit for bit."""
    path = tmp_path / "shared.safetensors"
    for step in (5, 12, 27):
        command = [sys.executable, "-m", "tests.training.shared_child", str(path), str(step)]
        done = subprocess.run(command, env=dict(os.environ) | {"OMP_NUM_THREADS": "1"}, check=False)
        assert done.returncode == -signal.SIGKILL
        assert read_shared(path, MADE_FOR).step == step // 2 * 2
    ours = trained(path)
    assert ours.step == STEPS
    assert ours.shapes == whole.shapes
    assert all(map(torch.equal, ours.vectors, whole.vectors))
    assert torch.equal(ours.tally, whole.tally)


def test_a_file_is_read_as_it_was_written(whole: SharedWeights, tmp_path: Path) -> None:
    """Everything is there again, also in a finished training, which then trains no further."""
    path = tmp_path / "shared.safetensors"
    write_shared(path, whole, MADE_FOR)
    read = read_shared(path, MADE_FOR)
    for name in ("seed", "step", "steps", "seconds", "shapes"):
        assert getattr(read, name) == getattr(whole, name)
    train(read, stripes(), CONFIG, draw)
    assert all(map(torch.equal, read.vectors, whole.vectors))


def rewritten(path: Path, change: Any) -> None:
    """Write the file with another header."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        about = json.loads(file.metadata()["nas_shared_weights"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    change(about, tensors)
    save_file(tensors, path, {"nas_shared_weights": json.dumps(about)})


@pytest.mark.parametrize(
    "change",
    [
        lambda about, tensors: about.update(schema=9),
        lambda about, tensors: about.update(step=-1),
        lambda about, tensors: about.update(step=STEPS + 1),
        lambda about, tensors: about.update(seconds=float("nan")),
        lambda about, tensors: about.update(seed="0"),
        lambda about, tensors: about.update(tensors=7),
        lambda about, tensors: about["tensors"].append(about["tensors"][0]),
        lambda about, tensors: about["tensors"].pop(),
        lambda about, tensors: about["tensors"].append(["x", [1 << 40, 1 << 40]]),
        lambda about, tensors: about["tensors"][0].append(3),
        lambda about, tensors: about.pop("made_for"),
        lambda about, tensors: tensors["weights"].fill_(float("nan")),
        lambda about, tensors: tensors.update(means=tensors["means"][:-1].clone()),
        lambda about, tensors: tensors.update(counts=tensors["counts"].double()),
        lambda about, tensors: tensors.pop("tally"),
    ],
)
def test_damaged_files_are_refused_in_one_line(change: Any, whole: SharedWeights, tmp_path: Path) -> None:
    """The file, and what to do."""
    path = tmp_path / "shared.safetensors"
    write_shared(path, whole, MADE_FOR)
    rewritten(path, change)
    with pytest.raises(InputError, match=r"shared\.safetensors.*delete") as error:
        read_shared(path, MADE_FOR)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"{}", b"\x08\0\0\0\0\0\0\0{}", os.urandom(999)])
def test_other_files_are_refused_in_one_line(content: bytes, tmp_path: Path) -> None:
    """Whatever they hold."""
    path = tmp_path / "shared.safetensors"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"shared\.safetensors.*delete") as error:
        read_shared(path, MADE_FOR)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", sorted(MADE_FOR))
def test_weights_of_another_space_or_other_images_are_refused(name: str, whole: SharedWeights, tmp_path: Path) -> None:
    """The first difference is named."""
    path = tmp_path / "shared.safetensors"
    write_shared(path, whole, MADE_FOR)
    with pytest.raises(InputError, match=f"another {name}.*delete") as error:
        read_shared(path, MADE_FOR | {name: "different"})
    assert str(error.value).count("delete") == 1


def test_steps_that_are_not_finite_change_nothing_and_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some are skipped; too many end the training."""
    augmented = shared_training.DeviceImages.augmented
    bad = {2, 5}
    seen: list[int] = []

    def poisoned(self: Any, *arguments: Any) -> Any:
        x, labels = augmented(self, *arguments)
        seen.append(1)
        return (x * float("nan") if len(seen) - 1 in bad else x), labels

    monkeypatch.setattr(shared_training.DeviceImages, "augmented", poisoned)
    shared = SharedWeights(0, 12)
    vectors: list[list[torch.Tensor]] = []
    train(shared, stripes(), CONFIG, lambda rng: SPACE.sample(0), progress=lambda *_: vectors.append([*shared.vectors]))
    assert shared.skipped == 2
    assert all(bool(torch.isfinite(vector).all()) for vector in shared.vectors)
    assert float(shared.vectors[3].max()) == 10
    bad.update(range(100))
    seen.clear()
    with pytest.raises(DivergedError, match=r"50 of 50.*--shared-steps"):
        train(SharedWeights(0, 90), stripes(), CONFIG, draw)


def test_every_image_is_used_once_before_any_twice() -> None:
    """Whatever the batch; each step's images depend on its number alone."""
    order, other = Order(10, 4, 0), Order(10, 4, 0)
    seen = np.concatenate([order.batch(step) for step in range(5)])
    assert sorted(seen[:10]) == list(range(10)) == sorted(seen[10:])
    assert np.array_equal(other.batch(4), seen[16:])
    assert len(Order(3, 8, 0).batch(0)) == 8


def test_every_tensor_of_a_shared_training_is_on_the_device() -> None:
    """No operator meets a tensor of the CPU."""
    drawn = [
        SPACE.sample(0),
        made_of("mbconv", "group"),
        made_of("shuffle_v2", "batch"),
        reference("mobilenet_v3_small"),
    ]
    with FakeAccelerator() as fake:
        train(SharedWeights(0, 4), stripes(), CONFIG, lambda rng: drawn.pop(), META)
    assert not fake.mixed
    assert "convolution_backward" in fake.seen
    assert "index_copy_" in fake.seen


def test_a_shared_training_rarely_waits_for_the_device() -> None:
    """Ten times the steps read no more from the device, as long as nothing new is built."""
    reads = []
    for steps in (4, 40):
        with FakeAccelerator() as fake:
            train(SharedWeights(0, steps), stripes(), CONFIG, lambda rng: SPACE.sample(0), META)
        reads.append(len(fake.reads))
    assert reads[0] == reads[1] <= 12


def test_the_global_random_state_is_left_alone(whole: SharedWeights) -> None:
    """Neither torch's nor NumPy's global generator is read or moved."""
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[union-attr]
    train(SharedWeights(0, 2), stripes(), CONFIG, draw)
    assert seconds_per_step(stripes(), CONFIG, draw, 0) > 0
    assert torch.equal(before, torch.get_rng_state())
    assert np.array_equal(numpy_before, np.random.get_state()[1])  # type: ignore[arg-type]
