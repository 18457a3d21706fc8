"""Every refusal of the control port in one form: RFC 9457's application/problem+json."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

import msgspec
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from rta_service.domain.errors import (
    DegradedError,
    InvalidInput,
    InvalidRequest,
    ModelUnsound,
    NotAllowed,
    OutOfDate,
    RTAError,
    UnknownName,
)

MEDIA_TYPE: Final = "application/problem+json"

_TYPES: Final = "urn:rta:problem:"

_STATUS: Final[Mapping[type[Exception], int]] = {
    InvalidRequest: 400,
    NotAllowed: 403,
    UnknownName: 404,
    OutOfDate: 412,
    InvalidInput: 409,
    ModelUnsound: 422,
    DegradedError: 503,
    RTAError: 500,
}
"""By who is to blame; the first kind that fits counts."""

_WORDS: Final = {
    400: "unreadable",
    401: "unknown-token",
    403: "not-allowed",
    404: "unknown-name",
    405: "wrong-method",
    408: "too-slow",
    409: "not-now",
    412: "out-of-date",
    413: "too-large",
    415: "wrong-content-type",
    422: "refused",
    429: "too-many",
    500: "our-fault",
    503: "unavailable",
}
"""The last word of a problem's type; says the same as the status, for people and for ever."""

ANSWERS: Final[dict[int | str, dict[str, Any]]] = {
    "default": {
        "description": "A problem (RFC 9457)",
        "content": {
            MEDIA_TYPE: {
                "schema": {
                    "type": "object",
                    "required": ["type", "title", "status", "detail", "instance"],
                    "properties": {
                        "type": {"type": "string", "examples": [_TYPES + "not-now"]},
                        "title": {"type": "string"},
                        "status": {"type": "integer"},
                        "detail": {"type": "string"},
                        "instance": {"type": "string"},
                        "field": {"type": "string"},
                        "place": {"type": "string"},
                        "faults": {"type": "array", "items": {"type": "object"}},
                        "verdict": {"type": "object"},
                    },
                }
            }
        },
    }
}
"""For OpenAPI: how any route may refuse."""


class Refusal(Exception):
    """A problem that HTTP itself knows (too large, too slow, ...); `more` joins its members."""

    def __init__(
        self, status: int, detail: str, more: Mapping[str, Any] | None = None, retry_s: int = 0
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.more = dict(more or {})
        self.headers = {"Retry-After": str(retry_s)} if retry_s else {}


def problem(error: Exception, path: str) -> Response:
    """Write any error as a problem; of one that nobody expected it says nothing but that."""
    if isinstance(error, Refusal):
        return _response(error.status, str(error), path, error.more, error.headers)
    if isinstance(error, HTTPException):
        return _response(error.status_code, _said(error), path, {}, error.headers)
    if isinstance(error, RequestValidationError):
        return _invalid(error, path)
    if isinstance(error, RTAError):
        status = next(status for kind, status in _STATUS.items() if isinstance(error, kind))
        retry = {"Retry-After": "1"} if status == HTTPStatus.SERVICE_UNAVAILABLE else {}
        return _response(status, str(error), path, _members(error), retry)
    detail = "an error that nobody expected; the log of this process has it"
    return _response(500, detail, path, {}, {})


def _said(error: HTTPException) -> str:
    """Say more than the framework does where it says no more than the status."""
    if error.detail != HTTPStatus(error.status_code).phrase:
        return str(error.detail)
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        return f"this path takes {(error.headers or {}).get('Allow', 'other methods')}"
    return "there is nothing at this path; /docs shows what there is"


def install(app: FastAPI) -> None:
    """Let the app write all its refusals as problems, also FastAPI's own."""

    def answer(request: Request, error: Exception) -> Response:
        return problem(error, request.url.path)

    for kind in (Refusal, HTTPException, RequestValidationError, RTAError, Exception):
        app.add_exception_handler(kind, answer)


def _members(error: RTAError) -> dict[str, Any]:
    if isinstance(error, InvalidRequest):
        return {"field": error.field} if error.field else {}
    if isinstance(error, InvalidInput):
        return {"place": error.place} if error.place else {}
    if isinstance(error, ModelUnsound):
        return {"place": error.place, "faults": [fault._asdict() for fault in error.faults]}
    return {}


def _invalid(error: RequestValidationError, path: str) -> Response:
    """Name every field that is wrong, without repeating what was sent."""
    found = [
        {"field": ".".join(str(part) for part in one["loc"]), "reason": str(one["msg"])}
        for one in error.errors()
    ]
    detail = "; ".join(f"{one['field']}: {one['reason']}" for one in found)
    first = {"field": found[0]["field"]} if found else {}
    return _response(422, detail, path, {**first, "errors": found}, {})


def _response(
    status: int,
    detail: str,
    path: str,
    more: Mapping[str, Any],
    headers: Mapping[str, str] | None,
) -> Response:
    document = {
        "type": _TYPES + _WORDS[status] if status in _WORDS else "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "instance": path,
        **more,
    }
    return Response(msgspec.json.encode(document), status, dict(headers or {}), MEDIA_TYPE)
