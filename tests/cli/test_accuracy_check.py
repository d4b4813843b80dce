"""The command `nas accuracy check`: its text, its JSON, and mistakes in one line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nas.accuracy.check import Training, check
from nas.api.accuracy_check import CheckedImages
from nas.cli.main import main


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        main(["accuracy", "check", *arguments])
    out, err = capsys.readouterr()
    assert isinstance(stop.value.code, int)
    return stop.value.code, out, err


def pictures(folder: Path, labels: str) -> Path:
    rng = np.random.default_rng(0)
    for label in labels:
        (folder / label).mkdir(parents=True)
        for at in range(12):
            pixels = rng.integers(0, 255, (24, 24, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{at}.png")
    return folder


def checked(noise: float) -> CheckedImages:
    """What a check returns: 12 networks, whose order is known to the longer trainings but for this noise."""
    truth, rng = np.linspace(0.5, 0.6, 12), np.random.default_rng(0)
    noises = [(250, 0, 1.0), (500, 0, noise), (1000, 0, noise), (2000, 0, noise), (2000, 1, noise)]
    losses = [1 - truth + rng.normal(0, sd, 12) for _, _, sd in noises]
    made = [
        Training(steps, seed, steps / 10, tuple(truth), tuple(loss))
        for (steps, seed, _), loss in zip(noises, losses, strict=True)
    ]
    figures = check(made, {"ImageNet model": truth, "MACs": truth[::-1]}, 0.5)
    return CheckedImages("mbconv", "photos", "7.4 to 8 ms predicted", figures, tuple(made), ("k",) * 12, 0)


def test_text_and_json_say_what_is_recommended(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nas.api.accuracy_check.check_accuracy", lambda *_, **__: checked(1e-6))
    code, out, _ = run(capsys, "--data", "photos")
    assert code == 0
    lines = out.splitlines()
    assert any(line.split()[:4] == ["500", "50", "s", "1.00"] for line in lines)
    assert any(line.startswith("MACs") and "−1.00" in line for line in lines)
    assert "recommended: 500 steps, 50 s here" in out
    assert "--budget 3m" in lines[-1]  # 125 s, rounded up
    facts = json.loads(run(capsys, "--data", "photos", "--json")[1])
    assert facts["figures"]["recommended"] == {"steps": 500, "seconds": 50, "budget_s": 125}
    assert [one["steps"] for one in facts["trainings"]] == [250, 500, 1000, 2000, 2000]


def test_images_that_cannot_tell_networks_apart_are_named_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nas.api.accuracy_check.check_accuracy", lambda *_, **__: checked(5.0))
    out = run(capsys, "--data", "photos")[1]
    assert "these images cannot tell such networks apart" in out
    assert "--steps 4000" in out
    assert "recommended" not in out
    assert json.loads(run(capsys, "--data", "photos", "--json")[1])["figures"]["recommended"] is None


@pytest.mark.parametrize(
    ("arguments", "labels", "code", "named"),
    [
        ([], "ab", 2, ("--data",)),
        (["--data", "photos"], "a", 2, ("photos", "class")),
        (["--data", "absent"], "ab", 2, ("absent",)),
        (["--data", "photos", "--networks", "7"], "ab", 2, ("networks", "8", "7")),
        (["--data", "photos", "--steps", "39"], "ab", 2, ("steps", "40", "39")),
        (["--data", "photos", "--latency-target", "soon"], "ab", 2, ("soon", "66ms")),
        (["--data", "photos", "--latency-target", "1h"], "ab", 2, ("1h", "66ms")),
        (["--data", "photos", "--accelerator", "tpu"], "ab", 2, ("tpu", "cuda")),
        (["--data", "photos", "--device", "pixel1", "--latency-target", "1ms"], "ab", 3, ("1 ms", "mbconv")),
        (["--data", "photos", "--device", "pixel1", "--latency-target", "9s"], "ab", 2, ("9000", "--latency-target")),
        (["--data", "photos", "--space", "absent"], "ab", 2, ("absent", "mbconv")),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str],
    labels: str,
    code: int,
    named: tuple[str, ...],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    pictures(tmp_path / "photos", labels)
    found, out, err = run(capsys, *arguments)
    assert (found, out) == (code, "")
    *_, line = err.splitlines()
    assert line.startswith("nas: ")
    assert all(part in line for part in named), line
