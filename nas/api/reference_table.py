"""Builds the table of `nas references`: published networks, counted, looked up and timed."""

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
from nas.system.progress import Step, no_step

MAX_ROWS = 1000
_FAMILIES = re.compile(r"(mobilenet_v\d|mnasnet|proxylessnas|fbnet|efficientnet|shufflenet_v\d)")


@dataclass(frozen=True)
class _Size:
    """A row to build: name of a network without multipliers, and multipliers that differ from its own."""

    name: str
    width: float | None = None
    resolution: int | None = None

    def __str__(self) -> str:
        pairs = [("width", self.width), ("resolution", self.resolution)]
        multipliers = ",".join(f"{key}={value:g}" for key, value in pairs if value is not None)
        return f"{self.name}@{multipliers}" if multipliers else self.name


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
    """Count and time published networks, beside the published figures.

    Args:
        select: names, patterns (``mobilenet*``), paths to ``.yaml`` files of references, ``torchvision:NAME`` and
            ``timm:NAME``; one text with commas, or a sequence. None selects every reference.
        device: source of the latencies: ``host`` measures on this machine, an agent (``http://HOST:PORT``) on its
            machine, others (see `nas.device`) predict; None or ``none`` leaves latency out.
        all_sizes: whether to add every width and resolution with a published figure.
        runtime: runtime on the host.
        threads: number of threads of the timed network, on the host or an agent.
        token: token of an agent; None uses ``NAS_AGENT_TOKEN``.
        progress: called before each timed network.

    Returns:
        the table; its ``frame()`` is a pandas data frame with one line per network and size.

    Raises:
        InputError: a name, pattern, file or device cannot be used.
        NasError: an agent cannot be reached.
    """
    timer = None if device in (None, "none") else _timer(device, runtime, threads, token)
    sizes = _sizes(select, all_sizes)
    rows = [_row(size) for size in sizes]  # a wrong name is an error before anything is timed
    if timer is not None:
        rows = _timed(sizes, rows, timer, progress or no_step)
    return ReferenceTable(
        rows=tuple(rows),
        left_out=left_out() if select is None else {},
        made=datetime.now().astimezone().isoformat(timespec="seconds"),
        device=None if timer is None else timer.describe([row.latency for row in rows]),
        version=_version(),
    )


def _timed(sizes: list[_Size], rows: list[ReferenceRow], timer: _Timer, progress: Step) -> list[ReferenceRow]:
    timed, text = [], ""
    for at, (size, row) in enumerate(zip(sizes, rows, strict=True)):
        text = f"timing {size}"
        progress(at, len(sizes), text)
        timed.append(replace(row, latency=timer(_network(size))))
    progress(len(sizes), len(sizes), text)
    return timed


@dataclass(frozen=True)
class _Timer:
    """Measures or predicts the latency of a row."""

    model: LatencyModel
    runtime: str
    threads: int

    def __call__(self, network: Arch | LibraryNetwork) -> Latency | None:
        """The latency; None if the model does not know an operator, or if it must predict a network of a library."""
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
                raise  # an error in the caller's own function
            return None

    def describe(self, latencies: Sequence[Latency | None]) -> str:
        """Source of the latencies in words: measured or predicted, device, runtime, threads, batch."""
        known = next((latency for latency in latencies if latency is not None), None)
        if known is None:
            return f"{self.model.device} cannot predict any of these networks"
        parts = [known.source, known.device, *([known.runtime] if known.runtime else [])]
        parts += [counted(known.threads, "thread")] if known.threads else []
        missing = latencies.count(None)
        note = f"; unknown for {counted(missing, 'network')}" if missing else ""
        return ", ".join([*parts, f"batch {known.batch}"]) + note


def _timer(
    spec: str | Callable[[Arch], float] | LatencyModel | None, runtime: str, threads: int, token: str | None
) -> _Timer:
    assert spec is not None
    return _Timer(device(spec, runtime=runtime, threads=threads, token=token), runtime, threads)


def _version() -> str:
    import nas

    return nas.__version__


def _split(select: str | Sequence[str] | None) -> list[str]:
    """Split at commas, except those between multipliers."""
    if select is None:
        return []
    parts = re.split(r",(?!\w+=)", select) if isinstance(select, str) else list(select)
    names = [part.strip() for part in parts if part.strip()]
    if not names:
        raise InputError(f"select must name at least one network, got {select!r:.60}")
    return names


def _sizes(select: str | Sequence[str] | None, all_sizes: bool) -> list[_Size]:
    items = _split(select) or reference_names()
    sizes: dict[str, _Size] = {}
    for item in items:
        for size in _matching(item, all_sizes):
            sizes.setdefault(str(size), size)
    if len(sizes) > MAX_ROWS:
        raise InputError(f"a table has at most {MAX_ROWS} rows, got {len(sizes)}; select fewer networks")
    return list(sizes.values())


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
    reference(item)  # raises if the name or a multiplier is wrong
    name, width, side = split_name(item)
    own_width, own_side = _own(name)
    return _Size(name, None if width == own_width else width, None if side == own_side else side)


def _own(name: str) -> tuple[float, int]:
    """The width and resolution that a network has without multipliers."""
    space = load_space(name, REFERENCES)
    return space.width[0], space.resolution[0]


def _published_sizes(name: str) -> Iterator[_Size]:
    """Every size with a published figure, from large to small, without the network's own."""
    if is_library(name):
        return
    own = _own(name)
    others = {(entry.width or own[0], entry.resolution or own[1]) for entry in published(name)} - {own}
    for width, side in sorted(others, reverse=True):
        yield _Size(name, None if width == own[0] else width, None if side == own[1] else side)


def _network(size: _Size) -> Arch | LibraryNetwork:
    return library_network(size.name) if is_library(size.name) else reference(size.name, size.width, size.resolution)


def _row(size: _Size) -> ReferenceRow:
    network = _network(size)
    if isinstance(network, Arch):
        cost, entries, label = cost_of(network), _published_for(size), _label(size)
    else:
        cost, entries, label = library_cost(network), _published_for_library(size.name), size.name
    return ReferenceRow(
        name=label,
        family=_family(size.name),
        resolution=network.resolution,
        params=cost.params,
        macs=cost.macs,
        memory_bytes=cost.memory_bytes,
        published=entries,
    )


def _label(size: _Size) -> str:
    """The name of the row; a network from a file is named after the file."""
    path = Path(size.name)
    return str(replace(size, name=path.stem)) if path.suffix in SUFFIXES else str(size)


def _published_for_library(name: str) -> tuple[Published, ...]:
    """Published entries of a library network; they describe its own size only."""
    return () if "@" in name else published(name)


def _published_for(size: _Size) -> tuple[Published, ...]:
    own_width, own_side = _own(size.name)
    wanted = (size.width or own_width, size.resolution or own_side)
    entries = published(size.name)
    return tuple(e for e in entries if (e.width or own_width, e.resolution or own_side) == wanted)


def _family(name: str) -> str:
    """
    >>> _family("mobilenet_v3_small"), _family("torchvision:vgg16"), _family("mine.yaml")
    ('mobilenet_v3', 'torchvision', 'own')
    """
    if is_library(name):
        return name.partition(":")[0]
    family = _FAMILIES.match(name)
    return family[1] if family else "own"
