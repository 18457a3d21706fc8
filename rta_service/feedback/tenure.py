"""The time in which this process is the one that consumes: from getting the lease to losing it."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
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
    async with asyncio.TaskGroup() as tasks:
        holding = tasks.create_task(_hold(lease))
        try:
            while True:
                if lease.is_mine():
                    await _serve(open_groups, source, progress)
                else:
                    await asyncio.sleep(_WAIT_S)
        finally:
            holding.cancel()
            await lease.give_back()


async def _hold(lease: Lease) -> None:
    """Take the lease, or live on, for ever."""
    while True:
        try:
            await lease.take()
        except StoreUnavailable as error:
            _log.warning("the lease to consume was not renewed: %s", error)
        await asyncio.sleep(lease.renew_every_s)


async def _serve(open_groups: OpenGroups, source: Source, progress: Mapping[str, Progress]) -> None:
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
        async with asyncio.TaskGroup() as tasks:
            for group in groups:
                tasks.create_task(run_group(group, source, progress[group.name]))
