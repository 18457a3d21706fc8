"""The parent process of `rta serve`: store first, then the children, and back in that order.

It serves nothing and loads no model, so that there is little in it that could fail. What it says
goes to stderr as one JSON object a line.
"""

import asyncio
import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rta_service.supervisor.child import ChildSpec
from rta_service.supervisor.keeper import Keeper
from rta_service.supervisor.store_keeper import Guard, StoreKeeper
from rta_service.supervisor.surroundings import Patience, Surroundings


class Supervisor:
    """Runs children, and a store if it is given one, until SIGTERM, SIGINT or `stop`."""

    def __init__(
        self,
        children: Sequence[ChildSpec],
        store: Guard | None = None,
        patience: Patience | None = None,
        outside: Surroundings | None = None,
    ) -> None:
        self._outside = outside or Surroundings()
        patience = patience or Patience()
        roll = _Roll(children, self._outside)
        self._keepers = [Keeper(spec, patience, self._outside, roll) for spec in children]
        self._store = None if store is None else StoreKeeper(store, patience, self._outside)
        self._stopping = asyncio.Event()

    def serve(self) -> int:
        """Run until told to stop; gives the exit code, which is 0 after a clean stop."""
        return asyncio.run(self.run())

    def stop(self) -> None:
        """Begin to stop; a second call stops being patient. To be called on the event loop."""
        if self._stopping.is_set():
            for keeper in self._keepers:
                keeper.hurry()
        self._stopping.set()

    async def run(self) -> int:
        """Run on an event loop; signals are heeded where that is the main thread's.

        Gives EXIT_CONFIG if a child refuses to start. Raises what the store's first start raises.
        """
        with self._signals(), _lifeline() as parent_fd:
            if self._store is not None:
                await self._store.start()
            try:
                code = await self._run_children(parent_fd)
            finally:
                if self._store is not None:
                    await self._store.stop()
        self._outside.say("stopped", code=code)
        return code

    async def _run_children(self, parent_fd: int) -> int:
        """Keep the children until the end, then end them together."""
        keeping = [keeper.run(parent_fd) for keeper in self._keepers]
        work = [*keeping, self._until_stopped(), self._look_after_store()]
        tasks = [asyncio.ensure_future(part) for part in work]
        try:
            finished, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            self._outside.say("stopping")
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.gather(*(keeper.end() for keeper in self._keepers))
        return max(task.result() for task in finished)  # raises what nobody expected

    async def _until_stopped(self) -> int:
        await self._stopping.wait()
        return 0

    async def _look_after_store(self) -> int:
        if self._store is not None:
            await self._store.run()
        return await self._until_stopped()

    @contextmanager
    def _signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)


class _Roll:
    """Which children are ready; tells the observer, and once that all have been."""

    def __init__(self, children: Sequence[ChildSpec], outside: Surroundings) -> None:
        self._awaited = {spec.name for spec in children}
        self._outside = outside
        self._up: Counter[str] = Counter()

    def joined(self, spec: ChildSpec) -> None:
        self._count(spec.kind, +1)
        if spec.name in self._awaited:
            self._awaited.remove(spec.name)
            if not self._awaited:
                self._outside.say("ready")
                self._outside.on_ready()

    def left(self, spec: ChildSpec) -> None:
        self._count(spec.kind, -1)

    def _count(self, kind: str, change: int) -> None:
        self._up[kind] += change
        self._outside.observer.set_workers_up(kind, self._up[kind])


@contextmanager
def _lifeline() -> Iterator[int]:
    """Give the read end of a pipe whose write end closes with this process, however it ends."""
    read_fd, write_fd = os.pipe()
    try:
        yield read_fd
    finally:
        os.close(read_fd)
        os.close(write_fd)
