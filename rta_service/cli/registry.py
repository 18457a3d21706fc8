"""`rta models list|show|diff|log`: which versions there are, and what was done with them."""

from collections.abc import Sequence
from typing import Annotated, Final

import msgspec
import typer
from rich.table import Table

from rta_service.cli.app import stdout
from rta_service.cli.desk import instant, open_desk, plain
from rta_service.cli.models import models_app
from rta_service.cli.options import AsJson, DataDir, RedisUrl
from rta_service.cli.release import print_json
from rta_service.cli.trial_view import show_trial
from rta_service.domain.command import ModelState
from rta_service.domain.rollout import percent

_LINE: Final = 100
"""Characters of a value shown in a table."""
_COLUMNS: Final = (
    *("model", "version", "phase", "decides for", "AUC", "log loss", "PCOC"),
    *("uploaded", "by"),
)
_LOG_COLUMNS: Final = ("when (UTC)", "who", "did", "what", "why", "release")
_LOG_WIDTHS: Final = {"when (UTC)": 19, "did": 8, "release": 19}
_ROOMY: Final = 110
"""Columns of a window from which the log's table has room for the release."""


@models_app.command(name="list")
def list_models(data: DataDir = None, redis_url: RedisUrl = None, as_json: AsJson = False) -> None:
    """List every version: where it stands and how it did."""
    with open_desk(data, redis_url) as desk:
        states = desk.models()
    if as_json:
        print_json({"models": [msgspec.to_builtins(state) for state in states]})
        return
    show_whole(_COLUMNS, [_state_row(state) for state in states], least=4)


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
    """Show a version: its trial, its manifest and its verdicts."""
    with open_desk(data, redis_url) as desk:
        document = desk.show(name, version)
    if as_json:
        print_json(document)
        return
    if document["trial"]:
        show_trial(document["trial"])
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
    one: Annotated[str, typer.Argument(metavar="[VERSION]", help="The live one if left out.")] = "",
    other: Annotated[
        str,
        typer.Argument(
            metavar="[VERSION]",
            help="With one version, the live one is compared with it; with none, with the canary,"
            " the shadow or the newest upload.",
        ),
    ] = "",
    data: DataDir = None,
    redis_url: RedisUrl = None,
    as_json: AsJson = False,
) -> None:
    """Compare two versions: figures, trees, features and scores."""
    with open_desk(data, redis_url) as desk:
        document = desk.diff(name, *filter(None, (one, other)))
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
    table = Table()
    count = len(_LOG_COLUMNS) if stdout.width >= _ROOMY else len(_LOG_COLUMNS) - 1
    for column in _LOG_COLUMNS[:count]:
        table.add_column(column, overflow="fold", min_width=_LOG_WIDTHS.get(column))
    for entry in entries:
        words = (entry.who, entry.action, entry.what, entry.why, entry.release_id)
        table.add_row(instant(entry.at_ms), *map(plain, words[: count - 1]))
    stdout.print(table)


def show_whole(columns: Sequence[str], rows: Sequence[Sequence[str]], least: int) -> None:
    """Print a table in which nothing is cut: the last columns go where there is no room for all."""
    widths = [max(map(len, values)) for values in zip(columns, *rows, strict=True)]
    rooms = {n: sum(widths[:n]) + 3 * n + 1 for n in range(least, len(columns) + 1)}
    count = max((n for n, room in rooms.items() if room <= stdout.width), default=least)
    table = Table()
    for column, width in zip(columns[:count], widths, strict=False):
        table.add_column(column, no_wrap=True, min_width=width)
    for row in rows:
        table.add_row(*map(plain, row[:count]))
    stdout.print(table, width=rooms[count], crop=False)
    if count < len(columns):
        left = ", ".join(columns[count:])
        stdout.print(f"no room for: {left} (a wider window, or --json)", soft_wrap=True)


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
