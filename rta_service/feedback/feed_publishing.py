"""Copies what the ledger tells cost control to the store, where controllers read it, once each."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from rta_service.domain.control_feed import FeedBatch
from rta_service.stores.control_feed import ControlFeed
from rta_service.stores.event_log import EventLog

GROUP: Final = "attribution"
"""Who writes the ledger."""
_BATCHES: Final = 200
_MOST: Final = 20_000
"""Batches that wait in the store for a controller; more wait in the ledger."""
_MEND_EVERY: Final = 20


class Told(Protocol):
    """The ledger, as far as it is copied."""

    def feed(self, after: int, most: int, until: int = ..., /) -> Sequence[FeedBatch]:
        """Give batches after a number, oldest first."""


class FeedPublisher:
    """Copies for as long as it is asked to; it remembers nothing that the store does not know."""

    def __init__(self, open_ledger: Callable[[], Told], feed: ControlFeed, log: EventLog) -> None:
        self._open_ledger = open_ledger
        self._ledger: Told | None = None
        self._feed = feed
        self._log = log
        self._turns = 0

    async def turn(self) -> int:
        """Copy what is new and tell how far it goes, and give how many batches were copied.

        Raises StoreUnavailable, and InvalidInput for a ledger that can't be read yet.
        """
        complete_ms = await asyncio.to_thread(self._feed.now_ms)
        waiting_ms = await self._log.waiting_since_ms(GROUP)
        return await asyncio.to_thread(self.copy, min(waiting_ms or complete_ms, complete_ms))

    def copy(self, complete_ms: int) -> int:
        """Copy; all events that were accepted before an instant are in the ledger by now."""
        if self._ledger is None:
            self._ledger = self._open_ledger()
        ends, slowest = self._feed.ends(), self._feed.slowest()
        last = ends.last
        if self._turns % _MEND_EVERY == 0 and self._lacks(slowest, ends.first, last):
            self._feed.begin_again()
            last = slowest
        self._turns += 1
        copied = 0
        while ends.length + copied < _MOST and (found := self._ledger.feed(last, _BATCHES)):
            copied += self._feed.publish(found)
            last = found[-1].number
        if ends.length + copied < _MOST:
            self._feed.show_as_of(last, complete_ms)
        if slowest:
            self._feed.trim(slowest)
        return copied

    def _lacks(self, slowest: int, first: int, last: int) -> bool:
        """Say whether the store lost rows that a controller has not had: a server without a disk."""
        if self._ledger is None or not slowest or slowest >= last:
            return False
        wanted = self._ledger.feed(slowest, 1)
        return bool(wanted) and wanted[0].number <= last and not 0 < first <= wanted[0].number
