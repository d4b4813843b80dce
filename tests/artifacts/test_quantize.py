"""int8: the files run, agree with float, depend on the images, and are compared correctly."""

import re
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

import nas
from nas.arch.arch import Arch
from nas.arch.block import Block
from nas.artifacts.export import Exported, export
from nas.artifacts.int8_images import int8_images
from nas.artifacts.quantize import Int8Images, compared, int8_onnx
from nas.cli.exported import export_text
from nas.data.generated import CLASSES, generate
from nas.data.pixels import NORMALISATIONS, normalisation
from nas.latency.record import Latency
from nas.latency.remote.check import check_model
from nas.latency.runtimes.onnxruntime import onnx_session
from nas.network.build import build
from nas.network.serialize.onnx import onnx_bytes
from nas.system.errors import InputError, NasError
from nas.training.small_maps import adapt
from tests.cli.test_cli import images as noise_folder

pytestmark = pytest.mark.torch

SIDE = 32
# All arithmetic that int8 may spoil: relu6, h_swish, swish, SE with both gates, a residual and a linear layer.
ARCH = Arch(
    (
        Block("conv", 16, 3, 2, act="relu6"),
        Block("mbconv", 16, 3, 1, expand=3, se=0.25, act="h_swish"),
        Block("mbconv", 48, 5, 2, expand=4, se=0.25, act="swish", se_base="input", se_gate="sigmoid"),
        Block("pool"),
        Block("linear", 256, act="h_swish"),
    ),
    resolution=SIDE,
)


def inputs(pixels: np.ndarray) -> np.ndarray:
    return NORMALISATIONS["nas"](pixels, SIDE)


def some_images(classes: int = len(CLASSES), seed: int = 5) -> Int8Images:
    held_out, labels = generate(200, SIDE, seed=seed)
    return Int8Images("generated", classes, generate(64, SIDE, seed=4)[0], held_out, labels, inputs, "nas")


@pytest.fixture(scope="module")
def trained() -> dict[str, Tensor]:
    """Weights that classify the generated images well above chance, from a few seconds of training."""
    steps, batch, peak = 120, 32, 4e-3
    pixels, labels = generate(2000, SIDE, seed=3)
    x = torch.from_numpy(inputs(pixels)).contiguous(memory_format=torch.channels_last)
    y = torch.from_numpy(labels)
    network = adapt(build(ARCH, len(CLASSES))).train()
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.Adam(network.parameters())
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = peak * min(1, 10 * (step + 1) / steps, max(0.05, 2 * (1 - step / steps)))
        indices = torch.arange(batch * step, batch * (step + 1)) % len(x)
        loss = F.cross_entropy(network(x[indices]), y[indices])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return {name: tensor.contiguous() for name, tensor in network.state_dict().items()}


@pytest.fixture(scope="module")
def exported(trained: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Exported:
    pytest.importorskip("executorch")
    return export(
        ARCH,
        tmp_path_factory.mktemp("out"),
        ("onnx", "executorch"),
        num_classes=len(CLASSES),
        threads=None,
        weights=trained,
        images=some_images(),
    )


@pytest.mark.executorch
def test_the_pte_file_computes_what_pytorch_computes(exported: Exported, trained: dict[str, Tensor]) -> None:
    """Within 1e-3 of the largest output, on images the export did not check with."""
    from nas.latency.runtimes.executorch import pte_run

    network = build(ARCH, len(CLASSES)).eval()
    network.load_state_dict(trained)
    run = pte_run(exported.files[0].parent / "model.pte")
    images = inputs(generate(4, SIDE, seed=9)[0])
    with torch.inference_mode():
        expected = network(torch.from_numpy(images)).numpy()
    found = np.concatenate([run(image[None]) for image in images])
    assert np.abs(found - expected).max() <= 1e-3 * np.abs(expected).max()
    assert np.abs(expected[0] - expected[1]).max() > 0.1, "a dead signal compares equal to anything"
    assert exported.pte_max_abs_diff is not None


@pytest.mark.executorch
def test_int8_keeps_the_classes_of_a_trained_network(exported: Exported) -> None:
    """For both runtimes: far above chance in float, and hardly worse in int8."""
    assert [int8.runtime for int8 in exported.int8] == ["onnxruntime", "executorch"]
    for int8 in exported.int8:
        assert int8.accuracy_before is not None
        assert int8.accuracy_after is not None
        assert int8.accuracy_before > 4 / len(CLASSES)
        assert int8.accuracy_after > int8.accuracy_before - 0.1
        assert int8.agreement > 0.8
        assert int8.file.stat().st_size == int8.bytes_after < int8.bytes_before
        assert int8.latency_after is None


@pytest.mark.executorch
def test_int8_files_are_integer_inside_and_float_outside(exported: Exported) -> None:
    """The ONNX file takes any batch, as the float file does, and an agent accepts it; its weights have 8 bits, with one
    scale per output channel."""
    file = exported.int8[0].file
    check_model(file.read_bytes())
    session = onnx_session(file, threads=1)
    assert session.run(None, {"image": np.zeros((3, 3, SIDE, SIDE), np.float32)})[0].shape == (3, len(CLASSES))
    tensors = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in onnx.load(file).graph.initializer}
    kernels = [value for value in tensors.values() if value.ndim == 4]
    assert kernels
    assert all(value.dtype == np.int8 for value in kernels)
    assert all(abs(value.astype(int)).max((1, 2, 3)).min() >= 126 for value in kernels)


def test_the_images_set_the_ranges(trained: dict[str, Tensor]) -> None:
    """Equal images give equal files; images of half the contrast give others."""
    network = build(ARCH, len(CLASSES)).eval()
    network.load_state_dict(trained)
    model, given = onnx_bytes(network, SIDE, batch=None), some_images()
    faint = Int8Images("faint", given.classes, given.range_images // 2, given.held_out, given.labels, inputs, "nas")
    first, second, other = (int8_onnx(model, images) for images in (given, some_images(), faint))
    assert first == second
    assert first != other


def test_comparing_counts_what_it_says() -> None:
    """Against counts known by construction: one network errs on the first 50 images, the other on images 40 to 59."""
    given = some_images()
    answers = {image.tobytes(): at for at, image in enumerate(inputs(given.held_out))}

    def run(wrong: set[int]):  # type: ignore[no-untyped-def]
        def logits(images: np.ndarray) -> np.ndarray:
            at = [answers[image.tobytes()] for image in images]
            chosen = [(given.labels[i] + (i in wrong)) % given.classes for i in at]
            return np.eye(given.classes, dtype=np.float32)[chosen]

        return logits

    before, after = run(set(range(50))), run(set(range(40, 60)))
    assert compared(before, after, given, given.classes, batch=16) == (0.75, 0.9, 0.75)
    assert compared(before, after, given, given.classes + 1, batch=1) == (None, None, 0.75)


def test_what_int8_cannot_use_is_one_line_and_nothing_is_written(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(InputError, match=r"python.*--format"):
        nas.export(ARCH, out, ("python",), int8=True, data="cifar10")
    with pytest.raises(InputError, match="--data"):
        nas.export(ARCH, out, ("onnx",), int8=True)
    with pytest.raises(InputError, match="--int8"):
        nas.export(ARCH, out, ("onnx",), data="cifar10")
    with pytest.raises(InputError, match=r"nowhere.*cifar10"):
        nas.export(ARCH, out, ("onnx",), int8=True, data=str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match=r"'mine'.*imagenet"):
        nas.export(ARCH, out, ("onnx",), int8=True, data=noise_folder(tmp_path / "a", 2, 30), normalise="mine")
    with pytest.raises(InputError, match=r"at least 8 .* got 4"):
        Int8Images(
            "few", 2, np.zeros((4, 8, 8, 3), np.uint8), np.zeros((9, 8, 8, 3), np.uint8), np.zeros(9), inputs, ""
        )
    assert not out.exists()


def test_a_network_that_cannot_be_quantised_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime.quantization as theirs

    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("first line\nsecond line")

    monkeypatch.setattr(theirs, "quantize_static", fails)
    with pytest.raises(NasError, match=r"ONNX Runtime.*RuntimeError: first line second line"):
        export(ARCH, tmp_path / "out", ("onnx",), num_classes=len(CLASSES), threads=None, images=some_images())
    assert not (tmp_path / "out").exists()


def test_a_wrong_pte_file_is_refused_and_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check compares numbers: hand it a run that is off by one percent."""
    pytest.importorskip("executorch")
    network = build(ARCH, 5).eval()

    def off(model: bytes) -> object:
        return lambda images: 1.01 * network(torch.from_numpy(images)).detach().numpy()

    monkeypatch.setattr(sys.modules["nas.artifacts.export"], "pte_run", off)
    monkeypatch.setattr(sys.modules["nas.artifacts.export"], "pte_bytes", lambda network, resolution: b"")
    with pytest.raises(NasError, match="ExecuTorch"):
        export(ARCH, tmp_path / "out", ("executorch",), num_classes=5, weights=network.state_dict())
    assert not (tmp_path / "out").exists()


def test_images_that_set_ranges_do_not_score(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through `nas.export`: classes come from the folder, libraries print nothing, and untrained weights are noted."""
    took = iter([2.0, 1.0, 2.0, 3.0])
    monkeypatch.setattr(
        sys.modules["nas.artifacts.export"],
        "measure_onnx",
        lambda model, threads: Latency(next(took), 0.1, 9, "device", "onnxruntime", 1, 1, "measured"),
    )
    data = noise_folder(tmp_path / "data", 3, 30)
    images = int8_images(data, SIDE, "imagenet")
    assert (len(images.range_images), len(images.held_out), images.classes) == (72, 18, 3)
    assert not {image.tobytes() for image in images.range_images} & {image.tobytes() for image in images.held_out}
    capfd.readouterr()
    done = nas.export(ARCH, tmp_path / "out", ("onnx",), int8=True, data=data)
    assert capfd.readouterr() == ("", "")
    assert done.num_classes == 3
    assert {path.name for path in done.files} == {"arch.json", "model.onnx", "model.int8.onnx", "classes.txt"}
    assert {path.name for path in done.files} == {path.name for path in (tmp_path / "out").iterdir()}
    text = export_text(done)
    assert text.count("untrained") == 2
    assert re.search(r"int8 with .* 72 .* 18 ", text)
    assert re.search("2 -> 1 ms.*2.00 times faster", text)
    other = nas.export(ARCH, tmp_path / "out", ("onnx",), int8=True, data=data, num_classes=1000)
    text = export_text(other)
    assert re.search("accuracy unknown.*1000 classes", text)
    assert re.search("2 -> 3 ms.*1.50 times SLOWER", text)


@pytest.mark.slow
def test_a_published_network_is_exported_quantised_and_timed_at_its_own_size(tmp_path: Path) -> None:
    """Untrained weights: what holds for any is that the files run, are small, and are timed."""
    pytest.importorskip("executorch")
    data = noise_folder(tmp_path / "data", 2, 30)
    done = nas.export("mobilenet_v3_large", tmp_path / "out", ("onnx", "executorch"), int8=True, data=data)
    assert done.pte_measured is not None
    for int8 in done.int8:
        assert int8.latency_after is not None
        assert int8.bytes_after < 0.35 * int8.bytes_before


def test_normalisations_are_those_of_their_libraries() -> None:
    """Mid-grey and white against the formula, (pixel / 255 - mean) / std."""
    pixels = np.stack([np.full((8, 8, 3), value, np.uint8) for value in (128, 255)])
    for how in NORMALISATIONS.values():
        found = how(pixels, 8)
        for image, value in zip(found, (128, 255), strict=True):
            expected = (value / 255 - np.array(how.mean)) / np.array(how.std)
            assert np.allclose(image, expected.reshape(3, 1, 1), atol=1e-5)
    assert str(normalisation("half")).count("0.5") == 2
    bigger = normalisation("imagenet")(pixels, 16)
    assert bigger.shape == (2, 3, 16, 16)
    assert bigger.dtype == np.float32


def test_image_files_reach_the_network_upright_in_colour(tmp_path: Path) -> None:
    """Red stays red: channel order and scale, from the file to the input."""
    for label, colour in enumerate([(255, 0, 0), (0, 0, 255)]):
        (tmp_path / f"c{label}").mkdir()
        for at in range(20):
            Image.new("RGB", (40 + at, 40), colour).save(tmp_path / f"c{label}" / f"{at}.png")
    found = int8_images(tmp_path, SIDE, "none")
    red = found.held_out[found.labels == 0]
    assert np.allclose(found.to_input(red).mean((0, 2, 3)), [1, 0, 0], atol=0.02)
