"""Keeps cost control at work beside the consumers, and tells what fails once."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from rta_service.domain.errors import DegradedError, InvalidInput
from rta_service.feedback.controlling import Controller
from rta_service.feedback.feed_publishing import FeedPublisher

CONTROL_EVERY_S: Final = 1.0
COPY_EVERY_S: Final = 0.25
_LONGEST_PAUSE_S: Final = 5.0

_log: Final = logging.getLogger(__name__)


async def run_control(
    open_controller: Callable[[], Controller], every_s: float = CONTROL_EVERY_S
) -> None:
    """Control until cancelled, then let another process go on at once.

    Opened in a thread, again and again until the store answers. What is raised but a DegradedError is
    a bug: the process should end.
    """
    opened: list[Controller] = []

    async def turn() -> None:
        if not opened:
            opened.append(await asyncio.to_thread(open_controller))
        await asyncio.to_thread(opened[0].turn)

    try:
        await _again_and_again("cost control", turn, every_s)
    finally:
        if opened:
            await _given_back(opened[0])


async def _given_back(controller: Controller) -> None:
    try:
        await asyncio.to_thread(controller.give_back)
    except DegradedError as error:
        _log.warning("the lease of cost control ends by itself: %s", error)


async def run_publisher(
    open_publisher: Callable[[], FeedPublisher],
    is_mine: Callable[[], bool],
    every_s: float = COPY_EVERY_S,
) -> None:
    """Copy what the ledger tells for as long as it is this process that writes it."""
    opened: list[FeedPublisher] = []

    async def turn() -> None:
        if not is_mine():
            return
        if not opened:
            opened.append(await asyncio.to_thread(open_publisher))
        await opened[0].turn()

    await _again_and_again("telling cost control", turn, every_s)


async def _again_and_again(what: str, turn: Callable[[], Awaitable[None]], every_s: float) -> None:
    """Take turns; what fails for a while is said once, and tried again after longer pauses."""
    said, pause_s = False, every_s
    while True:
        try:
            await turn()
            said, pause_s = False, every_s
        except (DegradedError, InvalidInput) as error:
            if not said:
                _log.warning("%s waits: %s", what, error)
            said, pause_s = True, min(2 * pause_s, _LONGEST_PAUSE_S)
        await asyncio.sleep(pause_s)
