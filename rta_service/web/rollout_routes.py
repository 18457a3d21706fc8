"""Moving models' versions towards all traffic and back, approvals, and the audit log."""

from typing import Annotated, Any, Protocol

import msgspec
from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, Field, field_validator

from rta_service.domain.access import Actor
from rta_service.domain.audit import AuditEntry
from rta_service.domain.command import Command, Pending
from rta_service.domain.release import Release
from rta_service.domain.rollout import MILLION, Action
from rta_service.web.access import Caller, DecidedOn, changes, reads
from rta_service.web.gate import Gate
from rta_service.web.release_routes import shown, tag


class RolloutDesk(Protocol):
    """What the control port may do with rollouts; may block."""

    def current(self) -> Release | None:
        """Give the release that the pointer names."""

    def act(self, command: Command, who: Actor) -> Release | Pending:
        """Do what is wished, or keep it for a second person; raises RTAError."""

    def approve(self, pending_id: str, who: Actor, decided_on: str = "") -> Release:
        """Do what somebody else wished; raises UnknownName, NotAllowed or OutOfDate."""

    def withdraw(self, pending_id: str, who: Actor) -> Pending:
        """Let go of a wish that waits; raises UnknownName."""

    def pending(self) -> list[Pending]:
        """Give what waits for a second person, the oldest first."""

    def log(self, count: int) -> list[AuditEntry]:
        """Give the newest entries of the audit log, the newest first."""


class ModelName(BaseModel):
    """One version of a model."""

    name: str = Field(examples=["trade"])
    version: str = Field(default="", description="the newest registered one if left out")


class RolloutBody(BaseModel):
    """What to do with which versions, and why."""

    action: Action
    models: list[ModelName] = Field(
        default=[],
        max_length=100,
        description="for shadow, canary, live and archive; canary and live without models mean "
        "those of the running canary",
    )
    share: float = Field(
        default=0.0, ge=0, lt=1, description="of all people, for canary, in steps of 0.000001"
    )
    why: str = Field(min_length=1, max_length=1000, description="for the audit log")
    skip: bool = Field(default=False, description="go live without a canary; for admins")

    @field_validator("share")
    @classmethod
    def in_steps(cls, share: float) -> float:
        """Refuse a share that a canary can't have exactly."""
        if round(share, 6) != share:
            raise ValueError("must be in steps of 0.000001")
        return share

    def command(self, decided_on: str) -> Command:
        """Give the wish in the domain's words."""
        return Command(
            self.action,
            tuple((model.name, model.version) for model in self.models),
            round(self.share * MILLION),
            self.why,
            self.skip,
            decided_on,
        )


def rollout_routes(gate: Gate, desk: RolloutDesk) -> APIRouter:
    """Make the routes of rollouts and of the audit log."""
    router = gate.router("rollout")

    @router.get("/v1/rollout", **reads())
    def rollout(response: Response) -> dict[str, Any]:
        """Show what is live, canary, shadow and previous, and what waits for a second person."""
        release = desk.current()
        tag(response, release)
        waiting = [_waiting(wish) for wish in desk.pending()]
        return {"release": shown(release) if release else None, "pending": waiting}

    @router.post("/v1/rollout", **changes())
    def move(
        response: Response, who: Caller, decided_on: DecidedOn, body: RolloutBody
    ) -> dict[str, Any]:
        """Move versions one step; 202 if it has to wait for a second person."""
        outcome = desk.act(body.command(decided_on), who)
        if isinstance(outcome, Pending):
            response.status_code = 202
            response.headers["Location"] = f"/v1/approvals/{outcome.pending_id}"
            return {"release": None, "pending": _waiting(outcome)}
        tag(response, outcome)
        return {"release": shown(outcome), "pending": None}

    @router.get("/v1/audit", **reads())
    def audit(count: Annotated[int, Query(ge=1, le=1000)] = 50) -> dict[str, Any]:
        """Show who did what, when and why, the newest first."""
        return {"entries": [msgspec.to_builtins(entry) for entry in desk.log(count)]}

    return router


def approval_routes(gate: Gate, desk: RolloutDesk) -> APIRouter:
    """Make the routes of what waits for a second person."""
    router = gate.router("approvals")

    @router.get("/v1/approvals", **reads())
    def approvals(response: Response) -> dict[str, Any]:
        """List what waits, the oldest first."""
        tag(response, desk.current())
        return {"pending": [_waiting(wish) for wish in desk.pending()]}

    @router.post("/v1/approvals/{pending_id}", **changes())
    def approve(
        response: Response, pending_id: str, who: Caller, decided_on: DecidedOn
    ) -> dict[str, Any]:
        """Do what somebody else wished."""
        release = desk.approve(pending_id, who, decided_on)
        tag(response, release)
        return {"release": shown(release)}

    @router.delete("/v1/approvals/{pending_id}", **changes())
    def withdraw(pending_id: str, who: Caller) -> dict[str, Any]:
        """Let go of a wish; its own asker may too."""
        return {"withdrawn": _waiting(desk.withdraw(pending_id, who))}

    return router


def _waiting(wish: Pending) -> dict[str, Any]:
    """Show a wish in the words in which wishes are sent."""
    command = wish.command
    return {
        "pending_id": wish.pending_id,
        "action": command.action.value,
        "models": [{"name": name, "version": version} for name, version in command.models],
        "share": command.share_millionths / MILLION,
        "why": command.why,
        "skip": command.skip,
        "release_id": command.release_id,
        "asked_by": wish.asked_by,
        "asked_at_ms": wish.asked_at_ms,
        "expires_at_ms": wish.expires_at_ms,
    }
