"""The short training: deterministic, able to learn, in proportion to the candidate; divergence is an error."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from nas.arch.arch import Arch
from nas.arch.block import BLOCK_OPS, NORMS, Block
from nas.arch.space_yaml import load_space
from nas.data.augment import shifted_and_flipped, to_input
from nas.data.dataset import ImageData
from nas.network.build import build
from nas.system.errors import InputError
from nas.training import loop
from nas.training.proxy import DivergedError, ProxyConfig, train_proxy
from nas.training.small_maps import adapt

pytestmark = pytest.mark.torch

ARCH = Arch(
    (
        Block("conv", channels=32, kernel=3, stride=2, act="h_swish"),
        Block("mbconv", channels=32, kernel=5, expand=3, se=0.25, act="relu"),
        Block("mbconv", channels=64, kernel=7, stride=2, expand=3, act="swish"),
        Block("pool"),
    ),
    resolution=224,
    dropout=0.2,
)
QUICK = ProxyConfig(steps=12, batch=16, val_images=64, resolution=16)


def stripes(size: int = 16) -> ImageData:
    """Two classes that differ only in the direction of their stripes."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 300)
    wave = 127 * (1 + np.sin(np.arange(size) * 1.5 + rng.uniform(0, 6, (300, 1))))
    images = np.where(labels[:, None, None] == 0, wave[:, None, :], wave[:, :, None]).astype(np.uint8)
    images = np.repeat(images[..., None], 3, axis=3)
    return ImageData("stripes", ("across", "along"), images[:200], labels[:200], images[200:], labels[200:], "k")


def test_same_seed_same_bits() -> None:
    """Two trainings with one seed agree to the last bit, and another seed does not."""
    first, again, other = (train_proxy(ARCH, stripes(), QUICK, seed) for seed in (1, 1, 2))
    assert (first.accuracy, first.loss, first.train_loss) == (again.accuracy, again.loss, again.train_loss)
    assert first.loss != other.loss


def test_global_random_state_is_left_alone() -> None:
    """Neither torch's nor NumPy's global generator is read or moved."""
    torch.manual_seed(5)
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[union-attr]
    first = train_proxy(ARCH, stripes(), QUICK, 1)
    assert torch.equal(before, torch.get_rng_state())
    assert np.array_equal(numpy_before, np.random.get_state()[1])  # type: ignore[arg-type]
    torch.manual_seed(6)
    assert train_proxy(ARCH, stripes(), QUICK, 1).loss == first.loss


def test_it_learns() -> None:
    """An easy task is solved within a hundred steps."""
    score = train_proxy(ARCH, stripes(), replace(QUICK, steps=100), 0)
    assert score.accuracy > 0.9
    assert score.loss < 0.4


SHAPE: dict[str, dict[str, Any]] = {
    "dwsep": {"kernel": 3},
    "spatial_sep": {"kernel": 3},
    "mbconv": {"kernel": 3, "expand": 3, "se": 0.25},
    "fused_mbconv": {"kernel": 3, "expand": 3},
    "uib": {"kernel": 3, "expand": 3, "kernel_start": 5},
    "shuffle_v1": {"kernel": 3, "groups": 4},
    "shuffle_v2": {"kernel": 3},
}


def made_of(op: str, norm: str, act: str = "relu") -> Arch:
    """A strided block, then one with a shortcut, at a width that leaves 32 and 64 channels of the proxy."""
    stem, *blocks = (
        Block("conv", channels=64, kernel=3, stride=2, act=act, norm=norm),
        *(
            Block(op, channels=channels, stride=stride, act=act, norm=norm, **SHAPE[op])
            for channels, stride in ((128, 2), (128, 1))
        ),
    )
    return Arch((stem, *blocks, Block("pool"), Block("linear", 64, act="gelu", norm=norm)), 224, stochastic_depth=0.5)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("op", BLOCK_OPS)
def test_networks_of_every_op_learn(op: str, norm: str) -> None:
    """The easy task, with each norm: the loss falls below that of guessing, and most answers are correct."""
    score = train_proxy(made_of(op, norm), stripes(), replace(QUICK, steps=40, batch=12, width=0.5), 0)
    assert score.loss < 0.6 < np.log(2)
    assert score.accuracy > 0.75


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("op", BLOCK_OPS)
def test_residual_branches_start_at_zero(op: str, norm: str) -> None:
    """Before training, a block with a shortcut passes its input on (a ShuffleNetV1 unit through its activation), and
    its branch can still learn: the last layer has a gradient."""
    network = adapt(build(replace(made_of(op, norm), stochastic_depth=0.0), 2))
    loop.zero_init_residual(network)
    block = network.get_submodule("features.2")
    residual = bool(getattr(block, "residual", False))
    assert residual == (op in ("mbconv", "fused_mbconv", "uib", "shuffle_v1"))
    if residual:
        x = torch.randn(2, 128, 8, 8).to(memory_format=torch.channels_last)
        y = block(x)
        torch.testing.assert_close(y, x.relu() if op == "shuffle_v1" else x)
        (y * torch.randn_like(y)).sum().backward()
        gradients = [p.grad for p in block.get_submodule("layers").parameters() if p.grad is not None]
        assert any(gradient.abs().max() > 0 for gradient in gradients)


def test_a_block_that_ends_in_an_activation_is_not_silenced() -> None:
    """A fused block without expansion: no gradient would pass through a ReLU at zero."""
    arch = Arch((Block("conv", 8, 3, act="relu"), Block("fused_mbconv", 8, 3, act="relu"), Block("pool")), 32)
    network = build(arch, 2)
    loop.zero_init_residual(network)
    x = torch.rand(2, 8, 8, 8)
    assert not torch.equal(network.get_submodule("features.1")(x), x)


def test_candidate_keeps_the_proportion_of_resolutions() -> None:
    """224, 192 and 160 stay in order, on multiples of 4, and the width multiplier is applied."""
    space = load_space("mbconv")
    config = ProxyConfig(resolution=32)
    arch = space.sample(0)
    sides = [config.candidate(replace(arch, resolution=side)).resolution for side in (160, 192, 224)]
    assert sides == [24, 28, 32]
    assert config.candidate(arch).dropout == 0
    assert config.candidate(made_of("uib", "batch")).stochastic_depth == 0
    assert config.candidate(ARCH).rows[2].channels == 16
    assert replace(config, full_resolution=32).candidate(replace(arch, resolution=32)).resolution == 32


def test_divergence_is_an_error_and_a_bad_score_is_not_divergence() -> None:
    """A loss that is not finite is a DivergedError; a score no better than chance is a score."""
    with pytest.raises(DivergedError, match=r"step \d+ of 40"):
        train_proxy(ARCH, stripes(), replace(QUICK, lr=100.0, clip=1e9, steps=40), 0)
    assert 0 <= train_proxy(ARCH, stripes(), replace(QUICK, steps=1, lr=1e-8), 0).accuracy <= 1


def test_config_round_trip_and_bounds() -> None:
    """JSON form is lossless; unknown names and impossible values are InputErrors."""
    config = ProxyConfig(steps=7, width=0.5)
    assert ProxyConfig.from_dict(config.to_dict()) == config
    for wrong in ({"stepz": 1}, {"steps": 0}, {"steps": 1.5}, {"lr": float("nan")}, {"width": True}, []):
        with pytest.raises(InputError):
            ProxyConfig.from_dict(wrong)


def test_weights_step_is_adamw() -> None:
    """The one-vector step equals torch.optim.AdamW."""
    torch.manual_seed(0)
    ours, theirs = torch.nn.Linear(5, 3), torch.nn.Linear(5, 3)
    theirs.load_state_dict(ours.state_dict())
    config = ProxyConfig(weight_decay=0.1, clip=1e9)
    weights = loop.Weights(ours)
    groups = [{"params": [theirs.weight], "weight_decay": 0.1}, {"params": [theirs.bias], "weight_decay": 0.0}]
    adamw = torch.optim.AdamW(groups, lr=0.01, betas=(loop.BETA1, loop.BETA2))
    for _ in range(5):
        x = torch.randn(4, 5)
        ours(x).square().sum().backward()
        theirs(x).square().sum().backward()
        weights.step(0.01, config)
        adamw.step()
        adamw.zero_grad()
    torch.testing.assert_close(ours.weight, theirs.weight)
    torch.testing.assert_close(ours.bias, theirs.bias)


def test_average_of_weights_is_their_mean() -> None:
    """Tail averaging is the plain mean of what was kept."""
    linear = torch.nn.Linear(2, 1)
    weights = loop.Weights(linear)
    values = []
    for at in range(4):
        weights.value.fill_(float(at))
        values.append(float(at))
        weights.keep()
    weights.use_average()
    assert torch.allclose(linear.weight, torch.tensor(sum(values) / 4))


def test_batches_see_every_image_once_before_any_twice() -> None:
    """Epoch by epoch, across batch borders."""
    batches = list(loop.batches(10, 4, 5, np.random.default_rng(0)))
    seen = np.concatenate(batches)
    assert sorted(seen[:10]) == list(range(10)) == sorted(seen[10:])


def test_augmentation_shifts_and_mirrors_but_keeps_pixels() -> None:
    """Each output is some shift and flip of its own image: same size, no foreign values, and without shift or flip,
    itself.
    """
    images = np.arange(3 * 8 * 8 * 3, dtype=np.uint8).reshape(3, 8, 8, 3)
    out = shifted_and_flipped(images, np.array([2, 0, 2, 1]), np.random.default_rng(0))
    assert out.shape == (4, 8, 8, 3)
    for image, source in zip(out, (2, 0, 2, 1), strict=True):
        assert set(image.reshape(-1).tolist()) <= set(images[source].reshape(-1).tolist())


def test_input_is_channels_last_and_resized() -> None:
    """(B, S, S, 3) bytes become (B, 3, R, R) floats around zero."""
    x = to_input(np.full((2, 16, 16, 3), 120, np.uint8), 12)
    assert x.shape == (2, 3, 12, 12)
    assert x.is_contiguous(memory_format=torch.channels_last)
    assert abs(float(x.mean())) < 0.05
