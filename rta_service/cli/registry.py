"""`rta models list|show|diff|log`: which versions there are, and what was done with them."""

from typing import Annotated, Final

import msgspec
import typer
from rich.table import Table

from rta_service.cli.app import stdout
from rta_service.cli.desk import instant, open_desk, plain
from rta_service.cli.models import models_app
from rta_service.cli.options import AsJson, DataDir, RedisUrl
from rta_service.cli.release import print_json
from rta_service.domain.command import ModelState
from rta_service.domain.rollout import percent

_LINE: Final = 100
"""Characters of a value shown in a table."""


@models_app.command(name="list")
def list_models(data: DataDir = None, redis_url: RedisUrl = None, as_json: AsJson = False) -> None:
    """List every registered version: where it stands, for whom it decides, how it did."""
    with open_desk(data, redis_url) as desk:
        states = desk.models()
    if as_json:
        print_json({"models": [msgspec.to_builtins(state) for state in states]})
        return
    table = Table("model", "version", "phase", "decides for", "AUC", "log loss", "PCOC")
    for column in ("uploaded", "by"):
        table.add_column(column)
    for state in states:
        table.add_row(*_state_row(state))
    stdout.print(table)


@models_app.command()
def show(
    name: Annotated[str, typer.Argument(metavar="NAME")],
    version: Annotated[
        str, typer.Argument(metavar="[VERSION]", help="The newest if left out.")
    ] = "",
    data: DataDir = None,
    redis_url: RedisUrl = None,
    as_json: AsJson = False,
) -> None:
    """Show a version: where it stands, what it says of itself, what every gate found."""
    with open_desk(data, redis_url) as desk:
        document = desk.show(name, version)
    if as_json:
        print_json(document)
        return
    for part in ("state", "manifest"):
        table = Table("field", "value", title=part)
        for field, value in document[part].items():
            table.add_row(field, _short(value))
        stdout.print(table)
    for verdict in document["verdicts"]:
        said = "accepted" if verdict["accepted"] else f"refused: {verdict['reason']}"
        stdout.print(f"verdict {verdict['upload_id']}: {said}", markup=False, soft_wrap=True)


@models_app.command()
def diff(
    name: Annotated[str, typer.Argument(metavar="NAME")],
    one: Annotated[str, typer.Argument(metavar="VERSION")],
    other: Annotated[str, typer.Argument(metavar="VERSION")],
    data: DataDir = None,
    redis_url: RedisUrl = None,
    as_json: AsJson = False,
) -> None:
    """Compare two versions: figures, trees, features, and their scores on the same rows."""
    with open_desk(data, redis_url) as desk:
        document = desk.diff(name, one, other)
    if as_json:
        print_json(document)
        return
    table = Table("", "", document["from"], document["to"], title=name)
    for part in ("evaluation", "forest", "calibration", "manifest"):
        for field, both in document[part].items():
            table.add_row(part, field, *map(_short, both))
    for row in document["features"]:
        shares = [f"{share:.2%} of splits" for share in row["split_share"]]
        table.add_row("features", row["feature"], *shares)
    stdout.print(table)
    scores = Table("scores", "", title=f"on {document['scores'].pop('rows_from')}")
    for field, value in document["scores"].items():
        scores.add_row(field, _short(value))
    stdout.print(scores)


@models_app.command()
def log(
    count: Annotated[int, typer.Option(min=1, max=1000, help="How many entries.")] = 20,
    data: DataDir = None,
    redis_url: RedisUrl = None,
    as_json: AsJson = False,
) -> None:
    """Show who did what, when and why, the newest first."""
    with open_desk(data, redis_url) as desk:
        entries = desk.log(count)
    if as_json:
        print_json({"entries": [msgspec.to_builtins(entry) for entry in entries]})
        return
    table = Table("when (UTC)", "who", "did", "what", "why", "release")
    for entry in entries:
        words = (entry.who, entry.action, entry.what, entry.why, entry.release_id)
        table.add_row(instant(entry.at_ms), *map(plain, words))
    stdout.print(table)


def _state_row(state: ModelState) -> tuple[str, ...]:
    share = percent(state.share_millionths) if state.share_millionths else ""
    figures = (state.auc, state.log_loss, state.pcoc)
    shown = ("" if figure is None else f"{figure:.4f}" for figure in figures)
    return (
        state.name,
        state.version,
        state.phase.value,
        share,
        *shown,
        instant(state.uploaded_at_ms),
        state.by,
    )


def _short(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    text = str(value)
    return plain(text if len(text) <= _LINE else f"{text[:_LINE]}...")
