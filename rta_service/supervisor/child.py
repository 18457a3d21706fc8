"""One child process: started, awaited until it is ready, ended."""

import asyncio
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, Self

from rta_service.supervisor.lifeline import PARENT_FD, READY_FD

EXIT_CONFIG: Final = 78
"""Exit code of a child that must not start (EX_CONFIG of sysexits): trying again can't help."""


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """What to start: a new program, never a fork, since LightGBM's threads don't survive one.

    The program must call `tell_ready` once it serves, and `watch_parent` at its start.
    """

    name: str
    argv: Sequence[str]
    kind: str = "other"
    """What metrics call it: decision, control, nearline."""
    pass_fds: tuple[int, ...] = ()
    """Descriptors the child inherits under the same numbers: listening sockets."""
    env: Mapping[str, str] = field(default_factory=dict)
    """Added to the environment of the supervisor."""


class Child:
    """A running child process."""

    def __init__(self, process: asyncio.subprocess.Process, ready_fd: int) -> None:
        self._process = process
        self._ready_fd = ready_fd

    @classmethod
    async def start(cls, spec: ChildSpec, environ: Mapping[str, str], parent_fd: int) -> Self:
        """Start a program in a session of its own, so that Ctrl-C reaches the supervisor only."""
        ready_fd, told_fd = os.pipe()
        links = {READY_FD: str(told_fd), PARENT_FD: str(parent_fd)}
        try:
            process = await asyncio.create_subprocess_exec(
                *spec.argv,
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=(*spec.pass_fds, told_fd, parent_fd),
                env={**environ, **spec.env, **links},
                start_new_session=True,
            )
        except BaseException:
            os.close(ready_fd)
            raise
        finally:
            os.close(told_fd)
        return cls(process, ready_fd)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    async def is_ready(self, timeout_s: float) -> bool:
        """Wait until it says that it is ready; False when it ended instead.

        To be called once. Raises TimeoutError.
        """
        loop = asyncio.get_running_loop()
        readable = asyncio.Event()
        loop.add_reader(self._ready_fd, readable.set)
        try:
            async with asyncio.timeout(timeout_s):
                await readable.wait()
            return os.read(self._ready_fd, 1) != b""
        finally:
            loop.remove_reader(self._ready_fd)
            os.close(self._ready_fd)

    async def exit_code(self) -> int:
        """Wait for its end; a negative code is the signal that ended it."""
        return await self._process.wait()

    async def end(self, patience_s: float, hurry: asyncio.Event) -> bool:
        """Ask it to finish; kill it after a while or when in a hurry. Tells if it finished."""
        self._signal(signal.SIGTERM)
        waits = [asyncio.ensure_future(wait) for wait in (self.exit_code(), hurry.wait())]
        try:
            await asyncio.wait(waits, timeout=patience_s, return_when=asyncio.FIRST_COMPLETED)
            finished = waits[0].done()
        finally:
            for wait in waits:
                wait.cancel()
        if not finished:
            self._signal(signal.SIGKILL)
            await self.exit_code()
        return finished

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):  # it ended by itself in the meantime
            self._process.send_signal(number)
