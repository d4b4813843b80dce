"""From names to the table of published networks: counted, looked up and timed. What `nas references` prints."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from fnmatch import fnmatchcase
from pathlib import Path

from nas.arch.arch import Arch
from nas.arch.cost import cost_of
from nas.arch.space_yaml import REFERENCES, SUFFIXES, load_space
from nas.latency.devices import Host, LatencyModel, device
from nas.latency.measure import measure
from nas.latency.record import Latency
from nas.latency.remote.agent import Agent
from nas.references.external import LibraryNetwork, is_library, library_cost, library_network
from nas.references.published import Published, left_out, published, published_libraries
from nas.references.table import reference, reference_names, split_name
from nas.reports.formatting import counted
from nas.reports.references.table import ReferenceRow, ReferenceTable
from nas.system.errors import InputError, nearest
from nas.system.progress import Step

MAX_ROWS = 1000
_FAMILIES = re.compile(r"(mobilenet_v\d|mnasnet|proxylessnas|fbnet|efficientnet|shufflenet_v\d)")


@dataclass(frozen=True)
class _Size:
    """One row to be: a network's name without multipliers, and the multipliers that are not its own."""

    name: str
    width: float | None = None
    resolution: int | None = None

    def __str__(self) -> str:
        pairs = [("width", self.width), ("resolution", self.resolution)]
        told = ",".join(f"{key}={value:g}" for key, value in pairs if value is not None)
        return f"{self.name}@{told}" if told else self.name


def compare_references(
    select: str | Sequence[str] | None = None,
    device: str | Callable[[Arch], float] | LatencyModel | None = "host",
    *,
    all_sizes: bool = False,
    runtime: str = "onnxruntime",
    threads: int = 1,
    token: str | None = None,
    progress: Step | None = None,
) -> ReferenceTable:
    """Count published networks, time them, and set the published figures beside.

    Args:
        select: names, patterns (``mobilenet*``), paths to ``.yaml`` files of references, ``torchvision:NAME`` and
            ``timm:NAME``; in one text with commas, or listed. None is every reference.
        device: where latency holds: ``host`` measures here and now, an agent (``http://HOST:PORT``) there and now,
            others (`nas.device`) predict; None or ``none`` leaves latency out.
        all_sizes: also every width and resolution something is published for.
        runtime: of the host.
        threads: of the timed network, on the host or an agent.
        token: of an agent; None is that of ``NAS_AGENT_TOKEN``.
        progress: called as ``progress(done, total, text)`` before each network.

    Returns:
        the table; its ``frame()`` is a pandas data frame, one line per network and size.

    Raises:
        InputError: a name, pattern, file or device that cannot be used.
        NasError: an agent cannot be reached.
    """
    clock = None if device in (None, "none") else _clock(device, runtime, threads, token)
    sizes = _sizes(select, all_sizes)
    tell = progress or (lambda done, total, text: None)
    rows = [_row(size) for size in sizes]  # all names are read before the first is timed
    if clock is not None:
        rows = _timed(sizes, rows, clock, tell)
    return ReferenceTable(
        rows=tuple(rows),
        left_out=left_out() if select is None else {},
        made=datetime.now().astimezone().isoformat(timespec="seconds"),
        device=None if clock is None else clock.words([row.latency for row in rows]),
        version=_version(),
    )


def _timed(sizes: list[_Size], rows: list[ReferenceRow], clock: _Clock, tell: Step) -> list[ReferenceRow]:
    found, text = [], ""
    for at, (size, row) in enumerate(zip(sizes, rows, strict=True)):
        text = f"timing {size}"
        tell(at, len(sizes), text)
        found.append(replace(row, latency=clock(_network(size))))
    tell(len(sizes), len(sizes), text)
    return found


@dataclass(frozen=True)
class _Clock:
    """What tells the latency of a row."""

    model: LatencyModel
    runtime: str
    threads: int

    def __call__(self, network: Arch | LibraryNetwork) -> Latency | None:
        """None where the model cannot tell: it has never met such an operator, or the network is a library's."""
        if isinstance(self.model, Agent) and self.model.table is None:
            return self.model.measure(network)
        if isinstance(self.model, Host) and self.model.table is None:
            return measure(network, self.runtime, self.threads)
        if not isinstance(network, Arch):
            return None
        try:
            return self.model(network)
        except InputError:
            if self.model.table is None:
                raise  # a caller's own function is at fault
            return None

    def words(self, latencies: Sequence[Latency | None]) -> str:
        """Measured or predicted, device, runtime, threads."""
        known = next((latency for latency in latencies if latency is not None), None)
        if known is None:
            return f"{self.model.device} cannot tell the latency of any of these networks"
        parts = [known.source, known.device, *([known.runtime] if known.runtime else [])]
        parts += [counted(known.threads, "thread")] if known.threads else []
        silent = latencies.count(None)
        unknown = f"; it cannot tell that of {counted(silent, 'network')}" if silent else ""
        return ", ".join([*parts, f"batch {known.batch}"]) + unknown


def _clock(
    spec: str | Callable[[Arch], float] | LatencyModel | None, runtime: str, threads: int, token: str | None
) -> _Clock:
    assert spec is not None
    return _Clock(device(spec, runtime=runtime, threads=threads, token=token), runtime, threads)


def _version() -> str:
    import nas

    return nas.__version__


def _split(select: str | Sequence[str] | None) -> list[str]:
    """A comma followed by a multiplier belongs to its name."""
    if select is None:
        return []
    parts = re.split(r",(?!\w+=)", select) if isinstance(select, str) else list(select)
    found = [part.strip() for part in parts if part.strip()]
    if not found:
        raise InputError(f"select must name at least one network, got {select!r:.60}")
    return found


def _sizes(select: str | Sequence[str] | None, all_sizes: bool) -> list[_Size]:
    items = _split(select) or reference_names()
    found: dict[str, _Size] = {}
    for item in items:
        for size in _matching(item, all_sizes):
            found.setdefault(str(size), size)
    if len(found) > MAX_ROWS:
        raise InputError(f"a table has at most {MAX_ROWS} rows, got {len(found)}; select fewer networks")
    return list(found.values())


def _matching(item: str, all_sizes: bool) -> Iterator[_Size]:
    if re.search(r"[*?\[]", item):
        known = published_libraries() if ":" in item else reference_names()
        names = [name for name in known if fnmatchcase(name, item)]
        if not names:
            raise InputError(f"no network matches {item!r}; {nearest(item, known)}")
    elif "@" in item:
        yield _explicit(item)
        return
    else:
        names = [item]
    for name in names:
        yield _Size(name)
        if all_sizes:
            yield from _published_sizes(name)


def _explicit(item: str) -> _Size:
    if is_library(item):
        return _Size(item)
    reference(item)  # checks name and multipliers
    name, width, side = split_name(item)
    own_width, own_side = _own(name)
    return _Size(name, None if width == own_width else width, None if side == own_side else side)


def _own(name: str) -> tuple[float, int]:
    """Width and resolution of the network itself."""
    space = load_space(name, REFERENCES)
    return space.width[0], space.resolution[0]


def _published_sizes(name: str) -> Iterator[_Size]:
    """Every size something is published for, the network's own left out, from large to small."""
    if is_library(name):
        return
    own = _own(name)
    told = {(entry.width or own[0], entry.resolution or own[1]) for entry in published(name)} - {own}
    for width, side in sorted(told, reverse=True):
        yield _Size(name, None if width == own[0] else width, None if side == own[1] else side)


def _network(size: _Size) -> Arch | LibraryNetwork:
    return library_network(size.name) if is_library(size.name) else reference(size.name, size.width, size.resolution)


def _row(size: _Size) -> ReferenceRow:
    network = _network(size)
    if isinstance(network, Arch):
        cost, told, label = cost_of(network), _of_size(size), _label(size)
    else:
        cost, told, label = library_cost(network), _of_library(size.name), size.name
    return ReferenceRow(
        name=label,
        family=_family(size.name),
        resolution=network.resolution,
        params=cost.params,
        macs=cost.macs,
        memory_bytes=cost.memory_bytes,
        published=told,
    )


def _label(size: _Size) -> str:
    """A network of a file is called as its file, without the folders."""
    path = Path(size.name)
    return str(replace(size, name=path.stem)) if path.suffix in SUFFIXES else str(size)


def _of_library(name: str) -> tuple[Published, ...]:
    """Only of the library's own size."""
    return () if "@" in name else published(name)


def _of_size(size: _Size) -> tuple[Published, ...]:
    own_width, own_side = _own(size.name)
    mine = (size.width or own_width, size.resolution or own_side)
    entries = published(size.name)
    return tuple(e for e in entries if (e.width or own_width, e.resolution or own_side) == mine)


def _family(name: str) -> str:
    """
    >>> _family("mobilenet_v3_small"), _family("torchvision:vgg16"), _family("mine.yaml")
    ('mobilenet_v3', 'torchvision', 'own')
    """
    if is_library(name):
        return name.partition(":")[0]
    found = _FAMILIES.match(name)
    return found[1] if found else "own"
