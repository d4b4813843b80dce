"""What this machine is called."""

from pathlib import Path

import pytest

from nas.system import cpu


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
    """Boards by their own, for on ARM no model is named; else by the model; else by what Python knows."""
    places = {"/proc/device-tree/model": tmp_path / "tree", "/proc/cpuinfo": tmp_path / "info"}
    for path, text in zip(places.values(), (tree, info), strict=True):
        if text is not None:
            path.write_text(text)
    files = tuple((str(places[path]), pattern) for path, pattern in cpu.CPU_FILES)
    monkeypatch.setattr(cpu, "CPU_FILES", files)
    monkeypatch.setattr("platform.processor", lambda: "a processor")
    assert cpu.cpu() == name
