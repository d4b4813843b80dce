"""What a person sees: each finished network once, too slow ones only as a count."""

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from nas.accuracy.record import Accuracy
from nas.cli.progress import Terminal, line, status, watcher
from nas.engine.progress import SearchProgress
from nas.engine.run.record import Candidate, State
from nas.latency.record import Latency
from nas.references.table import reference

ESTIMATE = Accuracy(0.724, 0.006, "ImageNet", "a model")
LATENCY = Latency(5.0, None, None, "box", "onnxruntime", 1, 1, "predicted")


def candidate(name: str, state: State = "COMPLETE", score: float | None = 0.5) -> Candidate:
    return Candidate(reference("mobilenet_v2"), state, LATENCY, 1, 1, 1, name=name, proxy_accuracy=score)


def progress(latest: Candidate, elapsed_s: float, hypervolume: float | None = 0.2) -> SearchProgress:
    return SearchProgress(3, 7, 0, 1, 10, 60.0, elapsed_s, latest, candidate("best"), hypervolume, "search")


def test_every_network_is_shown_once_and_too_slow_ones_are_not() -> None:
    text = io.StringIO()
    shown = Terminal(Console(file=text, width=200), None)
    for at, name in enumerate(["first", "second", "third"]):
        shown.search(progress(candidate(name), 100.0 * (at + 1)))
        shown.search(progress(candidate(f"slow {name}", "TOO_SLOW", None), 100.0 * (at + 1) + 50))
    assert [text.getvalue().count(name) for name in ("first", "second", "third", "slow")] == [1, 1, 1, 0]


def test_a_pipe_gets_a_line_every_half_minute() -> None:
    text = io.StringIO()
    shown = Terminal(Console(file=text, width=200), None)
    for second in range(100):
        shown.search(progress(candidate(f"n{second}"), float(second)))
    assert 2 <= len(text.getvalue().splitlines()) <= 5


def test_the_bar_shows_progress_best_and_time_left() -> None:
    text = status(progress(candidate("x"), 20.0))
    for part in ("3 trained of 10", "7 too slow", "best 0.5000 at 5.00 ms", "hypervolume 0.2000", "40 s left"):
        assert part in text
    assert "hypervolume" not in status(progress(candidate("x"), 20.0, None))


@pytest.mark.parametrize(
    ("word", "estimate", "parts", "missing"),
    [
        ("trained", None, ("score 0.5000", "7.0 s"), ("observed", "±")),
        ("trained", ESTIMATE, ("estimated 72.4 ± 0.6 %", "observed 0.5000", "7.0 s"), ("score",)),
        ("estimated", ESTIMATE, ("estimated 72.4 ± 0.6 %",), ("observed", "score", " s ")),
        ("scored", None, ("score 0.5000", "7.0 s"), ("trained",)),
    ],
)
def test_a_line_and_the_bar_say_where_a_score_comes_from(
    word: str, estimate: Accuracy | None, parts: tuple[str, ...], missing: tuple[str, ...]
) -> None:
    """What was observed is shown beside an estimate; where nothing is trained, there is neither that nor its time."""
    latest = replace(candidate("x"), estimate=estimate, seconds=7.0)
    shown = replace(progress(latest, 20.0), scored_word=word, best=latest)
    text = f"{line(latest, shown)} "
    assert all(part in text for part in parts)
    assert not any(part in text for part in missing)
    assert f"3 {word} of 10" in status(shown)
    assert f"best {parts[0].removeprefix('score ')} at 5.00 ms" in status(shown)


def test_markup_in_names_is_shown_as_it_is() -> None:
    text = io.StringIO()
    Terminal(Console(file=text, width=200), None).say("[red]folder[/red]")
    assert "[red]folder[/red]" in text.getvalue()


@pytest.mark.parametrize("kept", [True, False])
def test_an_interrupt_shows_the_command_that_resumes_what_is_kept(
    kept: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "my run"
    if kept:
        folder.mkdir()
        (folder / "run.json").touch()
    with pytest.raises(KeyboardInterrupt), watcher(quiet=True) as shown:  # noqa: PT012
        shown.run = folder
        raise KeyboardInterrupt
    assert (f"nas resume '{folder}'" in capsys.readouterr().err) == kept
