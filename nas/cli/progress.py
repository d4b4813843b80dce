"""Progress on stderr: live bars on a terminal, a few plain lines in a file or a pipe."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from nas.system.units import clock

if TYPE_CHECKING:
    from nas.engine.progress import SearchProgress
    from nas.engine.run.record import Candidate

QUIET_EVERY_S = 30.0


class Terminal:
    """A watcher (`nas.engine.progress.Watcher`) that draws bars on a terminal and prints few lines elsewhere.

    Attributes:
        run: folder of the run; how to continue it is shown on an interrupt.
    """

    def __init__(self, console: Console, bars: Progress | None) -> None:
        self.run: Path | None = None
        self._console = console
        self._bars = bars
        self._task: TaskID | None = None
        self._last_line_s = 0.0
        self._text = ""

    def say(self, text: str) -> None:
        self._end_bar()
        self._console.print(escape(text), highlight=False)

    def step(self, done: int, total: int, text: str) -> None:
        if self._bars is None:
            if text != self._text:
                self._console.print(escape(f"{text} ..."), highlight=False)
                self._text = text
            return
        self._bar(text, done, total)
        if done >= total:
            self._end_bar()

    def search(self, progress: SearchProgress) -> None:
        latest = progress.latest
        due = self._bars is not None or progress.elapsed_s - self._last_line_s >= QUIET_EVERY_S
        if due and latest is not None and latest.state != "TOO_SLOW":
            self._console.print(escape(line(latest, progress)), highlight=False)
            self._last_line_s = progress.elapsed_s
        if self._bars is not None:
            share_of_trials = progress.evaluated / progress.trials if progress.trials else 0.0
            share_of_time = progress.elapsed_s / progress.budget_s if progress.budget_s else 0.0
            self._bar(status(progress), min(1.0, max(share_of_trials, share_of_time)), 1.0)

    def _bar(self, text: str, done: float, total: float) -> None:
        assert self._bars is not None
        if self._task is None:
            self._task = self._bars.add_task("", total=total)
        self._bars.update(self._task, description=escape(text), completed=done, total=total)

    def _end_bar(self) -> None:
        if self._bars is not None and self._task is not None:
            self._bars.remove_task(self._task)
            self._task = None


def line(candidate: Candidate, progress: SearchProgress) -> str:
    """One finished candidate on one line, with what was observed beside the estimate."""
    predicted = candidate.predicted.source == "predicted"
    source = progress.latency_word if predicted else candidate.predicted.source
    name, trained = candidate.name or candidate.key, progress.scored_word != "estimated"
    observed = candidate.proxy_accuracy if trained and candidate.estimate is not None else None
    parts = [
        f"  {name:20} {score_text(candidate)}",
        *([] if observed is None else [f"observed {observed:.4f}"]),
        f"{candidate.predicted.ms:7.2f} ms {source}",
        f"{candidate.macs / 1e6:6.1f} M MACs",
        *([f"{candidate.seconds:.1f} s"] if trained else []),
    ]
    return "  ".join(parts)


def score_text(candidate: Candidate) -> str:
    """The accuracy of a candidate, as far as it is known, or why it failed."""
    if candidate.state == "FAILED":
        return f"failed: {candidate.reason}"
    if candidate.estimate is not None:
        stopped = f", stopped after {candidate.steps:,} steps" if candidate.state == "STOPPED" else ""
        return f"estimated {candidate.estimate}{stopped}"
    return f"score {candidate.proxy_accuracy:.4f}"


def status(progress: SearchProgress) -> str:
    """The text beside the bar: progress, best so far, time left."""
    parts = [f"{progress.evaluated} {progress.scored_word}" + (f" of {progress.trials}" if progress.trials else "")]
    if progress.too_slow:
        parts.append(f"{progress.too_slow} {progress.over_word}")
    if progress.stopped:
        parts.append(f"{progress.stopped} stopped early")
    if progress.failed:
        parts.append(f"{progress.failed} failed")
    if progress.best is not None:
        best = score_text(progress.best).removeprefix("score ")
        parts.append(f"best {best} at {progress.best.latency_ms:.2f} ms")
        if progress.hypervolume is not None:
            parts.append(f"hypervolume {progress.hypervolume:.4f}")
    if progress.budget_s:
        parts.append(f"{clock(max(0.0, progress.budget_s - progress.elapsed_s))} left")
    return " · ".join([*parts, *([progress.phase] if progress.phase else [])])


@contextmanager
def watcher(quiet: bool = False) -> Iterator[Terminal]:
    """A watcher for this process. On Ctrl-C it prints how to resume and lets the interrupt pass.

    Args:
        quiet: whether to print nothing else; for programs that read stdout.
    """
    console = Console(file=sys.stderr, quiet=quiet, soft_wrap=True)
    live = console.is_terminal and not quiet
    columns = (BarColumn(bar_width=24), TextColumn("{task.description}"), TimeElapsedColumn())
    bars = Progress(*columns, console=console, transient=True) if live else None
    shown = Terminal(console, bars)
    try:
        if bars is not None:
            bars.start()
        yield shown
    except KeyboardInterrupt:
        if bars is not None:
            bars.stop()
        if shown.run is not None:
            command = f"nas resume {shlex.quote(str(shown.run))}"
            kept = (shown.run.expanduser() / "run.json").exists()
            rest = (
                f"finished work is kept. Resume with: {command}" if kept else "nothing was scored yet, nothing is kept"
            )
            text = f"interrupted; {rest}"
            Console(file=sys.stderr, soft_wrap=True).print(escape(text), highlight=False)
        raise
    finally:
        if bars is not None:
            bars.stop()
