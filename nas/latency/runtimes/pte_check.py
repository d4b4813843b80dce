"""A first run of a foreign ``.pte`` file in a process of its own: ExecuTorch ends the process on some damaged ones
(of 300 files with a few bytes changed, 39 did), whatever is verified of them beforehand. It is no prison: the file runs
with the rights of its user."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NoReturn

from nas.system.errors import InputError

PATIENCE_S = 120.0
MAX_MEMORY = 16 << 30  # address space, of which PyTorch takes several GB
FLOAT = 6  # number of float32 among PyTorch's scalar types
REFUSED = 3

Shape = tuple[int, ...]


def checked_shape(model: bytes) -> Shape:
    """The shape of the one float32 input of a program that has been run once.

    Raises:
        InputError: not a program, one that does not run, or one with other inputs.
    """
    with tempfile.TemporaryDirectory(prefix="nas-pte-") as folder:
        path = Path(folder) / "model.pte"
        path.write_bytes(model)
        return _asked(path)


def _asked(path: Path) -> Shape:
    command = [sys.executable, "-m", __name__, str(path.absolute())]
    here = str(Path(__file__).resolve().parents[3])  # this package; and no module from the folder people are in
    paths = {"PYTHONPATH": os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH", "")]))}
    said: dict[str, Any] = {"capture_output": True, "encoding": "utf-8", "errors": "replace"}
    try:
        done = subprocess.run(command, cwd=path.parent, env=os.environ | paths, timeout=PATIENCE_S, **said)
    except subprocess.TimeoutExpired:
        raise InputError(f"the program did not run once in {PATIENCE_S:g} s; export it again") from None
    if done.returncode == REFUSED:
        raise InputError(done.stdout.strip()[:400])
    try:
        shape = tuple(int(side) for side in json.loads(done.stdout)) if done.returncode == 0 else None
    except ValueError:
        shape = None
    if shape is None:
        last = (done.stderr.strip().splitlines() or ["nothing was said"])[-1]
        raise InputError(
            f"ExecuTorch broke down over this program (exit {done.returncode}: {last:.120}); export it again"
        )
    return shape


def main(path: str) -> NoReturn:
    """Load and run the file, and print its input's shape, or what is wrong with it."""
    import torch

    from nas.latency.runtimes.executorch import Program

    _bounded()
    try:
        program = Program(Path(path))
        inputs = program.inputs()
        if len(inputs) != 1 or inputs[0][1] != FLOAT:
            raise InputError("the program must have one input, float32 images (N, 3, side, side)")
        program(torch.zeros(inputs[0][0]))
    except InputError as error:
        text = str(error)
    except Exception as error:  # a damaged file fails in ways nobody has listed
        text = f"ExecuTorch cannot run this program: {' '.join(str(error).split()):.200}"
    else:
        print(json.dumps(inputs[0][0]))
        sys.exit(0)
    print(text)
    sys.exit(REFUSED)


def _bounded() -> None:
    try:
        import resource
    except ImportError:  # Windows
        return
    for what, most in ((resource.RLIMIT_CORE, 0), (resource.RLIMIT_AS, MAX_MEMORY)):
        hard = resource.getrlimit(what)[1]
        least = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (least, least))


if __name__ == "__main__":
    main(sys.argv[1])
