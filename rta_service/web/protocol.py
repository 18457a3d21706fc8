"""HTTP for the lane without ASGI: requests go from uvicorn's parser straight to the batcher.

Without a scope, a task and two messages for each request a decision took 93 instead of 140 us of
a worker's CPU in the quietest pair of interleaved runs. What is not a
plain POST to a platform's path (other paths, upgrades, pipelining, Expect) takes uvicorn's way.
"""

import asyncio
import functools
from typing import Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from rta_service.domain.decision import Decision
from rta_service.domain.errors import InvalidRequest
from rta_service.web.lane import BODY_TIMEOUT_S, Lane, Route, body_late, check_size

MAX_HEAD_BYTES: Final = 16_384
"""Path and headers together; platforms send a few hundred bytes."""


class _NobodyWaits:
    """Stands where uvicorn keeps the event that its ASGI tasks wait for."""

    def set(self) -> None:
        """Wake nobody."""


class _Exchange:
    """A request and its answer to come, with what uvicorn asks of its own request cycle."""

    __slots__ = ("arrived_s", "body", "disconnected", "keep_alive", "response_complete", "route")
    message_event: Final = _NobodyWaits()

    def __init__(self, route: Route, arrived_s: float, *, keep_alive: bool) -> None:
        self.route = route
        self.arrived_s = arrived_s
        self.keep_alive = keep_alive
        self.body = bytearray()
        self.disconnected = False
        self.response_complete = False


class LaneProtocol(HttpToolsProtocol):
    """A connection whose platform requests the lane answers as bytes.

    uvicorn's access log, default headers and root path are not for these answers.
    """

    lane: Lane
    """Set by `lane_protocol`: uvicorn makes the connections itself."""
    routes: dict[bytes, Route]
    body_timeout_s: float

    _arrived_s = 0.0
    _head_bytes = 0
    """Bytes of path and headers read so far; 0 between heads."""
    _incoming: _Exchange | None = None
    """The request whose body is being read."""
    _body_timer: asyncio.TimerHandle | None = None

    def data_received(self, data: bytes) -> None:
        """Feed the parser; a body that is not whole by then has a bounded time to arrive."""
        super().data_received(data)
        unfinished = self._incoming is not None or self._head_bytes > 0
        if unfinished and self._body_timer is None:
            self._body_timer = self.loop.call_later(self.body_timeout_s, self._give_up_body)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget a request whose body breaks off; it counts as one that can't be read."""
        exchange = self._incoming
        self._stop_reading()
        super().connection_lost(exc)
        if exchange is not None and not exchange.response_complete:
            self._refuse(exchange, InvalidRequest("the connection broke off", "body"))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Welcome a caller, who must not stay for ever without a word."""
        super().connection_made(transport)  # type: ignore[arg-type] # uvicorn narrows it too
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )

    def on_message_begin(self) -> None:
        """Start the request's clock; an ASGI scope is made only for those that need one."""
        self._arrived_s = self.lane.clock.monotonic_s()
        self._head_bytes = 1
        self.url = b""
        self.headers = []
        self.expect_100_continue = False

    def on_url(self, url: bytes) -> None:
        """Gather the path, within bounds."""
        self._count_head(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Gather a header, within bounds."""
        self._count_head(len(name) + len(value))
        super().on_header(name, value)

    def _count_head(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > MAX_HEAD_BYTES:
            # the parser makes it an error of its own, which uvicorn answers with 400 and a close
            raise ValueError("the request's head is too large")

    def on_headers_complete(self) -> None:
        """Take a platform's POST; hand any other request to uvicorn."""
        self._head_bytes = 0
        route = self.routes.get(self.url.partition(b"?")[0])
        if route is None or not self._is_plain_post():
            self._hand_over()
            return
        parser = self.parser
        keep_alive = parser.get_http_version() != "1.0" and parser.should_keep_alive()
        exchange = _Exchange(route, self._arrived_s, keep_alive=keep_alive)
        self._incoming = exchange
        self.cycle = exchange  # type: ignore[assignment] # it has all that uvicorn asks of a cycle

    def _is_plain_post(self) -> bool:
        is_idle: bool = getattr(self.cycle, "response_complete", True)  # at first there is no cycle
        return (
            is_idle
            and self.parser.get_method() == b"POST"
            and not self.expect_100_continue
            and not self.parser.should_upgrade()
            and self.limit_concurrency is None
        )

    def _hand_over(self) -> None:
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        self.headers.extend(headers)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Gather a request's body; what comes after it was found too large is dropped."""
        exchange = self._incoming
        if exchange is None:
            super().on_body(body)
        elif not exchange.response_complete:
            exchange.body += body
            try:
                check_size(len(exchange.body), exchange.route.info.max_body_bytes)
            except InvalidRequest as error:
                self._refuse(exchange, error)

    def on_message_complete(self) -> None:
        """Queue the request for its decision."""
        exchange = self._incoming
        if exchange is None:
            super().on_message_complete()
            return
        self._stop_reading()
        if exchange.response_complete:
            return
        try:
            body = bytes(exchange.body)
            future = self.lane.begin(exchange.route, body, exchange.arrived_s)
        except Exception as error:  # noqa: BLE001 - a platform must never see an exception; counted
            self._refuse(exchange, error)
        else:
            future.add_done_callback(functools.partial(self._decided, exchange))

    def _stop_reading(self) -> None:
        self._incoming = None
        if self._body_timer is not None:
            self._body_timer.cancel()
            self._body_timer = None

    def _give_up_body(self) -> None:
        exchange = self._incoming
        self._stop_reading()
        if exchange is None:
            if self._head_bytes > 0:
                self.transport.close()  # a head that dribbles
            return
        if exchange.response_complete:
            self.transport.close()
            return
        exchange.keep_alive = False
        self._refuse(exchange, body_late())

    def _decided(self, exchange: _Exchange, future: asyncio.Future[Decision]) -> None:
        try:
            answer = self.lane.finish(exchange.route, future.result(), exchange.arrived_s)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - as in `begin`'s case
            self._refuse(exchange, error)
        else:
            self._answer(exchange, 200, answer)

    def _refuse(self, exchange: _Exchange, error: BaseException) -> None:
        self._answer(exchange, *self.lane.refuse(exchange.route, error, exchange.arrived_s))

    def _answer(self, exchange: _Exchange, status: int, body: bytes) -> None:
        exchange.response_complete = True
        transport = self.transport
        if transport.is_closing():
            return
        head = _head(status, exchange.route.info.content_type)
        end = b"\r\n\r\n" if exchange.keep_alive else b"\r\nconnection: close\r\n\r\n"
        transport.write(b"%b%d%b%b" % (head, len(body), end, body))
        if not exchange.keep_alive:
            transport.close()
        self.on_response_complete()

    def on_response_complete(self) -> None:
        """Go on to the next request, unless the caller does not read its answers."""
        super().on_response_complete()
        if self.flow.write_paused and not self.transport.is_closing():
            self.flow.pause_reading()

    def pause_writing(self) -> None:
        """Take no more requests from a caller that does not read its answers."""
        super().pause_writing()
        if not self.transport.is_closing():
            self.flow.pause_reading()

    def resume_writing(self) -> None:
        """Take requests again."""
        super().resume_writing()
        if not self.pipeline and not self.transport.is_closing():
            self.flow.resume_reading()


@functools.cache
def _head(status: int, content_type: str) -> bytes:
    """Give an answer's first bytes up to its length; few statuses and types exist."""
    return STATUS_LINE[status] + f"content-type: {content_type}\r\ncontent-length: ".encode()


def lane_protocol(lane: Lane, body_timeout_s: float = BODY_TIMEOUT_S) -> type[LaneProtocol]:
    """Make the class of connections that uvicorn is given for a lane, as its `http`."""
    routes = {path.encode(): route for path, route in lane.routes.items()}
    members = {"lane": lane, "routes": routes, "body_timeout_s": body_timeout_s}
    return type("LaneProtocol", (LaneProtocol,), members)
