"""The command `nas cache`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nas.cli.app import Json, app, show

if TYPE_CHECKING:
    from nas.system.cache import Entry


@app.command()
def cache(
    kinds: Annotated[
        list[str] | None,
        typer.Argument(help="Kinds: anchor, check, data, downloads, latency, weights.  [default: all]"),
    ] = None,
    clear: Annotated[
        bool, typer.Option("--clear", help="Remove the entries instead of listing them, without asking.")
    ] = False,
    older_than: Annotated[
        str | None, typer.Option(help="Minimum age of the entries since their last change: 30d, 12h.")
    ] = None,
    as_json: Json = False,
) -> None:
    """List or clear cached tables, images, data sets and weights.

    Everything in the cache is measured, trained, decoded or downloaded again when it is needed. Removing the kind
    anchor also forgets how fast this machine usually is; removing check, the training lengths it recommended.

    \b
    Example:
      nas cache
      nas cache --older-than 30d
      nas cache latency weights --clear --older-than 30d
    """
    from nas.system.cache import entries, remove
    from nas.system.errors import NasError
    from nas.system.files import cache_root
    from nas.system.text import one_line
    from nas.system.units import seconds

    root = cache_root()
    found = entries(kinds or (), 0.0 if older_than is None else seconds(older_than))
    if not clear:
        show(_facts(root, found), f"{root}: {_text(found)}", as_json)
        return
    removed, failures = [], []
    for entry in found:
        try:
            remove(entry)
            removed.append(entry)
        except OSError as error:
            failures.append(f"{entry.path}: {one_line(error.strerror or error)}")
    show(_facts(root, removed), f"{root}: freed {_text(removed)}", as_json)
    if failures:
        raise NasError(f"{len(failures)} of {len(found)} entries could not be removed; {failures[0]}")


def _facts(root: object, entries: Sequence[Entry]) -> dict[str, Any]:
    return {
        "folder": str(root),
        "entries": len(entries),
        "bytes": sum(entry.size for entry in entries),
        "kinds": {
            kind: {
                "entries": len(members),
                "bytes": sum(entry.size for entry in members),
                "oldest": _moment(min(entry.modified for entry in members)).isoformat(timespec="seconds"),
                "newest": _moment(max(entry.modified for entry in members)).isoformat(timespec="seconds"),
            }
            for kind, members in _by_kind(entries).items()
        },
    }


def _text(entries: Sequence[Entry]) -> str:
    from nas.system.cache import KINDS

    about = {kind.name: kind.about for kind in KINDS}
    noun = "entry" if len(entries) == 1 else "entries"
    lines = [f"{_size(sum(entry.size for entry in entries))} in {len(entries)} {noun}"]
    for kind, members in _by_kind(entries).items():
        oldest, newest = (f"{_moment(each(e.modified for e in members)):%Y-%m-%d}" for each in (min, max))
        size = _size(sum(entry.size for entry in members))
        lines.append(f"  {kind:10} {len(members):5}  {size:>10}  {oldest} to {newest}  {about[kind]}")
    return "\n".join(lines)


def _by_kind(entries: Sequence[Entry]) -> dict[str, list[Entry]]:
    kinds: dict[str, list[Entry]] = {}
    for entry in entries:
        kinds.setdefault(entry.kind, []).append(entry)
    return kinds


def _moment(modified: float) -> datetime:
    return datetime.fromtimestamp(modified, UTC)


def _size(number: float) -> str:
    for unit in ("B", "kB", "MB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} GB"
