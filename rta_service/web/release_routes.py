"""What decides now, what did before, and going back to it."""

from collections.abc import Sequence
from typing import Annotated, Any, Protocol

import msgspec
from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, Field

from rta_service import __version__
from rta_service.domain.release import Release
from rta_service.features import FEATURE_SET_ID
from rta_service.record import RECORD_VERSION
from rta_service.web.access import Caller, DecidedOn, changes, reads
from rta_service.web.gate import Gate, etag


class ReleaseDesk(Protocol):
    """What the control port may do with releases; may block."""

    def current(self) -> Release | None:
        """Give the release that the pointer names."""

    def history(self, count: int) -> list[Release]:
        """Give the newest releases, the current one first."""

    def rollback(self, who: str, why: str, decided_on: str) -> Release:
        """Let the release before the current one decide again; raises InvalidInput."""


class RollbackBody(BaseModel):
    """Why to go back; an emergency need not say."""

    why: str = Field(default="", max_length=1000)


def release_routes(gate: Gate, desk: ReleaseDesk, platforms: Sequence[str]) -> APIRouter:
    """Make the routes of releases."""
    router = gate.router("releases")

    @router.get("/v1/versions", **reads())
    def versions(response: Response) -> dict[str, Any]:
        """Name everything whose version matters."""
        release = desk.current()
        tag(response, release)
        return {
            "service": __version__,
            "record": RECORD_VERSION,
            "feature_set": FEATURE_SET_ID,
            "platforms": list(platforms),
            "release": shown(release) if release else None,
        }

    @router.get("/v1/release", **reads())
    def releases(
        response: Response, history: Annotated[int, Query(ge=1, le=100)] = 10
    ) -> dict[str, Any]:
        """Show the release that decides, and those before it."""
        found = desk.history(history)
        tag(response, found[0] if found else None)
        return {"releases": [shown(release) for release in found]}

    @router.post("/v1/release/rollback", **changes())
    def rollback(
        response: Response, who: Caller, decided_on: DecidedOn, body: RollbackBody | None = None
    ) -> dict[str, Any]:
        """Let the whole release before the current one decide again: snapshot and strategies too."""
        release = desk.rollback(who.name, body.why if body else "", decided_on)
        tag(response, release)
        return shown(release)

    return router


def tag(response: Response, release: Release | None) -> None:
    """Name the release that an answer speaks of, for If-Match."""
    if release is not None:
        response.headers["ETag"] = etag(release.release_id)


def shown(release: Release) -> dict[str, Any]:
    """Show a release as JSON."""
    document: dict[str, Any] = msgspec.to_builtins(release)
    return document
