"""The wheel stands alone: spaces and references travel inside it."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_wheel_works_away_from_the_checkout(tmp_path: Path) -> None:
    """Built, installed into a bare venv; dependencies come from this environment, whose own nas stays invisible there:
    a folder on PYTHONPATH does not process the .pth file of an editable install."""
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("nas-*.whl")
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run(
        [python, "-m", "pip", "install", "--no-deps", "--no-index", str(wheel)], check=True, capture_output=True
    )
    environment = dict(os.environ) | {"PYTHONPATH": sysconfig.get_paths()["purelib"]}

    def output(*command: str) -> str:
        done = subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True)
        return done.stdout

    assert str(tmp_path / "venv") in output(str(python), "-c", "import nas; print(nas.__file__)")
    assert "mbconv" in output(str(tmp_path / "venv" / "bin" / "nas"), "spaces")
    assert "5,288,548" in output(str(tmp_path / "venv" / "bin" / "nas"), "references", "--device", "none")
