"""The run folder: everything a search has finished, on disk at once, whole after ``kill -9`` at any moment.

======================  ===================================================================================
``run.json``            options, space, start and end; replaced atomically
``study.journal``       Optuna journal, one record per finished candidate; `optuna-dashboard` opens it
``references.json``     the fixed networks; replaced atomically
``measured.json``       latencies measured after the search, by architecture key; replaced atomically
``nas.lock``            held (flock) and filled with the process id by the one process that works on the run
======================  ===================================================================================
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from nas.arch.space import Space
from nas.arch.space_yaml import parse_space
from nas.engine.run import journal
from nas.engine.run.lock import NAME as LOCK
from nas.engine.run.lock import acquire
from nas.engine.run.record import Candidate, Record, with_measured
from nas.engine.run.trials import frozen, now, reference_from_dict, reference_to_dict
from nas.latency.record import Latency
from nas.system.errors import InputError, NasError
from nas.system.files import write_atomic

SCHEMA = 1
MAX_JSON_BYTES = 64 << 20


class Store:
    """A run folder. Use `create` or `open`, and `close` (or ``with``) at the end; only one process may have it open.

    Attributes:
        folder: of the run.
        options: what ``run.json`` holds besides the space.
        space: the searched space.
        target_ms: latency target, or None.
        spent_s: search time of the calls so far, up to the last finished candidate.
    """

    def __init__(self, folder: Path, lock: IO[str] | None, options: dict[str, Any], space: Space) -> None:
        self.folder = folder
        self.options = options
        self.space = space
        self.target_ms: float | None = options["target_ms"]
        self.spent_s = 0.0
        self._was_empty = False
        self._lock = lock
        self._candidates: list[Candidate] = []
        self._references: list[tuple[Candidate, float]] = []
        self._journal: journal.Journal | None = None

    @staticmethod
    def create(folder: Path | str, options: Mapping[str, Any], space: Space) -> Store:
        """Begin a run in `folder`, which is made if absent.

        Args:
            folder: ``results/<run>``.
            options: plain values for ``run.json``; must hold ``target_ms`` (None or a number).
            space: the space to be searched.

        Raises:
            InputError: the folder holds a run already, or cannot be written to.
            RunBusyError: another process works on it.
        """
        folder = Path(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            was_empty = not any(folder.iterdir())
            lock = acquire(folder)
        except OSError as error:
            raise _unwritable(folder, error) from None
        try:
            if (folder / "run.json").exists():
                raise InputError(f"{folder} already holds a run; `nas resume {folder}` continues it, or name another")
            if (folder / journal.NAME).exists():  # run.json is written first, so somebody took it away
                raise InputError(
                    f"{folder} holds a {journal.NAME} but no run.json; restore that, or name another folder"
                )
            store = Store(folder, lock, {"started": now(), "finished": None, **options}, space)
            store._was_empty = was_empty
            store._save_options()
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
        """Open a run to go on with it.

        Args:
            folder: of the run.
            read_only: to look at it only, maybe while it runs: takes no lock, repairs nothing, refuses to write.

        Raises:
            InputError: not a run folder, or one of its files is broken; the text names file, line and way out.
            RunBusyError: another process works on it.
        """
        folder = Path(folder)
        if not (folder / "run.json").is_file():
            raise InputError(f"{folder} is not a run folder: it has no run.json; give a folder that `nas search` made")
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
        options, space = _read_options(folder / "run.json")
        store = Store(folder, lock, options, space)
        path = folder / journal.NAME
        if lock:
            journal.repair(path)
        found = journal.read(path, space)
        store._candidates = [candidate for candidate, _ in found]
        store._references = _read_references(folder / "references.json")
        store.spent_s = max((elapsed for _, elapsed in [*found, *store._references]), default=0.0)
        if lock:
            store._journal = journal.Journal(path)
        return store

    def append(self, candidate: Candidate, elapsed_s: float = 0.0) -> None:
        """Keep a finished candidate; on disk when this returns. `elapsed_s` is search time so far, all calls together.

        Raises:
            NasError: the disk is full or gone.
        """
        if self._journal is None:
            raise NasError(f"{self.folder} was opened to be read only")
        limit_ms = self.options.get("admitted_ms") or self.target_ms
        try:
            self._journal.append(frozen(candidate, self.space, limit_ms, elapsed_s))
        except OSError as error:
            raise NasError(f"cannot write {self._journal.path}: {error.strerror}; free the disk, then resume") from None
        self._candidates.append(candidate)
        self.spent_s = max(self.spent_s, elapsed_s)

    def append_reference(self, candidate: Candidate, elapsed_s: float = 0.0) -> None:
        """Keep a finished reference; on disk when this returns."""
        self._references.append((candidate, elapsed_s))
        data = [reference_to_dict(reference, elapsed) for reference, elapsed in self._references]
        self._write("references.json", {"schema": SCHEMA, "references": data})
        self.spent_s = max(self.spent_s, elapsed_s)

    def load(self) -> tuple[list[Candidate], list[Candidate]]:
        """The finished candidates in the order in which they finished, and the finished references, with what was
        measured after an earlier search.

        Raises:
            InputError: ``measured.json`` is broken.
        """
        measured = self.measured()
        references = [candidate for candidate, _ in self._references]
        return with_measured(self._candidates, measured), with_measured(references, measured)

    def write_measured(self, measured: Mapping[str, Latency]) -> None:
        """Keep latencies measured after the search, by architecture key, besides those kept before."""
        both = self.measured() | dict(measured)
        data = {key: latency.to_dict() for key, latency in both.items()}
        self._write("measured.json", {"schema": SCHEMA, "measured": data})

    def measured(self) -> dict[str, Latency]:
        """Latencies measured after the search, by architecture key; empty before.

        Raises:
            InputError: ``measured.json`` is broken.
        """
        path = self.folder / "measured.json"
        if not path.exists():
            return {}
        found = _load_json(path, "delete it; it can be measured again").get("measured")
        try:
            if not isinstance(found, dict):
                raise InputError("measured must be an object")
            return {key: Latency.from_dict(value) for key, value in found.items()}
        except InputError as error:
            raise InputError(f"{path}: {error}; delete it; it can be measured again") from None

    def update(self, facts: Mapping[str, Any]) -> None:
        """Add plain values to the options in ``run.json``, e.g. `feasibility` or `table_error`."""
        self.options.update(facts)
        self.target_ms = self.options["target_ms"]
        self._save_options()

    def finish(self, **facts: Any) -> None:
        """Note the end, the search time spent, and `facts` in ``run.json``."""
        self.update({"finished": now(), "seconds": self.spent_s, **facts})

    def record(self) -> Record:
        """The run as a report reads it, with measured latencies where there are some."""
        candidates, references = self.load()
        return Record(
            options=dict(self.options),
            space=self.space,
            target_ms=self.target_ms,
            candidates=candidates,
            references=references,
            feasibility=self.options.get("feasibility"),
            table_error=self.options.get("table_error"),
        )

    def discard(self) -> None:
        """Take a run that came to nothing away again: its files are deleted, and the folder if that leaves it empty."""
        if self._candidates or self._references or self._lock is None:
            raise NasError(f"{self.folder} holds finished candidates and is not discarded")
        table = ["latency_table.json"] if self._was_empty else []  # else it may be the user's
        for name in ("run.json", journal.NAME, *table, LOCK):  # with the lock held to the last
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

    def _save_options(self) -> None:
        space = {"name": self.space.name, "key": self.space.key, "text": self.space.text}
        self._write("run.json", {"schema": SCHEMA, "options": self.options, "space": space})

    def _write(self, name: str, data: Mapping[str, Any]) -> None:
        if self._lock is None:
            raise NasError(f"{self.folder} was opened to be read only")
        try:
            write_atomic(self.folder / name, json.dumps(data, indent=1) + "\n")
        except OSError as error:
            text = f"cannot write {self.folder / name}: {error.strerror}; make room, or choose another folder"
            raise InputError(text) from None


def _unwritable(folder: Path, error: OSError) -> InputError:
    return InputError(f"cannot use run folder {folder}: {error.strerror}; choose a folder you can write to")


def _load_json(path: Path, way_out: str) -> dict[str, Any]:
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise InputError(f"{path}: at most {MAX_JSON_BYTES} bytes; {way_out}")
        data = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise InputError(f"{path}:{error.lineno}: broken JSON ({error.msg}); {way_out}") from None
    except (UnicodeDecodeError, RecursionError):
        raise InputError(f"{path}: not JSON text; {way_out}") from None
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        found = data.get("schema") if isinstance(data, dict) else None
        raise InputError(f"{path}: this program reads schema {SCHEMA}, got {found!r:.40}; {way_out}")
    return data


def _read_options(path: Path) -> tuple[dict[str, Any], Space]:
    way_out = "restore it from a copy, or start a new run"
    data = _load_json(path, way_out)
    options, space = data.get("options"), data.get("space")
    if not isinstance(options, dict) or not isinstance(space, dict) or not isinstance(space.get("text"), str):
        raise InputError(f"{path}: needs objects options and space, and space.text; {way_out}")
    target = options.get("target_ms")
    good = isinstance(target, (int, float)) and not isinstance(target, bool) and 0 < target < float("inf")
    if "target_ms" not in options or not (target is None or good):
        raise InputError(f"{path}: target_ms must be null or a positive number, got {target!r:.40}; {way_out}")
    return options, parse_space(space["text"], f"{path} (space)")


def _read_references(path: Path) -> list[tuple[Candidate, float]]:
    if not path.exists():
        return []
    way_out = "delete it; references are evaluated again"
    found: Sequence[Any] | None = _load_json(path, way_out).get("references")
    try:
        if not isinstance(found, list):
            raise InputError("references must be a list")
        return [reference_from_dict(item) for item in found]
    except InputError as error:
        raise InputError(f"{path}: {error}; {way_out}") from None
