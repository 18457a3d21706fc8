"""The fast way for POST /rta/<platform>: bytes in, bytes out, no framework on the way."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, Final, Protocol

from rta_service.domain.clock import Clock
from rta_service.domain.decision import Decision
from rta_service.domain.errors import InvalidRequest
from rta_service.domain.platform import PlatformInfo
from rta_service.domain.reason import ReasonCode
from rta_service.domain.request import AdRequest
from rta_service.online.answers import decline_all
from rta_service.online.batcher import Batcher
from rta_service.platforms.base import Adapter

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

BODY_TIMEOUT_S: Final = 2.0
"""For a body that comes in pieces; a platform's own comes in one."""


class LaneMetrics(Protocol):
    """What the lane counts besides decisions."""

    def count_invalid(self, platform: PlatformInfo) -> None:
        """Count a request that could not be read."""

    def count_internal_error(self, place: str) -> None:
        """Count an exception that nobody expected."""

    def observe(self, stage: str, seconds: float) -> None:
        """Record how long a stage took."""


class Route:
    """One platform's adapter with all bytes that never change."""

    def __init__(self, adapter: Adapter) -> None:
        self.adapter = adapter
        self.info = adapter.info
        self.content_type = (b"content-type", adapter.info.content_type.encode())
        nothing = AdRequest("", adapter.info)
        self.last_resort = adapter.render(decline_all(nothing, ReasonCode.INTERNAL_ERROR))


class Lane:
    """An ASGI application ahead of FastAPI: platform requests stay here, the rest goes on.

    Under `LaneProtocol` most requests never become ASGI messages: it calls `begin`, `finish` and
    `refuse` itself.
    """

    def __init__(
        self,
        adapters: Mapping[str, Adapter],
        batcher: Batcher,
        metrics: LaneMetrics,
        clock: Clock,
        fallback: ASGIApp,
    ) -> None:
        self.routes = {a.info.path: Route(a) for a in adapters.values()}
        self.clock = clock
        self._batcher = batcher
        self._metrics = metrics
        self._fallback = fallback

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer a platform's POST; hand everything else to the framework."""
        route = self.routes.get(scope["path"]) if scope["type"] == "http" else None
        if route is None or scope["method"] != "POST":
            await self._fallback(scope, receive, send)
            return
        status, answer = await self._answer(route, receive, self.clock.monotonic_s())
        length = (b"content-length", str(len(answer)).encode())
        headers = [route.content_type, length]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    async def _answer(self, route: Route, receive: Receive, arrived_s: float) -> tuple[int, bytes]:
        try:
            body = await read_body(receive, route.info.max_body_bytes)
            decision = await self.begin(route, body, arrived_s)
            return 200, self.finish(route, decision, arrived_s)
        except Exception as error:  # noqa: BLE001 - a platform must never see an exception; counted
            return self.refuse(route, error, arrived_s)

    def begin(self, route: Route, body: bytes, arrived_s: float) -> asyncio.Future[Decision]:
        """Read a request and queue it; whatever this raises is for `refuse`."""
        request = route.adapter.parse(body)
        self._metrics.observe("parse", self.clock.monotonic_s() - arrived_s)
        return self._batcher.submit(request, arrived_s)

    def finish(self, route: Route, decision: Decision, arrived_s: float) -> bytes:
        """Write the answer with a decision; whatever this raises is for `refuse`."""
        decided_s = self.clock.monotonic_s()
        answer = route.adapter.render(decision)
        rendered_s = self.clock.monotonic_s()
        self._metrics.observe("render", rendered_s - decided_s)
        self._metrics.observe("total", rendered_s - arrived_s)
        return answer

    def refuse(self, route: Route, error: BaseException, arrived_s: float) -> tuple[int, bytes]:
        """Give the status and the answer for a request that failed. Never raises."""
        self._metrics.observe("total", self.clock.monotonic_s() - arrived_s)
        if isinstance(error, InvalidRequest):
            self._metrics.count_invalid(route.info)
            try:
                return route.adapter.render_invalid(error)
            except Exception:  # noqa: BLE001, S110 - counted below
                pass
        self._metrics.count_internal_error("lane")
        return 200, route.last_resort


async def read_body(receive: Receive, max_bytes: int, timeout_s: float = BODY_TIMEOUT_S) -> bytes:
    """Read a request's body; raises InvalidRequest when it is too large, late or breaks off."""
    chunks = bytearray()
    more = True
    try:
        async with asyncio.timeout(timeout_s):
            while more:
                body, more = _piece(await receive())
                chunks += body
                check_size(len(chunks), max_bytes)
    except TimeoutError as error:
        raise body_late() from error
    return bytes(chunks)


def _piece(message: Message) -> tuple[bytes, bool]:
    """Take a piece of a body out of its message, and whether more comes."""
    if message["type"] == "http.disconnect":
        raise InvalidRequest("the connection broke off before the body's end", "body")
    return message.get("body", b""), message.get("more_body", False)


def check_size(size: int, max_bytes: int) -> None:
    """Raise InvalidRequest when a body has more bytes than its platform ever sends."""
    if size > max_bytes:
        raise InvalidRequest(f"larger than {max_bytes} bytes", "body")


def body_late() -> InvalidRequest:
    """Give the error for a body that took longer than BODY_TIMEOUT_S."""
    return InvalidRequest("the body did not arrive in time", "body")
