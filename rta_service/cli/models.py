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
from rta_service.domain.thresholds import DAY_S

models_app = typer.Typer(help="What a device will do.", no_args_is_help=True)
app.add_typer(models_app, name="models")


@models_app.command()
def train(
    events: Annotated[Path, typer.Argument(help="Log: Parquet, CSV or JSON lines, or a folder.")],
    out: Annotated[Path, typer.Option(help="Folder to write <name>/<version>/ into.")] = Path(
        "models"
    ),
    columns: Columns = None,
    as_of: AsOf = None,
    register_window_days: Annotated[
        float, typer.Option(min=0.1, help="How long after a click a registration counts.")
    ] = 7,
    trade_window_days: Annotated[
        float, typer.Option(min=0.1, help="How long after a click a trade counts.")
    ] = 14,
    seed: Annotated[int, typer.Option(help="Same seed, same log: same models.")] = 7,
    as_json: AsJson = False,
) -> None:
    """Train register and trade, and the heads given activation and registration."""
    from rta_service.offline.events import LogOptions
    from rta_service.offline.training.dataset import DatasetOptions
    from rta_service.offline.training.train import TrainOptions, train_models

    options = TrainOptions(
        log=LogOptions(columns=columns, as_of=date_of(as_of)),
        dataset=DatasetOptions(
            register_window_s=round(register_window_days * DAY_S),
            trade_window_s=round(trade_window_days * DAY_S),
        ),
        seed=seed,
    )
    with progress(quiet=as_json) as bars:
        report = train_models(events, out, options, now_ms(), bars)
    if as_json:
        print_json(report.to_json())
        return
    show_training(report.to_json())
    stdout.print(f"wrote {out}; next: rta models publish {out}", markup=False, soft_wrap=True)


def _models_table() -> Table:
    table = Table()
    for name in ("model", "version"):
        table.add_column(name, overflow="fold")
    for name in ("rows", "positives", "AUC", "log loss", "PCOC"):
        table.add_column(name, justify="right")
    return table


def show_training(document: dict[str, Any]) -> None:
    """Print what became of every head."""
    table = _models_table()
    for name, head in document["heads"].items():
        if not head["trained"]:
            table.add_row(name, f"not trained: {head['reason']}")
            continue
        seen = head["evaluation"]
        figures = (f"{seen['auc']:.3f}", f"{seen['log_loss']:.4f}", f"{seen['pcoc']:.3f}")
        counts = (f"{head['rows']:,}", f"{head['positives']:,}")
        table.add_row(name, head["version"], *counts, *figures)
    stdout.print(table)
