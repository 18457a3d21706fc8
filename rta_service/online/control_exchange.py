"""Exchanging with cost control every half second, beside the requests."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple, Protocol

from rta_service.domain.clock import Clock
from rta_service.domain.control_order import Usage
from rta_service.online.control_desk import ControlDesk, Exchanged

PERIOD_S: Final = 0.5
_AWAY_S: Final = 1.0
"""After a failure: the store has enough to do when it comes back."""


class Counter(Protocol):
    """The other side of an exchange: counts each usage once, also when it is told again."""

    async def exchange(self, usages: Sequence[Usage], wants: Mapping[str, int]) -> Exchanged:
        """Tell what was done and ask for money; raises RTAError, and keeps what was told then."""


class Told(NamedTuple):
    """What became of one exchange."""

    usages: Sequence[Usage]
    error: Exception | None = None


class ControlExchange:
    """Keeps a desk supplied; a store that is away changes nothing but what runs out by itself."""

    def __init__(
        self,
        desk: ControlDesk,
        counter: Counter,
        clock: Clock,
        is_needed: Callable[[], bool],
        report: Callable[[Told], None],
    ) -> None:
        self._desk = desk
        self._counter = counter
        self._clock = clock
        self._is_needed = is_needed
        self._report = report

    async def run(self) -> None:
        """Exchange until cancelled."""
        while True:
            is_well = await self.once()
            await asyncio.sleep(PERIOD_S if is_well else _AWAY_S)
            if _is_cancelled():
                return

    async def once(self) -> bool:
        """Exchange once, if any strategy is steered; False when that failed. Never raises."""
        told: Sequence[Usage] = ()
        try:
            if not self._is_needed():
                return True
            asked_s = self._clock.monotonic_s()
            told, wants = self._desk.report()
            exchanged = await self._counter.exchange(told, wants)
            self._desk.take(exchanged, asked_s)
        except Exception as error:  # noqa: BLE001 - a task that died would leave old orders in force; reported
            self._report(Told(told, error))
            return False
        else:
            self._report(Told(told))
            return True
        finally:
            self._desk.refresh()


def _is_cancelled() -> bool:
    """Tell whether this task was asked to end, even if the store's client swallowed that."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
