"""The command `nas report`."""

from __future__ import annotations

from nas.cli.app import Json, Run, app, show


@app.command()
def report(run: Run, as_json: Json = False) -> None:
    """Write the report of a run again.

    The run may be unfinished or in progress.

    \b
    Example:
      nas report results/mbconv-20260131-101500
    """
    from nas.api import search as api

    files = api.report(run)
    show({name: str(path) for name, path in files.items()}, "\n".join(map(str, files.values())), as_json)
