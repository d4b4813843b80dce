"""A whole search process, killed and interrupted; nothing finished is lost or done twice."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from nas.engine.run.store import Store
from tests.engine.search_toys import evaluated

pytestmark = pytest.mark.processes

ROOT = Path(__file__).parents[2]
TRIALS = 40
REFERENCES = 2


def start(folder: Path, log: Path, workers: int, seconds: float = 0.02) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.engine.search_child", folder, log, TRIALS, workers, seconds]
    return subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, text=True, cwd=ROOT)


def read_lines(child: subprocess.Popen[str], count: int) -> None:
    assert child.stdout
    for _ in range(count):
        child.stdout.readline()


def finished(folder: Path) -> list[str]:
    candidates, references = Store.open(folder, read_only=True).load()
    return [candidate.key for candidate in [*candidates, *references] if candidate.state != "TOO_SLOW"]


def end(child: subprocess.Popen[str], number: int) -> None:
    child.send_signal(number)
    child.wait()
    assert child.stdout
    child.stdout.close()


@pytest.mark.parametrize("workers", [1, 2])
def test_kill_nine_five_times(workers: int, tmp_path: Path) -> None:
    """kill -9 at five random moments, resumed each time: no finished network is lost or evaluated again."""
    folder, log = tmp_path / "run", tmp_path / "log"
    rng = random.Random(workers)
    kept: list[str] = []
    for _ in range(5):
        child = start(folder, log, workers)
        read_lines(child, rng.randrange(1, 10))
        end(child, signal.SIGKILL)
        now = finished(folder)
        assert set(kept) <= set(now), "lost"
        kept = now
    last = start(folder, log, workers)
    assert last.wait() == 0
    assert last.stdout
    last.stdout.close()
    every = finished(folder)
    assert len(every) == len(set(every)) == TRIALS + REFERENCES
    again = {key: count for key, count in Counter(evaluated(log)).items() if count > 1}
    assert sum(count - 1 for count in again.values()) <= 5 * workers, "only what ran at a kill may run again"
    assert set(every) <= set(evaluated(log))


def test_finished_before_the_kill_is_never_evaluated_again(tmp_path: Path) -> None:
    """What the journal held at the kill does not appear in the log of evaluations after it."""
    folder, log = tmp_path / "run", tmp_path / "log"
    child = start(folder, log, 1)
    read_lines(child, 12)
    end(child, signal.SIGKILL)
    kept, before = finished(folder), len(evaluated(log))
    assert len(kept) >= 5
    assert start_and_wait(folder, log) == 0
    assert not set(kept) & set(evaluated(log)[before:])


def start_and_wait(folder: Path, log: Path) -> int:
    child = start(folder, log, 1)
    assert child.stdout
    child.stdout.read()
    child.stdout.close()
    return child.wait()


@pytest.mark.parametrize("workers", [1, 2])
def test_interrupt_keeps_what_finished(workers: int, tmp_path: Path) -> None:
    """Ctrl-C ends the process with KeyboardInterrupt; each network it reported is in the folder, which is free."""
    folder, log = tmp_path / "run", tmp_path / "log"
    child = start(folder, log, workers, seconds=0.1)
    assert child.stdout
    reported = {child.stdout.readline().strip() for _ in range(8)}
    child.send_signal(signal.SIGINT)
    reported |= {line.strip() for line in child.stdout}
    assert child.wait() == -signal.SIGINT
    child.stdout.close()
    with Store.open(folder) as store:
        candidates, references = store.load()
    assert reported == {candidate.key for candidate in [*candidates, *references]}
    assert len(candidates) < TRIALS
