"""The verbs about spaces: spaces, profile."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nas.cli.app import Json, Runtime, Space, Threads, Token, app, show, watcher_for


@app.command()
def profile(
    space: Space = "mbconv",
    out: Annotated[Path | None, typer.Option(help="Also write the table here, for --device table:PATH.")] = None,
    runtime: Runtime = "onnxruntime",
    threads: Threads = 1,
    device: Annotated[str, typer.Option(help="host, or http://HOST:PORT of an agent.")] = "host",
    token: Token = None,
    refresh: Annotated[bool, typer.Option("--refresh", help="Measure anew, though a table is in the cache.")] = False,
    as_json: Json = False,
) -> None:
    """Fit the latency model of a space on this host, or on the device of an agent.

    Prints its error on networks it has not seen.

    \b
    Example:
      nas profile --space mbconv --out table.json
    """
    from nas.api import networks

    with watcher_for(as_json) as watch:
        table = networks.profile(
            space,
            runtime=runtime,
            threads=threads,
            out=out,
            watch=watch,
            device=device,
            token=token,
            refresh=refresh,
        )
    show({"device": table.device, "space": table.space_key, "error": table.error.to_dict()}, str(table), as_json)


@app.command()
def spaces(
    name: Annotated[str | None, typer.Argument(help="Show this space in full (name or path).")] = None,
    as_json: Json = False,
) -> None:
    """List the spaces, or the genes of one.

    \b
    Example:
      nas spaces mbconv
    """
    from nas.arch.space_yaml import load_space, names

    if name is None:
        found = [load_space(one) for one in names()]
        facts = [{"name": s.name, "size": s.size, "genes": len(s.genes), "resolution": s.resolution} for s in found]
        rows = [f"{s.name:12} {_power(s.size):>10} networks, {len(s.genes)} genes" for s in found]
        show(facts, "\n".join(rows), as_json)
        return
    space = load_space(name)
    genes = {gene.name: list(gene.options) for gene in space.genes}
    head = f"{space.name}: {_power(space.size)} networks ({space.size}), key {space.key}"
    rows = [f"  {gene:16} {' '.join(map(str, options))}" for gene, options in genes.items()]
    show({"name": space.name, "size": space.size, "key": space.key, "genes": genes}, "\n".join([head, *rows]), as_json)


def _power(number: int) -> str:
    digits = str(number)
    return digits if number < 1_000_000 else f"{digits[0]}.{digits[1]}e{len(digits) - 1}"
