"""`rta models train`: the heads, from a log."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from rta_service.cli.app import app, progress, stdout
from rta_service.cli.options import (
    AsJson,
    AsOf,
    Columns,
    now_ms,
)
from rta_service.cli.profiles import date_of
from rta_service.cli.release import print_json

models_app = typer.Typer(help="What a device will do.", no_args_is_help=True)
app.add_typer(models_app, name="models")


@models_app.command()
def train(
    events: Annotated[Path, typer.Argument(help="Log: Parquet, CSV or JSON lines, or a folder.")],
    out: Annotated[Path, typer.Option(help="Folder to write <name>/<version>/ into.")] = Path(
        "models"
    ),
    funnel: Annotated[
        Path | None,
        typer.Option(
            help="Which heads to train, their windows and monotone constraints (TOML); without"
            " it, the default ones."
        ),
    ] = None,
    columns: Columns = None,
    as_of: AsOf = None,
    tune: Annotated[
        float,
        typer.Option(
            min=0.0,
            help="Seconds to search for better parameters, for each head; needs rta-service[tune].",
        ),
    ] = 0.0,
    no_delayed: Annotated[
        bool,
        typer.Option("--no-delayed", help="Never learn from rows whose window is not over."),
    ] = False,
    seed: Annotated[int, typer.Option(help="Same seed, same log: same models.")] = 7,
    as_json: AsJson = False,
) -> None:
    """Train a funnel's heads from a log and write them as bundles.

    Each has golden vectors, evaluation rows and a card beside it.
    """
    from rta_service.offline.events import LogOptions
    from rta_service.offline.training.funnel_file import Funnel, read_funnel
    from rta_service.offline.training.head_training import HeadOptions
    from rta_service.offline.training.train import TrainOptions, train_models

    options = TrainOptions(
        log=LogOptions(columns=columns, as_of=date_of(as_of)),
        funnel=read_funnel(funnel) if funnel else Funnel(),
        heads=HeadOptions(delayed=not no_delayed, tune_s=tune),
        seed=seed,
    )
    with progress(quiet=as_json) as bars:
        report = train_models(events, out, options, now_ms(), bars)
    if as_json:
        print_json(report.to_json())
        return
    show_training(report.to_json())
    stdout.print(
        f"wrote {out}, with a card.html beside each model; next: rta models publish {out}, or push"
        " to a running service",
        markup=False,
        soft_wrap=True,
    )


_COLUMNS = ("rows", "positives", "AUC", "log loss", "PCOC", "trees", "fresh rows")


def show_training(document: dict[str, Any]) -> None:
    """Print what became of every head."""
    table = Table()
    for name in ("model", "version"):
        table.add_column(name, overflow="fold")
    for name in _COLUMNS:
        table.add_column(name, justify="right")
    for name, head in document["heads"].items():
        if head["trained"]:
            table.add_row(name, head["version"], *_figures(head))
    stdout.print(table)
    for name, head in document["heads"].items():
        if not head["trained"]:
            stdout.print(f"{name} was not trained: {head['reason']}", markup=False, soft_wrap=True)


def _figures(head: dict[str, Any]) -> tuple[str, ...]:
    seen, choices = head["evaluation"], head["choices"]
    delayed = choices["delayed"]
    return (
        f"{head['rows']:,}",
        f"{head['positives']:,}",
        f"{seen['auc']:.3f}",
        f"{seen['log_loss']:.4f}",
        f"{seen['pcoc']:.3f}",
        str(choices["trees"]),
        f"{delayed['used_rows']:,}" if delayed else "-",
    )
