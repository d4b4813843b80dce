"""The commands `nas accuracy`, `nas accuracy show`, `nas accuracy predict` and `nas accuracy calibrate`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nas.cli.app import Json, app, show, watcher_for
from nas.system.text import table

if TYPE_CHECKING:
    from nas.accuracy.prior import PriorModel, SourceFacts
    from nas.api.accuracy import Prediction

Model = Annotated[str, typer.Option("--model", help="Accuracy model: imagenet, or file:PATH.")]

accuracy = typer.Typer(
    help="""List accuracy models; show one, fit one, predict with one, or check what trainings are worth.

\b
Example:
  nas accuracy show imagenet
  nas accuracy predict mobilenet_v3_large efficientnet_b0@resolution=192
  nas accuracy calibrate trained.csv --task flowers --out flowers.json
  nas accuracy predict mobilenet_v2 --model file:flowers.json
  nas accuracy check --data photos/ --latency-target 8ms
""",
    rich_markup_mode=None,
)
app.add_typer(accuracy, name="accuracy")


@accuracy.callback(invoke_without_command=True)
def listing(context: typer.Context, as_json: Json = False) -> None:
    """List accuracy models: the bundled one, and models of your own."""
    if context.invoked_subcommand is not None:
        return
    from nas.accuracy.prior import bundled

    model = bundled()
    tables = ", ".join(source.name for source in model.sources)
    rows = [
        f"{model.name:10} {model.task}, fitted to {model.networks:,} networks of {tables}",
        "file:PATH  any task: a file written by nas accuracy calibrate",
    ]
    facts = [{"name": model.name, "task": model.task, "networks": model.networks}]
    show(facts, "\n".join(rows), as_json)


@accuracy.command("show")
def show_model(
    name: Annotated[str, typer.Argument(help="Accuracy model: imagenet, or file:PATH.", show_default=False)],
    as_json: Json = False,
) -> None:
    """Show what an accuracy model was fitted to, its error, its domain, and what single choices are worth.

    \b
    Example:
      nas accuracy show imagenet
    """
    from nas.accuracy.effects import effects

    model = _prior(name)
    facts = {
        "name": model.name,
        "task": model.task,
        "level": model.level,
        "sources": [asdict(source) for source in model.sources],
        "family_sd": model.family_sd,
        "noise_sd": model.noise_sd,
        "stretch": model.stretch,
        "never_varied": model.never_varied(),
        "ranges": {
            feature: [low, high]
            for feature, low, high in zip(model.features, model.low.tolist(), model.high.tolist(), strict=True)
            if "*" not in feature
        },
        "effects": [asdict(effect) for effect in effects(model)],
    }
    show(facts, "\n\n".join([*_fit_text(model), _domain_text(model), _effects_text(model)]), as_json)


@accuracy.command()
def predict(
    networks: Annotated[
        list[str],
        typer.Argument(help="Networks: names, YAML or arch.json files, run folders (the best).", show_default=False),
    ],
    model: Model = "imagenet",
    as_json: Json = False,
) -> None:
    """Estimate accuracies without training, beside published figures.

    \b
    Example:
      nas accuracy predict mobilenet_v3_large mobilenet_v2@width=0.5
      nas accuracy predict my_net.yaml --model file:flowers.json
    """
    from nas.accuracy.prior import PriorModel
    from nas.api.accuracy import accuracy_model
    from nas.api.accuracy import predict as estimate

    found = accuracy_model(model)
    predictions = estimate(networks, found)
    facts = {
        prediction.name: {
            "accuracy": prediction.accuracy.mean,
            "sd": prediction.accuracy.sd,
            "interval": list(prediction.accuracy.interval),
            "task": prediction.accuracy.task,
            "evidence": prediction.accuracy.evidence,
            "published": prediction.published,
            "outside": list(prediction.outside),
            "params": prediction.params,
            "macs": prediction.macs,
        }
        for prediction in predictions
    }
    show(facts, _predictions_text(predictions, found if isinstance(found, PriorModel) else None), as_json)


@accuracy.command()
def calibrate(
    tables: Annotated[
        list[Path],
        typer.Argument(help="CSV with the columns arch and accuracy, or a published data set.", show_default=False),
    ],
    out: Annotated[Path, typer.Option(help="Output file.")] = Path("accuracy.json"),
    name: Annotated[str | None, typer.Option(help="Name of the model.  [default: that of the output file]")] = None,
    level: Annotated[
        str | None,
        typer.Option(
            help="Table whose training recipe the predicted level is of.  [default: published, else the first]"
        ),
    ] = None,
    task: Annotated[str, typer.Option(help="Task that the networks of your own tables were trained for.")] = "own",
    as_json: Json = False,
) -> None:
    """Fit an accuracy model to tables of trained networks.

    A network is a published one (mobilenet_v2@width=0.5,resolution=160), a YAML or arch.json file, or JSON. Accuracies
    are in percent or fractions. The column family is optional. Prints the error on networks that were left out of the
    fit.

    \b
    Example:
      nas accuracy calibrate trained.csv --task flowers --out flowers.json
    """
    from nas.api.accuracy import calibrate_accuracy

    with watcher_for(as_json) as watch:
        model = calibrate_accuracy(tables, out, name=name, level=level, task=task, watch=watch)
    facts = {
        "out": str(out),
        "name": model.name,
        "task": model.task,
        "level": model.level,
        "sources": [asdict(source) for source in model.sources],
    }
    text = "\n\n".join([*_fit_text(model), f"written: {out}; use it with --model file:{out}"])
    show(facts, text, as_json)


def _prior(name: str) -> PriorModel:
    from nas.accuracy.prior import PriorModel
    from nas.api.accuracy import KNOWN, accuracy_model
    from nas.system.errors import InputError, known

    model = accuracy_model(name)
    if not isinstance(model, PriorModel):
        raise InputError(f"only fitted models can be shown, got {name:.200}; {known(KNOWN)}")
    return model


def _fit_text(model: PriorModel) -> list[str]:
    heads = ("fitted to", "networks", "tau", "equal-cost tau", "error, points", "in 90 % interval", "licence")
    rows = [_source_cells(source) for source in model.sources]
    title = f"{model.name}: accuracy on {model.task}, at the level of trainings as in {model.level}"
    about = "Figures are of networks that the fit has not seen: of other families, where a table has several."
    origins = [f"{source.name}: {source.origin}" for source in model.sources]
    return [title, f"{table(heads, rows, left=(0, 6))}\n{about}", "\n".join(origins)]


def _source_cells(source: SourceFacts) -> tuple[str, ...]:
    held_out = source.held_out
    figures = (f"{held_out.tau:.2f}", f"{held_out.equal_cost_tau:.2f}", f"{100 * held_out.rmse:.2f}")
    return source.name, f"{held_out.networks:,}", *figures, f"{held_out.coverage:.0%}", source.licence or "unknown"


def _domain_text(model: PriorModel) -> str:
    from nas.accuracy.features import CAPACITY, SLOTS
    from nas.accuracy.words import PLACES, listed

    low, high = (dict(zip(model.features, values.tolist(), strict=True)) for values in (model.low, model.high))
    span = {name: (2 ** (low[name] + usual), 2 ** (high[name] + usual)) for name, usual in CAPACITY.items()}
    sizes = [
        f"{_span(span['params'], 1e6, ' M')} parameters",
        f"{_span(span['macs'], 1e6, ' M')} MACs",
        f"{_span(span['side'], 1, ' px')}",
        f"{low['depth']:.0f} to {high['depth']:.0f} blocks",
    ]
    rows = []
    for slot in SLOTS:
        most = {name: high[f"{slot}.{name}"] for name in ("n", "e", "k5", "k7", "se", "act", "w")}
        kernel = "7 or more" if most["k7"] > 0 else "5" if most["k5"] > 0 else "3"
        some = ["yes" if most[name] > 0 else "never" for name in ("se", "act")]
        rows.append((PLACES[slot], f"{most['n']:.0f}", f"{2 ** most['e']:.3g}", kernel, *some, f"{2 ** most['w']:.0f}"))
    heads = ("largest seen, at", "blocks", "expansion", "kernel", "SE", "h_swish, swish", "channels")
    names = model.never_varied()
    never = [name for name in names if high[name] == 0]
    same = [name for name in names if high[name] != 0]
    notes = [f"never seen: {listed(never)}"] if never else []
    notes += [f"the same in every network: {listed(same)}"] if same else []
    domain = f"domain: {', '.join(sizes)}; outside it, estimates are less certain"
    return "\n".join([domain, *notes, "", table(heads, rows, left=(0,))])


def _effects_text(model: PriorModel) -> str:
    from nas.accuracy.effects import CHANGES, effects
    from nas.accuracy.words import PLACES

    found = {(effect.slot, effect.change): f"{effect.points:+.2f} ± {effect.sd:.2f}" for effect in effects(model)}
    rows = [
        (place, *(found.get((slot, change), "never seen").replace("-", "−") for change in CHANGES))
        for slot, place in PLACES.items()
    ]
    about = (
        "What a change of all blocks at one size of feature maps is worth in a typical network, in points at 75 %,\n"
        "with parameters, MACs and memory access kept equal: 5×5 or 7×7 kernels in place of 3×3, SE in place of none,\n"
        "h_swish or swish in place of ReLU, expansion 6 in place of 3, one block more. ± is the standard error."
    )
    return f"{about}\n\n{table(('at', *CHANGES), rows)}"


def _predictions_text(predictions: Sequence[Prediction], model: PriorModel | None) -> str:
    from nas.accuracy.words import listed

    heads = ("network", "estimate", "published, %", "params", "M MACs")
    rows, notes = [], []
    for prediction in predictions:
        figures = _figures(prediction.published)
        size = f"{prediction.params:,}", f"{prediction.macs / 1e6:,.1f}"
        rows.append((prediction.name, str(prediction.accuracy), figures, *size))
        if prediction.outside:
            notes.append(f"{prediction.name} is outside the model's data: {listed(prediction.outside)}")
    fitted = next((source for source in model.sources if source.name == model.level), None) if model else None
    if model and fitted and any(prediction.published for prediction in predictions):
        notes.append(
            f"{model.name} was fitted to published figures too; on families left out of the fit, its error is "
            f"{100 * fitted.held_out.rmse:.1f} points"
        )
    return "\n".join([table(heads, rows, left=(0, 2)), *notes])


def _figures(published: dict[str, float]) -> str:
    """The first published figure, and the range of the others if they differ."""
    if not published:
        return ""
    by, first = next(iter(published.items()))
    shown = f"{first:.1f}"
    others = sorted({f"{value:.1f}" for value in published.values()} - {shown})
    rest = f", others {others[0]}" if others else ""
    return f"{shown} ({by}){rest}" + (f" to {others[-1]}" if rest and others[0] != others[-1] else "")


def _span(bounds: tuple[float, float], unit: float, name: str) -> str:
    low, high = (f"{bound / unit:,.3g}" if bound / unit < 1000 else f"{bound / unit:,.0f}" for bound in bounds)
    return f"{low} to {high}{name}"
