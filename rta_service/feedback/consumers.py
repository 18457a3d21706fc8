"""All groups of the log at work, in the one process of a namespace that holds the lease."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Final, NamedTuple

from rta_service.domain.clock import Clock
from rta_service.domain.errors import StoreUnavailable
from rta_service.feedback.consuming import Group, Progress, Source, run_group
from rta_service.stores.lease import Lease

GROUPS: Final = ("fresh", "archive", "attribution")
"""What is done with every event; the log keeps each until all of them have done it."""

_TRIM_EVERY_S: Final = 2.0

Say = Callable[[str], None]


class GroupState(NamedTuple):
    """What a group has still to do, and what keeps it."""

    unread: int
    unacknowledged: int
    lag_s: float = 0.0
    """How long the event that is being done has been waiting; 0 where another process does it."""
    trouble: str = ""

    @property
    def backlog(self) -> int:
        """Events that are not done."""
        return self.unread + self.unacknowledged


class Consumers:
    """Takes the lease, does the groups' work while it holds, and gives it back."""

    def __init__(
        self, source: Source, lease: Lease, open_groups: Callable[[], Sequence[Group]], clock: Clock
    ) -> None:
        """`open_groups` opens files and cursors anew: another process may have moved them."""
        self._source = source
        self._lease = lease
        self._open_groups = open_groups
        self._clock = clock
        self._progress: dict[str, Progress] = {}
        self._held = asyncio.Event()

    @property
    def is_mine(self) -> bool:
        """Whether this process consumes."""
        return self._lease.is_mine()

    async def run(self) -> None:
        """Consume whenever the lease is ours, until cancelled; events being done are finished."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._keep_lease())
                tasks.create_task(self._consume())
                tasks.create_task(self._trim())
        finally:
            await self._lease.give_back()

    async def states(self) -> Mapping[str, GroupState]:
        """Say how each group stands; raises StoreUnavailable."""
        now_ms = self._clock.now_ms()
        found = {}
        for name in GROUPS:
            backlog = await self._source.log.backlog(name)
            progress = self._progress.get(name, Progress())
            found[name] = GroupState(*backlog, progress.lag_s(now_ms), progress.trouble)
        return found

    @property
    def progress(self) -> Mapping[str, Progress]:
        """How far each group has come in this process; empty in one that never consumed."""
        return self._progress

    async def _keep_lease(self) -> None:
        while True:
            with suppress(StoreUnavailable):  # the groups say so, each for itself
                await self._lease.take()
            if self._lease.is_mine():
                self._held.set()
            await asyncio.sleep(self._lease.renew_every_s)

    async def _consume(self) -> None:
        while True:
            await self._held.wait()
            groups = await asyncio.to_thread(self._open_groups)
            for group in groups:
                self._progress.setdefault(group.name, Progress())
            async with asyncio.TaskGroup() as tasks:
                for group in groups:
                    tasks.create_task(run_group(group, self._source, self._progress[group.name]))
            self._held.clear()  # until it is taken again

    async def _trim(self) -> None:
        while True:
            await asyncio.sleep(_TRIM_EVERY_S)
            if self._lease.is_mine():
                with suppress(StoreUnavailable):
                    await self._source.log.trim()
