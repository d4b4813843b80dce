"""What this machine is called, and what makes it another one."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from nas.system import cpu
from nas.system.machine import Machine, difference, here, host, usable_cores

PI = Machine("Raspberry Pi 5", 4, "aarch64", "Linux", "kitchen")


@pytest.mark.parametrize(
    ("tree", "info", "name"),
    [
        ("Raspberry Pi 4 Model B Rev 1.4\0", "processor : 0\nHardware : BCM2835\n", "Raspberry Pi 4 Model B Rev 1.4"),
        (None, "processor\t: 0\nmodel name\t: AMD EPYC\nHardware : x\n", "AMD EPYC"),
        (None, "processor : 0\nHardware\t: Qualcomm SM8350\n", "Qualcomm SM8350"),
        (None, "processor : 0\n", "a processor"),
        (None, None, "a processor"),
    ],
)
def test_a_processor_is_known_by_the_most_telling_name(
    tree: str | None, info: str | None, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name of the board, as ARM processors report none; else the model; else what Python knows."""
    places = {"/proc/device-tree/model": tmp_path / "tree", "/proc/cpuinfo": tmp_path / "info"}
    for path, text in zip(places.values(), (tree, info), strict=True):
        if text is not None:
            path.write_text(text)
    files = tuple((str(places[path]), pattern) for path, pattern in cpu.CPU_FILES)
    monkeypatch.setattr(cpu, "CPU_FILES", files)
    monkeypatch.setattr("platform.processor", lambda: "a processor")
    assert cpu.cpu() == name


def test_cores_are_those_of_the_affinity() -> None:
    """A process pinned to one core counts one."""
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from nas.system.machine import host, usable_cores; print(usable_cores(), host())"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown == f"1 {here().cpu}, 1 core\n"
    assert usable_cores() == len(os.sched_getaffinity(0))
    assert host() == str(here())


@pytest.mark.parametrize(
    ("field", "value"), [("cpu", "x"), ("cores", 2), ("machine", "x"), ("system", "x"), ("node", "attic")]
)
def test_every_fact_distinguishes_machines(field: str, value: object) -> None:
    """Another value of any fact is another identity, and the difference names both values."""
    other = replace(PI, **{field: value})
    assert other.identity() != PI.identity()
    text = difference(PI.to_dict(), other)
    assert text is not None
    assert f"{value!r}" in text
    assert f"{getattr(PI, field)!r}" in text
    assert ("--hostname" in text) == (field == "node")


def test_the_same_machine_does_not_differ() -> None:
    """By all facts; by those on record if some are missing; by its name if there are none."""
    assert difference(PI.to_dict(), Machine(**PI.to_dict())) is None  # type: ignore[arg-type]
    assert difference({"cores": 4, "unknown": 1}, PI) is None
    assert difference(None, PI) is None
    assert difference(None, PI, "Raspberry Pi 5, 4 cores") is None


def test_old_runs_are_compared_by_name() -> None:
    """Only processor and cores are known of them."""
    text = difference(None, PI, "AMD EPYC, 2 cores")
    assert text is not None
    assert "Raspberry Pi 5, 4 cores" in text
    assert "AMD EPYC, 2 cores" in text


def test_damaged_facts_are_shown_in_bounds() -> None:
    text = difference({"cpu": "x" * 10_000, "cores": [1] * 10_000}, PI)
    assert text is not None
    assert len(text) < 600


def test_a_name_given_by_hand_is_part_of_the_identity() -> None:
    assert PI.identity("a") != PI.identity("b") != PI.identity()
