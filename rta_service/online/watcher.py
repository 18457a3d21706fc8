"""Following the one pointer: load the new release beside the old, warm it, then switch."""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from rta_service.domain.errors import RTAError, StartupError
from rta_service.online.live_release import LiveRelease
from rta_service.online.pipeline import Pipeline

_RETRY_POLLS: Final = 5
"""A release that could not be loaded is tried again after this many polls: a file may still
be on its way, but loading models in a tight loop would starve the requests."""


class ReleaseSource(Protocol):
    """Where releases come from."""

    async def current_id(self) -> str:
        """Name the release that should decide; empty when none was published."""

    async def load(self, release_id: str) -> LiveRelease:
        """Make a release ready, off the event loop; raises RTAError when it can't be."""


class ReleaseWatcher:
    """Keeps a pipeline on the release that the pointer names.

    The store being away changes nothing: the live release goes on deciding. A release that can't
    be loaded is refused and counted, and the old one stays.
    """

    def __init__(
        self,
        source: ReleaseSource,
        pipeline: Pipeline,
        poll_s: float,
        report: Callable[[str, RTAError | None], None],
    ) -> None:
        self._source = source
        self._pipeline = pipeline
        self._poll_s = poll_s
        self._report = report
        self._refused_id = ""
        self._polls_left = 0
        self._is_away = False

    async def run(self) -> None:
        """Poll until cancelled."""
        while True:
            await self.poll()
            await asyncio.sleep(self._poll_s)

    async def poll(self) -> None:
        """Look once, and switch if the pointer moved. Never raises."""
        try:
            wanted = await self._source.current_id()
        except Exception as error:  # noqa: BLE001 - a watcher that died would keep an old release for ever; reported
            self._is_away = True
            self._report("", _typed(error))
            return
        if self._is_away:
            self._is_away = False
            self._report("", None)
        if not wanted or wanted == self.live_id:
            return
        if wanted == self._refused_id and self._polls_left > 0:
            self._polls_left -= 1
            return
        await self._switch(wanted)

    @property
    def live_id(self) -> str:
        """The release that decides now; empty for none."""
        live = self._pipeline.live
        return "" if live is None else live.release.release_id

    async def _switch(self, wanted: str) -> None:
        try:
            self._pipeline.live = await self._source.load(wanted)
        except Exception as error:  # noqa: BLE001 - whatever a bad release does, the old one stays; reported
            self._refused_id, self._polls_left = wanted, _RETRY_POLLS
            self._report(wanted, _typed(error))
        else:
            self._refused_id = ""
            self._report(wanted, None)


def _typed(error: Exception) -> RTAError:
    """Give an error nobody expected the type that the report takes."""
    if isinstance(error, RTAError):
        return error
    typed = StartupError(f"{type(error).__name__}: {error}")
    typed.__cause__ = error
    return typed
