"""Weights are carried over by structure: whatever the names, all or nothing, with a clear word on what does not fit."""

import hashlib
import http.server
import pickle
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from safetensors.torch import save_file
from torch import Tensor, nn

import nas
from nas.arch.arch import Arch
from nas.network.build import build
from nas.network.weights import load_weights
from nas.references import pretrained
from nas.references.pretrained import TIMM, TORCHVISION, downloaded, find_weights, read_state, twin_of
from nas.references.table import reference
from nas.system.errors import InputError, NasError
from tests.network.twins import make_up, twin
from tests.strategies import archs

State = dict[str, Tensor]
FAMILIES = [
    *[("torchvision", name) for name in ("mobilenet_v2", "mobilenet_v3_small", "mnasnet_b1@width=0.5")],
    *[("torchvision", name) for name in ("efficientnet_b0", "efficientnet_v2_s", "shufflenet_v2@width=0.5")],
    *[("timm", name) for name in ("mobilenet_v1", "mobilenet_v2", "mobilenet_v3_small", "mnasnet_a1", "mnasnet_b1")],
    *[("timm", name) for name in ("fbnet_c", "mobilenet_v4_conv_small", "mobilenet_v4_conv_medium", "efficientnet_b0")],
]


def copied(network: nn.Module) -> State:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def equal(one: State, other: State) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


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
def test_every_writing_of_a_state_dict_maps_alike(library: str, name: str, tmp_path: Path) -> None:
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
        "our features.0.0.weight (32, 3, 3, 3) of row 0 (ConvNormAct) meets their net.features.0.0.weight "
        "(24, 3, 3, 3)",
    ),
    "other classes": (lambda: _state(classes=7), "the classifier has 7 classes there and 1000 here; build with num_c"),
    "a tensor missing": (
        lambda: _without("net.features.2.layers.1.1.running_mean"),
        "our features.2.layers.1.1.running_mean (96,) of row 2 (MBConv) has no counterpart in "
        "their net.features.2.layers.1.1.weight (96,)",
    ),
    "a layer missing": (
        lambda: _without(*(f"net.features.2.layers.1.1.{leaf}" for leaf in BN)),
        "our features.2.layers.1.1.weight (96,) of row 2 (MBConv) meets their "
        "net.features.2.layers.2.0.weight (24, 96, 1, 1)",
    ),
    "the last layer missing": (
        lambda: _without("net.classifier.1.weight", "net.classifier.1.bias"),
        "our classifier.1.weight (1000, 1280) is missing",
    ),
    "one layer more": (
        lambda: _state() | {"net.classifier.2.weight": torch.zeros(3, 1000)},
        "their net.classifier.2.weight (3, 1000) comes after our last layer",
    ),
    "one tensor more": (
        lambda: _state() | {"net.features.0.0.bias": torch.zeros(32)},
        "net.features.0.0.bias has no counterpart in our features.0.0",
    ),
    "whole numbers": (
        lambda: _state() | {"net.features.0.0.weight": torch.zeros(32, 3, 3, 3, dtype=torch.int8)},
        "plain tensors of floats, got net.features.0.0.weight of torch.int8",
    ),
    "sparse": (
        lambda: _state() | {"net.classifier.1.weight": torch.zeros(1000, 1280).to_sparse()},
        "plain tensors of floats",
    ),
    "no tensor": (lambda: _state() | {"net.epoch": 3}, "got 'net.epoch': int"),
    "not a dict": (lambda: [torch.zeros(1)], "a dict of at most"),
    "empty": (lambda: {}, "our features.0.0.weight (32, 3, 3, 3) of row 0 (ConvNormAct) is missing"),
    "deep": (lambda: {".".join("a" * 2000): torch.zeros(1)}, "at most 32 names deep"),
    "many siblings": (
        lambda: {f"a{at}.weight": torch.zeros(at + 1, 2) for at in range(200)},
        "at most 128 unnumbered names",
    ),
}


@pytest.mark.parametrize("case", MISFITS)
def test_what_does_not_fit_is_told_and_nothing_is_changed(case: str) -> None:
    make, says = MISFITS[case]
    ours = build(reference("mobilenet_v2"))
    before = copied(ours)
    with pytest.raises(InputError) as caught:
        load_weights(ours, make())
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert equal(copied(ours), before)


def test_the_work_of_ordering_is_bounded() -> None:
    """Branches that begin alike, and of which the last end is wrong: every order looks promising until then."""
    ours = nn.Sequential(*[nn.Linear(2, 2, bias=False) for _ in range(39)], nn.Linear(3, 2, bias=False))
    state = {f"b{at}.{inner}.weight": torch.zeros(2, 2) for at in range(20) for inner in range(2)}
    with pytest.raises(InputError, match=r"our 39.weight \(2, 3\) meets .* \(after 100000 tried orders"):
        load_weights(ours, state)


# --- files


class Bomb:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (pytest.fail, ("a checkpoint was executed",))


def _zip_bomb(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(1 << 20))


@pytest.mark.parametrize("key", [None, "state_dict", "model", "model_ema", "state_dict_ema"])
def test_checkpoints_are_read_plain_or_nested_and_averaged_weights_come_first(key: str | None, tmp_path: Path) -> None:
    state = {"layer.weight": torch.ones(2)}
    content = state if key is None else {"epoch": 3, key: state}
    if key in ("model_ema", "state_dict_ema"):
        content["model"] = {"layer.weight": torch.zeros(2)}
    torch.save(content, tmp_path / "x.pth")
    assert equal(read_state(tmp_path / "x.pth"), state)


FILES: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "absent": ("x.pt", lambda path: None, "no weights at"),
    "another ending": ("x.txt", lambda path: path.write_text("weights"), "give a file ending in .safetensors, .pt"),
    "a folder": ("x.pt", lambda path: path.mkdir(), "no weights at"),
    "executable": ("x.pt", lambda path: torch.save({"a": Bomb()}, path), "cannot read weights from"),
    "pickled": ("x.pt", lambda path: path.write_bytes(pickle.dumps({"a": Bomb()})), "cannot read weights from"),
    "garbage": ("x.pt", lambda path: path.write_bytes(bytes(1000)), "cannot read weights from"),
    "empty": ("x.safetensors", lambda path: path.write_bytes(b""), "cannot read weights from"),
    "wild header": ("x.safetensors", lambda path: path.write_bytes(b"\xff" * 64), "cannot read weights from"),
    "a list": ("x.pt", lambda path: torch.save([torch.zeros(1)], path), "holds no tensors by name"),
    "too large": ("x.bin", _zip_bomb, "weights are at most"),
}


@pytest.mark.parametrize("case", FILES)
def test_bad_files_are_told(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained, "MAX_BYTES", 1 << 19)
    name, write, says = FILES[case]
    write(tmp_path / name)
    with pytest.raises(InputError) as caught:
        read_state(tmp_path / name)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


# --- downloads


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[tuple[str, dict[str, bytes], list[str]]]:
    """A web server with the files put into its dict, and the list of what it was asked for; an empty cache."""
    files: dict[str, bytes] = {}
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            data = files.get(self.path)
            self.send_response(404 if data is None else 200)
            extra = 10 if "short" in self.path else 0
            self.send_header("Content-Length", str(len(data or b"") + extra))
            self.end_headers()
            self.wfile.write(data or b"")

        def log_message(self, format: str, *args: Any) -> None: ...

    monkeypatch.setenv("NAS_CACHE", str(tmp_path / "cache"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as web:
        thread = threading.Thread(target=web.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{web.server_address[1]}", files, asked
        web.shutdown()
        thread.join()


def test_a_download_is_checked_and_kept(server: tuple[str, dict[str, bytes], list[str]]) -> None:
    base, files, asked = server
    data = b"weights"
    good = f"/a/net-{hashlib.sha256(data).hexdigest()[:8]}.pth"
    files |= {good: data, "/a/net-00000000.pth": data, "/a/short.pth": data}
    assert downloaded(base + good).read_bytes() == data
    assert downloaded(base + good).read_bytes() == data
    assert asked == [good]
    for path, says in (("/a/net-00000000.pth", "checksum"), ("/a/none.pth", "404"), ("/a/short.pth", "part")):
        with pytest.raises(NasError, match=says) as caught:
            downloaded(base + path)
        assert caught.value.exit_code == 1
        assert "\n" not in str(caught.value)
    assert len(list((pretrained.cache_folder("weights")).rglob("*.pth"))) == 1


def test_the_librarys_weights_reach_the_network(
    server: tuple[str, dict[str, bytes], list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    base, files, _ = server
    theirs = twin("timm", "mobilenetv3_small_100")
    save_file(theirs.state_dict(), tmp_path / "x.safetensors")
    files["/model.safetensors"] = (tmp_path / "x.safetensors").read_bytes()
    monkeypatch.setattr(pretrained, "_timm_url", lambda model: (f"{base}/model.safetensors", f"timm's {model}"))
    done = nas.export(
        reference("mobilenet_v3_small", resolution=64), tmp_path / "out", ("onnx", "python"), weights="timm"
    )
    assert done.weights == "timm's mobilenetv3_small_100.lamb_in1k"
    assert done.arch.bn_eps == 1e-5
    shipped = load_weights(build(done.arch), read_state(tmp_path / "out" / "weights.safetensors")).eval()
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        assert torch.allclose(shipped(images), theirs(images), atol=1e-4)


def test_weights_of_a_file_or_of_tensors_are_exported_as_they_are(tmp_path: Path) -> None:
    arch = reference("mobilenet_v3_small", resolution=64)
    network = make_up(build(arch, 5))
    state = copied(network)
    torch.save({"state_dict": state}, tmp_path / "mine.pt")
    for number, weights in enumerate((tmp_path / "mine.pt", state)):
        done = nas.export(arch, tmp_path / str(number), ("python",), num_classes=5, weights=weights)
        assert done.weights == ("given" if isinstance(weights, dict) else str(weights))
        assert equal(read_state(tmp_path / str(number) / "weights.safetensors"), state)
    with pytest.raises(InputError, match="num_classes=5"):
        nas.export(arch, tmp_path / "none", ("python",), num_classes=7, weights=state)
    assert not (tmp_path / "none").exists()


def test_a_network_without_a_twin_is_told_which_have_one() -> None:
    with pytest.raises(InputError, match=r"no weights for this network; it has them for mobilenet_v2, mobilenet_v3_l"):
        find_weights(reference("fbnet_c"), "torchvision")
    assert twin_of(reference("shufflenet_v2@width=1.5,resolution=96"), "torchvision").model == "shufflenet_v2_x1_5"
    assert twin_of(reference("mobilenet_v2@width=1.0"), "torchvision").model == "mobilenet_v2"
