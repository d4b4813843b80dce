"""Reads tables of networks and their accuracies after full trainings: published data sets, or the user's own.

The kind of a table is recognised by its columns:

| kind | columns |
|---|---|
| ``imagenet-mbconv`` | ``block0_e`` to ``block6_se`` and ``val_top1``, as Accel-NASBench publishes them |
| ``ofa-mbv3`` | ``ks0`` to ``ks19``, ``e0`` to ``e19``, ``d0`` to ``d4``, ``r``, ``top1``, as DyNAS-T publishes them |
| ``published`` | ``network``, ``variant``, ``input`` and ``top1_paper``: figures of the references |
| own | ``arch`` (JSON of an `Arch`, a file, or the name of a reference) and ``accuracy``; ``family`` is optional |

Accuracies are in percent or fractions, but not both in one table.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nas.accuracy.known_rows import Line, imagenet_mbconv, ofa_mbv3, published, published_top1
from nas.arch.arch import Arch
from nas.references.resolve import arch_in_table
from nas.system.errors import InputError
from nas.system.text import one_line

MAX_BYTES = 20 << 20
MAX_ROWS = 20_000
FEWEST = 30  # distinct networks
IMAGENET = "ImageNet"
_COLUMNS = "arch and accuracy"


@dataclass(frozen=True)
class Source:
    """Networks and their accuracies, all trained by one recipe or published side by side.

    Args:
        name: kind of the table (``imagenet-mbconv``, ``ofa-mbv3``, ``published``), or the stem of the file's name.
        archs: the networks; one may occur more than once in a table of one's own.
        accuracies: share of images classified correctly, 0 to 1, shape (n,).
        families: family of each network, of which other sizes may be in the table; "" if all are of one family.
        task: what the networks were trained for, e.g. ``ImageNet``.
        licence: licence of the table; "" if unknown.
        origin: one line: what the table is, and its citation.
    """

    name: str
    archs: tuple[Arch, ...]
    accuracies: NDArray[np.float64]
    families: tuple[str, ...]
    task: str
    licence: str
    origin: str


@dataclass(frozen=True)
class _Kind:
    """A kind of table: its required columns, and how to read one line.

    Args:
        network: network and family of a line; None for a line that is to be skipped.
        accuracy: text of the accuracy; None for a line that is to be skipped.
    """

    name: str
    columns: frozenset[str]
    network: Callable[[Line, Path], tuple[Arch, str] | None]
    accuracy: Callable[[Line], str | None]
    licence: str
    origin: str
    distinct: bool = False  # whether a network counts once, at its first line


def read_source(path: str | Path, task: str = "own") -> Source:
    """Read a table of networks and accuracies.

    Args:
        path: a CSV of at most `MAX_BYTES` bytes, with at least `FEWEST` different networks.
        task: what the networks of an own table were trained for; the data sets that are recognised have theirs.

    Raises:
        InputError: the file cannot be read, its columns are unknown, it has too few networks, a network is broken, or
            accuracies are out of bounds, all equal, or partly in percent and partly fractions.
    """
    path = Path(path)
    lines = _lines(path, _read(path))
    header = next(lines)[1]
    kind = _kind(path, set(header))
    archs: list[Arch] = []
    families: list[str] = []
    accuracies: list[tuple[int, float]] = []
    seen: set[Arch] = set()
    for number, line in lines:
        try:
            text = kind.accuracy(line)
            network = None if text is None else kind.network(line, path.parent)
            if text is None or network is None or (kind.distinct and network[0] in seen):
                continue
            accuracies.append((number, _accuracy(text)))
        except InputError as error:
            raise InputError(f"{path}:{number}: {error}") from None
        seen.add(network[0])
        archs.append(network[0])
        families.append(network[1])
    if len(seen) < FEWEST:
        raise InputError(f"{path} has {len(seen)} different networks; at least {FEWEST} are required, so add rows")
    own = kind.name == ""
    return Source(
        name=one_line(path.stem, 60) if own else kind.name,
        archs=tuple(archs),
        accuracies=_shares(path, accuracies),
        families=tuple(families),
        task=task if own else IMAGENET,
        licence=kind.licence,
        origin=one_line(f"accuracies of {path.name}") if own else kind.origin,
    )


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise InputError(f"a table of accuracies may have at most {MAX_BYTES >> 20} MB; shorten {path}")
        text = data.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text; save it as UTF-8"
        raise InputError(f"cannot read accuracies {path}: {reason}") from None
    if not text.strip():
        raise InputError(f"{path} is empty; it needs a header with the columns {_COLUMNS}, and rows below it")
    return text


def _lines(path: Path, text: str) -> Iterator[tuple[int, Line]]:
    """The header as a `Line` of empty cells, then each line that is not blank, with its number in the file."""
    rows = csv.reader(io.StringIO(text))
    read = 0
    header: list[str] = []
    try:
        for cells in rows:
            if not any(cell.strip() for cell in cells):
                continue
            if not header:
                header = [cell.strip().lower() for cell in cells]
                if twice := [name for name in header if name and header.count(name) > 1]:
                    raise InputError(f"the header has the column {twice[0]!r:.40} twice; rename one")
                yield rows.line_num, dict.fromkeys(header, "")
                continue
            read += 1
            if read > MAX_ROWS:
                raise InputError(f"a table of accuracies may have at most {MAX_ROWS} rows; shorten it")
            if len(cells) > len(header):
                raise InputError(
                    f"the row has {len(cells)} cells, the header {len(header)}; quote cells that contain a comma"
                )
            padded = [*cells, *[""] * (len(header) - len(cells))]
            yield rows.line_num, dict(zip(header, (cell.strip() for cell in padded), strict=True))
    except InputError as error:
        raise InputError(f"{path}:{rows.line_num}: {error}") from None
    except csv.Error as error:
        raise InputError(f"{path}:{max(rows.line_num, 1)}: the CSV is broken: {error}") from None


def _kind(path: Path, columns: set[str]) -> _Kind:
    for kind in _KINDS:
        if kind.columns <= columns:
            return kind
    if "proxy_accuracy" in columns:
        raise InputError(
            f"{path} is a table of a run: its proxy accuracies are of short trainings; "
            f"give a table of full trainings with the columns {_COLUMNS}"
        )
    shown = one_line(", ".join(sorted(columns)), 80)
    raise InputError(f"{path}: a table of accuracies needs the columns {_COLUMNS}, got {shown}; rename the columns")


def _accuracy(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 100:  # nan is neither
        raise InputError(f"an accuracy must be a number from 0 to 100 (percent) or to 1, got {text!r:.40}")
    return value


def _shares(path: Path, accuracies: list[tuple[int, float]]) -> NDArray[np.float64]:
    """Accuracies as shares. Percent and fractions are not told apart in one table: 1 and below are fractions."""
    values = np.array([value for _, value in accuracies])
    if values.min() == values.max():
        raise InputError(f"{path}: all accuracies are {values[0]:g}; nothing can be learned from equal accuracies")
    if values.max() <= 1:
        return values
    small = [(number, value) for number, value in accuracies if 0 < value <= 1]
    if small:
        number, value = small[0]
        percent = next(at for at, large in accuracies if large > 1)
        raise InputError(
            f"{path}:{number}: {value:g} looks like a fraction, but line {percent} is in percent; "
            "write all accuracies in the same unit"
        )
    return values / 100


def _own(line: Line, folder: Path) -> tuple[Arch, str]:
    return arch_in_table(line["arch"], folder), one_line(line.get("family", ""), 60)


_KINDS = (
    _Kind(
        "imagenet-mbconv",
        frozenset({f"block{at}_{name}" for at in range(7) for name in ("e", "k", "l", "se")} | {"val_top1"}),
        lambda line, _: (imagenet_mbconv(line), ""),
        lambda line: line["val_top1"],
        "Apache-2.0",
        "MBConv networks with ImageNet top-1 of a shortened training: github.com/afzalxo/Accel-NASBench",
    ),
    _Kind(
        "ofa-mbv3",
        frozenset({f"{name}{at}" for at in range(20) for name in ("ks", "e")})
        | {f"d{at}" for at in range(5)}
        | {"r", "top1"},
        lambda line, _: (ofa_mbv3(line), ""),
        lambda line: line["top1"],
        "Apache-2.0",
        "sub-networks of Once-for-all's MobileNetV3 (arXiv 1908.09791) with ImageNet top-1 under shared weights: "
        "github.com/IntelLabs/DyNAS-T",
    ),
    _Kind(
        "published",
        frozenset({"network", "variant", "input", "top1_paper"}),
        lambda line, _: published(line),
        published_top1,
        "figures of the cited papers",
        "ImageNet top-1 of the references as their papers and repositories print it; sources in the reference tables",
        distinct=True,
    ),
    _Kind("", frozenset({"arch", "accuracy"}), _own, lambda line: line["accuracy"], "", ""),
)
