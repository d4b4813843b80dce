"""Every runtime computes what PyTorch computes, in the given type and at the given size."""

import csv
import json
import math
import os
import stat
import subprocess
import sys
from contextlib import nullcontext
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from nas.api.networks import measure_named, write_samples
from nas.arch.arch import Arch
from nas.arch.block import Block
from nas.cli.main import main
from nas.latency.measure import measure, measure_pte
from nas.latency.record import Latency
from nas.latency.runtimes import executorch as runtime_executorch
from nas.latency.runtimes import pte_check
from nas.latency.runtimes.base import installed, noise, part_names, runtime_of
from nas.latency.runtimes.executorch import Program, pte_run
from nas.network.build import build
from nas.network.serialize.executorch import exported, for_xnnpack, pte_bytes
from nas.references.external import LibraryNetwork
from nas.references.table import reference
from nas.system.errors import InputError

pytestmark = [pytest.mark.timing, pytest.mark.torch]

SMALL = Arch(
    (
        Block("conv", 8, 3, 2, act="h_swish"),
        Block("mbconv", 8, 3, 1, 3, 0.25, "h_swish"),
        Block("mbconv", 16, 5, 2, 2, 0.25, "swish", se_gate="sigmoid"),
        Block("pool"),
        Block("linear", 16, act="h_swish"),
    ),
    32,
)
BATCH = 2
CLOSE = 1e-4
NETWORKS = ("mobilenet_v2", "mobilenet_v3_large", "efficientnet_b0")


def settled(arch: Arch, num_classes: int = 10) -> nn.Module:
    """The network with the batch norm statistics of noise, so that logits are neither all alike nor tiny."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build(arch, num_classes)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = None
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight)
        with torch.no_grad():
            network.train()(torch.from_numpy(noise(8, arch.resolution)))
    return network.eval()


def truth(network: nn.Module, images: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return np.asarray(network(torch.from_numpy(images)).numpy())


def difference(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest, relative to the largest logit."""
    assert found.shape == expected.shape
    assert np.abs(expected).max() > 0.01
    return float(np.abs(found - expected).max() / np.abs(expected).max())


@cache
def small_pte() -> bytes:
    return pte_bytes(settled(SMALL), 32, BATCH)


def test_the_graph_that_is_timed_is_the_one_that_is_exported() -> None:
    """Its batch is open, so that latencies before the export include what that costs."""
    with runtime_of("onnxruntime").prepare(settled(SMALL), 32, BATCH, 1) as run:
        assert run._session.get_inputs()[0].shape == ["batch", 3, 32, 32]  # type: ignore[attr-defined]


class Split(nn.Module):
    """Works only for the number of images it was traced with."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.stack([images[at].mean((1, 2)) for at in range(len(images))])


def test_a_network_for_a_fixed_batch_runs_with_it() -> None:
    """The batch of the graph is open, but the network is traced with the measured batch."""
    with runtime_of("onnxruntime").prepare(Split(), 32, BATCH, 1) as run:
        assert run.logits().shape == (BATCH, 3)


COMPILED = ("torch-compile",)  # takes ten seconds or more


MARKS = {"torch-compile": pytest.mark.slow, "executorch": pytest.mark.executorch}


@pytest.mark.parametrize("name", [pytest.param(name, marks=MARKS.get(name, ())) for name in installed()])
def test_every_runtime_computes_what_pytorch_computes(name: str) -> None:
    """The logits of a network with SE and every activation agree to 1e-4 of the largest, also for two loads at once. A
    profile has all parts or none. PyTorch's mode and threads are restored."""
    network = settled(SMALL)
    expected = truth(network, noise(BATCH, 32))
    threads = torch.get_num_threads()
    network.train()
    load = runtime_of(name).prepare(network, 32, BATCH, 1)
    with load as prepared:
        prepared()
        with load as another:
            assert difference(another.logits(), expected) < CLOSE
        assert difference(prepared.logits(), expected) < CLOSE
        assert len(prepared.profile()) in (0, len(part_names(network)))
    assert network.training
    assert torch.get_num_threads() == threads
    assert runtime_of(name).version()[0].isdigit()


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_reference_networks_run_under_executorch_as_under_pytorch(name: str) -> None:
    """Logits agree to 1e-3, and XNNPACK runs the whole network."""
    arch = reference(name)
    network = settled(arch, 1000)
    model = pte_bytes(network, arch.resolution)
    images = noise(1, arch.resolution)
    assert difference(pte_run(model)(images), truth(network, images)) < 1e-3
    assert outside(model) == (1, [])


def outside(model: bytes) -> tuple[int, list[str]]:
    """The number of parts of a program that XNNPACK runs, and the operators that it does not run."""
    with runtime_executorch.quiet():
        from executorch.exir._serialize._program import deserialize_pte_binary
    plan = deserialize_pte_binary(model).program.execution_plan[0]
    return len(plan.delegates), [operator.name for operator in plan.operators]


@pytest.mark.executorch
def test_xnnpack_runs_the_whole_network() -> None:
    """There is one delegate and no other operator: pooling and the hard sigmoid are rewritten for XNNPACK."""
    assert outside(small_pte()) == (1, [])
    program = exported(settled(SMALL), 32)
    names = {str(node.target) for node in for_xnnpack(program).graph.nodes}
    assert not any("hardsigmoid" in name for name in names)


def test_a_program_outlives_a_change_of_threads() -> None:
    """ExecuTorch has one thread pool; programs loaded for one and for two threads give the same output in turn."""
    images = noise(BATCH, 32)
    one, two = pte_run(small_pte(), 1), pte_run(small_pte(), 2)
    first = one(images)
    for run in (two, one, two):
        np.testing.assert_allclose(run(images), first, atol=1e-5)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_narrow_floats_are_really_computed_in(dtype: str) -> None:
    """Logits differ from float32's by about the precision of the type."""
    network = settled(SMALL)
    expected = truth(network, noise(BATCH, 32))
    epsilon = torch.finfo(getattr(torch, dtype)).eps
    refused = nullcontext()
    if not in_openvino(dtype):  # OpenVINO would silently use another type
        refused = pytest.raises(InputError, match=f"{dtype}.*float32")
    for name, outcome in (("torch", nullcontext()), ("openvino", refused)):
        with outcome, runtime_of(name).prepare(network, 32, BATCH, 1, dtype) as prepared:
            assert epsilon / 20 < difference(prepared.logits(), expected) < 30 * epsilon
    assert next(network.parameters()).dtype == torch.float32


def in_openvino(dtype: str) -> bool:
    import openvino

    return {"bfloat16": "BF16", "float16": "FP16"}[dtype] in openvino.Core().get_property(
        "CPU", "OPTIMIZATION_CAPABILITIES"
    )


class Spy(nn.Module):
    """Records its inputs."""

    seen: ClassVar[list[tuple[tuple[int, ...], torch.dtype, torch.dtype]]] = []

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.seen.append((tuple(images.shape), images.dtype, self.layer.weight.dtype))
        return self.layer(images).mean((2, 3))


@pytest.mark.parametrize(
    ("options", "shape", "dtype", "shown"),
    [
        ({}, (1, 3, 32, 32), torch.float32, None),
        ({"resolution": 64}, (1, 3, 64, 64), torch.float32, "64 px"),
        ({"resolution": 48, "batch": 3}, (3, 3, 48, 48), torch.float32, "48 px"),
        ({"dtype": "bfloat16"}, (1, 3, 32, 32), torch.bfloat16, "bfloat16"),
    ],
)
def test_size_batch_and_type_reach_the_network(
    options: dict, shape: tuple[int, ...], dtype: torch.dtype, shown: str | None
) -> None:
    """The network gets images of this size and type, has weights of this type, and the latency says so."""
    Spy.seen.clear()
    latency = measure(LibraryNetwork("spy", Spy(), 32), "torch", **options)
    assert set(Spy.seen) == {(shape, dtype, dtype)}
    assert (latency.resolution, latency.dtype) == (options.get("resolution"), options.get("dtype", "float32"))
    assert shown is None or shown in str(latency)
    assert Latency.from_dict(json.loads(json.dumps(latency.to_dict()))) == latency


def test_a_latency_without_type_and_resolution_is_read() -> None:
    """Earlier versions wrote neither `dtype` nor `resolution`: float32 and the network's own size."""
    old = {"ms": 1.0, "iqr_ms": None, "runs": None, "device": "x", "runtime": None, "threads": None, "batch": 1}
    read = Latency.from_dict(old | {"source": "predicted", "warning": None})
    assert (read.dtype, read.resolution) == ("float32", None)
    for change in ({"dtype": ""}, {"dtype": 3}, {"resolution": 0}, {"resolution": 1.5}):
        with pytest.raises(InputError):
            Latency.from_dict(read.to_dict() | change)


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"dtype": "float16"}, "onnxruntime.*'float16'.*float32"),
        ({"runtime": "executorch", "dtype": "int8"}, "executorch.*'int8'.*float32"),
        ({"runtime": "torch", "dtype": "float64"}, "torch.*'float64'.*float32, bfloat16, float16"),
        ({"resolution": 7}, "resolution.* 8 .*7"),
        ({"resolution": True}, "resolution.* 8 .*True"),
    ],
)
def test_unsupported_options_are_an_error_before_anything_runs(options: dict, names: str) -> None:
    """The error names the option, the value, and what is supported."""
    with pytest.raises(InputError, match=names):
        measure(SMALL, **options)


@pytest.mark.parametrize("name", ["executorch", "openvino"])
def test_a_missing_runtime_is_an_error_with_the_command_that_installs_it(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """For `nas measure` and `nas search` alike, with exit code 2 and before the run folder is created."""
    monkeypatch.setitem(sys.modules, name, None)  # Python then takes the package for missing
    fix = f"pip install 'mbconv-nas[{name}]'"
    for arguments in (["measure", "mobilenet_v2"], ["search", "--run", str(tmp_path / "run")]):
        with pytest.raises(SystemExit) as caught:
            main([*arguments, "--runtime", name])
        assert caught.value.code == 2
        assert fix in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "run").exists()
    assert name not in installed()


def test_torch_compile_without_a_compiler_is_an_error_that_names_the_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "/nonexistent/g++")
    with pytest.raises(InputError, match=r"torch-compile.*C\+\+.*CXX"):
        runtime_of("torch-compile")
    assert "torch-compile" not in installed()


def test_the_list_of_runtimes_loads_none_of_them() -> None:
    """Nor does `runtime_of`; the libraries are loaded with the first network."""
    code = (
        "import sys; from nas.latency.runtimes.base import RUNTIMES, runtime_of\n"
        "for name in RUNTIMES: runtime_of(name)\n"
        "print([name for name in ('torch', 'onnxruntime', 'executorch', 'openvino') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
def test_executorch_is_silent(tmp_path: Path) -> None:
    """Importing, lowering, loading and running write to neither stream and leave the root logger alone."""
    code = (
        "import logging; import numpy as np; from torch import nn\n"
        "from nas.latency.runtimes.executorch import pte_bytes, pte_run\n"
        "model = pte_bytes(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Hardsigmoid()), 8)\n"
        "pte_run(model)(np.zeros((1, 3, 8, 8), np.float32)); assert not logging.getLogger().handlers"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "net.pte").write_bytes(small_pte())
    return tmp_path


@pytest.mark.executorch
def test_a_program_is_measured_as_it_is(files: Path) -> None:
    """It runs with its own batch and size; another runtime, batch, size or type is an error."""
    latency = measure_pte(files / "net.pte", keep_samples=True)
    assert (latency.runtime, latency.batch, latency.source) == ("executorch", BATCH, "measured")
    assert latency.samples_ms is not None
    name = str(files / "net.pte")
    for options, names in (
        ({"runtime": "torch"}, "executorch"),
        ({"batch": 4}, "batch"),
        ({"resolution": 64}, "resolution|size"),
        ({"dtype": "float16"}, "dtype|type"),
    ):
        with pytest.raises(InputError, match=names):
            measure_named(name, **options)  # type: ignore[arg-type]


@pytest.mark.executorch
@pytest.mark.parametrize(
    "spoil",
    [
        lambda model: b"not a program at all",
        lambda model: b"",
        lambda model: model[: len(model) // 2],
        lambda model: model[:64] + np.random.default_rng(0).bytes(2000) + model[2064:],
    ],
    ids=["other", "empty", "half", "garbled"],
)
def test_a_damaged_program_is_one_line_of_error(spoil, files: Path) -> None:
    """Even if ExecuTorch crashes on it, this process does not."""
    (files / "bad.pte").write_bytes(spoil(small_pte()))
    with pytest.raises(InputError, match=r"ExecuTorch.*export") as caught:
        measure_pte(files / "bad.pte")
    assert "\n" not in str(caught.value)


def test_a_program_that_ends_its_process_is_an_input_error(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first run is in another process: if it is killed or never ends, that is an error here."""
    python = files / "python"
    python.write_text("#!/bin/sh\nkill -SEGV $$\n")
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(InputError, match=r"ExecuTorch.*exit -11.*export"):
        measure_pte(files / "net.pte")
    python.write_text("#!/bin/sh\nexec sleep 30\n")
    monkeypatch.setattr(pte_check, "PATIENCE_S", 0.3)
    with pytest.raises(InputError, match=r"0\.3 s.*export"):
        measure_pte(files / "net.pte")


def test_programs_of_other_inputs_or_sizes_are_errors(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing file or one that is too large is not read; images must be square with three channels."""
    with pytest.raises(InputError, match=r"absent\.pte"):
        measure_pte(files / "absent.pte")
    monkeypatch.setattr(pte_check, "_run_once", lambda path: (1, 4, 32, 32))
    with pytest.raises(InputError, match=r"\(N, 3, side, side\).*\(1, 4, 32, 32\)"):
        measure_pte(files / "net.pte")
    monkeypatch.setattr(runtime_executorch, "MAX_PTE_BYTES", 100)
    with pytest.raises(InputError, match=r"100 bytes.*net\.pte"):
        Program(files / "net.pte")


def test_samples_are_written_as_they_were(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """There is one row for each run of each network, in order, with the numbers of the JSON and its resolution."""
    path = tmp_path / "runs.csv"
    names = ["mobilenet_v3_small@width=0.5", "mobilenet_v1@width=0.25"]
    with pytest.raises(SystemExit) as caught:
        main(["measure", *names, "--resolution", "32", "--samples", str(path), "--json"])
    assert caught.value.code == 0
    found = json.loads(capsys.readouterr().out)
    rows = list(csv.DictReader(path.open()))
    for name, own in groupby(rows, lambda row: row["network"]):
        listed = list(own)
        assert [int(row["run"]) for row in listed] == list(range(1, found[name]["runs"] + 1))
        assert [float(row["ms"]) for row in listed] == found[name]["samples_ms"]
        assert found[name]["resolution"] == 32
        assert all(math.isfinite(ms) and ms > 0 for ms in found[name]["samples_ms"])
    assert set(found) == {row["network"] for row in rows} == set(names)
    with pytest.raises(InputError, match=r"runs\.csv"):
        write_samples({}, tmp_path / os.sep.join(["runs.csv", "below"]))
