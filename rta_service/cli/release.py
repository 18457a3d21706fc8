"""`rta release`: what decides now, what did before, and going back."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from rta_service import wiring
from rta_service.cli.app import app, stdout
from rta_service.cli.options import (
    AsJson,
    DataDir,
    RedisUrl,
    Why,
    existing,
    now_ms,
    settings_of,
    who,
)
from rta_service.domain.errors import InvalidInput
from rta_service.domain.release import ModelRef, Release, Staged
from rta_service.domain.rollout import percent
from rta_service.releasing.desk import rollback_entry

release_app = typer.Typer(
    help="What decides now and what did before; roll back.", no_args_is_help=True
)
app.add_typer(release_app, name="release")


@release_app.command()
def show(
    data: DataDir = None,
    redis_url: RedisUrl = None,
    history: Annotated[int, typer.Option(min=1, max=100, help="How many to show.")] = 10,
    as_json: AsJson = False,
) -> None:
    """Show the release that decides, and those before it."""
    settings = existing(settings_of(data, redis_url))
    with wiring.open_shelf(settings) as shelf:
        releases = shelf.releases.history(history)
    if not releases and not as_json:
        raise InvalidInput(f"no release was published yet ({settings.place})", "release")
    print_releases(releases, as_json=as_json)


@release_app.command()
def rollback(
    data: DataDir = None, redis_url: RedisUrl = None, why: Why = "", as_json: AsJson = False
) -> None:
    """Let the release before the current one decide again, in every worker within 250 ms."""
    with wiring.open_shelf(existing(settings_of(data, redis_url))) as shelf:
        release = shelf.releases.rollback(rollback_entry(now_ms(), who(), why))
    print_releases([release], as_json=as_json)


def report_change(outcome: Release | Staged, *, as_json: bool) -> None:
    """Say what a publishing command came to."""
    if isinstance(outcome, Release):
        print_releases([outcome], as_json=as_json)
        return
    if as_json:
        print_json({"release": None, "staged": msgspec.to_builtins(outcome)})
        return
    stdout.print(
        f"kept for the first release; still missing: {', '.join(outcome.missing)}", markup=False
    )


def print_releases(releases: list[Release], *, as_json: bool) -> None:
    """Show releases, the newest first."""
    if as_json:
        print_json({"releases": [msgspec.to_builtins(r) for r in releases]})
        return
    for index, release in enumerate(releases):
        made = datetime.fromtimestamp(release.created_at_ms // 1000, UTC)
        now = "  (decides now)" if index == 0 else ""
        typer.echo(f"{release.release_id}  {made:%Y-%m-%d %H:%M:%S} UTC{now}")
        for name, value in _details(release).items():
            typer.echo(f"  {name:<11}{value}")


def _details(release: Release) -> dict[str, str]:
    """Say what a release is made of; what it has none of is left out."""
    canary = release.canary
    share = f" for {percent(canary.share_millionths)} of people" if canary else ""
    trials = {
        "canary": _named(canary.models) + share if canary else "",
        "shadow": _named(release.shadow),
        "previous": _named(release.previous, release.rolled_back),
    }
    return {
        "snapshot": release.snapshot_id,
        "strategies": release.strategies_id,
        "live": _named(release.models),
        **{name: models for name, models in trials.items() if models},
        "note": release.note,
    }


def _named(refs: Sequence[ModelRef], rolled_back: Sequence[ModelRef] = ()) -> str:
    marks = (" (rolled back)" if ref in rolled_back else "" for ref in refs)
    return ", ".join(
        f"{ref.name} {ref.version}{mark}" for ref, mark in zip(refs, marks, strict=True)
    )


def print_json(document: Any) -> None:
    """Print one JSON object on standard output."""
    typer.echo(msgspec.json.format(msgspec.json.encode(document), indent=2).decode())


def read_text(path: Path) -> str:
    """Read a file given by an operator; raises InvalidInput naming it."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"can't be read ({error})", str(path)) from error
