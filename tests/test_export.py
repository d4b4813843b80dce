"""Exports: the Python file needs torch alone and computes the same; ONNX does too, at any batch."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from nas.arch import Arch
from nas.build import build
from nas.errors import InputError, NasError
from nas.export import export
from nas.latency.runtimes import onnx_bytes, onnx_session
from nas.references import reference, reference_names
from nas.space_file import load_space

ALONE = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("nas", "safetensors", "torchvision", "numpy"):
            raise ModuleNotFoundError(f"{name} must not be needed", name=name)

sys.meta_path.insert(0, Refuse())
import torch
from model import RESOLUTION, build, load_weights
network = load_weights(build(), "weights.safetensors").eval()
images = torch.randn(2, 3, RESOLUTION, RESOLUTION, generator=torch.Generator().manual_seed(3))
with torch.inference_mode():
    torch.save(network(images), "logits.pt")
"""

ARCHS = {name: reference(name) for name in reference_names()}
ARCHS |= {f"mbconv {seed}": load_space("mbconv").sample(seed) for seed in range(2)}


@pytest.mark.parametrize("name", ARCHS)
def test_model_py_alone_computes_what_we_compute(name: str, tmp_path: Path) -> None:
    arch = ARCHS[name]
    export(arch, tmp_path, formats=("python",), num_classes=7)
    subprocess.run([sys.executable, "-c", ALONE], cwd=tmp_path, check=True, env={"PATH": "", "OMP_NUM_THREADS": "1"})
    images = torch.randn(2, 3, arch.resolution, arch.resolution, generator=torch.Generator().manual_seed(3))
    ours = build(arch, 7)
    ours.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    with torch.inference_mode():
        expected = ours.eval()(images)
    assert expected.std() > 1e-3, "a signal that has died out compares equal to anything"
    theirs = torch.load(tmp_path / "logits.pt", weights_only=True)
    assert torch.allclose(theirs, expected, atol=1e-5)


def test_onnx_has_an_open_batch_and_equal_outputs(tmp_path: Path) -> None:
    arch = reference("mobilenet_v3_small")
    done = export(arch, tmp_path, num_classes=5)
    assert done.max_abs_diff is not None
    assert done.max_abs_diff < 1e-4
    assert done.measured is not None
    assert done.measured.source == "measured"
    session = onnx_session(tmp_path / "model.onnx", threads=1)
    images = np.random.default_rng(1).standard_normal((4, 3, 224, 224), dtype=np.float32)
    ours = build(arch, 5)
    ours.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    with torch.inference_mode():
        expected = ours.eval()(torch.from_numpy(images)).numpy()
    assert np.abs(session.run(None, {"image": images})[0] - expected).max() < 1e-4
    assert Arch.from_json((tmp_path / "arch.json").read_text()) == arch
    assert {path.name for path in done.files} == {path.name for path in tmp_path.iterdir()}


def test_a_wrong_onnx_file_is_refused_and_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check compares numbers: hand it the file of a network with other weights."""
    arch = reference("mobilenet_v3_small")
    other = build(arch, 5, seed=9)
    torch.nn.init.normal_(other.classifier[1].bias, 0, 1)
    monkeypatch.setattr(
        sys.modules["nas.export"], "onnx_bytes", lambda network, resolution, batch: onnx_bytes(other, resolution, batch)
    )
    with pytest.raises(NasError, match="off by"):
        export(arch, tmp_path / "out", num_classes=5)
    assert not (tmp_path / "out").exists()


def test_bad_arguments_are_told(tmp_path: Path) -> None:
    arch = reference("mobilenet_v3_small")
    with pytest.raises(InputError, match="no export format is called 'tflite'; known: onnx, python"):
        export(arch, tmp_path, formats=("tflite",))
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write to"):
        export(arch, tmp_path / "file", formats=("python",))
