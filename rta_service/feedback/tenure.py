"""The time in which this process is the one that consumes: from getting the lease to losing it."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from typing import Final

from rta_service.domain.errors import DegradedError, StoreUnavailable
from rta_service.feedback.consuming import Group, Progress, Source, in_thread, run_group
from rta_service.stores.lease import Lease

WORK: Final = "consume"
"""What the lease is for."""
_WAIT_S: Final = 0.2
_AGAIN_S: Final = 1.0

_log: Final = logging.getLogger(__name__)

OpenGroups = Callable[[], AbstractContextManager[Sequence[Group]]]
"""Opens what the groups write to; entered once in each tenure, in a thread, and left at its end."""


async def consume(
    lease: Lease, open_groups: OpenGroups, source: Source, progress: Mapping[str, Progress]
) -> None:
    """Do all groups' events whenever the lease is ours, until cancelled; then give it back.

    `source.is_mine` is the lease's own. Whatever is raised here but a cancellation is a bug: the
    process should end, so that another one goes on.
    """
    is_over = asyncio.Event()
    holding = asyncio.create_task(_hold(lease, is_over))
    try:
        while not holding.done():
            if lease.is_mine():
                await _serve(lease, open_groups, source, progress)
            else:
                await asyncio.sleep(_WAIT_S)
        holding.result()
    finally:
        is_over.set()
        await asyncio.wait([holding])
        await lease.give_back()


async def _hold(lease: Lease, is_over: asyncio.Event) -> None:
    """Take the lease, or live on, until it is over."""
    while not is_over.is_set():
        try:
            await lease.take()
        except StoreUnavailable as error:
            _log.warning("the lease to consume was not renewed: %s", error)
        with suppress(TimeoutError):
            async with asyncio.timeout(lease.renew_every_s):
                await is_over.wait()


async def _serve(
    lease: Lease, open_groups: OpenGroups, source: Source, progress: Mapping[str, Progress]
) -> None:
    """Do one tenure; where its handlers can't be opened, wait and let it be tried again."""
    with ExitStack() as tenure:
        try:
            groups = await in_thread(tenure.enter_context, open_groups())
        except DegradedError as error:
            _log.warning("can't begin to consume: %s", error)
            for one in progress.values():
                one.trouble = str(error)
            await asyncio.sleep(_AGAIN_S)
            return
        running = [
            asyncio.create_task(run_group(group, source, progress[group.name])) for group in groups
        ]
        try:
            await asyncio.wait(running, return_when=asyncio.FIRST_EXCEPTION)
            for ended in running:
                if ended.done():
                    ended.result()
        except BaseException:
            lease.let_go()  # groups are not cancelled, but end between two steps
            raise
        finally:
            await asyncio.wait(running)
