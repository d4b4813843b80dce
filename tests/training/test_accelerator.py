"""Training on an accelerator: which is chosen, which numbers it computes with, and that every tensor lives there."""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from nas.data.augment import shifted_and_flipped, to_input
from nas.system.errors import InputError
from nas.training import accelerator as module
from nas.training import images, proxy
from nas.training.accelerator import Accelerator, choose, choose_for, visible_gpus
from nas.training.images import DeviceImages
from nas.training.proxy import DivergedError, train_proxy
from tests.training.fake_accelerator import META, FakeAccelerator
from tests.training.test_proxy import ARCH, QUICK, made_of, stripes

pytestmark = pytest.mark.torch


@pytest.fixture(autouse=True)
def no_images_held() -> Any:
    """Each test moves its own images."""
    images._held.clear()
    yield
    images._held.clear()


@pytest.mark.parametrize(
    ("name", "cuda", "mps", "kind"),
    [
        ("auto", True, True, "cuda"),
        ("auto", False, True, "mps"),
        ("auto", False, False, "cpu"),
        ("cpu", True, True, "cpu"),
        ("cuda", True, False, "cuda"),
        ("mps", True, True, "mps"),
    ],
)
def test_choice(name: str, cuda: bool, mps: bool, kind: str) -> None:
    """CUDA, then MPS, then the CPU, unless one is named."""
    assert choose(name, cuda=cuda, mps=mps) == kind


@pytest.mark.parametrize("name", ["cuda", "mps", "tpu", None])
def test_what_is_not_there_is_refused_in_one_line(name: Any) -> None:
    """The value and what to use instead."""
    with pytest.raises(InputError, match=rf"cpu.*{name}|{name}.*cpu") as error:
        choose(name, cuda=False, mps=False)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "gpus", "ray", "elsewhere", "kind"),
    [
        ("auto", 0, False, False, "cuda"),
        ("auto", 0.25, False, False, "cuda"),
        ("auto", 0.25, True, False, "cuda"),
        ("auto", 0.25, True, True, "cuda"),
        ("auto", 0, True, False, "cpu"),
        ("auto", 0, True, True, "cpu"),
        ("cpu", 0, True, True, "cpu"),
        ("mps", 0, True, True, "mps"),
    ],
)
def test_choice_for_a_search(name: str, gpus: float, ray: bool, elsewhere: bool, kind: str) -> None:
    """A Ray task has a GPU only if it reserves one; what a cluster has is for Ray to say."""
    assert choose_for(name, gpus, ray=ray, elsewhere=elsewhere, cuda=not elsewhere, mps=False) == kind


@pytest.mark.parametrize(
    ("name", "gpus", "ray", "cuda", "named"),
    [
        ("auto", 0.25, True, False, r"gpus-per-trial.*0\.25"),
        ("auto", 0.25, False, False, r"gpus-per-trial.*0\.25"),
        ("cuda", 0, True, True, "gpus-per-trial"),
        ("cuda", 0.25, True, False, "cuda.*cpu"),
    ],
)
def test_gpus_that_nobody_would_use_are_refused(name: str, gpus: float, ray: bool, cuda: bool, named: str) -> None:
    """Neither is a GPU reserved for trainings on the CPU, nor do Ray tasks use one they did not reserve."""
    with pytest.raises(InputError, match=named):
        choose_for(name, gpus, ray=ray, cuda=cuda, mps=False)


def test_pytorch_is_asked_what_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without arguments, availability is PyTorch's."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose("auto") == "mps"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose("auto") == "cuda"


@pytest.mark.parametrize(("kind", "has", "bf16"), [("cuda", True, True), ("cuda", False, False), ("mps", True, False)])
def test_bfloat16_only_where_a_cuda_gpu_has_it(
    monkeypatch: pytest.MonkeyPatch, kind: Any, has: bool, bf16: bool
) -> None:
    """Emulated bfloat16 is slower than float32, and so is the CPU's."""
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: has or including_emulation)
    assert Accelerator.here(kind).bf16 == bf16
    assert Accelerator.here("cpu") == Accelerator()


def test_it_pickles() -> None:
    """It travels to workers."""
    assert pickle.loads(pickle.dumps(Accelerator("cuda", True))) == Accelerator("cuda", True)


def test_every_tensor_of_a_training_is_on_the_device() -> None:
    """No operator meets a tensor of the CPU, with or without resizing, squeeze-and-excitation and group norm."""
    small = replace(QUICK, resolution=12)
    for arch, config in ((ARCH, QUICK), (made_of("mbconv", "group"), small), (made_of("shuffle_v2", "batch"), small)):
        with FakeAccelerator() as fake:
            train_proxy(arch, stripes(), config, 0, META)
        assert not fake.mixed
        assert "convolution_backward" in fake.seen
        assert "addcdiv_" in fake.seen


def test_images_are_moved_once() -> None:
    """The second candidate finds them on the device; other images are moved again."""
    data = stripes()
    whole = {data.train_images.shape, data.val_images.shape}
    with FakeAccelerator() as fake:
        train_proxy(ARCH, data, QUICK, 0, META)
        assert whole <= set(fake.uploads)
        fake.uploads.clear()
        train_proxy(ARCH, data, QUICK, 1, META)
        assert not whole & set(fake.uploads)
        train_proxy(ARCH, replace(data, key="other"), QUICK, 1, META)
        assert whole <= set(fake.uploads)
    assert len(images._held) == 1


def test_training_rarely_waits_for_the_device() -> None:
    """Ten times the steps read no more from the device, as long as they are fewer than `check_every`."""
    reads = []
    for steps in (4, 40):
        with FakeAccelerator() as fake:
            train_proxy(ARCH, stripes(), replace(QUICK, steps=steps), 0, META)
        reads.append(len(fake.reads))
    assert reads[0] == reads[1] <= 4


def test_losses_are_read_every_few_steps() -> None:
    """A training that diverges ends long before its last step, and names the step."""
    diverging = replace(QUICK, lr=100.0, clip=1e9, steps=400)
    watched = _Lazy()
    with pytest.raises(DivergedError, match=r"step \d+ of 400") as lazy:
        train_proxy(ARCH, stripes(), diverging, 0, watched)
    with pytest.raises(DivergedError) as eager:
        train_proxy(ARCH, stripes(), diverging, 0)
    assert str(lazy.value) == str(eager.value)
    assert watched.forwards < 400


class _Lazy(Accelerator):
    """The CPU, with the losses read as seldom as on an accelerator."""

    forwards = 0
    check_every = 50

    def autocast(self) -> Any:
        _Lazy.forwards += 1
        return super().autocast()


def test_reading_losses_late_changes_no_score() -> None:
    """On one device the scores are equal to the last bit."""
    config = replace(QUICK, steps=7)
    first, second = (train_proxy(ARCH, stripes(), config, 0, on) for on in (Accelerator(), _Lazy()))
    assert replace(first, seconds=0) == replace(second, seconds=0)


def test_bfloat16_trains_and_scores_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps compute in bfloat16, weights and scores in float32, and the result is near that of float32."""
    seen = []
    score = proxy.score

    def spied(network: torch.nn.Module, *others: Any) -> Any:
        hook = network.register_forward_hook(lambda _, __, out: seen.append(out.dtype))
        result = score(network, *others)
        hook.remove()
        seen.extend(p.dtype for p in network.parameters())
        return result

    monkeypatch.setattr(proxy, "score", spied)
    config = replace(QUICK, steps=60)
    mixed = train_proxy(ARCH, stripes(), config, 0, Accelerator(bf16=True))
    exact = train_proxy(ARCH, stripes(), config, 0)
    assert set(seen) == {torch.float32}
    assert mixed.train_loss != exact.train_loss
    assert mixed.train_loss == pytest.approx(exact.train_loss, abs=0.1)


def test_augmentation_on_a_device_is_that_of_the_cpu() -> None:
    """The same images with the same shifts and flips, drawn by the same generator, and the same state after it."""
    data = stripes()
    batch = np.array([3, 199, 0, 3, 77])
    ours, theirs = np.random.default_rng(7), np.random.default_rng(7)
    arrays = shifted_and_flipped(data.train_images, batch, ours)
    tensors = shifted_and_flipped(torch.from_numpy(data.train_images), batch, theirs)
    assert np.array_equal(arrays, tensors.numpy())
    assert ours.random() == theirs.random()
    assert torch.equal(to_input(arrays, 12), to_input(tensors, 12))


@pytest.mark.parametrize(("size", "side"), [(24, 20), (24, 16), (16, 24), (17, 8)])
def test_resizing_on_a_device_is_that_of_the_cpu(size: int, side: int) -> None:
    """As a product of matrices: MPS has no antialiased interpolation."""
    from nas.data import augment

    x = torch.rand(3, 3, size, size)
    weights = torch.from_numpy(augment._resizing(size, side))
    torch.testing.assert_close(weights @ x @ weights.T, augment._resized(x, side), atol=1e-6, rtol=1e-5)


def test_device_images_are_those_of_the_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tensors on a device give the batches that arrays give."""
    data = stripes()
    arrays = DeviceImages.of(data, torch.device("cpu"))
    tensors = DeviceImages(*(torch.from_numpy(getattr(data, name)) for name in DeviceImages.__dataclass_fields__))
    assert isinstance(arrays.train_images, np.ndarray)
    batch = np.array([5, 1, 99])
    for one, other in (
        (arrays.augmented(batch, 12, np.random.default_rng(0)), tensors.augmented(batch, 12, np.random.default_rng(0))),
        (arrays.held_out(batch, 12), tensors.held_out(batch, 12)),
    ):
        assert torch.equal(one[0], other[0])
        assert torch.equal(one[1], other[1])


@pytest.mark.parametrize(
    ("on", "error", "full"),
    [
        ("cuda", torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), True),
        ("cuda", RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        ("mps", RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"), True),
        ("cuda", RuntimeError("shape mismatch"), False),
        ("cuda", MemoryError("out of memory"), False),
        ("cpu", RuntimeError("out of memory"), False),
    ],
)
def test_full_memory_is_recognised(on: Any, error: Exception, full: bool) -> None:
    """CUDA's own error, and what cuDNN, cuBLAS and MPS raise in its place; the machine's own memory is another."""
    assert Accelerator(on).ran_out(error) == full


def test_visible_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the names that ``CUDA_VISIBLE_DEVICES`` gives them, or by number."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert visible_gpus() == ("0", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, GPU-5,7")
    assert visible_gpus() == ("3", "GPU-5")


def test_the_global_settings_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither TF32 nor cuDNN's switches change."""

    def state() -> tuple[Any, ...]:
        cudnn = torch.backends.cudnn
        return (
            cudnn.allow_tf32,
            cudnn.benchmark,
            torch.backends.cuda.matmul.allow_tf32,
            torch.is_autocast_enabled("cpu"),
        )

    before = state()
    train_proxy(ARCH, stripes(), replace(QUICK, steps=2), 0, Accelerator(bf16=True))
    assert state() == before
    assert Accelerator("cpu", False) == module.CPU
