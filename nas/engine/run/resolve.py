"""Networks by what people type: a name, a file, or the folder of a run."""

from __future__ import annotations

from pathlib import Path

from nas.arch.arch import Arch
from nas.engine.run.record import Record
from nas.engine.run.store import Store
from nas.references import resolve as references
from nas.references.external import LibraryNetwork
from nas.system.errors import InputError


def is_run(path: str | Path) -> bool:
    """Whether this is the folder of a run."""
    return (Path(path).expanduser() / "run.json").is_file()


def resolve(name: str, num_classes: int = 1000) -> Arch | LibraryNetwork:
    """A network by what people type.

    Args:
        name: folder of a run (its best network), or what `nas.references.resolve.resolve` takes: a reference's name or
            ``.yaml`` file, an ``arch.json``, a library's network.
        num_classes: outputs of the classifier of a library's network; an `Arch` takes them when it is built.

    Raises:
        InputError: no such network, or it cannot be read.
    """
    if not is_run(name):
        return references.resolve(name, num_classes)
    with Store.open(name, read_only=True) as store:
        return network_of(store.record())


def network_of(record: Record, key: str | None = None) -> Arch:
    """The network of a run with this key; None is its best.

    Raises:
        InputError: the run has no such network, or none within its target yet.
    """
    if key is None:
        if record.best is None:
            raise InputError("the run has no network within its target yet; `nas resume` it, or name one with its key")
        return record.best
    known = {c.key: c.arch for c in [*record.candidates, *record.references]}
    if key not in known:
        raise InputError(f"the run has no network {key!r}; on its front: {', '.join(c.key for c in record.front)}")
    return known[key]
