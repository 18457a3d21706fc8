"""The ingest app: events from whoever holds a sender's token, notices from platforms by their link.

What can't be kept is refused with 503 and Retry-After, and nothing of it is acknowledged.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, Protocol

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi_offline import FastAPIOffline
from starlette.routing import Route

from rta_service import __version__
from rta_service.domain.access import Role
from rta_service.domain.errors import StoreUnavailable
from rta_service.domain.happening import LineRule
from rta_service.domain.receipt import Fate, LineFate, Receipt
from rta_service.web import problems
from rta_service.web.access import Tokens, admitted
from rta_service.web.gate import body_of, bounded
from rta_service.web.problems import Refusal

_LINE_FORMS: Final = ("application/x-ndjson", "application/json")
_JSON: Final = "application/json"
_UNCACHED: Final = {"cache-control": "no-store"}
_NOTICE_BYTES: Final = 16_384
"""Room for a notice: its query and what is made of it."""
_HEALTH_PATIENCE_S: Final = 2.0
_STATUS: Final = {LineRule.UNKNOWN_LINK: 404, LineRule.BAD_SIGNATURE: 403, LineRule.BAD_TAG: 403}
_DESCRIPTION: Final = """\
Send events to `POST /v1/events`, one JSON object a line, with `Authorization: Bearer <token>` of
the role sender (`rta tokens add NAME --role sender`). The answer holds each line's fate; accepted
lines and duplicates are durable. After 503, 408 or no answer send the same batch again.

Platforms tell of exposures, clicks and wins by `GET /track/<platform>/<event>`, under a signed link
that `rta events link` prints.
"""


class IntakeDesk(Protocol):
    """Takes events in."""

    async def take(self, body: bytes) -> Receipt:
        """Take lines of JSON; raises StoreUnavailable where they can't be kept."""

    async def notice(self, platform: str, event: str, query: bytes) -> LineFate:
        """Take a platform's notice; raises StoreUnavailable where it can't be kept."""


class GroupHealth(msgspec.Struct, frozen=True):
    """What a group of consumers has still to do."""

    unread: int
    unacknowledged: int
    """Read, and not done."""
    lag_s: float
    """The age of the oldest event that is not done."""
    stuck: bool = False
    """Whether it has been in trouble for longer than a restart takes."""
    trouble: str = ""
    """Why it does not go on."""


Health = Callable[[], Awaitable[Mapping[str, GroupHealth]]]
"""Gives the health of all groups by name; may raise StoreUnavailable."""


@dataclass(frozen=True, slots=True)
class IngestLimits:
    """What is taken at once."""

    max_body_bytes: int = 8_000_000
    max_lines: int = 10_000
    max_in_flight_bytes: int = 32_000_000
    """Of all requests together, some seconds of work; beyond it they are to come again."""


async def _nothing() -> None:
    """Run nothing beside the requests."""


def ingest_app(
    intake: IntakeDesk,
    tokens: Tokens,
    health: Health,
    limits: IngestLimits | None = None,
    background: Callable[[], Coroutine[Any, Any, None]] = _nothing,
) -> FastAPI:
    """Build the ingest port; /livez, /readyz and /track are open, the rest needs a token.

    `background` runs from start to stop beside the requests.
    """

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        task = asyncio.create_task(background())
        yield
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    app: FastAPI = FastAPIOffline(
        lifespan=lifespan,
        title="rta-service ingest",
        version=__version__,
        description=_DESCRIPTION,
        redirect_slashes=False,
        telemetry={"tracing": False},
    )
    problems.install(app)
    port = _Port(intake, tokens, limits or IngestLimits(), health)
    app.post("/v1/events", openapi_extra=_EVENTS_BODY, responses=problems.ANSWERS)(port.events)
    app.router.routes.append(_only_get("/track/{platform}/{event}", port.track))
    app.get("/readyz")(port.readyz)

    @app.get("/livez")
    async def livez() -> dict[str, str]:
        """Tell that this process answers."""
        return {"status": "alive"}

    return app


_EVENTS_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {_LINE_FORMS[0]: {"schema": {"type": "string"}}},
    },
    "security": [{"HTTPBearer": []}],
}


class _Port:
    """The routes, and how much is on its way through them."""

    def __init__(
        self, intake: IntakeDesk, tokens: Tokens, limits: IngestLimits, health: Health
    ) -> None:
        self._intake = intake
        self._tokens = tokens
        self._limits = limits
        self._health = health
        self._left = limits.max_in_flight_bytes

    async def events(self, request: Request) -> Response:
        """Take a batch of events: JSON objects, one a line; answers with each line's fate."""
        admitted(self._tokens, request.headers, Role.SENDER)
        _check_form(request)
        limit = self._limits.max_body_bytes
        request = bounded(request, limit)
        with self._room(_declared(request, limit)):
            body = await body_of(request)
            self._check_lines(body)
            receipt = await self._intake.take(body)
        return Response(msgspec.json.encode(receipt), media_type=_JSON)

    async def track(self, request: Request) -> Response:
        """Take a platform's notice of an exposure, a click or a win by its signed link."""
        platform, event = request.path_params["platform"], request.path_params["event"]
        with self._room(_NOTICE_BYTES):
            try:
                fate = await self._intake.notice(platform, event, request.scope["query_string"])
            except StoreUnavailable:  # what it says of our store is nothing for the public
                raise Refusal(503, "can't be kept now; send it again", retry_s=1) from None
        if fate.fate is Fate.REJECTED:
            status = _STATUS.get(LineRule(fate.rule), 400)
            more = {"field": fate.field, "rule": fate.rule}
            raise Refusal(status, f"{fate.field}: {fate.reason}", more)
        return Response(msgspec.json.encode({"fate": fate.fate}), 200, _UNCACHED, _JSON)

    async def readyz(self) -> Response:
        """Tell what each group of consumers has still to do; 503 when one is stuck."""
        try:
            async with asyncio.timeout(_HEALTH_PATIENCE_S):
                groups = await self._health()
        except (TimeoutError, StoreUnavailable) as error:
            reason = str(error) or f"no answer within {_HEALTH_PATIENCE_S:g} s"
            return _readiness(503, {"ready": False, "reason": reason, "groups": {}})
        stuck = [name for name, group in groups.items() if group.stuck]
        reason = "; ".join(sorted({f"{name}: {groups[name].trouble}" for name in stuck}))
        status = 503 if stuck else 200
        return _readiness(status, {"ready": not stuck, "reason": reason, "groups": groups})

    @contextmanager
    def _room(self, size: int) -> Iterator[None]:
        """Keep room for a request; refuses at once where there is none, so nobody waits in vain."""
        if size > self._left:
            raise Refusal(503, "too much is on its way already; send the same again", retry_s=1)
        self._left -= size
        try:
            yield
        finally:
            self._left += size

    def _check_lines(self, body: bytes) -> None:
        if body.count(b"\n") > self._limits.max_lines:
            raise Refusal(413, f"the body has more than {self._limits.max_lines:,} lines")


def _only_get(path: str, endpoint: Callable[[Request], Awaitable[Response]]) -> Route:
    """Make a plain route: FastAPI would read the query a second time, for 0.2 ms a notice."""
    route = Route(path, endpoint, methods=["GET"])
    route.methods = {"GET"}  # HEAD comes with it, and a preview of a link is no click
    return route


def _declared(request: Request, limit: int) -> int:
    """Say how large a body is going to be, as far as it says."""
    said = request.headers.get("content-length", "")
    return int(said) if said.isdecimal() else limit


def _check_form(request: Request) -> None:
    form = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if form not in _LINE_FORMS:
        raise Refusal(415, f"send one JSON object a line as Content-Type: {_LINE_FORMS[0]}")
    coding = request.headers.get("content-encoding", "identity").strip().lower()
    if coding != "identity":
        raise Refusal(415, "send the body as it is, without Content-Encoding")


def _readiness(status: HTTPStatus | int, facts: dict[str, Any]) -> Response:
    return Response(msgspec.json.encode(facts), int(status), _UNCACHED, _JSON)
