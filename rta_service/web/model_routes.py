"""Which versions of which models there are, where each stands, and how two differ."""

from typing import Annotated, Any, Protocol

import msgspec
from fastapi import APIRouter, Query, Response

from rta_service.domain.command import ModelState
from rta_service.web.access import reads
from rta_service.web.gate import Gate, etag

_From = Annotated[str, Query(alias="from", description="the version to compare from")]
_To = Annotated[str, Query(alias="to", description="the version to compare to")]


class ModelDesk(Protocol):
    """What the control port may ask about models; may block."""

    def models(self) -> list[ModelState]:
        """List every registered version, by name, the newest first."""

    def show(self, name: str, version: str) -> dict[str, Any]:
        """Show a version's state, manifest and verdicts; raises UnknownName."""

    def diff(self, name: str, one: str, other: str) -> dict[str, Any]:
        """Compare two versions of a model; raises UnknownName."""


def model_routes(gate: Gate, desk: ModelDesk) -> APIRouter:
    """Make the routes that read the registry."""
    router = gate.router("models")

    @router.get("/v1/models", **reads())
    def models(response: Response) -> dict[str, Any]:
        """List every registered version with its phase, the newest of each model first."""
        tag(gate, response)
        return {"models": [msgspec.to_builtins(state) for state in desk.models()]}

    @router.get("/v1/models/{name}/versions", **reads())
    def versions(response: Response, name: str) -> dict[str, Any]:
        """List a model's versions, the newest first; none for a name that was never uploaded."""
        tag(gate, response)
        states = [state for state in desk.models() if state.name == name]
        return {"versions": [msgspec.to_builtins(state) for state in states]}

    @router.get("/v1/models/{name}/versions/{version}", **reads())
    def version(response: Response, name: str, version: str) -> dict[str, Any]:
        """Show a version: phase, manifest, and every verdict on it."""
        tag(gate, response)
        return desk.show(name, version)

    @router.get("/v1/models/{name}/diff", **reads())
    def diff(name: str, one: _From, other: _To) -> dict[str, Any]:
        """Compare two versions: manifests, figures, trees, and scores on the same rows."""
        return desk.diff(name, one, other)

    return router


def tag(gate: Gate, response: Response) -> None:
    """Name the release that an answer's phases are of, for If-Match."""
    current = gate.current_id()
    if current:
        response.headers["ETag"] = etag(current)
