"""What `import nas` offers for accuracy models: finding one, fitting one, and predictions by name."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nas.accuracy.calibrate import calibrate
from nas.accuracy.prior import BUNDLED, MAX_BYTES, PriorModel, bundled
from nas.accuracy.record import Accuracy, AccuracyModel
from nas.accuracy.sources import IMAGENET, read_source
from nas.arch.arch import Arch
from nas.arch.cost import cost_of
from nas.engine.progress import Silent, Watcher
from nas.engine.run.resolve import is_run, resolve
from nas.engine.run.store import Store
from nas.references.external import is_library
from nas.references.published import published_top1
from nas.references.table import split_name
from nas.system.errors import InputError, known

KNOWN = (BUNDLED, "file:PATH", "a run folder")


def accuracy_model(spec: str | Path) -> AccuracyModel:
    """An accuracy model by what people type.

    Args:
        spec: ``imagenet``, the model that comes with this package; ``file:PATH`` or a ``.json`` file that `nas accuracy
            calibrate` wrote; or a run folder, for the model that its networks were judged by.

    Raises:
        InputError: there is no such model, or its file cannot be used.

    >>> import nas
    >>> print(nas.accuracy_model("imagenet")(nas.reference("mobilenet_v1")))
    71.2 ± 2.1 %
    """
    text = str(spec)
    if text == BUNDLED:
        return bundled()
    if is_run(text):
        return _model_of_run(Path(text).expanduser())
    if text.startswith("file:") or Path(text).suffix == ".json":
        return PriorModel.load(Path(text.removeprefix("file:")).expanduser())
    raise InputError(f"there is no accuracy model {text!r:.200}; {known(KNOWN)}")


def _model_of_run(run: Path) -> AccuracyModel:
    with Store.open(run, read_only=True) as store:
        model = store.record().model
    if model is None:
        raise InputError(
            f"the networks of {run} have scores but no accuracy model: none was trained, or a function scored them"
        )
    return model


def calibrate_accuracy(
    tables: Sequence[str | Path],
    out: str | Path | None = None,
    *,
    name: str | None = None,
    level: str | None = None,
    task: str = "own",
    watch: Watcher | None = None,
) -> PriorModel:
    """Fit an accuracy model to tables of trained networks, and measure its error on networks it has not seen.

    Args:
        tables: CSV files, as `nas.accuracy.sources.read_source` takes them.
        out: file to write the model to; None writes none. Another accuracy model there is replaced.
        name: name of the model; None is that of `out`, else ``own``.
        level: name of the table whose training recipe the predicted level is of; None is the published figures if they
            are among the tables, else the first.
        task: what networks of own tables were trained for; the data sets that are recognised have theirs.
        watch: sees progress; None is silent.

    Raises:
        InputError: a table cannot be used, tables are of different tasks, no table is called `level`, or `out` cannot
            be written or is something else than an accuracy model.
    """
    path = None if out is None else Path(out).expanduser()
    if path is not None:
        _check_place(path)
    for text, what in ((name, "name"), (task, "task")):
        if text is not None and not (0 < len(text) <= 100 and text.isprintable()):
            raise InputError(f"--{what} must be one line of 1 to 100 characters, got {text!r:.60}")
    sources = [read_source(Path(table).expanduser(), task) for table in tables]
    name = name or (path.stem if path is not None else "own")
    model = calibrate(sources, name, level, (watch or Silent()).step)
    if path is not None:
        try:
            model.save(path)
        except OSError as error:
            raise InputError(f"cannot write {path}: {error.strerror}; give another file with --out") from None
    return model


@dataclass(frozen=True, slots=True)
class Prediction:
    """The estimate for one network, beside what is published.

    Args:
        name: name of the network, as it was given.
        accuracy: the estimate.
        published: published top-1 by publisher, in percent; empty if none is known or the model is of another task.
        outside: features that no network of the model's data has, as in `nas.accuracy.features.NAMES`.
        params: number of parameters, with 1,000 classes.
        macs: multiply-accumulates of one image.
    """

    name: str
    accuracy: Accuracy
    published: dict[str, float]
    outside: tuple[str, ...]
    params: int
    macs: int


def predict(names: Sequence[str], model: AccuracyModel) -> list[Prediction]:
    """Estimates for networks by name.

    Args:
        names: references, ``.yaml`` or ``arch.json`` files, folders of runs (their best network).
        model: accuracy model.

    Raises:
        InputError: there is no such network, or it is a library's, of which only the cost is known.
    """
    predictions = []
    for name in names:
        if is_library(name):
            raise InputError(f"{name} is a library's network: it can be counted and measured, but its rows are unknown")
        arch = resolve(name)
        assert isinstance(arch, Arch)
        cost = cost_of(arch)
        outside = tuple(model.outside(arch)) if isinstance(model, PriorModel) else ()
        figures = _published(name, arch) if model.task == IMAGENET else {}
        predictions.append(Prediction(name, model(arch), figures, outside, cost.params, cost.macs))
    return predictions


def _published(name: str, arch: Arch) -> dict[str, float]:
    """Published top-1 of the reference of this name at the width and resolution of `arch`, in percent by publisher."""
    plain = split_name(name)[0]
    if Path(plain).suffix == ".json" or is_run(plain):
        return {}
    return published_top1(plain, arch)


def _check_place(path: Path) -> None:
    """Before the time for a fit is spent: the file can be written, and nothing else than a model is overwritten."""
    if not path.parent.is_dir():
        raise InputError(f"cannot write {path}: there is no folder {path.parent}; give another file with --out")
    if not path.exists():
        return
    try:
        data = json.loads(path.read_text(encoding="utf-8")) if 0 < path.stat().st_size <= MAX_BYTES else None
    except (OSError, ValueError, RecursionError):
        data = None
    if not isinstance(data, dict) or data.get("kind") != "accuracy":
        raise InputError(f"{path} is there and is not an accuracy model, so it is kept; give another file with --out")
