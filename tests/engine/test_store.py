"""The run folder: lossless, robust to cuts at any byte, and outspoken about damage."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nas.engine.run.record import Candidate, Repeat, State
from nas.engine.run.store import Store
from nas.latency.record import Latency
from nas.system.errors import InputError, NasError, RunBusyError
from tests.engine.search_toys import SPACE, Model, info_of, target_of

INFO = info_of(30.0, feasibility={"share": 0.5})


def candidate(seed: int, state: State = "COMPLETE", name: str | None = None) -> Candidate:
    genes = SPACE.sample_genes(seed)
    arch = SPACE.decode(genes)
    score = seed / 7 if state == "COMPLETE" else None
    return Candidate(
        arch, state, Model()(arch), seed, 2, 3, {} if name else genes, name, score, score, 0.25,
        "it\nfell" if state == "FAILED" else None,
    )  # fmt: skip


CANDIDATES = [candidate(0), candidate(1, "TOO_SLOW"), candidate(2, "FAILED"), candidate(3), candidate(4)]
REFERENCES = [candidate(5, name="a"), candidate(6, "FAILED", name="b")]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("store") / "deep" / "run"
    with Store.create(folder, INFO) as store:
        for at, found in enumerate(CANDIDATES):
            store.append(found, float(at), found.predicted.ms - 30.0)
        for found in REFERENCES:
            store.append_reference(found, 9.5)
    return folder


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "run"))


def test_reads_back_what_was_written(run: Path) -> None:
    """Candidates, references, options, space and time spent come back equal; measured latencies join the record."""
    with Store.open(run) as store:
        assert store.load() == (CANDIDATES, REFERENCES)
        assert (store.spent_s, store.info, store.space.key) == (9.5, INFO, SPACE.key)
        measured = Latency(12.5, 0.1, 30, "host", "onnxruntime", 1, 1, "measured")
        store.write_measured({CANDIDATES[3].key: measured, REFERENCES[0].key: measured})
        store.finish(stopped_because="trials")
    record = Store.open(run, read_only=True).record()
    assert record.info.stopped_because == "trials"
    assert record.info.finished
    assert record.info.finished >= record.info.started
    assert record.info.feasibility == {"share": 0.5}
    assert record.candidates[3] == replace(CANDIDATES[3], measured=measured)
    assert record.references[0].latency_ms == 12.5
    assert record.candidates[0].measured is None


def test_optuna_opens_the_journal(run: Path) -> None:
    """What optuna-dashboard reads: one study, two objectives, every state, genes and constraint."""
    backend = optuna.storages.journal.JournalFileBackend(str(run / "study.journal"))
    study = optuna.load_study(study_name=None, storage=optuna.storages.JournalStorage(backend))
    assert [d.name for d in study.directions] == ["MAXIMIZE", "MINIMIZE"]
    assert [t.state.name for t in study.trials] == ["COMPLETE", "PRUNED", "FAIL", "COMPLETE", "COMPLETE"]
    for trial, found in zip(study.trials, CANDIDATES, strict=True):
        assert trial.params == found.genes
        assert trial.constraints == {"latency": found.predicted.ms - 30.0}
    assert study.trials[3].values == [3 / 7, CANDIDATES[3].predicted.ms]


def is_json(line: bytes) -> bool:
    try:
        return bool(json.loads(line))
    except ValueError:
        return False


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_cut_at_any_byte(whole: Path, tmp_path: Path, data: st.DataObject) -> None:
    """Cut the journal anywhere: candidates with a whole line are there, a torn one is kept aside, the run goes on."""
    content = (whole / "study.journal").read_bytes()
    ends = [at for at, byte in enumerate(content) if byte == 10]
    near = st.builds(lambda end, by: min(len(content), max(0, end + by)), st.sampled_from(ends), st.integers(-2, 3))
    cut = data.draw(st.one_of(near, st.integers(0, len(content))))
    folder = tmp_path / "run"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(whole, folder)
    (folder / "study.journal").write_bytes(content[:cut])
    (folder / "study.journal.lock").touch()  # the killed process held Optuna's lock
    whole_lines = [line for line in content[:cut].split(b"\n") if is_json(line)]
    records = sum(b'"op_code":4' in line for line in whole_lines)
    with Store.open(folder) as store:
        assert store.load()[0] == CANDIDATES[:records]
        store.append(candidate(8))
    with Store.open(folder) as store:
        assert store.load()[0] == [*CANDIDATES[:records], candidate(8)]
    torn = content[:cut].rpartition(b"\n")[2]
    if torn and not is_json(torn):
        assert (folder / "study.journal.torn").read_bytes() == torn + b"\n"


def test_second_process_is_refused_with_the_pid(run: Path) -> None:
    """While one process has the run open another is refused, with the id of the first; kill -9 frees it."""
    script = (
        "import sys; from nas.engine.run.store import Store\n"
        "s = Store.open(sys.argv[1]); print('open', flush=True); sys.stdin.read()"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", script, str(run)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdin
    assert child.stdout
    assert child.stdout.readline() == "open\n"
    with pytest.raises(RunBusyError, match=f"in use by process {child.pid};"):
        Store.open(run)
    assert Store.open(run, read_only=True).load()[0] == CANDIDATES, "looking is allowed"
    child.kill()
    child.wait()
    child.stdin.close()
    child.stdout.close()
    Store.open(run).close()


def test_read_only_does_not_write(run: Path) -> None:
    """A run opened to look at it changes no file and refuses to take anything."""
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    store = Store.open(run, read_only=True)
    for write in (
        lambda: store.append(candidate(9)),
        lambda: store.append_reference(candidate(9, name="c")),
        store.finish,
    ):
        with pytest.raises(NasError, match="read only"):
            write()
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before


def edit_line(path: Path, number: int, change: dict[str, object]) -> None:
    lines = path.read_text().splitlines()
    lines[number - 1] = json.dumps(json.loads(lines[number - 1]) | change)
    path.write_text("\n".join(lines) + "\n")


DAMAGE = {
    "not json": (lambda line: b"{nonsense", "broken JSON"),
    "not an object": (lambda line: b"[1]", "a record is an object"),
    "binary": (lambda line: b"\xff\x00", "broken JSON"),
    "unknown gene": (lambda line: line.replace(b'"resolution"', b'"colour"'), "no gene 'colour'"),
    "other network": (lambda line: line.replace(b'"key":"', b'"key":"0'), "its genes decode to network"),
    "bad latency": (lambda line: line.replace(b'"source":"predicted"', b'"source":"guessed"'), "source is not one of"),
    "no accuracy": (lambda line: line.replace(b'"state":1', b'"state":2'), "COMPLETE"),
    "not a number": (lambda line: line.replace(b'"values":[0.0', b'"values":[NaN'), "NaN"),
    "infinite": (lambda line: line.replace(b'"values":[0.0', b'"values":[-Infinity'), "Infinity"),
    "negative": (lambda line: line.replace(b'"macs":2', b'"macs":-2'), "macs must be a whole number"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_journal_line_is_named(run: Path, kind: str) -> None:
    """A damaged record in the middle is an InputError with file, line and way out."""
    path = run / "study.journal"
    lines = path.read_bytes().split(b"\n")
    number = next(at for at, line in enumerate(lines) if b'"op_code":4' in line)
    damage, text = DAMAGE[kind]
    damaged = damage(lines[number])
    assert damaged != lines[number]
    path.write_bytes(b"\n".join([*lines[:number], damaged, *lines[number + 1 :]]))
    with pytest.raises(InputError, match=text) as error:
        Store.open(run)
    assert f"study.journal:{number + 1}: " in str(error.value)
    assert "\n" not in str(error.value)
    assert "restore it from a copy, or start a new run" in str(error.value)


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("run.json", "{", r"run.json:1: broken JSON"),
        ("run.json", '{"schema": 99}', "schema 2, got 99"),
        ("run.json", '{"schema": 1, "options": {}}', "space"),
        ("run.json", '{"schema": 2, "options": {}, "space": {"text": "name: x"}}', "target_ms"),
        ("run.json", '{"schema": 2, "options": {"target_ms": "8"}, "space": {"text": "name: x"}}', "target_ms.*'8'"),
        (
            "run.json",
            '{"schema": 1, "options": {"target_ms": null}, "space": {"text": "name: x"}}',
            r"run.json \(space\):1",
        ),
        ("references.json", "[]", "reads schema 1"),
        ("references.json", '{"schema": 1, "references": [{}]}', "references.json: arch must be an object"),
        ("study.journal", '{"op_code":4}\n', "study.journal: "),
    ],
)
def test_broken_files_are_named(run: Path, name: str, content: str, text: str) -> None:
    """A file that is not what it should be is an InputError naming it, on one line."""
    (run / name).write_text(content)
    with pytest.raises(InputError, match=text) as error:
        Store.open(run)
    assert "\n" not in str(error.value)
    assert str(run) in str(error.value)


def test_missing_and_taken_folders(run: Path, tmp_path: Path) -> None:
    """Opening what is no run, creating over a run, or where nothing can be written: one line that says what to do."""
    with pytest.raises(InputError, match="is not a run folder"):
        Store.open(tmp_path / "nothing")
    with pytest.raises(InputError, match="nas resume"):
        Store.create(run, INFO)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot use run folder .*: Not a directory"):
        Store.create(tmp_path / "file" / "run", INFO)
    (run / "run.json").unlink()
    with pytest.raises(InputError, match=r"study\.journal.*run\.json"):
        Store.create(run, INFO)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_unwritable_folder(tmp_path: Path) -> None:
    """A folder without write permission is refused."""
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="Permission denied"):
        Store.create(tmp_path / "run", info_of(target_of(0.5)))


@pytest.mark.parametrize("name", ["study.journal", "measured.json", "references.json", "latency_table.json"])
def test_a_new_run_does_not_take_files_of_another_for_its_own(name: str, tmp_path: Path) -> None:
    """They are named, and left as they are."""
    (tmp_path / name).write_text("{}")
    with pytest.raises(InputError, match=name):
        Store.create(tmp_path, INFO)
    assert (tmp_path / name).read_text() == "{}"
    assert not (tmp_path / "run.json").exists()


def test_a_discarded_run_leaves_nothing_and_frees_its_name(tmp_path: Path) -> None:
    """Also to a process that opened the lock file before it was deleted: what it locks is the file of that name."""
    folder = tmp_path / "run"
    first = Store.create(folder, INFO)
    late = open(folder / "nas.lock")  # noqa: SIM115 - another process, about to lock
    first.discard()
    assert not folder.exists()
    fcntl.flock(late, fcntl.LOCK_EX | fcntl.LOCK_NB)  # locks a file without a name, which must not count
    with Store.create(folder, INFO), pytest.raises(RunBusyError):
        Store.open(folder)
    late.close()


def test_a_file_system_without_locks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """flock fails there with ENOLCK or ENOTSUP; and Windows has no such call at all."""

    def refuse(file: object, how: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(InputError, match=r"file locks.*local disk"):
        Store.create(tmp_path / "run", INFO)
    monkeypatch.setitem(sys.modules, "fcntl", None)
    with pytest.raises(InputError, match="WSL"):
        Store.create(tmp_path / "run", INFO)


def test_further_trainings_are_kept_at_once(run: Path) -> None:
    """They are on disk when `append_repeat` returns, as after a kill, with the search time; a broken file is named."""
    first, second = Repeat(1, 0.5, None, 2.0), Repeat(2, 0.25, 1.5, 3.0)
    store = Store.open(run)
    store.append_repeat(CANDIDATES[0].key, first, 20.0)
    store.append_repeat(CANDIDATES[0].key, second, 30.0)
    with Store.open(run, read_only=True) as reader:  # while the other is open
        candidates, _ = reader.load()
        assert candidates[0].repeats == (first, second)
        assert candidates[0].trainings == 3
        assert {one.repeats for one in candidates[1:]} == {()}
        assert reader.spent_s == 30.0
    store.close()
