"""Cost control over HTTP: where every unit's costs and money stand, and why its bids moved."""

from typing import Any, Protocol

from fastapi import APIRouter

from rta_service.web.access import reads
from rta_service.web.gate import Gate


class StatusDesk(Protocol):
    """What the control port may ask about cost control; may block."""

    def units(self) -> list[dict[str, Any]]:
        """Give every unit."""

    def unit(self, unit_id: str) -> dict[str, Any]:
        """Give one unit; raises UnknownName."""


def control_routes(gate: Gate, desk: StatusDesk) -> APIRouter:
    """Make the routes that show cost control."""
    router = gate.router("cost control")

    @router.get("/v1/control", **reads())
    def units() -> dict[str, Any]:
        """Show every control unit: targets, costs so far and expected, multipliers, budget, flags.

        Money is in micros, times in ms, multipliers are factors.
        """
        return {"units": desk.units()}

    @router.get("/v1/control/{unit_id}", **reads())
    def unit(unit_id: str) -> dict[str, Any]:
        """Show one control unit, named `strategy@platform`."""
        return desk.unit(unit_id)

    return router
