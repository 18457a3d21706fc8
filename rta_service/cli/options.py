"""Options that several subcommands share, and the context they open."""

import os
import pwd
from pathlib import Path
from typing import Annotated

import typer

from rta_service import wiring
from rta_service.config import Settings
from rta_service.domain.clock import SystemClock
from rta_service.domain.errors import InvalidInput

DataDir = Annotated[
    Path | None,
    typer.Option("--data", help="Data folder of the service (RTA_DATA_DIR; default rta-data)."),
]
RedisUrl = Annotated[
    str | None,
    typer.Option("--redis-url", help="Store to use instead of the embedded one (RTA_REDIS_URL)."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")]
Columns = Annotated[
    Path | None,
    typer.Option(help="TOML file that names the columns and event words of your log."),
]
AsOf = Annotated[
    str | None,
    typer.Option(metavar="DATE", help="00:00 UTC of this day; later events are left out."),
]
Why = Annotated[str, typer.Option("--why", help="Reason, for the audit log.")]


def settings_of(data: Path | None, redis_url: str | None) -> Settings:
    """Read the settings, with these two options on top."""
    return wiring.load_settings(data_dir=data, redis_url=redis_url)


def existing(settings: Settings) -> Settings:
    """Refuse a data folder that is not there, before a command makes an empty one of that name.

    For commands that ask about what a service has: an empty table looks like a loss. Raises
    InvalidInput.
    """
    if settings.redis_url is None and not settings.data_dir.is_dir():
        raise InvalidInput(
            "no data folder there: say which with --data or RTA_DATA_DIR, or the store with "
            "RTA_REDIS_URL",
            str(settings.data_dir.resolve()),
        )
    return settings


def who() -> str:
    """Name the operator for the audit log: the operating system's user, whatever $USER says."""
    try:
        return f"cli:{pwd.getpwuid(os.getuid()).pw_name}"
    except KeyError:  # a container's user may have a number only
        return f"cli:uid-{os.getuid()}"


def now_ms() -> int:
    """Give the time, for commands; everything below takes it as an argument."""
    return SystemClock().now_ms()
