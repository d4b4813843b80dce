"""Every runtime computes what PyTorch computes, in the type and at the size that were asked for."""

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
    """The network with the statistics of one batch of noise: logits that are neither all alike nor tiny."""
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
    """With a batch left open: what that costs, figures before the export tell, too."""
    with runtime_of("onnxruntime").prepare(settled(SMALL), 32, BATCH, 1) as run:
        assert run._session.get_inputs()[0].shape == ["batch", 3, 32, 32]  # type: ignore[attr-defined]


class Split(nn.Module):
    """Takes the number of images it was traced with for granted."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.stack([images[at].mean((1, 2)) for at in range(len(images))])


def test_a_network_that_takes_its_batch_for_granted_is_run_at_it() -> None:
    """The graph is open, but what it computes was followed for so many images."""
    with runtime_of("onnxruntime").prepare(Split(), 32, BATCH, 1) as run:
        assert run.logits().shape == (BATCH, 3)


COMPILED = ("torch-compile",)  # ten seconds and more


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in COMPILED else ()) for name in installed()]
)
def test_every_runtime_computes_what_pytorch_computes(name: str) -> None:
    """Logits of a network with SE and every activation within 1e-4 of the largest, of two loads at once; a profile
    names each part or none; mode and threads of PyTorch are as before."""
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
    """Within 1e-3, and nothing of them is left outside XNNPACK."""
    arch = reference(name)
    network = settled(arch, 1000)
    model = pte_bytes(network, arch.resolution)
    images = noise(1, arch.resolution)
    assert difference(pte_run(model)(images), truth(network, images)) < 1e-3
    assert outside(model) == (1, [])


def outside(model: bytes) -> tuple[int, list[str]]:
    """How many parts of a program XNNPACK runs, and the operators that it does not."""
    with runtime_executorch.quiet():
        from executorch.exir._serialize._program import deserialize_pte_binary
    plan = deserialize_pte_binary(model).program.execution_plan[0]
    return len(plan.delegates), [operator.name for operator in plan.operators]


def test_xnnpack_runs_the_whole_network() -> None:
    """One delegate and no operator beside it: pooling and the hard sigmoid are written so that XNNPACK takes them."""
    assert outside(small_pte()) == (1, [])
    program = exported(settled(SMALL), 32)
    names = {str(node.target) for node in for_xnnpack(program).graph.nodes}
    assert not any("hardsigmoid" in name for name in names)


def test_a_program_outlives_a_change_of_threads() -> None:
    """ExecuTorch has one pool of threads; programs loaded for one and for two answer in turn, alike."""
    images = noise(BATCH, 32)
    one, two = pte_run(small_pte(), 1), pte_run(small_pte(), 2)
    first = one(images)
    for run in (two, one, two):
        np.testing.assert_allclose(run(images), first, atol=1e-5)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_narrow_floats_are_really_computed_in(dtype: str) -> None:
    """Logits differ from float32's by about the type's precision: more than float32 could, and not by much."""
    network = settled(SMALL)
    expected = truth(network, noise(BATCH, 32))
    epsilon = torch.finfo(getattr(torch, dtype)).eps
    refused = nullcontext()
    if not in_openvino(dtype):  # and without a word, if it is not asked
        refused = pytest.raises(InputError, match=f"does not compute in {dtype} on this processor; it would take")
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
    """Notes what it is run on."""

    seen: ClassVar[list[tuple[tuple[int, ...], torch.dtype, torch.dtype]]] = []

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.seen.append((tuple(images.shape), images.dtype, self.layer.weight.dtype))
        return self.layer(images).mean((2, 3))


@pytest.mark.parametrize(
    ("options", "shape", "dtype", "told"),
    [
        ({}, (1, 3, 32, 32), torch.float32, None),
        ({"resolution": 64}, (1, 3, 64, 64), torch.float32, "64 px"),
        ({"resolution": 48, "batch": 3}, (3, 3, 48, 48), torch.float32, "48 px"),
        ({"dtype": "bfloat16"}, (1, 3, 32, 32), torch.bfloat16, "bfloat16"),
    ],
)
def test_size_batch_and_type_reach_the_network(
    options: dict, shape: tuple[int, ...], dtype: torch.dtype, told: str | None
) -> None:
    """The network sees the images that were asked for, in weights of that type, and the latency says so."""
    Spy.seen.clear()
    latency = measure(LibraryNetwork("spy", Spy(), 32), "torch", **options)
    assert set(Spy.seen) == {(shape, dtype, dtype)}
    assert (latency.resolution, latency.dtype) == (options.get("resolution"), options.get("dtype", "float32"))
    assert told is None or told in str(latency)
    assert Latency.from_dict(json.loads(json.dumps(latency.to_dict()))) == latency


def test_a_latency_written_before_there_were_types_is_read() -> None:
    """Without `dtype` and `resolution` it is one in float32 at the network's own size."""
    old = {"ms": 1.0, "iqr_ms": None, "runs": None, "device": "x", "runtime": None, "threads": None, "batch": 1}
    read = Latency.from_dict(old | {"source": "predicted", "warning": None})
    assert (read.dtype, read.resolution) == ("float32", None)
    for change in ({"dtype": ""}, {"dtype": 3}, {"resolution": 0}, {"resolution": 1.5}):
        with pytest.raises(InputError):
            Latency.from_dict(read.to_dict() | change)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"dtype": "float16"}, "runtime onnxruntime does not compute in dtype 'float16'; it takes float32"),
        ({"runtime": "executorch", "dtype": "int8"}, "it takes float32"),
        ({"runtime": "torch", "dtype": "float64"}, "it takes float32, bfloat16, float16"),
        ({"resolution": 7}, "resolution must be a whole number from 8"),
        ({"resolution": True}, "resolution must be a whole number"),
    ],
)
def test_what_a_runtime_does_not_take_is_told_before_anything_runs(options: dict, told: str) -> None:
    """One line with what it takes."""
    with pytest.raises(InputError, match=told):
        measure(SMALL, **options)


@pytest.mark.parametrize("name", ["executorch", "openvino"])
def test_a_runtime_that_is_not_installed_is_told_with_its_command(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Python finds no such package: exit code 2 and a line of error, of measuring and of searching alike, before a
    run's folder is made."""
    monkeypatch.setitem(sys.modules, name, None)  # what Python itself takes for a package that is not there
    line = f"nas: runtime {name} is not installed; pip install 'mbconv-nas[{name}]'"
    for arguments in (["measure", "mobilenet_v2"], ["search", "--run", str(tmp_path / "run")]):
        with pytest.raises(SystemExit) as caught:
            main([*arguments, "--runtime", name])
        assert caught.value.code == 2
        assert capsys.readouterr().err.splitlines()[-1] == line
    assert not (tmp_path / "run").exists()
    assert name not in installed()


def test_torch_compile_without_a_compiler_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line, before PyTorch fails in many."""
    monkeypatch.setenv("CXX", "/nonexistent/g++")
    with pytest.raises(InputError, match=r"needs a C\+\+ compiler, found none; install"):
        runtime_of("torch-compile")
    assert "torch-compile" not in installed()


def test_the_list_of_runtimes_loads_none_of_them() -> None:
    """Nor does asking for one; the libraries come with the first network."""
    code = (
        "import sys; from nas.latency.runtimes.base import RUNTIMES, runtime_of\n"
        "for name in RUNTIMES: runtime_of(name)\n"
        "print([name for name in ('torch', 'onnxruntime', 'executorch', 'openvino') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
def test_executorch_keeps_its_affairs_to_itself(tmp_path: Path) -> None:
    """Importing, lowering, loading and running write nothing to either stream, and leave the root logger alone."""
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


def test_a_program_is_measured_as_it_is(files: Path) -> None:
    """With its own batch and size; another runtime, batch, size or type is refused."""
    latency = measure_pte(files / "net.pte", keep_samples=True)
    assert (latency.runtime, latency.batch, latency.source) == ("executorch", BATCH, "measured")
    assert latency.samples_ms is not None
    name = str(files / "net.pte")
    for options, told in (
        ({"runtime": "torch"}, "run under executorch"),
        ({"batch": 4}, "own batch"),
        ({"resolution": 64}, "own size"),
        ({"dtype": "float16"}, "own types"),
    ):
        with pytest.raises(InputError, match=told):
            measure_named(name, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda model: b"not a program at all", "not a program of ExecuTorch"),
        (lambda model: b"", "not a program of ExecuTorch"),
        (lambda model: model[: len(model) // 2], "ExecuTorch"),
        (lambda model: model[:64] + np.random.default_rng(0).bytes(2000) + model[2064:], "ExecuTorch"),
    ],
    ids=["other", "empty", "half", "garbled"],
)
def test_a_damaged_program_is_one_line_of_error(spoil, told: str, files: Path) -> None:
    """Whatever ExecuTorch does over it, this process lives on."""
    (files / "bad.pte").write_bytes(spoil(small_pte()))
    with pytest.raises(InputError, match=told) as caught:
        measure_pte(files / "bad.pte")
    assert "\n" not in str(caught.value)


def test_a_program_that_ends_its_process_is_told(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first run is another process's: killed there, or endless, it is an error here."""
    python = files / "python"
    python.write_text("#!/bin/sh\nkill -SEGV $$\n")
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(InputError, match=r"broke down over this program \(exit -11"):
        measure_pte(files / "net.pte")
    python.write_text("#!/bin/sh\nexec sleep 30\n")
    monkeypatch.setattr(pte_check, "PATIENCE_S", 0.3)
    with pytest.raises(InputError, match=r"did not run once in 0.3 s"):
        measure_pte(files / "net.pte")


def test_programs_of_other_inputs_or_sizes_are_refused(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is not there or too large is not read; images must be square, of three channels."""
    with pytest.raises(InputError, match="no such file"):
        measure_pte(files / "absent.pte")
    monkeypatch.setattr(pte_check, "_asked", lambda path: (1, 4, 32, 32))
    with pytest.raises(InputError, match=r"must have one input \(N, 3, side, side\)"):
        measure_pte(files / "net.pte")
    monkeypatch.setattr(runtime_executorch, "MAX_PTE_BYTES", 100)
    with pytest.raises(InputError, match="more than the 100 that are read"):
        Program(files / "net.pte")


def test_samples_are_written_as_they_were(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One row per run of each network, numbered in order, the same numbers as in the JSON; `--resolution` is told."""
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
    with pytest.raises(InputError, match="cannot write"):
        write_samples({}, tmp_path / os.sep.join(["runs.csv", "below"]))
