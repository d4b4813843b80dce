"""Trained weights from elsewhere: files are read, never executed; a library's weights reach the export."""

import argparse
import collections
import datetime
import gzip
import hashlib
import json
import os
import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import nas
from nas.cli.exported import export_facts, export_text
from nas.network.build import build
from nas.network.weights import load_weights
from nas.references import pretrained, weight_file
from nas.references.checkpoint import read_checkpoint
from nas.references.pretrained import TORCHVISION, find_weights, read_state, twin_of
from nas.references.table import reference
from nas.system.errors import InputError
from tests.network.twins import copied, equal, make_up, twin
from tests.references.hub import Hub

pytestmark = pytest.mark.torch


def explode(why: str) -> None:
    pytest.fail(why)


class Bomb:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (explode, ("a checkpoint was executed",))


def _zip_bomb(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(1 << 20))


RAW, AVERAGED = {"layer.weight": torch.zeros(2)}, {"layer.weight": torch.ones(2)}
OPTIMIZER = {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 0.1, "params": [0]}]}
PLAIN_KEYS = ["state_dict", "model_state_dict", "model", "net", "network", "weights", "module", "params", "my_net"]
AVERAGED_KEYS = ["state_dict_ema", "model_ema", "ema_state_dict", "ema", "params_ema", "swa_model", "ema_model"]


@pytest.mark.parametrize("key", [None, *PLAIN_KEYS, *AVERAGED_KEYS])
@pytest.mark.parametrize("name", ["x.pth", "x.pth.tar", "x.ckpt", "x.bin", "x", "x.weights"])
def test_checkpoints_are_read_plain_or_nested_whatever_their_suffix(key: str | None, name: str, tmp_path: Path) -> None:
    """Averaged weights come first, and the source says so."""
    is_averaged = key in AVERAGED_KEYS
    expected = AVERAGED if is_averaged else RAW
    content: dict[str | None, Any] = {key: expected, "epoch": 3, "best": torch.tensor(0.5), "optimizer": OPTIMIZER}
    if is_averaged:
        content = {"model": RAW, **content}
    torch.save(RAW if key is None else content, tmp_path / name)
    found = find_weights(reference("mobilenet_v2"), tmp_path / name)
    assert equal(dict(found.state_dict), expected)
    assert found.source == f"{tmp_path / name}{f' (EMA weights: {key})' if is_averaged else ''}"


STATISTICS = {"layer.running_mean": torch.full((2,), 5.0)}
NESTED: dict[str, tuple[dict[str, Any], dict[str, torch.Tensor], str]] = {
    "deep": ({"checkpoint": {"model": {"state_dict": RAW}}}, RAW, ""),
    "in an average": ({"net": RAW, "ema": {"decay": 0.9, "shadow": AVERAGED}}, AVERAGED, "EMA weights: ema.shadow"),
    "averaged parameters only": (
        {"model": RAW | STATISTICS, "ema": {f"module.{name}": tensor for name, tensor in AVERAGED.items()}},
        AVERAGED | STATISTICS,
        "EMA weights: ema",
    ),
    "averages beside (Lightning)": (
        {"state_dict": {"model.layer.weight": torch.zeros(2), "ema_model.module.layer.weight": torch.ones(2)}},
        {"module.layer.weight": torch.ones(2)},
        "EMA weights: state_dict.ema_model",
    ),
    "a loss and a second network": ({"generator": RAW, "discriminator": AVERAGED, "criterion": AVERAGED}, RAW, ""),
    "no averages yet": ({"model": RAW, "model_ema": None}, RAW, ""),
    "plain values at the top": ({**RAW, "epoch": 3, "classes": ["a", "b"]}, RAW, ""),
}


@pytest.mark.parametrize("case", NESTED)
def test_the_right_weights_of_a_checkpoint_are_found(case: str, tmp_path: Path) -> None:
    content, expected, note = NESTED[case]
    torch.save(content, tmp_path / "x.pt")
    found = read_checkpoint(tmp_path / "x.pt")
    assert equal(found.tensors, expected)
    assert found.note == note


class AttributeDict(dict[str, Any]):
    """As Lightning keeps its hyperparameters."""


class Config:
    """A class that is not there when the checkpoint is read."""

    def __init__(self) -> None:
        self.sizes = np.arange(3)


BESIDE: dict[str, Any] = {
    "argparse": argparse.Namespace(lr=0.1, data="photos", resume=None),
    "path": {"out": Path("runs/1"), "at": datetime.datetime(2026, 1, 31)},
    "numpy": {"best": np.float64(0.5), "seeds": np.arange(3), "kind": np.dtype("int8")},
    "containers": {"a": collections.defaultdict(list, a=[1]), "b": collections.Counter("ab"), "c": {1, 2}},
    "dict of a library": AttributeDict(lr=0.1),
    "class of a script": Config(),
    "code": Bomb(),
}


@pytest.mark.parametrize("is_zip", [True, False])
@pytest.mark.parametrize("case", BESIDE)
def test_objects_beside_the_weights_are_skipped_and_never_executed(case: str, is_zip: bool, tmp_path: Path) -> None:
    content = {"args": BESIDE[case], "model": RAW, "history": [BESIDE[case]], "scheduler": BESIDE[case]}
    torch.save(content, tmp_path / "x.pth.tar", _use_new_zipfile_serialization=is_zip)
    assert equal(read_state(tmp_path / "x.pth.tar"), RAW)


def _zip_of(*names: str) -> Callable[[Path], object]:
    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            for name in names:
                archive.writestr(name, b"x")

    return write


def _scripted(path: Path) -> None:
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)), path)


def _folder(*names: str) -> Callable[[Path], object]:
    def write(path: Path) -> None:
        path.mkdir()
        for name in names:
            (path / name).write_bytes(b"x")

    return write


def _bytes(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


def _cut_off(path: Path) -> None:
    torch.save(RAW, path)
    path.write_bytes(path.read_bytes()[:-100])


# What writes the file, and what the error names.
FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "absent": (lambda path: None, "no weights"),
    "empty": (_bytes(b""), "empty"),
    "text": (_bytes(b"weights\n"), "text"),
    "a folder": (_folder(), "folder"),
    "a folder with weights": (_folder("a.txt", "model.safetensors"), "model.safetensors"),
    "an unpacked checkpoint": (_folder("data.pkl", "version"), "unpacked"),
    "a distributed checkpoint": (_folder(".metadata", "__0_0.distcp"), "dcp_to_torch"),
    "TensorFlow": (_folder("saved_model.pb", "variables"), "TensorFlow"),
    "only code": (lambda path: torch.save({"a": Bomb()}, path), "explode"),
    "only code, as such": (lambda path: torch.save(Bomb(), path), "explode"),
    "a system call": (lambda path: torch.save({"model": RAW, "a": os.getcwd}, path), "getcwd"),
    "pickled": (lambda path: path.write_bytes(pickle.dumps({"a": Bomb()})), "pickle"),
    "a whole model": (lambda path: torch.save(torch.nn.Linear(2, 2), path), "torch.nn.modules.linear.Linear"),
    "a whole model, nested": (lambda path: torch.save({"model": torch.nn.Linear(2, 2)}, path), "'model'"),
    "TorchScript": (_scripted, "TorchScript"),
    "garbage": (_bytes(bytes(1000)), "unknown format"),
    "wild header": (_bytes(b"\xff" * 64), "unknown format"),
    "damaged safetensors": (_bytes((9).to_bytes(8, "little") + b"{'no json" + bytes(8)), "safetensors"),
    "cut off": (_cut_off, "cut off"),
    "git-lfs": (_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"), "git lfs pull"),
    "HTML": (_bytes(b"\n<!DOCTYPE html><html><body>Sign in</body></html>"), "HTML"),
    "JSON": (_bytes(b'{"error": "not found"}'), "JSON"),
    "an index without shards": (_bytes(b'{"weight_map": {"a": "x-00001.safetensors"}}'), "x-00001.safetensors"),
    "an index of elsewhere": (_bytes(b'{"weight_map": {"a": "../x.safetensors"}}'), "x.safetensors"),
    "a zip": (_zip_of("a/best.pth"), "a/best.pth"),
    "Keras": (_zip_of("config.json", "model.weights.h5"), "Keras"),
    "HDF5": (_bytes(b"\x89HDF\r\n\x1a\n" + bytes(64)), "Keras"),
    "npz": (lambda path: np.savez(path.open("wb"), a=np.ones(2)), ".npz"),
    "npy": (lambda path: np.save(path.open("wb"), np.ones(2)), "numpy"),
    "gzip": (lambda path: path.write_bytes(gzip.compress(b"x")), "gzip"),
    "TensorFlow Lite": (_bytes(b"\x1c\0\0\0TFL3" + bytes(64)), "TensorFlow Lite"),
    "ONNX": (_bytes(b"\x08\x0a\x12\x07pytorch" + bytes(64)), "ONNX"),
    "a list": (lambda path: torch.save([torch.zeros(1)], path), "tensors by name"),
    "no weights": (lambda path: torch.save({"epoch": 3, "optimizer": OPTIMIZER}, path), "tensors by name"),
    "two networks": (lambda path: torch.save({"alice": RAW, "bob": AVERAGED}, path), "'alice', 'bob'"),
    "too large": (_zip_bomb, "MiB"),
}


@pytest.mark.parametrize("suffix", ["", ".pth", ".safetensors"])
@pytest.mark.parametrize("case", FILES)
def test_what_holds_no_weights_is_named_in_one_line(
    case: str, suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weight_file, "MAX_BYTES", 1 << 19)
    write, says = FILES[case]
    path = tmp_path / f"given{suffix}"
    write(path)
    with pytest.raises(InputError) as caught:
        read_state(path)
    text = str(caught.value)
    assert says in text
    assert str(path) in text
    assert text.isprintable()  # one line, without escape codes


def _network(name: str = "mobilenet_v3_small") -> tuple[nas.Arch, dict[str, torch.Tensor]]:
    arch = reference(name, width=0.5, resolution=64)
    return arch, copied(make_up(build(arch, 5)))


def _on_cuda(state: dict[str, torch.Tensor], path: Path) -> None:
    """As a machine with a GPU writes it: the place of every tensor is cuda:0."""
    torch.save(state, path.with_suffix(".cpu"))
    with zipfile.ZipFile(path.with_suffix(".cpu")) as before, zipfile.ZipFile(path, "w") as after:
        for name in before.namelist():
            content = before.read(name)
            if name.endswith("data.pkl"):
                content = content.replace(b"X\x03\0\0\0cpu", b"X\x06\0\0\0cuda:0")
            after.writestr(name, content)


def _sharded(state: dict[str, torch.Tensor], path: Path) -> None:
    """As Hugging Face writes large models. Shards do not follow the order of layers."""
    names = list(state)
    parts = {f"model-{at + 1:05}-of-00002.safetensors": names[at::2] for at in range(2)}
    for file, part in parts.items():
        save_file({name: state[name] for name in part}, path.parent / file)
    index = {"metadata": {}, "weight_map": {name: file for file, part in parts.items() for name in part}}
    path.write_text(json.dumps(index), encoding="utf-8")


FORMS: dict[str, Callable[[dict[str, torch.Tensor], Path], object]] = {
    "cuda": _on_cuda,
    "shards": _sharded,
    "before torch 1.6": lambda state, path: torch.save(state, path, _use_new_zipfile_serialization=False),
    "parameters": lambda state, path: torch.save(
        {n: torch.nn.Parameter(t, requires_grad=False) for n, t in state.items()}, path
    ),
    "double precision": lambda state, path: torch.save(
        {n: t.double() if t.is_floating_point() else t for n, t in state.items()}, path
    ),
    "DDP and compile, in Lightning": lambda state, path: torch.save(
        {"state_dict": {f"model._orig_mod.module.{n}": t for n, t in state.items()}, "callbacks": {"x": 1}}, path
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_file_gives_the_same_weights(form: str, tmp_path: Path) -> None:
    arch, state = _network()
    FORMS[form](state, tmp_path / "x")
    assert equal(copied(load_weights(build(arch, 5), find_weights(arch, tmp_path / "x").state_dict)), state)


@pytest.mark.parametrize("length", [0x7B20, 0x120108])
def test_a_safetensors_file_is_known_whatever_the_length_of_its_header_looks_like(length: int, tmp_path: Path) -> None:
    """The lengths begin like JSON (a blank and a brace) and like a TensorFlow model."""
    save_file(RAW, tmp_path / "x")
    content = (tmp_path / "x").read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    header = content[8:end].ljust(length)
    (tmp_path / "x").write_bytes(length.to_bytes(8, "little") + header + content[end:])
    assert equal(read_state(tmp_path / "x"), RAW)


def test_the_checksum_of_shards_changes_with_each_of_them(tmp_path: Path) -> None:
    arch, state = _network()
    sums = set()
    for change in (None, "features.0.0.weight", "features.0.1.weight"):
        _sharded({n: t + (n == change) for n, t in state.items()}, tmp_path / "x")
        sums.add(find_weights(arch, tmp_path / "x").sha256)
    assert len(sums) == 3


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
def test_quantised_weights_are_refused_by_name(tmp_path: Path) -> None:
    arch, state = _network()
    state["features.0.0.weight"] = torch.quantize_per_tensor(state["features.0.0.weight"], 0.1, 0, torch.qint8)
    torch.save(state, tmp_path / "x.pt")
    with pytest.raises(InputError, match=r"features.0.0.weight of torch.qint8.*quantisation"):
        load_weights(build(arch, 5), read_state(tmp_path / "x.pt"))


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
