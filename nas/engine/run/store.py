"""The run folder: everything a search has finished, on disk at once, whole after ``kill -9`` at any moment.

======================  ===================================================================================
``run.json``            what was asked for, the space, start and end (`RunInfo`); replaced atomically
``study.journal``       Optuna journal, one record per finished candidate; `optuna-dashboard` opens it
``references.json``     the fixed networks; replaced atomically
``measured.json``       latencies measured after the search, by architecture key; replaced atomically
``repeats.json``        further trainings of the best networks, after the search; replaced atomically
``latency_table.json``  the latency table that the run predicts with; ``latency_table_2.json`` of a second device
``shared.safetensors``  weights that the run's networks share (`nas.training.shared`); replaced atomically
``warm_start.json``     networks to begin with and trainings of earlier runs (`nas.engine.warm_start`), if any
``checkpoints/``        trainings under way that have reached a rung, one file a network; each is deleted at its end
``accuracy_model.json`` the accuracy model that the run estimates with, if it was read from a file
``nas.lock``            locked (flock) by the one process that works on the run; holds its process id
======================  ===================================================================================
"""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from nas.arch.space import Space
from nas.engine.judge import MODEL, judge_of
from nas.engine.run import journal
from nas.engine.run.info import RunInfo, now
from nas.engine.run.lock import NAME as LOCK
from nas.engine.run.lock import acquire
from nas.engine.run.read import FILE_SCHEMA, read_info, read_measured, read_references, read_repeats
from nas.engine.run.record import Candidate, Record, Repeat, with_measured, with_repeats
from nas.engine.run.trials import frozen, reference_to_dict
from nas.engine.warm_start import FILE_NAME as WARM_START
from nas.engine.warm_start import WarmStart
from nas.latency.record import Latency
from nas.system.errors import InputError, NasError
from nas.system.files import write_atomic

TABLE = "latency_table.json"
SHARED = "shared.safetensors"
CHECKPOINTS = "checkpoints"
_READ_BACK = (journal.NAME, "references.json", "measured.json", "repeats.json", TABLE, MODEL, SHARED, WARM_START)


class Store:
    """A run folder. Use `create` or `open`, and `close` (or ``with``) at the end; only one process may have it open.

    Attributes:
        folder: of the run.
        info: what ``run.json`` holds; change it with `update`.
        spent_s: search time of the calls so far, up to the last finished candidate.
    """

    def __init__(self, folder: Path, lock: IO[str] | None, info: RunInfo) -> None:
        self.folder = folder
        self.info = info
        self.spent_s = 0.0
        self._lock = lock
        self._candidates: list[Candidate] = []
        self._references: list[tuple[Candidate, float]] = []
        self._repeats: list[tuple[str, Repeat, float]] = []
        self._journal: journal.Journal | None = None

    @property
    def space(self) -> Space:
        """The searched space."""
        return self.info.space

    @property
    def table_path(self) -> Path:
        """Where the run keeps its latency table, whether it is there already or not."""
        return self.folder / TABLE

    @property
    def shared_path(self) -> Path:
        """Where the run keeps shared weights (`nas.training.shared`), in the middle or at the end of their training."""
        return self.folder / SHARED

    @property
    def checkpoints_path(self) -> Path:
        """Folder for the trainings that are under way (`nas.training.checkpoint`), whether it is there or not."""
        return self.folder / CHECKPOINTS

    @staticmethod
    def create(folder: Path | str, info: RunInfo) -> Store:
        """Begin a run.

        Args:
            folder: ``results/<run>``; is made if absent.
            info: of the run.

        Raises:
            InputError: the folder holds a run or files of one, or cannot be written to.
            RunBusyError: another process works on it.
        """
        folder = Path(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = acquire(folder)
        except OSError as error:
            raise _unwritable(folder, error) from None
        try:
            if (folder / "run.json").exists():
                _make_room(folder, lock)
            if stale := [name for name in _READ_BACK if (folder / name).exists()]:  # run.json is written first
                raise InputError(
                    f"{folder} holds {stale[0]} of another run but no run.json; restore that, or name another folder"
                )
            store = Store(folder, lock, info)
            store.update()
            store._journal = journal.Journal(folder / journal.NAME)
        except OSError as error:
            lock.close()
            raise _unwritable(folder, error) from None
        except BaseException:
            lock.close()
            raise
        return store

    @staticmethod
    def open(folder: Path | str, read_only: bool = False) -> Store:
        """Open a run to continue it, or to look at it.

        Args:
            folder: of the run.
            read_only: look only, even while it runs: takes no lock, repairs nothing, refuses to write.

        Raises:
            InputError: not a run folder, or one of its files is broken; the text names the file, the line and a remedy.
            RunBusyError: another process works on it.
        """
        folder = Path(folder).expanduser()
        if not (folder / "run.json").is_file():
            raise InputError(f"{folder} is not a run folder: it has no run.json; {_runs_in(folder)}")
        try:
            lock = None if read_only else acquire(folder)
        except OSError as error:
            raise _unwritable(folder, error) from None
        try:
            return Store._read(folder, lock)
        except OSError as error:
            if lock:
                lock.close()
            raise _unwritable(folder, error) from None
        except BaseException:
            if lock:
                lock.close()
            raise

    @staticmethod
    def _read(folder: Path, lock: IO[str] | None) -> Store:
        store = Store(folder, lock, read_info(folder / "run.json"))
        path = folder / journal.NAME
        if lock:
            journal.repair(path)
        found = journal.read(path, store.space)
        store._candidates = [candidate for candidate, _ in found]
        store._references = read_references(folder / "references.json")
        store._repeats = read_repeats(folder / "repeats.json")
        times = [elapsed for _, elapsed in [*found, *store._references]] + [one[2] for one in store._repeats]
        store.spent_s = max(times, default=0.0)
        if lock:
            store._journal = journal.Journal(path)
        return store

    def append(self, candidate: Candidate, elapsed_s: float = 0.0, excess: float | None = None) -> None:
        """Keep a finished candidate; it is on disk when this returns.

        Args:
            candidate: to keep.
            elapsed_s: search time so far, of all calls together.
            excess: by how much it is above what is admitted (`nas.engine.proposals`), positive if it is infeasible;
                None without limits.

        Raises:
            NasError: the disk is full or gone.
        """
        if self._journal is None:
            raise NasError(f"{self.folder} was opened to be read only")
        try:
            self._journal.append(frozen(candidate, self.space, excess, elapsed_s))
        except OSError as error:
            raise NasError(f"cannot write {self._journal.path}: {error.strerror}; free the disk, then resume") from None
        self._candidates.append(candidate)
        self.spent_s = max(self.spent_s, elapsed_s)

    def append_reference(self, candidate: Candidate, elapsed_s: float = 0.0) -> None:
        """Keep a finished reference; it is on disk when this returns."""
        self._references.append((candidate, elapsed_s))
        data = [reference_to_dict(reference, elapsed) for reference, elapsed in self._references]
        self._write("references.json", {"schema": FILE_SCHEMA, "references": data})
        self.spent_s = max(self.spent_s, elapsed_s)

    def append_repeat(self, key: str, repeat: Repeat, elapsed_s: float = 0.0) -> None:
        """Keep a further training of the candidate with this key; it is on disk when this returns."""
        self._repeats.append((key, repeat, elapsed_s))
        data = [{"key": key, **one._asdict(), "elapsed_s": elapsed} for key, one, elapsed in self._repeats]
        self._write("repeats.json", {"schema": FILE_SCHEMA, "repeats": data})
        self.spent_s = max(self.spent_s, elapsed_s)

    def load(self) -> tuple[list[Candidate], list[Candidate]]:
        """The finished candidates and the finished references, each in the order in which they finished, with what was
        measured, and trained again, after an earlier search.

        Raises:
            InputError: ``measured.json`` is broken.
        """
        measured, repeats = self.measured(), dict[str, list[Repeat]]()
        for key, repeat, _ in self._repeats:
            repeats.setdefault(key, []).append(repeat)
        references = [candidate for candidate, _ in self._references]
        return with_measured(with_repeats(self._candidates, repeats), measured), with_measured(references, measured)

    def write_measured(self, measured: Mapping[str, Latency]) -> None:
        """Keep latencies measured after the search, by architecture key, besides those kept before."""
        both = self.measured() | dict(measured)
        data = {key: latency.to_dict() for key, latency in both.items()}
        self._write("measured.json", {"schema": FILE_SCHEMA, "measured": data})

    def measured(self) -> dict[str, Latency]:
        """Latencies measured after the search, by architecture key; empty before.

        Raises:
            InputError: ``measured.json`` is broken.
        """
        return read_measured(self.folder / "measured.json")

    def write_warm_start(self, warm: WarmStart) -> None:
        """Keep what the run knows when it begins, if it knows anything."""
        if warm:
            self._write(WARM_START, warm.to_dict())

    def warm_start(self) -> WarmStart:
        """What the run knew when it began.

        Raises:
            InputError: ``warm_start.json`` is broken, or missing although the run has networks or runs to begin with.
        """
        return WarmStart.load(self.folder, self.info.options)

    def update(self, **changes: Any) -> None:
        """Change fields of `info`, on disk when this returns."""
        self.info = replace(self.info, **changes)
        self._write("run.json", self.info.to_dict(self.folder))

    def finish(self, **changes: Any) -> None:
        """Note the end, the search time spent, and other fields of `info`."""
        self.update(finished=now(), spent_s=self.spent_s, **changes)

    def record(self) -> Record:
        """The run as a report reads it, with latencies measured after the search."""
        candidates, references = self.load()
        judge = judge_of(self.info, self.folder)
        if judge is None:
            return Record(self.info, candidates, references)
        judge.learn([*references, *candidates])
        return Record(self.info, judge.estimated(candidates), judge.estimated(references), judge.model)

    @property
    def scored(self) -> bool:
        """Whether any candidate or reference was scored: then the run is worth keeping."""
        every = [*self._candidates, *(reference for reference, _ in self._references)]
        return any(candidate.trained for candidate in every)

    def discard(self) -> None:
        """Delete the files of a run that came to nothing, and the folder if that leaves it empty."""
        if self.scored or self._lock is None:
            raise NasError(f"{self.folder} holds scored candidates and is not discarded")
        shutil.rmtree(self.checkpoints_path, ignore_errors=True)
        for name in ("run.json", *_READ_BACK, *_further_tables(self.folder), LOCK):  # the lock last, while it is held
            (self.folder / name).unlink(missing_ok=True)
        if not any(self.folder.iterdir()):
            self.folder.rmdir()
        self.close()

    def close(self) -> None:
        """Let another process have the run."""
        self._journal = None
        if self._lock:
            self._lock.close()
            self._lock = None

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _write(self, name: str, data: Mapping[str, Any]) -> None:
        if self._lock is None:
            raise NasError(f"{self.folder} was opened to be read only")
        try:
            write_atomic(self.folder / name, json.dumps(data, indent=1) + "\n")
        except OSError as error:
            text = f"cannot write {self.folder / name}: {error.strerror}; make room, or choose another folder"
            raise InputError(text) from None


def _make_room(folder: Path, lock: IO[str]) -> None:
    """Delete a run that was killed before it scored anything or kept shared weights; any other is refused."""
    if Store._read(folder, lock).scored or (folder / SHARED).exists():
        command = f"nas resume {shlex.quote(str(folder))}"
        raise InputError(f"{folder} already holds a run; `{command}` continues it, or name another folder")
    shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
    for name in ("run.json", *_READ_BACK, *_further_tables(folder)):
        (folder / name).unlink(missing_ok=True)


def _further_tables(folder: Path) -> list[str]:
    return [path.name for path in folder.glob("latency_table_*.json")]


def _runs_in(folder: Path) -> str:
    runs = sorted(path.parent for path in folder.glob("*/run.json")) if folder.is_dir() else []
    if not runs:
        return "give a folder that `nas search` made"
    return f"give one of the runs in it: {', '.join(map(str, runs[-3:]))}"


def _unwritable(folder: Path, error: OSError) -> InputError:
    return InputError(f"cannot use run folder {folder}: {error.strerror}; choose a folder you can write to")
