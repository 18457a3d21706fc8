"""Keeps the embedded store running: first to start, last to stop, started again when it died."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NoReturn, Protocol, TypeVar

from rta_service.domain.errors import RTAError
from rta_service.supervisor.surroundings import Patience, Surroundings

T = TypeVar("T")


class Guard(Protocol):
    """What starts and stops a store; may block for seconds, and is called from one thread."""

    def start(self) -> object:
        """Start it, or adopt what still runs; raises RTAError or OSError."""

    def is_alive(self) -> bool:
        """Tell whether it runs."""

    def stop(self) -> None:
        """End it cleanly."""


class StoreKeeper:
    """Calls a guard, one call after the other: a stop waits for a start that is under way."""

    def __init__(self, guard: Guard, patience: Patience, outside: Surroundings) -> None:
        self._guard = guard
        self._patience = patience
        self._outside = outside
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store")

    async def start(self) -> None:
        """Start the store unless it runs already; what the guard raises goes to the caller."""
        if not await self._call(self._guard.is_alive):
            await self._call(self._guard.start)

    async def run(self) -> NoReturn:
        """Look after the store until cancelled."""
        backoff = self._patience.backoff()
        alive_since_s = self._outside.clock.monotonic_s()
        while True:
            await asyncio.sleep(self._patience.store_poll_s)
            if await self._call(self._guard.is_alive):
                continue
            now_s = self._outside.clock.monotonic_s()
            pause_s = backoff.pause_after(now_s - alive_since_s)
            self._outside.say("store_died", retry_in_s=pause_s)
            self._outside.observer.count_restart("store")
            await asyncio.sleep(pause_s)
            await self._restart()
            alive_since_s = self._outside.clock.monotonic_s()

    async def _restart(self) -> None:
        try:
            await self._call(self._guard.start)
        except (RTAError, OSError) as error:
            self._outside.say("store_not_started", error=str(error))
        else:
            self._outside.say("store_started")

    async def stop(self) -> None:
        """Stop the store for good."""
        await self._call(self._guard.stop)
        self._thread.shutdown()

    async def _call(self, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function)
