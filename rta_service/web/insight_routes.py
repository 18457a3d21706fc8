"""Looking into the service: metrics, and every number behind an answer."""

import base64
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import msgspec
from fastapi import APIRouter
from fastapi.responses import PlainTextResponse, Response
from pydantic import BaseModel, Field

from rta_service.domain.access import Role
from rta_service.domain.errors import InvalidRequest
from rta_service.domain.request import AdRequest
from rta_service.platforms.base import Adapter
from rta_service.web.access import reads
from rta_service.web.gate import Gate

_MAX_EXPLAIN_BYTES: Final = 1_000_000

Explain = Callable[[AdRequest], Awaitable[dict[str, Any]]]
Exposition = Callable[[], bytes]


class ExplainBody(BaseModel):
    """A platform's request to explain."""

    platform: str = Field(
        description="the platform whose words the request is in", examples=["json"]
    )
    request: dict[str, Any] | None = Field(
        default=None, description="the request, for platforms that speak JSON"
    )
    body_base64: str | None = Field(
        default=None, description="the request's bytes, for platforms that speak protobuf"
    )


def insight_routes(
    gate: Gate, adapters: Mapping[str, Adapter], explain: Explain, exposition: Exposition
) -> APIRouter:
    """Make the routes that only look."""
    router = gate.router("insight")

    @router.get("/metrics", response_class=PlainTextResponse, **reads())
    def metrics() -> Response:
        """Give every metric in Prometheus' text form."""
        return Response(exposition(), media_type="text/plain; version=0.0.4")

    # it shows what is known of a person, which is more than a dashboard's token should open
    @router.post("/v1/explain", **reads(Role.OPERATOR, _MAX_EXPLAIN_BYTES))
    async def explain_request(question: ExplainBody) -> dict[str, Any]:
        """Show every number behind the answer to one request."""
        adapter = adapters.get(question.platform)
        if adapter is None:
            known = ", ".join(sorted(adapters))
            raise InvalidRequest(f"no platform {question.platform!r}; known: {known}", "platform")
        return await explain(adapter.parse(_body_of(question)))

    return router


def _body_of(question: ExplainBody) -> bytes:
    if (question.request is None) == (question.body_base64 is None):
        raise InvalidRequest("give either request or body_base64", "request")
    if question.body_base64 is None:
        try:
            return msgspec.json.encode(question.request)
        except (ValueError, OverflowError, RecursionError) as error:
            raise InvalidRequest(f"no request of a platform: {error}", "request") from error
    try:
        return base64.b64decode(question.body_base64, validate=True)
    except ValueError as error:
        raise InvalidRequest(f"not base64: {error}", "body_base64") from error
