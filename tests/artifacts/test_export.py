"""Exports: every file computes what PyTorch computes, the Python file needs only torch, ONNX takes any batch size."""

import ast
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import assume, given, settings
from safetensors.torch import load_file, save_file

import nas
from nas.arch.arch import Arch
from nas.artifacts.check_against_target import check_against_target
from nas.artifacts.export import Exported, export
from nas.artifacts.source import ExportSource, export_source
from nas.cli.exported import export_facts, export_text
from nas.latency.measure import measure
from nas.latency.models import bundled
from nas.latency.record import Latency
from nas.latency.runtimes.onnxruntime import onnx_session
from nas.latency.table.table import LatencyTable
from nas.network.build import build
from nas.network.serialize.onnx import onnx_bytes
from nas.network.standalone import model_source
from nas.references.external import LibraryNetwork
from nas.references.table import reference, reference_names
from nas.system.errors import InputError, NasError
from nas.system.machine import host
from tests.engine.search_toys import SPACE, cost_ms
from tests.network.twins import make_up
from tests.strategies import archs

pytestmark = pytest.mark.torch

ALONE = """
import runpy
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
runpy.run_path("model.py", run_name="__main__")
"""


def times(ms: float) -> Latency:
    return Latency(ms, 0.1, 9, "device", None, 1, 1, "measured")


SMALL = 64  # pixels; `pytest -m slow tests/artifacts` exports all references at their own resolution
# One of each family: the others differ in numbers, not in modules.
QUICK = (
    *("mobilenet_v1", "mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small_minimalistic", "mnasnet_a1", "fbnet_c"),
    *("proxylessnas_mobile", "efficientnet_b0", "mobilenet_v4_conv_small", "mobilenet_v4_conv_medium"),
    *("shufflenet_v1_g1", "shufflenet_v1_g3", "shufflenet_v2"),
)


def model_py(source: str) -> dict[str, Any]:
    """The names a model.py defines; it may import torch and the standard library only."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            assert {name.partition(".")[0] for name in names} <= {"torch", *sys.stdlib_module_names}
    defined: dict[str, Any] = {"__name__": "model"}
    exec(compile(source, "model.py", "exec"), defined)
    return defined


def assert_same_function(arch: Arch, folder: Path, classes: int) -> None:
    """model.py and model.onnx of an export compute what our build does with its weights, at any batch."""
    ours = build(arch, classes).eval()
    ours.load_state_dict(load_file(folder / "weights.safetensors"))
    model = model_py((folder / "model.py").read_text())
    theirs = model["load_weights"](model["build"](), folder / "weights.safetensors").eval()
    session = onnx_session(folder / "model.onnx", threads=1)
    for batch in (1, 2):
        images = torch.randn(batch, 3, arch.resolution, arch.resolution, generator=torch.Generator().manual_seed(3))
        with torch.inference_mode():
            expected = ours(images)
            assert torch.equal(theirs(images), expected)
        allowed = 1e-4 * float(expected.abs().max())
        assert np.abs(session.run(None, {"image": images.numpy()})[0] - expected.numpy()).max() <= allowed
    assert (expected[0] - expected[1]).abs().max() > 100 * allowed, "a dead signal compares equal to anything"


@pytest.mark.parametrize("name", QUICK)
def test_references_are_exported_as_they_are(name: str, tmp_path: Path) -> None:
    arch = reference(name, resolution=SMALL)
    export(arch, tmp_path, num_classes=7, threads=None)
    assert_same_function(arch, tmp_path, 7)


@pytest.mark.slow
@pytest.mark.parametrize("name", reference_names())
def test_every_reference_is_exported_as_it_is_at_its_own_resolution(name: str, tmp_path: Path) -> None:
    export(reference(name), tmp_path, threads=None)
    assert_same_function(reference(name), tmp_path, 1000)


@pytest.mark.slow
@pytest.mark.parametrize("name", QUICK)
def test_references_become_executorch_programs(name: str, tmp_path: Path) -> None:
    """Within 1e-3 of the largest output; made-up weights, for which no two images look alike."""
    pytest.importorskip("executorch")
    from nas.latency.runtimes.executorch import pte_run

    arch = reference(name, resolution=SMALL)
    network = make_up(build(arch, 7))
    export(arch, tmp_path, ("executorch",), num_classes=7, threads=None, weights=network.state_dict())
    run = pte_run(tmp_path / "model.pte")
    images = torch.randn(2, 3, SMALL, SMALL, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        expected = network(images).numpy()
    found = np.concatenate([run(image[None].numpy()) for image in images])
    assert np.abs(found - expected).max() <= 1e-3 * np.abs(expected).max()
    assert np.abs(expected[0] - expected[1]).max() > 0.1


@settings(max_examples=8, deadline=None)
@given(archs)
def test_any_arch_becomes_a_python_file(arch: Arch) -> None:
    """All ops, activations and norms; the file has the modules it needs and no other."""
    source = model_source(arch, 3)
    model, ours = model_py(source), build(arch, 3).eval()
    theirs = model["build"]().eval()
    theirs.load_state_dict(ours.state_dict())
    images = torch.randn(2, 3, arch.resolution, arch.resolution)
    with torch.inference_mode():
        assert torch.equal(theirs(images), ours(images))
    for module, other in zip(ours.modules(), theirs.modules(), strict=True):  # what no output in eval mode shows
        for option in ("eps", "momentum", "p", "drop_path"):
            assert getattr(module, option, None) == getattr(other, option, None)
    own = {name for name, value in model.items() if getattr(value, "__module__", None) == "model"}
    assert all(len(re.findall(rf"\b{name}\b", source)) > 1 for name in own)
    assert ("import math" in source) == ("math." in source)


@settings(max_examples=6, deadline=None)
@given(archs)
def test_any_arch_becomes_an_onnx_file_with_an_open_batch(arch: Arch) -> None:
    ours = make_up(build(arch, 3))
    # PyTorch refuses to normalise a group of one value, as a channel alone in its group has at 1x1
    assume(all(n.num_channels > n.num_groups for n in ours.modules() if isinstance(n, torch.nn.GroupNorm)))
    session = onnx_session(onnx_bytes(ours, arch.resolution, batch=None), threads=1)
    for batch in (2, 3):
        images = torch.randn(batch, 3, arch.resolution, arch.resolution, generator=torch.Generator().manual_seed(3))
        with torch.inference_mode():
            expected = ours(images).numpy()
        difference = np.abs(session.run(None, {"image": images.numpy()})[0] - expected).max()
        assert difference <= 1e-4 * max(1.0, float(np.abs(expected).max()))


@pytest.mark.parametrize("name", ["shufflenet_v1_g3", "shufflenet_v2", "mobilenet_v3_small", "mobilenet_v4_conv_small"])
def test_a_file_for_any_number_of_images_is_as_quick_as_one_for_a_single_one(name: str) -> None:
    """Networks are measured with one image and shipped for any number. The shipped file must not have more operators,
    such as those that compute shapes, which made exported ShuffleNets 10 to 20 % slower than the search predicted."""
    network = build(reference(name, resolution=64))
    fixed, open_ = (
        [node.op_type for node in onnx.load_from_string(onnx_bytes(network, 64, batch)).graph.node]
        for batch in (1, None)
    )
    assert fixed == open_


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "shufflenet_v2"])
def test_model_py_alone_computes_what_we_compute(name: str, tmp_path: Path) -> None:
    arch = reference(name)
    export(arch, tmp_path, formats=("python",), num_classes=7)
    subprocess.run([sys.executable, "-c", ALONE], cwd=tmp_path, check=True, env={"PATH": "", "OMP_NUM_THREADS": "1"})
    images = torch.randn(2, 3, arch.resolution, arch.resolution, generator=torch.Generator().manual_seed(3))
    ours = build(arch, 7)
    ours.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    with torch.inference_mode():
        expected = ours.eval()(images)
    theirs = torch.load(tmp_path / "logits.pt", weights_only=True)
    assert torch.allclose(theirs, expected, atol=1e-5)


def test_an_export_is_checked_measured_and_complete(tmp_path: Path) -> None:
    arch = reference("mobilenet_v3_small", resolution=SMALL)
    done = export(arch, tmp_path, num_classes=5)
    assert done.max_abs_diff is not None
    assert done.max_abs_diff < 1e-4
    assert done.measured is not None
    assert done.measured.source == "measured"
    assert done.weights is None
    assert Arch.from_json((tmp_path / "arch.json").read_text()) == arch
    assert {path.name for path in done.files} == {path.name for path in tmp_path.iterdir()}


def test_untrained_weights_depend_on_the_seed_only_and_given_ones_are_kept(tmp_path: Path) -> None:
    """Stochastic depth and dropout would draw from the global state while statistics of noise are taken."""
    arch = replace(SPACE.sample(0), dropout=0.5, stochastic_depth=0.5)
    state = build(arch, 5, seed=3).state_dict()
    before = torch.random.get_rng_state()
    for folder, weights in (("a", None), ("b", None), ("given", state)):
        export(arch, tmp_path / folder, ("python",), num_classes=5, weights=weights)
        torch.randn(1)
    torch.random.set_rng_state(before)
    first, second, given_ones = (load_file(tmp_path / name / "weights.safetensors") for name in ("a", "b", "given"))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert all(torch.equal(state[name], given_ones[name]) for name in state)


def test_a_wrong_onnx_file_is_refused_and_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check compares numbers: hand it the file of a network with other weights."""
    arch = reference("mobilenet_v3_small", resolution=SMALL)
    other = build(arch, 5, seed=9)
    torch.nn.init.normal_(other.classifier[1].bias, 0, 1)
    monkeypatch.setattr(
        sys.modules["nas.artifacts.export"],
        "onnx_bytes",
        lambda network, resolution, batch: onnx_bytes(other, resolution, batch),
    )
    with pytest.raises(NasError, match=r"ONNX.*batch 1"):
        export(arch, tmp_path / "out", num_classes=5)
    assert not (tmp_path / "out").exists()


@pytest.fixture
def requested(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What `nas.export` passes on to be written; nothing is written."""
    arguments: dict[str, Any] = {}

    def write(arch: Arch, folder: Path, formats: tuple[str, ...], *, num_classes: int, **_: object) -> Exported:
        arguments.update(formats=formats, num_classes=num_classes)
        return Exported(arch, num_classes, (), None, None)

    monkeypatch.setattr(sys.modules["nas.artifacts.export"], "export", write)
    return arguments


@pytest.mark.parametrize("runtime", ["onnxruntime", "executorch", "torch"])
def test_the_default_formats_include_that_of_the_runs_runtime(
    runtime: str, requested: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("executorch")
    run = ExportSource(reference("mobilenet_v3_small"), Path("x"), target_ms=10.0, runtime=runtime)
    monkeypatch.setattr("nas.api.networks.export_source", lambda *_: run)
    nas.export("run")
    assert requested["formats"] == ("onnx", "python", *(["executorch"] if runtime == "executorch" else []))
    nas.export("run", formats=("python",))
    assert requested["formats"] == ("python",)


def test_classes_are_those_of_the_weights_and_not_of_the_images(
    requested: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether they come from a file, in order of names, or as tensors; without weights they are those of the images."""
    arch = reference("mobilenet_v3_small", resolution=SMALL)
    state = build(arch, 5).state_dict()
    save_file(state, tmp_path / "mine.safetensors")
    images = SimpleNamespace(classes=3, class_names=("a", "b", "c"))
    monkeypatch.setattr("nas.artifacts.int8_images.int8_images", lambda *_: images)
    for weights in (tmp_path / "mine.safetensors", state):
        nas.export(arch, tmp_path, ("onnx",), weights=weights, int8=True, data="cifar10")
        assert requested["num_classes"] == 5
    nas.export(arch, tmp_path, ("onnx",), weights=state, num_classes=7)
    assert requested["num_classes"] == 7
    nas.export(arch, tmp_path, ("onnx",), int8=True, data="cifar10")
    assert requested["num_classes"] == 3


def test_wrong_options_are_refused_before_weights_and_images_are_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetched(*_: object) -> None:
        raise AssertionError("fetched in vain")

    monkeypatch.setattr("nas.references.pretrained.find_weights", fetched)
    monkeypatch.setattr("nas.artifacts.int8_images.int8_images", fetched)
    monkeypatch.setattr("nas.latency.runtimes.base.find_spec", lambda name: None if name == "executorch" else name)
    common: dict[str, Any] = {"weights": "torchvision", "int8": True, "data": "cifar10"}
    for changes, says in (
        ({"formats": ("onnx", "tflite")}, "'tflite'.*onnx, python"),
        ({"formats": ("tflite",)}, "'tflite'.*onnx, python"),
        ({"formats": ("executorch",)}, "executorch.*pip install"),
        ({"normalise": "mine"}, "'mine'.*imagenet"),
        ({"data": None}, "--data"),
    ):
        with pytest.raises(InputError, match=says):
            nas.export("mobilenet_v2", tmp_path / "out", **common | changes)


def test_int8_files_of_an_earlier_network_do_not_stay_beside_a_new_float_file(tmp_path: Path) -> None:
    for name in ("model.int8.onnx", "model.int8.pte", "mine.onnx"):
        (tmp_path / name).write_text("of before")
    export(SPACE.sample(0), tmp_path, ("onnx",), num_classes=5, threads=None)
    assert {path.name for path in tmp_path.iterdir()} == {"arch.json", "model.onnx", "model.int8.pte", "mine.onnx"}


def test_files_of_two_networks_do_not_share_one_arch_json(tmp_path: Path) -> None:
    """Another network is refused if other formats of the first would stay; the same network, or all formats, pass."""
    export(SPACE.sample(0), tmp_path, ("python",), num_classes=3, threads=None)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(InputError, match=r"model\.py"):
        export(SPACE.sample(1), tmp_path, ("onnx",), num_classes=3, threads=None)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    export(SPACE.sample(0), tmp_path, ("onnx",), num_classes=3, threads=None)
    export(SPACE.sample(1), tmp_path, ("onnx", "python"), num_classes=3, threads=None)


def test_a_network_that_executorch_cannot_lower_is_one_line() -> None:
    """The network runs, so the error must blame the conversion."""
    pytest.importorskip("executorch")

    class Branches(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.mean((2, 3)) if images.sum() > 0 else -images.mean((2, 3))

    with pytest.raises(NasError, match=r"ExecuTorch.*lower") as caught:
        measure(LibraryNetwork("timm:branches", Branches().eval(), 32), "executorch")
    assert caught.value.exit_code == 1
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("runtime", "formats", "says"),
    [
        ("executorch", {"python"}, "not compared.* 10 ms.*--format executorch"),
        ("executorch", {"python", "onnx"}, "not compared.* 10 ms.*--format executorch"),
        ("executorch", {"executorch"}, None),
        ("onnxruntime", {"executorch"}, "not compared.* 10 ms.*--format onnx"),
        ("onnxruntime", {"onnx"}, None),
        ("torch", {"onnx", "executorch"}, "not compared.* 10 ms.* torch"),
    ],
)
def test_an_export_that_is_not_compared_with_its_target_says_so(
    runtime: str, formats: set[str], says: str | None
) -> None:
    """Without a remark the file of the target's own runtime was compared with it; JSON and text agree."""
    arch = SPACE.sample(0)
    onnx, pte = (times(5.0) if name in formats else None for name in ("onnx", "executorch"))
    done = Exported(arch, 10, (), None, onnx, pte_measured=pte)
    found = check_against_target(done, ExportSource(arch, Path("x"), target_ms=10.0, runtime=runtime), Path("x"))
    text = export_text(found)
    assert re.search(says, text) if says else "not compared" not in text
    assert export_facts(found)["held_to_target"] == (says is None)
    assert ("within the target of 10 ms" in text) == (says is None)


def test_an_export_says_how_far_its_target_is_met() -> None:
    """The target of another device; a target met on an idle machine, but not under the present load."""
    arch = SPACE.sample(0)
    elsewhere = check_against_target(
        Exported(arch, 10, (), None, times(5.0)), ExportSource(arch, Path("x"), elsewhere="a board"), Path("x")
    )
    assert re.search("a board.*--token", export_text(elsewhere))
    assert export_facts(elsewhere)["target_of"] == "a board"
    slow = replace(times(9.0), drift=0.2)
    done = check_against_target(
        Exported(arch, 10, (), None, slow), ExportSource(arch, Path("x"), target_ms=10.0), Path("x")
    )
    assert re.search("within the target of 10 ms.*10.8 ms", export_text(done))


def test_a_run_with_a_given_table_is_exported_under_what_it_was_timed_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table's runtime and threads, not those of the command line, which a given table overrides."""
    table = replace(LatencyTable.load(bundled()["pixel1"]), device=host(), runtime="executorch", threads=2)
    table.save(tmp_path / "table.json")
    timed_with = set()

    def measure(arch: Arch, runtime: str, threads: int) -> Latency:
        timed_with.add((runtime, threads))
        return times(table(arch).ms)

    monkeypatch.setattr("nas.latency.devices.measure", measure)
    target_ms, run = float(np.median(table.many([SPACE.sample(seed) for seed in range(100)]))), tmp_path / "run"
    nas.search(
        SPACE, latency_target=target_ms, device=f"table:{tmp_path / 'table.json'}", evaluate=cost_ms, trials=3,
        run=run, references=[],
    )  # fmt: skip
    found = export_source(run, None, None)
    assert timed_with == {(found.runtime, found.threads)} == {("executorch", 2)}
    assert found.target_ms == pytest.approx(target_ms)
    info = json.loads((run / "run.json").read_text())
    info["device"]["threads"] = "two"
    (run / "run.json").write_text(json.dumps(info))
    with pytest.raises(nas.InputError, match=r"device\.threads.*'two'"):
        export_source(run, None, None)


def test_bad_arguments_are_refused(tmp_path: Path) -> None:
    """An unknown format, and a folder that is a file."""
    arch = SPACE.sample(0)
    with pytest.raises(InputError, match=r"'tflite'.*onnx, python"):
        export(arch, tmp_path, formats=("tflite",))
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"file.*--out"):
        export(arch, tmp_path / "file", formats=("python",))


def test_an_arch_json_that_is_no_regular_file_is_replaced_unread(tmp_path: Path) -> None:
    """To open a FIFO would wait for a writer."""
    os.mkfifo(tmp_path / "arch.json")
    export(SPACE.sample(0), tmp_path, ("python",), num_classes=3)
    assert Arch.from_json((tmp_path / "arch.json").read_text()) == SPACE.sample(0)
