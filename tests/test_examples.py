"""The examples run as they are, and print what they announce."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.processes

EXAMPLES = Path(__file__).parents[1] / "examples"
PRINTED = {
    "own_sampler.py": r"RandomSampler: \d+ networks .*\nTPESampler: \d+ networks .*",
    "own_score_and_cost.py": r"(?s) *key +score +memory_mb +params\n.*within 30 MB:\n\d+px \| .*",
    "own_space.py": r"(?s)tiny: 682,112 networks, 21 genes\n.*key +proxy_accuracy +latency_ms\n.*",
}


def test_every_example_is_tested_and_listed() -> None:
    names = {path.name for path in EXAMPLES.glob("*.py")}
    assert names == set(PRINTED)
    assert names == set(re.findall(r"\]\((\w+\.py)\)", (EXAMPLES / "README.md").read_text()))


@pytest.mark.parametrize("name", PRINTED)
def test_an_example_prints_its_result_and_leaves_nothing_behind(name: str, tmp_path: Path) -> None:
    """And does so without PyTorch, since nothing is trained."""
    run = f"import runpy; runpy.run_path({str(EXAMPLES / name)!r}, run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.modules['torch'] = None; {run}"],
        cwd=tmp_path,
        env=dict(os.environ) | {"NAS_CACHE": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(PRINTED[name], done.stdout.strip()), done.stdout
    assert done.stderr == ""
    assert list(tmp_path.iterdir()) == []
