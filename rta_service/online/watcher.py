"""Following the pointers: make what is proposed ready beside the live release, switch on commit."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Final, Literal, NamedTuple, Protocol

from rta_service.domain.errors import RTAError, StartupError
from rta_service.online.live_release import LiveRelease
from rta_service.online.pipeline import Pipeline

_RETRY_S: Final = 2.5
"""A release that could not be loaded is tried again after this long: a file may still be on its
way, but loading models in a tight loop would starve the requests."""
_SHOW_S: Final = 1.0
"""How often a worker shows that it is there."""


class ReleaseSource(Protocol):
    """Where releases come from, and who wants to know how far this process is."""

    async def pointers(self) -> tuple[str, str]:
        """Name what should decide and what may come next; empty for none."""

    async def load(self, release_id: str) -> LiveRelease:
        """Make a release ready, off the event loop; raises RTAError when it can't be."""

    async def warm(self, live: LiveRelease) -> None:
        """Make ready what may be needed after the release that decides; raises RTAError."""

    async def acknowledge(self, release_id: str, reason: str) -> None:
        """Answer a proposal: "" for ready, else why not."""

    async def show(self, release_id: str) -> None:
        """Show that this process is there and what it decides by."""


class News(NamedTuple):
    """What became of a pointer."""

    event: Literal[
        "release_taken",
        "release_prepared",
        "release_refused",
        "store_unavailable",
        "store_back",
        "way_back_cold",
    ]
    release_id: str = ""
    error: RTAError | None = None
    seconds: float = 0.0
    """How long it took to take or prepare the release."""


class _Proposal:
    """A release that is being made ready, or that is."""

    def __init__(self, release_id: str, prepare: "_Prepare") -> None:
        self.release_id = release_id
        self.unsaid: str | None = None
        """The answer that its author has not got yet: "" for ready, else why not."""
        self.work = asyncio.create_task(prepare(self))


_Prepare = Callable[[_Proposal], Coroutine[Any, Any, LiveRelease | None]]


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
        report: Callable[[News], None],
    ) -> None:
        self._source = source
        self._pipeline = pipeline
        self._poll_s = poll_s
        self._report = report
        self._proposal: _Proposal | None = None
        self._warming: asyncio.Task[None] | None = None
        self._refused_id = ""
        self._retry_at_s = 0.0
        self._is_away = False

    async def run(self) -> None:
        """Poll until cancelled."""
        showing = asyncio.create_task(self._keep_showing())
        try:
            await self.poll()
            while not _is_cancelled():
                await asyncio.sleep(self._poll_s)
                await self.poll()
        finally:
            showing.cancel()
            if self._warming is not None:
                self._warming.cancel()
            self._drop_proposal()

    async def poll(self) -> None:
        """Look once, and switch if the pointer moved. Never raises."""
        try:
            current, proposed = await self._source.pointers()
        except Exception as error:  # noqa: BLE001 - a watcher that died would keep an old release for ever; reported
            self._is_away = True
            self._report(News("store_unavailable", error=_typed(error)))
            return
        if self._is_away:
            self._is_away = False
            self._report(News("store_back"))
        if current and current != self.live_id:
            await self._follow(current)
        self._heed(proposed)
        await self._answer()

    @property
    def live_id(self) -> str:
        """The release that decides now; empty for none."""
        live = self._pipeline.live
        return "" if live is None else live.release.release_id

    async def _follow(self, wanted: str) -> None:
        """Switch to the release the pointer names, unless it was refused a moment ago."""
        started_s = _now_s()
        if wanted == self._refused_id and started_s < self._retry_at_s:
            return
        try:
            live = await self._ready(wanted) or await self._source.load(wanted)
        except Exception as error:  # noqa: BLE001 - whatever a bad release does, the old one stays; reported
            self._refused_id, self._retry_at_s = wanted, _now_s() + _RETRY_S
            self._report(News("release_refused", wanted, _typed(error)))
            return
        self._pipeline.live = live
        self._refused_id = ""
        self._report(News("release_taken", wanted, seconds=_now_s() - started_s))
        await self._show()
        self._warming = asyncio.create_task(self._warm(live))

    async def _ready(self, wanted: str) -> LiveRelease | None:
        """Give what was made ready as a proposal, waiting for it if it nearly is."""
        proposal = self._proposal
        if proposal is None or proposal.release_id != wanted:
            return None
        self._proposal = None
        return await proposal.work

    def _heed(self, proposed: str) -> None:
        """Begin to make a new proposal ready, and forget one that was withdrawn."""
        if self._proposal is not None and self._proposal.release_id != proposed:
            self._drop_proposal()
        if proposed and self._proposal is None and proposed != self.live_id:
            self._proposal = _Proposal(proposed, self._prepare)

    def _drop_proposal(self) -> None:
        if self._proposal is not None:
            self._proposal.work.cancel()
            self._proposal = None

    async def _prepare(self, proposal: _Proposal) -> LiveRelease | None:
        """Load a proposal beside the live release and answer it; None when it is refused."""
        started_s = _now_s()
        try:
            live = await self._source.load(proposal.release_id)
        except Exception as error:  # noqa: BLE001 - the proposer is told, and the refusal is reported
            typed = _typed(error)
            self._report(News("release_refused", proposal.release_id, typed))
            proposal.unsaid = str(typed)
            return None
        seconds = _now_s() - started_s
        self._report(News("release_prepared", proposal.release_id, seconds=seconds))
        proposal.unsaid = ""
        return live

    async def _answer(self) -> None:
        """Answer the proposal once it is ready or refused, again and again until the store took it."""
        proposal = self._proposal
        if proposal is not None and proposal.unsaid is not None:
            with suppress(RTAError):
                await self._source.acknowledge(proposal.release_id, proposal.unsaid)
                proposal.unsaid = None

    async def _warm(self, live: LiveRelease) -> None:
        try:
            await self._source.warm(live)
        except Exception as error:  # noqa: BLE001 - only the way back is slower for it; reported
            self._report(News("way_back_cold", live.release.release_id, _typed(error)))

    async def _keep_showing(self) -> None:
        await self._show()
        while not _is_cancelled():
            await asyncio.sleep(_SHOW_S)
            await self._show()

    async def _show(self) -> None:
        with suppress(RTAError):  # a store that is away is the poll's news
            await self._source.show(self.live_id)


def _is_cancelled() -> bool:
    """Tell whether this task was asked to end, even if somebody below it swallowed that.

    Until Python 3.12 `asyncio.wait_for`, through which the store's client writes, loses a
    cancellation that comes just when its work is done; a worker that drains would wait for ever.
    """
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _now_s() -> float:
    return asyncio.get_running_loop().time()


def _typed(error: Exception) -> RTAError:
    """Give an error nobody expected the type that the report takes."""
    if isinstance(error, RTAError):
        return error
    typed = StartupError(f"{type(error).__name__}: {error}")
    typed.__cause__ = error
    return typed
