"""The verb about the published networks."""

from __future__ import annotations

from nas.commands.app import Json, app, show


@app.command()
def references(as_json: Json = False) -> None:
    """List the published networks that are built in.

    \b
    Example:
      nas references
    """
    from nas.cost import estimate
    from nas.references import reference, reference_names

    facts, rows = [], []
    for name in reference_names():
        arch = reference(name)
        cost, side = estimate(arch), arch.resolution
        facts.append({"name": name, "key": arch.key, "resolution": side, "params": cost.params, "macs": cost.macs})
        rows.append(f"{name:20} {side} px  {cost.params:>10,} parameters  {cost.macs / 1e6:7.1f} M MACs")
    show(facts, "\n".join(rows), as_json)
