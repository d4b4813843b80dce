"""The command `nas spaces`."""

from __future__ import annotations

from typing import Annotated

import typer

from nas.cli.app import Json, app, show


@app.command()
def spaces(
    name: Annotated[
        str | None, typer.Argument(help="Space to show in full: a name or a YAML file.  [default: list all]")
    ] = None,
    as_json: Json = False,
) -> None:
    """List the search spaces, or show the genes of one.

    \b
    Example:
      nas spaces mbconv
    """
    from nas.arch.space_yaml import load_space, names

    if name is None:
        listed = [load_space(each) for each in names()]
        facts = [{"name": s.name, "size": s.size, "genes": len(s.genes), "resolution": s.resolution} for s in listed]
        rows = [f"{s.name:12} {_power(s.size):>10} networks, {len(s.genes)} genes" for s in listed]
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
