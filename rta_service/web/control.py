"""The control app: releases, explanations, metrics and API pages, behind a bearer token."""

import base64
import hmac
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

import msgspec
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from fastapi_offline import FastAPIOffline
from pydantic import BaseModel, Field

from rta_service import __version__
from rta_service.domain.errors import (
    DegradedError,
    InvalidInput,
    InvalidRequest,
    RTAError,
    StartupError,
)
from rta_service.domain.release import Release
from rta_service.domain.request import AdRequest
from rta_service.features import FEATURE_SET_ID
from rta_service.platforms.base import Adapter
from rta_service.record import RECORD_VERSION


class ReleaseDesk(Protocol):
    """What the control port may do with releases; may block."""

    def current(self) -> Release | None:
        """Give the release that the pointer names."""

    def history(self, count: int) -> list[Release]:
        """Give the newest releases, the current one first."""

    def rollback(self) -> Release:
        """Let the release before the current one decide again; raises InvalidInput."""


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


Explain = Callable[[AdRequest], Awaitable[dict[str, Any]]]
Exposition = Callable[[], bytes]


def control_app(
    token: str,
    desk: ReleaseDesk,
    adapters: Mapping[str, Adapter],
    explain: Explain,
    exposition: Exposition,
) -> FastAPI:
    """Build the control port; everything but /livez and the API pages needs the token.

    Raises StartupError for an empty token, which would let everybody in.
    """
    if not token:
        raise StartupError("the control port needs a token: set RTA_CONTROL_TOKEN")
    app: FastAPI = FastAPIOffline(
        title="rta-service control",
        version=__version__,
        description="Releases, explanations and metrics. Send `Authorization: Bearer <token>`.",
        telemetry={"tracing": False},
    )

    @app.exception_handler(RTAError)
    def refused(_request: Request, error: RTAError) -> JSONResponse:
        field = error.field if isinstance(error, InvalidRequest) else ""
        return JSONResponse({"error": str(error), "field": field}, status_code=_status_of(error))

    @app.get("/livez")
    def livez() -> dict[str, str]:
        """Tell that this process answers."""
        return {"status": "alive"}

    guarded = [Depends(_guard(token))]
    app.include_router(_release_routes(desk, sorted(adapters)), dependencies=guarded)
    app.include_router(_insight_routes(adapters, explain, exposition), dependencies=guarded)
    return app


def _release_routes(desk: ReleaseDesk, platforms: list[str]) -> APIRouter:
    router = APIRouter(prefix="/v1", tags=["releases"])

    @router.get("/versions")
    def versions() -> dict[str, Any]:
        """Name everything whose version matters."""
        release = desk.current()
        return {
            "service": __version__,
            "record": RECORD_VERSION,
            "feature_set": FEATURE_SET_ID,
            "platforms": platforms,
            "release": _shown(release) if release else None,
        }

    @router.get("/release")
    def releases(history: int = 10) -> dict[str, Any]:
        """Show the release that decides, and those before it."""
        return {"releases": [_shown(r) for r in desk.history(min(max(history, 1), 100))]}

    @router.post("/release/rollback")
    def rollback() -> dict[str, Any]:
        """Let the release before the current one decide again."""
        return _shown(desk.rollback())

    return router


def _insight_routes(
    adapters: Mapping[str, Adapter], explain: Explain, exposition: Exposition
) -> APIRouter:
    router = APIRouter(tags=["insight"])

    @router.get("/metrics", response_class=PlainTextResponse)
    def metrics() -> Response:
        """Give every metric in Prometheus' text form."""
        return Response(exposition(), media_type="text/plain; version=0.0.4")

    @router.post("/v1/explain")
    async def explain_request(question: ExplainBody) -> dict[str, Any]:
        """Show every number behind the answer to one request."""
        adapter = adapters.get(question.platform)
        if adapter is None:
            known = ", ".join(sorted(adapters))
            raise InvalidRequest(f"no platform {question.platform!r}; known: {known}", "platform")
        return await explain(adapter.parse(_body_of(question)))

    return router


def _guard(token: str) -> Callable[[HTTPAuthorizationCredentials | None], None]:
    scheme = HTTPBearer(auto_error=False)

    def check(given: HTTPAuthorizationCredentials | None = Depends(scheme)) -> None:  # noqa: B008 - FastAPI's own form
        sent = given.credentials if given else ""
        if not hmac.compare_digest(sent.encode(), token.encode()):
            message = "send the control token: Authorization: Bearer <token>"
            raise HTTPException(401, message, {"WWW-Authenticate": "Bearer"})

    return check


def _body_of(question: ExplainBody) -> bytes:
    if (question.request is None) == (question.body_base64 is None):
        raise InvalidRequest("give either request or body_base64", "request")
    if question.body_base64 is None:
        return msgspec.json.encode(question.request)
    try:
        return base64.b64decode(question.body_base64, validate=True)
    except ValueError as error:
        raise InvalidRequest(f"not base64: {error}", "body_base64") from error


def _status_of(error: RTAError) -> int:
    if isinstance(error, InvalidRequest):
        return 400
    if isinstance(error, InvalidInput):
        return 409
    return 503 if isinstance(error, DegradedError) else 500


def _shown(release: Release) -> dict[str, Any]:
    shown: dict[str, Any] = msgspec.to_builtins(release)
    return shown
