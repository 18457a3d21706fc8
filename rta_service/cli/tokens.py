"""`rta tokens`: who may use the control port."""

from datetime import datetime
from typing import Annotated

import msgspec
import typer
from rich.table import Table

from rta_service.cli.app import app, stdout
from rta_service.cli.options import AsJson, DataDir, existing, now_ms, settings_of
from rta_service.cli.release import print_json
from rta_service.domain.access import Role
from rta_service.stores.token_file import TokenEntry, add_token, read_tokens, remove_token

tokens_app = typer.Typer(help="Who may use the control and ingest ports.", no_args_is_help=True)
app.add_typer(tokens_app, name="tokens")

Name = Annotated[str, typer.Argument(metavar="NAME", help="Stands in the audit log.")]


@tokens_app.command()
def add(
    name: Name,
    role: Annotated[Role, typer.Option(help="What it allows.")],
    days: Annotated[
        float | None, typer.Option(min=0.01, help="How long it counts; for ever if left out.")
    ] = None,
    data: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Make a token and print it, this once; a running service knows it at once."""
    path = settings_of(data, None).tokens_path
    token = add_token(path, name, role, now_ms(), days)
    if as_json:
        print_json({"token": token, "name": name, "role": role.value})
        return
    typer.echo(token)
    typer.echo("the token is kept nowhere else: put it into your secret store now", err=True)


@tokens_app.command(name="list")
def list_tokens(data: DataDir = None, as_json: AsJson = False) -> None:
    """List the tokens by name and role; the token of RTA_CONTROL_TOKEN is an admin besides."""
    settings = settings_of(data, None)
    if settings.tokens_file is None:
        existing(settings)
    entries = read_tokens(settings.tokens_path)
    now = now_ms()
    if as_json:
        print_json({"tokens": [_shown(entry, now) for entry in entries]})
        return
    table = Table("name", "role", "made (UTC)", "ends (UTC)", "")
    for entry in entries:
        ends = "never" if entry.expires_at is None else _instant(entry.expires_at)
        over = "over" if entry.expired(now) else ""
        table.add_row(entry.name, entry.role.value, _instant(entry.created_at), ends, over)
    stdout.print(table)


@tokens_app.command()
def remove(name: Name, data: DataDir = None, as_json: AsJson = False) -> None:
    """Take a token away; it opens nothing from now on."""
    gone = remove_token(settings_of(data, None).tokens_path, name)
    if as_json:
        print_json({"removed": _shown(gone, now_ms())})
        return
    stdout.print(f"removed {gone.name} ({gone.role})", markup=False)


def _shown(entry: TokenEntry, now: int) -> dict[str, object]:
    facts: dict[str, object] = msgspec.to_builtins(entry)
    del facts["sha256"]
    return {**facts, "expired": entry.expired(now)}


def _instant(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}"
