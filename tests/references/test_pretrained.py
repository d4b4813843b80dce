"""Trained weights from elsewhere: files are read, never executed; a library's weights reach the export."""

import hashlib
import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import nas
from nas.cli.exported import export_facts, export_text
from nas.network.build import build
from nas.network.weights import load_weights
from nas.references import pretrained
from nas.references.pretrained import TORCHVISION, find_weights, read_state, twin_of
from nas.references.table import reference
from nas.system.errors import InputError
from tests.network.twins import copied, equal, make_up, twin
from tests.references.hub import Hub

pytestmark = pytest.mark.torch


class Bomb:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (pytest.fail, ("a checkpoint was executed",))


def _zip_bomb(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(1 << 20))


@pytest.mark.parametrize("key", [None, "state_dict", "model", "model_ema", "state_dict_ema"])
def test_checkpoints_are_read_plain_or_nested_with_averaged_weights_first(key: str | None, tmp_path: Path) -> None:
    state = {"layer.weight": torch.ones(2)}
    content = state if key is None else {"epoch": 3, key: state}
    if key in ("model_ema", "state_dict_ema"):
        content["model"] = {"layer.weight": torch.zeros(2)}
    torch.save(content, tmp_path / "x.pth")
    assert equal(read_state(tmp_path / "x.pth"), state)


FILES: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "absent": ("x.pt", lambda path: None, "x.pt"),
    "another ending": ("x.txt", lambda path: path.write_text("weights"), ".safetensors, .pt"),
    "a folder": ("x.pt", lambda path: path.mkdir(), "x.pt"),
    "executable": ("x.pt", lambda path: torch.save({"a": Bomb()}, path), "x."),
    "pickled": ("x.pt", lambda path: path.write_bytes(pickle.dumps({"a": Bomb()})), "x."),
    "garbage": ("x.pt", lambda path: path.write_bytes(bytes(1000)), "x."),
    "empty": ("x.safetensors", lambda path: path.write_bytes(b""), "x."),
    "wild header": ("x.safetensors", lambda path: path.write_bytes(b"\xff" * 64), "x."),
    "a list": ("x.pt", lambda path: torch.save([torch.zeros(1)], path), "x.pt"),
    "too large": ("x.bin", _zip_bomb, "x.bin"),
}


@pytest.mark.parametrize("case", FILES)
def test_bad_files_are_refused_in_one_line(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained, "MAX_BYTES", 1 << 19)
    name, write, says = FILES[case]
    write(tmp_path / name)
    with pytest.raises(InputError) as caught:
        read_state(tmp_path / name)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_librarys_weights_reach_the_network_and_their_checksum_the_facts(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    theirs = twin("timm", "mobilenetv3_small_100")
    save_file(theirs.state_dict(), tmp_path / "x.safetensors")
    hub.files["/model.safetensors"] = (tmp_path / "x.safetensors").read_bytes()
    monkeypatch.setattr(pretrained, "_timm_url", lambda model: (f"{hub.url}/model.safetensors", f"timm's {model}"))
    done = nas.export(
        reference("mobilenet_v3_small", resolution=64), tmp_path / "out", ("onnx", "python"), weights="timm"
    )
    assert done.weights == "timm's mobilenetv3_small_100.lamb_in1k"
    assert done.arch.bn_eps == 1e-5
    digest = hashlib.sha256(hub.files["/model.safetensors"]).hexdigest()
    assert export_facts(done)["weights_sha256"] == digest
    assert digest in export_text(done)
    shipped = load_weights(build(done.arch), read_state(tmp_path / "out" / "weights.safetensors")).eval()
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        assert torch.allclose(shipped(images), theirs(images), atol=1e-4)


def test_weights_of_a_file_or_of_tensors_are_exported_as_they_are(tmp_path: Path) -> None:
    arch = reference("mobilenet_v3_small", resolution=64)
    network = make_up(build(arch, 5))
    state, file = copied(network), tmp_path / "mine.pt"
    torch.save({"state_dict": state}, file)
    for weights, source, digest in (
        (file, str(file), hashlib.sha256(file.read_bytes()).hexdigest()),
        (state, "given", None),
    ):
        done = nas.export(arch, tmp_path / source[-4:], ("python",), num_classes=5, weights=weights)
        assert (done.weights, done.weights_sha256) == (source, digest)
        assert equal(read_state(tmp_path / source[-4:] / "weights.safetensors"), state)
    with pytest.raises(InputError, match="num_classes=5"):
        nas.export(arch, tmp_path / "none", ("python",), num_classes=7, weights=state)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("model", [twin.model for twin in TORCHVISION.values()])
def test_every_file_of_torchvision_has_its_checksum_in_its_name(model: str) -> None:
    """Which `nas.references.download` compares."""
    assert re.search(r"-[0-9a-f]{8,64}\.pth$", pretrained._torchvision_url(model)[0])


def test_a_network_without_a_twin_is_refused_with_those_that_have_one() -> None:
    with pytest.raises(InputError, match="mobilenet_v2, mobilenet_v3_large"):
        find_weights(reference("fbnet_c"), "torchvision")
    assert twin_of(reference("shufflenet_v2@width=1.5,resolution=96"), "torchvision").model == "shufflenet_v2_x1_5"
    assert twin_of(reference("mobilenet_v2@width=1.0"), "torchvision").model == "mobilenet_v2"
