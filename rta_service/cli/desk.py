"""What the commands on models' versions share: the desk, who stands at it, and how it shows things.

Commands act on the store themselves, as `cli:<user>` with the role admin: who can read the data
folder has its secrets anyway. A second person for going live is asked for all the same.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from rta_service import wiring
from rta_service.cli.options import existing, settings_of, who
from rta_service.domain.access import Actor, Role
from rta_service.domain.clock import SystemClock
from rta_service.releasing.rollouts import Rollouts


@contextmanager
def open_desk(data: Path | None, redis_url: str | None) -> Iterator[Rollouts]:
    """Open the store for as long as somebody stands at the desk."""
    settings = existing(settings_of(data, redis_url))
    with wiring.open_shelf(settings) as shelf:
        yield wiring.rollouts(settings, lambda: shelf, SystemClock())


def me() -> Actor:
    """Name whoever runs the command."""
    return Actor(who(), Role.ADMIN)


def plain(text: str) -> str:
    """Keep brackets from being read as colours."""
    return text.replace("[", "\\[")


def instant(moment_ms: int) -> str:
    """Write a moment in UTC, to the second."""
    return f"{datetime.fromtimestamp(moment_ms // 1000, UTC):%Y-%m-%d %H:%M:%S}"
