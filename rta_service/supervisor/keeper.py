"""Keeps one child running: start, wait until ready, wait for its end, pause, again."""

import asyncio
from typing import Protocol

from rta_service.supervisor.child import EXIT_CONFIG, Child, ChildSpec
from rta_service.supervisor.surroundings import Patience, Surroundings


class RollCall(Protocol):
    """Who wants to know which children are ready."""

    def joined(self, spec: ChildSpec) -> None:
        """Take note of a child that became ready."""

    def left(self, spec: ChildSpec) -> None:
        """Take note of a ready child that ended."""


class Keeper:
    """One child over all its lives."""

    def __init__(
        self, spec: ChildSpec, patience: Patience, outside: Surroundings, roll: RollCall
    ) -> None:
        self._spec = spec
        self._patience = patience
        self._outside = outside
        self._roll = roll
        self._child: Child | None = None
        self._was_ready = False
        self._hurry = asyncio.Event()

    async def run(self, parent_fd: int) -> int:
        """Keep the child running until cancelled, which leaves it running.

        Returns only if the child refuses to start at all, with its exit code.
        """
        backoff = self._patience.backoff()
        while True:
            child = await Child.start(self._spec, self._outside.environ, parent_fd)
            self._child = child
            ready_s = await self._live(child)
            code = await child.exit_code()
            self._child = None
            if code == EXIT_CONFIG and not self._was_ready:
                self._say("child_refused")
                return code
            pause_s = backoff.pause_after(ready_s)
            self._say("child_died", code=code, ready_s=round(ready_s, 3), retry_in_s=pause_s)
            self._outside.observer.count_restart(self._spec.kind)
            await asyncio.sleep(pause_s)

    async def _live(self, child: Child) -> float:
        """Watch a child to its end; gives how long it was ready, in seconds."""
        if not await self._became_ready(child):
            return 0.0
        since_s = self._outside.clock.monotonic_s()
        self._was_ready = True
        self._say("child_ready", pid=child.pid)
        self._roll.joined(self._spec)
        try:
            await child.exit_code()
        finally:
            self._roll.left(self._spec)
        return self._outside.clock.monotonic_s() - since_s

    async def _became_ready(self, child: Child) -> bool:
        try:
            return await child.is_ready(self._patience.ready_s)
        except TimeoutError:
            self._say("child_not_ready", waited_s=self._patience.ready_s)
            await child.end(1.0, self._hurry)
            return False

    async def end(self) -> None:
        """Let the child finish, and kill it when that takes too long."""
        if self._child is None:
            return
        if not await self._child.end(self._patience.drain_s, self._hurry):
            self._say("child_killed")

    def hurry(self) -> None:
        """Stop being patient with the child's end."""
        self._hurry.set()

    def _say(self, event: str, **facts: str | float) -> None:
        self._outside.say(event, child=self._spec.name, **facts)
