"""Shows how the groups do, and keeps the log no longer than they need it."""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from rta_service.domain.clock import Clock
from rta_service.domain.errors import StoreUnavailable
from rta_service.feedback.consuming import Progress
from rta_service.stores.event_log import EventLog
from rta_service.stores.poison import PoisonStore
from rta_service.telemetry.recorder import Telemetry

EVERY_S: Final = 1.0
TRIM_EVERY: Final = 10
"""Looks between two trims of the log."""
STUCK_S: Final = 10.0
"""So long a group may be in trouble before it counts as stuck: a store may restart meanwhile."""

_log: Final = logging.getLogger(__name__)


class GroupState(msgspec.Struct, frozen=True):
    """How a group does, as `/readyz` shows it."""

    unread: int = 0
    unacknowledged: int = 0
    lag_s: float = 0.0
    """How long its oldest event has waited."""
    trouble: str = ""
    """Why it does not go on."""
    is_stuck: bool = False
    """In trouble for longer than a restart takes."""


@dataclass(slots=True)
class _Seen:
    """What was shown of a group, and since when it has been in trouble."""

    handled: int = 0
    acknowledged: int = 0
    set_aside: int = 0
    troubled_since_s: float | None = None


class Watch:
    """Looks at the groups again and again; `states` is what it last saw."""

    def __init__(
        self,
        log: EventLog,
        poison: PoisonStore,
        progress: Mapping[str, Progress],
        telemetry: Telemetry,
        clock: Clock,
    ) -> None:
        self.states: dict[str, GroupState] = {name: GroupState() for name in progress}
        self.poisoned = 0
        self._log = log
        self._poison = poison
        self._progress = progress
        self._telemetry = telemetry
        self._clock = clock
        self._seen = {name: _Seen() for name in progress}

    async def run(self, every_s: float = EVERY_S) -> None:
        """Look and trim until cancelled; a store that fails shows as trouble of all groups."""
        looks = 0
        while True:
            try:
                await self.look()
                if looks % TRIM_EVERY == 0:
                    await self._log.trim()
            except StoreUnavailable as error:
                _log.warning("can't see how the groups do: %s", error)
                for name, state in self.states.items():
                    self.states[name] = msgspec.structs.replace(
                        state, trouble=str(error), is_stuck=self._is_stuck(name, str(error))
                    )
            looks += 1
            await asyncio.sleep(every_s)

    async def look(self) -> None:
        """Show each group's backlog and what it did since the last look; may raise StoreUnavailable."""
        for name, progress in self._progress.items():
            self._count(name, progress)
            backlog = await self._log.backlog(name)
            since_ms = await self._log.waiting_since_ms(name)
            lag_s = max(0, self._clock.now_ms() - since_ms) / 1000 if since_ms else 0.0
            self.states[name] = GroupState(
                backlog.unread,
                backlog.unacknowledged,
                lag_s,
                progress.trouble,
                self._is_stuck(name, progress.trouble),
            )
            self._telemetry.show_backlog(name, backlog.unread + backlog.unacknowledged, lag_s)
        self.poisoned = await self._poison.count()
        self._telemetry.show_poisoned(self.poisoned)

    def _count(self, name: str, progress: Progress) -> None:
        seen = self._seen[name]
        self._telemetry.count_events(
            name,
            progress.handled - seen.handled,
            progress.acknowledged - seen.acknowledged,
            progress.set_aside - seen.set_aside,
        )
        seen.handled = progress.handled
        seen.acknowledged = progress.acknowledged
        seen.set_aside = progress.set_aside

    def _is_stuck(self, name: str, trouble: str) -> bool:
        seen, now_s = self._seen[name], self._clock.monotonic_s()
        if not trouble:
            seen.troubled_since_s = None
            return False
        if seen.troubled_since_s is None:
            seen.troubled_since_s = now_s
        return now_s - seen.troubled_since_s >= STUCK_S
