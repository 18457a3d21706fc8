"""One keep-alive HTTP/1.1 connection of the load generator."""

import asyncio
from typing import Protocol, cast

import httptools


class ConnectionOwner(Protocol):
    """Whoever is told what becomes of connections and of the requests on them."""

    def ready(self, connection: "HttpConnection") -> None:
        """The connection is free for a request."""

    def answered(self, connection: "HttpConnection", status: int, body: bytes) -> None:
        """The request under way has its whole answer."""

    def failed(self, reason: str) -> None:
        """The request under way gets no answer."""

    def lost(self, connection: "HttpConnection") -> None:
        """The connection is closed, by either side."""


class HttpConnection(asyncio.Protocol):
    """A connection with at most one request under way: no pipelining, as ad platforms do it."""

    def __init__(self, owner: ConnectionOwner) -> None:
        self.number = -1
        self.scheduled = 0.0
        self._owner = owner
        self._busy = False
        self._body: list[bytes] = []
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Become free for a first request."""
        self._transport = cast("asyncio.Transport", transport)
        self._owner.ready(self)

    def send(self, number: int, scheduled: float, wire: bytes) -> None:
        """Send a request; its number and instant stay here until the answer is in."""
        self.number, self.scheduled, self._busy = number, scheduled, True
        if self._transport is not None:
            self._transport.write(wire)

    def data_received(self, data: bytes) -> None:
        """Feed the parser; an unreadable answer ends the connection."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._fail("unreadable")
            self.abort()

    def on_body(self, body: bytes) -> None:
        """Collect a piece of the answer (called by the parser)."""
        self._body.append(body)

    def on_message_complete(self) -> None:
        """Hand the answer on and become free (called by the parser)."""
        if not self._busy:
            return
        body = b"".join(self._body)
        self._body.clear()
        self._busy = False
        self._owner.answered(self, self._parser.get_status_code(), body)
        if self._parser.should_keep_alive():
            self._owner.ready(self)
        else:
            self.abort()

    def connection_lost(self, _exc: Exception | None) -> None:
        """Report the loss, and the request that went with it."""
        self._fail("closed")
        self._owner.lost(self)

    def _fail(self, reason: str) -> None:
        if self._busy:
            self._busy = False
            self._owner.failed(reason)

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()
