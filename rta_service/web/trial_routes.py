"""Models on trial over HTTP: how shadows score, outcomes in, the autopilot's thoughts and switch."""

import asyncio
from collections.abc import Sequence
from typing import Any, Final, Protocol

import msgspec
from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from rta_service.domain.access import Actor, Role
from rta_service.web.access import Caller, changes, reads
from rta_service.web.gate import Gate, body_of, bounded

OUTCOME_BYTES: Final = 8 * 1024 * 1024
"""Of one body: about 20,000 lines."""

_LINES: Final = {
    "requestBody": {
        "required": True,
        "description": "one JSON object a line: id, ts_ms, platform, labels and more",
        "content": {"application/x-ndjson": {"schema": {"type": "string"}}},
    }
}


class FateOfLine(Protocol):
    """What became of one line; a msgspec struct."""

    @property
    def fate(self) -> str:
        """accepted, duplicate or rejected."""


class TrialDesk(Protocol):
    """What the control port may do with trials; may block."""

    def shadows(self) -> Sequence[object]:
        """Give how each model on trial scores beside the live one."""

    def take_outcomes(self, body: bytes, who: Actor) -> Sequence[FateOfLine]:
        """Take matured labels in; raises InvalidInput or StoreUnavailable."""

    def autopilot(self) -> object:
        """Say whether the autopilot is on, and what it last saw and did."""

    def switch_autopilot(self, who: Actor, why: str, *, on: bool) -> object:
        """Switch the autopilot; raises NotAllowed."""


class SwitchBody(BaseModel):
    """Whether the autopilot should be on."""

    on: bool
    why: str = Field(min_length=1, max_length=1000, description="for the audit log")


def trial_routes(gate: Gate, desk: TrialDesk) -> APIRouter:
    """Make the routes of models on trial."""
    router = gate.router("trials")

    @router.get("/v1/shadows", **reads())
    def shadows() -> dict[str, Any]:
        """Show how models in shadow or canary score sampled traffic beside the live ones, here."""
        return {"shadows": [msgspec.to_builtins(report) for report in desk.shadows()]}

    @router.get("/v1/autopilot", **reads())
    def autopilot() -> dict[str, Any]:
        """Show whether the autopilot is on, and its last judgement with every figure."""
        return {"autopilot": msgspec.to_builtins(desk.autopilot())}

    @router.put("/v1/autopilot", **changes(Role.ADMIN))
    def switch(who: Caller, body: SwitchBody) -> dict[str, Any]:
        """Switch the autopilot on or off on all hosts."""
        switched = desk.switch_autopilot(who, body.why, on=body.on)
        return {"switch": msgspec.to_builtins(switched)}

    return router


def outcome_routes(gate: Gate, desk: TrialDesk) -> APIRouter:
    """Make the route that takes matured labels."""
    router = gate.router("outcomes")
    declared = changes(max_body_bytes=OUTCOME_BYTES, streams=True)
    declared["openapi_extra"] = {**declared["openapi_extra"], **_LINES}

    @router.post("/v1/outcomes", **declared)
    async def outcomes(request: Request, who: Caller) -> dict[str, Any]:
        """Take matured labels, a JSON object a line, and say what became of each.

        A line counts once whatever comes twice: its id is the key, so no Idempotency-Key is needed.
        """
        body = await body_of(bounded(request, OUTCOME_BYTES))
        fates = await asyncio.to_thread(desk.take_outcomes, body, who)
        names = ("accepted", "duplicate", "rejected")
        counts = {name: sum(one.fate == name for one in fates) for name in names}
        return {**counts, "lines": [msgspec.to_builtins(one) for one in fates]}

    return router
