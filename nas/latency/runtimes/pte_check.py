"""Runs a foreign ``.pte`` file once in a separate process.

Some damaged files end the process that runs them, although ExecuTorch verified them: of 300 files with a few bytes
changed, 39 did. This is no sandbox: the file runs with the rights of its user.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NoReturn

from nas.system.errors import InputError
from nas.system.text import one_line

PATIENCE_S = 120.0
MAX_MEMORY = 16 << 30  # address space; PyTorch takes several GB of it
FLOAT = 6  # PyTorch's number for the scalar type float32
REFUSED = 3

Shape = tuple[int, ...]


def checked_shape(model: bytes) -> Shape:
    """The shape of a program's one float32 input, after running the program once.

    Raises:
        InputError: ExecuTorch cannot run the program, or it has other inputs.
    """
    with tempfile.TemporaryDirectory(prefix="nas-pte-") as folder:
        path = Path(folder) / "model.pte"
        path.write_bytes(model)
        return _run_once(path)


def _run_once(path: Path) -> Shape:
    command = [sys.executable, "-m", __name__, str(path.absolute())]
    here = str(Path(__file__).resolve().parents[3])  # this package, but no module of the current folder
    paths = {"PYTHONPATH": os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH", "")]))}
    text: dict[str, Any] = {"capture_output": True, "encoding": "utf-8", "errors": "replace"}
    try:
        done = subprocess.run(command, cwd=path.parent, env=os.environ | paths, timeout=PATIENCE_S, **text)
    except subprocess.TimeoutExpired:
        raise InputError(f"the program took longer than {PATIENCE_S:g} s to run once; export it again") from None
    if done.returncode == REFUSED:
        raise InputError(done.stdout.strip()[:400])
    try:
        shape = tuple(int(side) for side in json.loads(done.stdout)) if done.returncode == 0 else None
    except ValueError:
        shape = None
    if shape is None:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise InputError(f"ExecuTorch crashed on this program (exit {done.returncode}: {last:.120}); export it again")
    return shape


def main(path: str) -> NoReturn:
    """Load and run the file, then print the shape of its input, or the error."""
    import torch

    from nas.latency.runtimes.executorch import Program

    _limit_memory()
    try:
        program = Program(Path(path))
        inputs = program.inputs()
        if len(inputs) != 1 or inputs[0][1] != FLOAT:
            raise InputError("the program must have one input, float32 images (N, 3, side, side)")
        program(torch.zeros(inputs[0][0]))
    except InputError as error:
        text = str(error)
    except Exception as error:  # a damaged file may fail in any way
        text = f"ExecuTorch cannot run this program: {one_line(error)}; export it again"
    else:
        print(json.dumps(inputs[0][0]))
        sys.exit(0)
    print(text)
    sys.exit(REFUSED)


def _limit_memory() -> None:
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
