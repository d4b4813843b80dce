"""``study.journal``: Optuna's journal of the run, read line by line, so that errors name the damaged line.

The search itself runs on a study in memory. A proposal through a journal costs a locked, synced write per gene
(110 ms and more for 45 genes); this file gets one record per finished candidate instead.
"""

from __future__ import annotations

import json
from collections.abc import Generator
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial

from nas.arch.space import Space
from nas.engine.quiet import quiet_optuna
from nas.engine.run.record import Candidate
from nas.engine.run.trials import candidate_of
from nas.system.errors import InputError

NAME = "study.journal"
STUDY = "nas"
DIRECTIONS: tuple[Literal["maximize", "minimize"], ...] = ("maximize", "minimize")  # accuracy, latency in ms
MAX_BYTES = 4 << 30
_CREATE_STUDY, _CREATE_TRIAL = 0, 4  # optuna.storages.journal: JournalOperation


class Journal:
    """The journal, open for appending."""

    def __init__(self, path: Path) -> None:
        """Open `path`, made if absent.

        Raises:
            InputError: it does not begin as Optuna's journals do.
        """
        self.path = path
        try:
            with quiet_optuna():
                storage = JournalStorage(_Appending(path))
                self._study = optuna.create_study(
                    storage=storage, study_name=STUDY, directions=DIRECTIONS, load_if_exists=True
                )
        except (ValueError, KeyError, TypeError, AttributeError, AssertionError) as error:
            raise InputError(f"{path}: {error!r:.80}; {_REMEDY}") from None

    def append(self, trial: FrozenTrial) -> None:
        """Write one record, synced to the disk."""
        with quiet_optuna():
            self._study.add_trial(trial)


class _Appending(JournalFileBackend):
    """The journal as far as this process needs it: the record of the study, and what is appended from now on. With the
    run's lock held nobody else writes, so that thousands of earlier records need not be replayed."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), JournalFileOpenLock(str(path)))
        with path.open("rb") as lines:
            first = lines.readline()
        self._records: list[dict[str, Any]] = [json.loads(first)] if first else []
        if self._records and self._records[0]["op_code"] != _CREATE_STUDY:
            raise ValueError("its first record does not create a study")

    def read_logs(self, log_number_from: int) -> Generator[dict[str, Any], None, None]:
        yield from self._records[log_number_from:]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        super().append_logs(logs)
        self._records += logs


_REMEDY = "restore it from a copy, or start a new run"


def repair(path: Path) -> None:
    """Make the journal of a killed process usable again; call it with the run's lock held.

    A last line that was cut off in the middle is moved to ``study.journal.torn``; Optuna's own lock, whose owner is
    gone, is removed (it would be waited for half a minute).
    """
    for stale in path.parent.glob(f"{path.name}.lock*"):
        stale.unlink(missing_ok=True)
    if not path.exists():
        return
    data = path.read_bytes()
    whole, tail = data[: data.rfind(b"\n") + 1], data[data.rfind(b"\n") + 1 :]
    if not tail:
        return
    with path.open("r+b") as file:
        if _is_object(tail):  # only the end of the line is missing
            file.seek(0, 2)
            file.write(b"\n")
        else:
            with path.with_name(f"{path.name}.torn").open("ab") as copy:
                copy.write(tail + b"\n")
            file.truncate(len(whole))


def read(path: Path, space: Space) -> list[tuple[Candidate, float]]:
    """All finished candidates with the search time at which they finished; of equal networks the first.

    A last line without its end is left out: `repair` cuts it off, or another process is writing it now.

    Raises:
        InputError: a line is not JSON, or does not describe a network of `space`; the text names it.
    """
    found: dict[str, tuple[Candidate, float]] = {}
    if not path.exists():
        return []
    if path.stat().st_size > MAX_BYTES:
        raise InputError(f"{path}: at most {MAX_BYTES} bytes; {_REMEDY}")
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.endswith(b"\n"):
                break
            try:
                log = json.loads(line, parse_constant=_no_constant)
                if not isinstance(log, dict):
                    raise InputError("a record is an object")
                if log.get("op_code") == _CREATE_TRIAL and "user_attrs" in log:
                    candidate, elapsed_s = candidate_of(log, space)
                    found.setdefault(candidate.key, (candidate, elapsed_s))
            except InputError as error:
                raise InputError(f"{path}:{number}: {error}; {_REMEDY}") from None
            except (ValueError, RecursionError):
                raise InputError(f"{path}:{number}: broken JSON; {_REMEDY}") from None
    return list(found.values())


def _no_constant(name: str) -> None:
    """NaN and infinities, which Python's reader takes and Optuna refuses with a ValueError later on."""
    raise InputError(f"{name} is not a number")


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False
