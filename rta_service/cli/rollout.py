"""`rta models shadow|canary|live|stop|rollback|archive|approve...`: moving versions."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.table import Table

from rta_service.cli.app import stdout
from rta_service.cli.desk import instant, me, open_desk, plain
from rta_service.cli.models import models_app
from rta_service.cli.options import AsJson, DataDir, RedisUrl, Why
from rta_service.cli.release import print_json, print_releases
from rta_service.domain.command import Command, Pending
from rta_service.domain.errors import InvalidInput
from rta_service.domain.release import Release
from rta_service.domain.rollout import MILLION, Action
from rta_service.releasing.rollouts import describe

Names = Annotated[
    list[str],
    typer.Argument(metavar="NAME[@VERSION]...", help="Versions; without one, the newest."),
]
CanaryOrNames = Annotated[
    list[str] | None,
    typer.Argument(metavar="[NAME[@VERSION]...]", help="Versions; none: the running canary's."),
]


@dataclass(frozen=True, slots=True)
class _Options:
    """Where, why and how to answer; the same for every command that changes something."""

    data: Path | None
    redis_url: str | None
    why: str
    as_json: bool


@models_app.command()
def shadow(
    models: Names,
    why: Why = "",
    data: DataDir = None,
    redis_url: RedisUrl = None,
    as_json: AsJson = False,
) -> None:
    """Let versions score a sample of traffic; they decide nothing."""
    _act(Command(Action.SHADOW, _named(models)), _Options(data, redis_url, why, as_json))


@models_app.command()
def canary(
    models: CanaryOrNames = None,
    share: Annotated[float, typer.Option(help="Of all people, in steps of 0.000001.")] = 0.001,
    why: Why = "",
    data: DataDir = None,
    redis_url: RedisUrl = None,
    as_json: AsJson = False,
) -> None:
    """Let versions decide for a share of people, or change it.

    They must be in shadow, or be the canary.
    """
    if round(share, 6) != share:
        raise InvalidInput(f"{share:g} is not in steps of 0.000001", "--share")
    command = Command(Action.CANARY, _named(models), round(share * MILLION))
    _act(command, _Options(data, redis_url, why, as_json))


@models_app.command()
def live(
    models: CanaryOrNames = None,
    skip: Annotated[bool, typer.Option("--skip", help="Without shadow and canary.")] = False,
    why: Why = "",
    data: DataDir = None,
    redis_url: RedisUrl = None,
    as_json: AsJson = False,
) -> None:
    """Let the canary decide for all people.

    What it replaces is kept warm for the way back.
    """
    command = Command(Action.LIVE, _named(models), skip=skip)
    _act(command, _Options(data, redis_url, why, as_json))


@models_app.command()
def stop(
    why: Why = "", data: DataDir = None, redis_url: RedisUrl = None, as_json: AsJson = False
) -> None:
    """End the canary, or where there is none the shadows.

    The live models go on.
    """
    _act(Command(Action.STOP), _Options(data, redis_url, why, as_json))


@models_app.command()
def rollback(
    why: Why = "", data: DataDir = None, redis_url: RedisUrl = None, as_json: AsJson = False
) -> None:
    """End a canary, or let the previous versions decide again.

    But for those that were rolled back themselves.
    """
    _act(Command(Action.ROLLBACK), _Options(data, redis_url, why, as_json))


@models_app.command()
def archive(
    models: Names,
    why: Why = "",
    data: DataDir = None,
    redis_url: RedisUrl = None,
    as_json: AsJson = False,
) -> None:
    """Let go of previous versions.

    There is then no way back to them at once.
    """
    _act(Command(Action.ARCHIVE, _named(models)), _Options(data, redis_url, why, as_json))


@models_app.command()
def approvals(data: DataDir = None, redis_url: RedisUrl = None, as_json: AsJson = False) -> None:
    """List what waits for a second person."""
    with open_desk(data, redis_url) as desk:
        waiting = desk.pending()
    if as_json:
        print_json({"pending": [msgspec.to_builtins(wish) for wish in waiting]})
        return
    table = Table("pending_id", "what", "asked by", "when (UTC)", "why", "until (UTC)")
    for wish in waiting:
        asked, until = instant(wish.asked_at_ms), instant(wish.expires_at_ms)
        what = plain(describe(wish.command))
        table.add_row(wish.pending_id, what, wish.asked_by, asked, plain(wish.command.why), until)
    stdout.print(table)


@models_app.command()
def approve(
    pending_id: Annotated[str, typer.Argument(metavar="PENDING_ID")],
    data: DataDir = None,
    redis_url: RedisUrl = None,
    as_json: AsJson = False,
) -> None:
    """Let happen what another person asked for."""
    with open_desk(data, redis_url) as desk:
        release = desk.approve(pending_id, me())
    print_releases([release], as_json=as_json)


@models_app.command()
def withdraw(
    pending_id: Annotated[str, typer.Argument(metavar="PENDING_ID")],
    data: DataDir = None,
    redis_url: RedisUrl = None,
    as_json: AsJson = False,
) -> None:
    """Let go of what waits for a second person."""
    with open_desk(data, redis_url) as desk:
        wish = desk.withdraw(pending_id, me())
    if as_json:
        print_json({"withdrawn": msgspec.to_builtins(wish)})
        return
    stdout.print(f"withdrawn: {describe(wish.command)}", markup=False, soft_wrap=True)


def _act(command: Command, options: _Options) -> None:
    """Do what is wished and show what came of it; scripts need not say why."""
    why = options.why or f"by hand: rta models {command.action}"
    with open_desk(options.data, options.redis_url) as desk:
        outcome = desk.act(msgspec.structs.replace(command, why=why), me())
    _report(outcome, as_json=options.as_json)


def _report(outcome: Release | Pending, *, as_json: bool) -> None:
    if isinstance(outcome, Release):
        print_releases([outcome], as_json=as_json)
    elif as_json:
        print_json({"release": None, "pending": msgspec.to_builtins(outcome)})
    else:
        stdout.print(
            f"waits for a second person: {describe(outcome.command)}\n"
            f"somebody else runs: rta models approve {outcome.pending_id}",
            markup=False,
            soft_wrap=True,
        )


def _named(models: list[str] | None) -> tuple[tuple[str, str], ...]:
    """Read NAME@VERSION; raises InvalidInput for a missing name."""
    named = []
    for model in models or ():
        name, _, version = model.partition("@")
        if not name or model.endswith("@"):
            raise InvalidInput("write NAME or NAME@VERSION", repr(model))
        named.append((name, version))
    return tuple(named)
