"""What every control request passes before its route: access, size, form, retry, precondition.

The order matters: nothing is read from a caller who may not call, a retry gets its first answer
even though the release has moved since, and only then is If-Match compared.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect
from starlette.types import Message

from rta_service.web.access import BEARER, Tokens, admitted, needs_of
from rta_service.web.idempotency import Idempotency
from rta_service.web.problems import ANSWERS, Refusal

BODY_TIMEOUT_S: Final = 10.0
"""For all of a JSON body."""

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


@dataclass(frozen=True, slots=True)
class Gate:
    """The gate before all routes of the control port."""

    tokens: Tokens
    idempotency: Idempotency
    current_id: Callable[[], str]
    """Names the release that decides, empty before the first; may block."""

    def router(self, tag: str) -> APIRouter:
        """Make a router whose routes all stand behind the gate."""
        return APIRouter(
            tags=[tag], route_class=_gated(self), dependencies=[BEARER], responses=ANSWERS
        )

    async def answer(self, request: Request, route: APIRoute, inner: Handler) -> Response:
        """Let a request through to its route, or raise why not."""
        needs = needs_of(route)
        request.state.who = admitted(self.tokens, request.headers, needs.role)
        request.state.decided_on = ""
        if needs.streams:
            return await inner(request)
        request = bounded(request, needs.max_body_bytes)
        body = await body_of(request)
        if route.body_field is not None and body:
            _check_json(request)
        if not needs.change:
            return await inner(request)
        return await self.once(request, sha256(body).hexdigest(), lambda: inner(request))

    async def once(
        self, request: Request, content: str, work: Callable[[], Awaitable[Response]]
    ) -> Response:
        """Do a change once for its key, and only on the release it was decided on."""

        async def checked() -> Response:
            await self._check_precondition(request)
            return await work()

        return await self.idempotency.once(request, content, checked)

    async def _check_precondition(self, request: Request) -> None:
        sent = request.headers.get("if-match", "").strip()
        if not sent:
            return
        current = await asyncio.to_thread(self.current_id)
        named = [tag.strip() for tag in sent.split(",")]
        if not current or (sent != "*" and etag(current) not in named):
            raise Refusal(412, f"decided on {sent}, but {current or 'no release'} decides now")
        request.state.decided_on = current


def etag(release_id: str) -> str:
    """Write a release's id as an entity tag."""
    return f'"{release_id}"'


def bounded(request: Request, limit: int) -> Request:
    """Give the same request with a body that ends in Refusal 413 beyond its limit."""
    check_length(request, limit)
    left = limit

    async def receive() -> Message:
        nonlocal left
        message = await request.receive()
        left -= len(message.get("body", b""))
        if left < 0:
            raise too_large(limit)
        return message

    return Request(request.scope, receive)


async def body_of(request: Request) -> bytes:
    """Read a whole body, which the request then remembers; raises Refusal 408 or 400."""
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            return await request.body()
    except TimeoutError as error:
        raise Refusal(408, f"the body took longer than {BODY_TIMEOUT_S:g} s") from error
    except ClientDisconnect as error:
        raise Refusal(400, "the body broke off") from error


def check_length(request: Request, limit: int) -> None:
    """Raise Refusal 413 for a body that says itself that it is too large."""
    said = request.headers.get("content-length", "")
    if said.isdecimal() and int(said) > limit:
        raise too_large(limit)


def too_large(limit: int) -> Refusal:
    """Say how large a body may be."""
    return Refusal(413, f"the body is larger than {limit:,} bytes")


def _check_json(request: Request) -> None:
    form = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if form != "application/json" and not (
        form.startswith("application/") and form[-5:] == "+json"
    ):
        said = f"not {form}" if form else "which is missing"
        raise Refusal(415, f"send JSON with the header Content-Type: application/json, {said}")


def _gated(gate: Gate) -> type[APIRoute]:
    class GatedRoute(APIRoute):
        def get_route_handler(self) -> Handler:
            needs_of(self)  # now, so that a route without a role never starts
            inner = super().get_route_handler()

            async def handle(request: Request) -> Response:
                return await gate.answer(request, self, inner)

            return handle

    return GatedRoute
